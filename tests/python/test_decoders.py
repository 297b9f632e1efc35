"""Every kind of answer is read by decoders that are not ours: the `zstd` program, Python's zstandard and gzip."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess

import pytest
import requests
import zstandard

from conftest import Service

DOCUMENT = {
    "url": "https://example.com/",
    "success": True,
    "status_code": 200,
    "html": "<p>text</p>" * 9000,
    "cleaned_html": "text " * 4000,
    "markdown": {"raw_markdown": "# text\n" * 3000, "fit_markdown": "text\n" * 900},
    "media": {"images": [{"src": f"/{n}.png", "desc": "text " * 20} for n in range(200)]},
    "metadata": {"title": "Text", "numbers": [1.5, 12345678901234567890, -0.0]},
    "unknown_field": None,
}

HEAD = ["url", "success", "status_code", "metadata", "unknown_field"]


def zstd_program(body: bytes) -> bytes:
    """Decodes with the `zstd` program, which checks that the frame is whole."""
    program = shutil.which("zstd")
    assert program, "the zstd program is needed: install the package `zstd`"
    return subprocess.run([program, "-d", "-c", "-q"], input=body, capture_output=True, check=True).stdout


def zstd_python(body: bytes) -> bytes:
    """Decodes with Python's zstandard, as a stream: frames carry no content size."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=False).read()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (None, list(DOCUMENT)),
        ("head", HEAD),
        ("head,markdown", [*HEAD, "markdown"]),
        ("head,markdown,cleaned_html", [*HEAD, "markdown", "cleaned_html"]),
        ("markdown", ["markdown"]),
        ("html,url", ["url", "html"]),
        ("media", ["media"]),
        ("nothing", []),
    ],
)
def test_each_projection_in_each_coding(service: Service, fields: str | None, names: list[str]) -> None:
    target = f"{service.url}/v1/result"
    params = {"url": DOCUMENT["url"]}
    assert requests.put(target, params=params, json=DOCUMENT, timeout=10).status_code == 201
    if fields is not None:
        params["fields"] = fields
    wanted = {name: DOCUMENT[name] for name in names}
    for _ in range(2):  # from the store, and from memory
        for coding, decoders in [
            ("identity", [bytes]),
            ("gzip", [gzip.decompress]),
            ("zstd", [zstd_program, zstd_python]),
        ]:
            answer = requests.get(
                target, params=params, headers={"Accept-Encoding": coding}, stream=True, timeout=10
            )
            assert answer.status_code == 200
            assert answer.headers.get("Content-Encoding", "identity") == coding
            body = answer.raw.read(decode_content=False)
            for decode in decoders:
                assert json.loads(decode(body)) == wanted, (fields, coding, decode)


def test_bodies_may_come_in_each_coding(service: Service, session: requests.Session) -> None:
    raw = json.dumps(DOCUMENT).encode()
    for coding, body in [
        ("zstd", zstandard.ZstdCompressor().compress(raw)),
        ("gzip", gzip.compress(raw)),
        ("identity", raw),
    ]:
        params = {"url": f"https://example.com/{coding}"}
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        stored = session.put(f"{service.url}/v1/result", params=params, data=body, headers=headers)
        assert stored.status_code == 201, stored.text
        assert session.get(f"{service.url}/v1/result", params=params).json() == DOCUMENT
