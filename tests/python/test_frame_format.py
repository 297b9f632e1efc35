"""The page that describes the frame is enough to read one: its own example, with a reader made from it."""

from __future__ import annotations

import json
import re

import pytest

import reader
from conftest import ROOT

PAGE = (ROOT / "docs" / "frame-format.md").read_text()
FRAME, LAYOUT = (bytes.fromhex(block) for block in re.findall(r"(?s)```hex\n(.*?)```", PAGE))
DOCUMENT = {
    "url": "https://example.com/",
    "success": True,
    "markdown": "Hello\n" * 240,
    "html": "<p>Hello</p>" * 120,
}


def test_the_example_is_what_the_page_says() -> None:
    layout = reader.Layout(LAYOUT)
    raw = reader.text(FRAME)
    assert json.loads(raw) == DOCUMENT
    assert (len(raw), len(FRAME)) == (layout.text_bytes, layout.frame_bytes)
    assert [(field.name, field.segment, field.blank) for field in layout.fields] == [
        ("url", 0, False),
        ("success", 0, False),
        ("markdown", 1, False),
        ("html", 2, False),
    ]
    assert f"the id `{reader.digest(FRAME)}`" in PAGE
    assert f"The etag: `{reader.digest(raw[:-1])}`" in PAGE
    for name, expected in DOCUMENT.items():
        assert reader.value(FRAME, layout, name) == expected


@pytest.mark.parametrize(
    ("name", "names"),
    [("url", ["url", "success"]), ("markdown", ["url", "success", "markdown"]), ("html", list(DOCUMENT))],
)
def test_every_prefix_is_a_frame(name: str, names: list[str]) -> None:
    cut = reader.prefix(FRAME, reader.Layout(LAYOUT), name)
    assert json.loads(reader.text(cut)) == {name: DOCUMENT[name] for name in names}


@pytest.mark.parametrize("cut", [FRAME[:-1], FRAME[:-4], FRAME + b"\0", FRAME[:-4] + b"\0\0\0}"])
def test_what_is_no_whole_frame_is_noticed(cut: bytes) -> None:
    with pytest.raises(AssertionError):
        reader.text(cut)
