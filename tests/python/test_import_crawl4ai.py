"""Caches that the real Crawl4AI has written, broken by its own upgrades, and goes on writing: imported and compared."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import BINARY, Service
from crawl4ai_cache import Crawl4AI

UNICODE = "é ß 漢字 😀 \u2028 \"quotes\" \\ tab\t end"


def document(number: int) -> dict[str, Any]:
    """A result with every field that Crawl4AI keeps."""
    return {
        "url": f"https://example.com/Page/{number}?b=2&a={number}#part",
        "html": f"<html><head><title>{number}</title></head><body>{UNICODE}\n{'<p>text</p>' * number}</body></html>",
        "success": True,
        "cleaned_html": f"<body>{UNICODE}{'<p>text</p>' * number}</body>",
        "markdown": {"raw_markdown": f"# {number}\n\n{UNICODE}\n"},
        "extracted_content": json.dumps([{"index": number, "text": UNICODE}]),
        "screenshot": "iVBORw0KGgo=" * (number + 1),
        "media": {"images": [{"src": f"https://example.com/{number}.png", "desc": UNICODE, "score": number / 3}]},
        "links": {"internal": [{"href": "https://example.com/", "text": UNICODE}], "external": []},
        "metadata": {"title": str(number), "og:title": UNICODE, "depth": None},
        "response_headers": {"content-type": "text/html", "Etag": f'"v{number}"'},
        "downloaded_files": [f"/tmp/{number}.pdf"],
    }


def documents() -> list[dict[str, Any]]:
    odd = {
        "https://odd.example/empty": {"raw_markdown": ""},
        "https://odd.example/object": {"raw_markdown": '{"a": 1}'},
        "https://odd.example/list": {"raw_markdown": "[1, 2]"},
        "https://odd.example/null": {"raw_markdown": "null"},
        "https://odd.example/name": {"raw_markdown": "00000000deadbeef"},
    }
    bare = [{"url": url, "html": f"<p>{url}", "success": True, "markdown": markdown} for url, markdown in odd.items()]
    return [document(number) for number in range(40)] + bare


def kept(stored: dict[str, Any]) -> dict[str, Any]:
    """What Crawl4AI keeps of a result: the markdown alone of its variants, and no field without content."""
    defaults = {
        "media": {"images": [], "videos": [], "audios": []},
        "links": {"internal": [], "external": []},
        "metadata": {},
        "response_headers": {},
        "downloaded_files": [],
    }
    whole = {**defaults, **stored}
    return {name: value for name, value in whole.items() if name != "markdown" or value["raw_markdown"]}


def import_cache(cache: Crawl4AI, *arguments: str) -> dict[str, Any]:
    command = [str(BINARY), "import-crawl4ai", str(cache.cache), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_what_crawl4ai_stored_comes_back_field_by_field_after_its_own_upgrades(
    tmp_path: Path, service: Service, session: requests.Session
) -> None:
    cache = Crawl4AI(tmp_path / "home")
    stored = documents()
    cache.fill(stored)
    for upgrades in range(3):
        if upgrades:
            cache.upgrade()
        before = files(cache.cache)
        report = tmp_path / f"rows-{upgrades}.ndjson"
        arguments = ["--url", service.url, "--variant", f"after-{upgrades}", "--report", str(report)]
        dry = import_cache(cache, "--dry-run")
        assert (dry["readable"], dry["skipped"]) == (len(stored), 0), dry
        summary = import_cache(cache, *arguments)
        assert summary["created"] == summary["rows"] == len(stored), summary
        assert (summary["skipped"], summary["failed"], summary["damaged"]) == (0, 0, 0), summary
        assert summary["recovered"] == (len(stored) if upgrades else 0), summary
        rows = {row["url"]: row for row in map(json.loads, report.read_text().splitlines())}
        assert set(rows) == {document["url"] for document in stored}
        for expected in stored:
            query = {"url": expected["url"], "variant": f"after-{upgrades}"}
            answer = session.get(f"{service.url}/v1/result", params=query)
            assert answer.status_code == 200, answer.text
            assert answer.json() == kept(expected), expected["url"]
            assert rows[expected["url"]].get("recovered_through", 1) == upgrades + 1
        assert files(cache.cache) == before, "the source is as it was"
        again = import_cache(cache, *arguments)
        assert again["superseded"] == len(stored), "nothing happens twice"


def test_validators_and_times_are_those_of_crawl4ai(
    tmp_path: Path, service: Service, session: requests.Session
) -> None:
    cache = Crawl4AI(tmp_path / "home")
    cache.fill([document(1)])
    import_cache(cache, "--url", service.url, "--ttl", "1h")
    line = json.loads(session.get(f"{service.url}/v1/results/export").text)
    # Crawl4AI itself does not find the header in this case.
    assert line["validators"] == {"etag": '"v1"'}
    ago = session.get(f"{service.url}/v1/result", params={"url": document(1)["url"]}).headers["age"]
    assert 0 <= int(ago) < 120
    assert line["created_at"] == line["updated_at"] < line["expires_at"]


@pytest.mark.parametrize("rounds", [12])
def test_crawl4ai_may_go_on_writing(
    tmp_path: Path, service: Service, session: requests.Session, rounds: int
) -> None:
    cache = Crawl4AI(tmp_path / "home")
    cache.fill([document(number) for number in range(300)])
    writing = subprocess.Popen(cache.command("write-on", "0"), stdout=subprocess.PIPE, text=True)
    try:
        assert writing.stdout is not None
        writing.stdout.readline()
        for number in range(rounds):
            summary = import_cache(cache, "--url", service.url)
            assert summary["rows"] > 300 and summary["complete"], summary
            assert (summary["skipped"], summary["damaged"], summary["failed"]) == (0, 0, 0), summary
            assert number == 0 or summary["superseded"] >= 300, summary
    finally:
        writing.terminate()
        written = 1 + len(writing.communicate(timeout=60)[0].splitlines())
    assert written > rounds, "it did write meanwhile"
    last = import_cache(cache, "--url", service.url)
    assert last["rows"] >= 300 + written, last
    for number in (0, written // 2, written - 1):
        answer = session.get(f"{service.url}/v1/result", params={"url": f"https://live.example/{number}"})
        assert answer.json()["markdown"] == {"raw_markdown": f"# {number}"}
