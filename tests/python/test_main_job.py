"""The main job on real input: hundreds of real pages, many clients, and a restart in between."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any

import requests

import pages
from conftest import Service

PAGES = 500
WRITERS = 32
READERS = 64

_thread = local()


def client() -> requests.Session:
    """One connection a thread."""
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
    return _thread.session


def test_pages_are_put_read_listed_projected_expired_and_exported(service: Service) -> None:
    documents = {document["url"]: document for document in pages.results(PAGES)}
    target = "/v1/result"

    def put(document: dict[str, Any]) -> None:
        stored = client().put(service.url + target, params={"url": document["url"]}, json=document, timeout=30)
        assert stored.status_code == 201, stored.text

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put, documents.values()))

    service.stop()
    service.start()

    def read(url: str) -> None:
        coding = ["zstd", "gzip", "identity"][len(url) % 3]  # requests decodes zstd with backports.zstd
        answer = client().get(service.url + target, params={"url": url}, headers={"Accept-Encoding": coding}, timeout=30)
        assert answer.headers.get("Content-Encoding", "identity") == coding
        assert answer.json() == documents[url]
        some = client().get(service.url + target, params={"url": url, "fields": "url,markdown"}, timeout=30)
        assert some.json() == {name: documents[url][name] for name in ("url", "markdown")}

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, list(documents) * 2))

    listed: list[str] = []
    params: dict[str, str | int] = {"host": "docs.example", "limit": 77}
    while True:
        page = requests.get(f"{service.url}/v1/results", params=params, timeout=30).json()
        listed += [item["url"] for item in page["items"]]
        if "next_cursor" not in page:
            break
        params["cursor"] = page["next_cursor"]
    assert sorted(listed) == sorted(documents), "each page is listed once"

    exported = {}
    with requests.get(f"{service.url}/v1/results/export", stream=True, timeout=30) as lines:
        for line in lines.iter_lines():
            record = json.loads(line)
            exported[record["url"]] = record["document"]
    assert exported == documents

    some = list(documents)[:50]
    for url in some:
        changed = requests.patch(service.url + target, params={"url": url, "ttl": 0}, json={}, timeout=30)
        assert changed.status_code == 200, changed.text
    deadline = time.monotonic() + 300
    while True:  # a time to live of zero ends with the next millisecond
        states = requests.post(f"{service.url}/v1/results/lookup", json={"keys": list(documents)}, timeout=30).json()
        reasons = [result.get("reason") for result in states["results"]]
        if reasons[:50] == ["expired"] * 50:
            break
        assert time.monotonic() < deadline, states["counts"]
    assert set(reasons[50:]) == {None}
    expired = requests.get(service.url + target, params={"url": some[0]}, timeout=30)
    assert (expired.status_code, expired.json()["reason"]) == (404, "expired")
    stale = requests.get(service.url + target, params={"url": some[0], "stale": 600}, timeout=30)
    assert stale.json() == documents[some[0]]
    stats = requests.get(f"{service.url}/v1/stats", timeout=30).json()
    assert stats["entries"] == len(documents)
    print(f"{len(documents)} pages: {stats['raw_bytes']} bytes of JSON are {stats['stored_bytes']} bytes stored")
