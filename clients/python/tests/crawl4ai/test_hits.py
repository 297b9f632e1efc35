"""What counts as a hit: documents of others, aged pages, large pages, pages by another url."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from crawl4ai import CacheMode
from crawling import config, crawl
from service import Service
from site_ import html

import crawlcache
import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai import documents

GOOD = {"html": html("Stored", "stored"), "success": True}


def put(cache: Any, url: str, document: Any, **options: Any) -> None:
    with crawlcache.Client(cache.settings.url) as client:
        client.put(url, document, **options)


@pytest.fixture
def variant(cache: Any) -> str:
    """Of a plain run over HTTP."""
    variants: list[str] = []

    async def work(crawler: Any) -> None:
        variants.append(cache.variant("https://a.example/", config(), crawler))

    crawl(work)
    return variants[0]


@pytest.mark.parametrize("document", [{"markdown": "# only text"}, {"html": "", "success": True}, {"html": None}])
def test_without_html_it_is_a_miss_with_a_lease(
    site: Any, cache: Any, variant: str, counts: Any, document: dict[str, Any]
) -> None:
    url = f"{site.url}/page/markdown"
    put(cache, url, document, variant=variant)

    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert "first part" in (await crawler.arun(url, config=config())).markdown

    crawl(work)
    assert site.fetches["/page/markdown"] == 1
    assert (counts("lookups", "miss"), counts("lookups", "hit")) == (1, 1)
    assert (counts("leases", "won"), counts("leases", "stored")) == (1, 1)


def test_many_crawls_what_has_no_html(site: Any, cache: Any, variant: str, counts: Any) -> None:
    wanted = [f"{site.url}/page/many{number}" for number in range(2)]
    put(cache, wanted[0], {"markdown": "# only text"}, variant=variant)
    put(cache, wanted[1], GOOD, variant=variant)

    async def work(crawler: Any) -> None:
        results = await drop_in.arun_many(crawler, wanted, config())
        assert [result.url for result in results] == wanted[::-1]
        assert all(result.success and "first part" in result.html for result in results)

    crawl(work)
    assert (counts("many", "hit"), counts("many", "crawled")) == (1, 1)


def test_a_download_without_html_is_a_hit(site: Any, cache: Any, variant: str) -> None:
    url = f"{site.url}/page/download"
    put(cache, url, {"html": "", "success": True, "downloaded_files": ["/tmp/a.bin"]}, variant=variant)

    async def work(crawler: Any) -> None:
        [result] = await drop_in.arun_many(crawler, [url], config())
        assert result.success
        assert result.downloaded_files == ["/tmp/a.bin"]

    crawl(work)
    assert not site.fetches


@pytest.mark.parametrize("broken", [{"html": [1]}, {"html": "<p>x</p>", "links": "none"}])
def test_one_document_that_fits_no_result_spoils_nothing(
    site: Any, cache: Any, variant: str, counts: Any, broken: dict[str, Any]
) -> None:
    wanted = [f"{site.url}/page/broken{number}" for number in range(4)]
    for number, url in enumerate(wanted):
        put(cache, url, broken if number == 1 else GOOD, variant=variant)

    async def work(crawler: Any) -> None:
        results = await drop_in.arun_many(crawler, wanted, config())
        assert [result.url for result in results] == [wanted[0], wanted[2], wanted[3], wanted[1]]
        assert all(result.success for result in results)

    crawl(work)
    assert sum(site.fetches.values()) == 1
    assert counts("many", "hit") == 3
    assert counts("lookups", "error") >= 1


def test_a_hit_has_the_url_that_was_asked_for(site: Any, cache: Any, variant: str) -> None:
    wanted = [f"{site.url}/page/other0", f"{site.url}/page/other1"]
    for url in wanted:
        put(cache, url, {**GOOD, "url": "https://elsewhere.example/"}, variant=variant)
    plain = f"{site.url}/page/no-url"
    put(cache, plain, GOOD, variant=variant)

    async def work(crawler: Any) -> None:
        for url in (*wanted, plain):
            assert (await crawler.arun(url, config=config())).url == url
        assert [result.url for result in await drop_in.arun_many(crawler, wanted, config())] == wanted

    crawl(work)
    assert not site.fetches


def test_a_derived_page_is_as_old_as_the_one_it_is_made_of(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url)
    url = f"{site.url}/page/max-age"
    derived = config(only_text=True)

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await asyncio.sleep(2.1)
        await crawler.arun(url, config=derived)
        cache = drop_in.installed()
        assert cache is not None
        variant = cache.variant(url, derived, crawler)
        async with crawlcache.AsyncClient(service.url) as client:
            hit = await client.get(url, variant=variant)
        assert 2 <= hit.age <= 10
        kept = cache.fallback.find(url, variant)
        assert kept is not None
        assert 2 <= kept[1] <= 10
        assert (counts("lookups", "derived"), site.fetches["/page/max-age"]) == (1, 1)
        drop_in.install(service.url, max_age=1)
        await crawler.arun(url, config=derived)
        assert site.fetches["/page/max-age"] == 2

    crawl(work)
    drop_in.uninstall()


def test_large_documents_are_worked_on_in_a_thread(
    site: Any, cache: Any, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the screenshot that is large, and where many are asked for at once."""
    threads: dict[str, list[bool]] = {}

    def watched(name: str) -> None:
        original = getattr(documents, name)

        def work(*arguments: Any) -> Any:
            threads.setdefault(name, []).append(threading.current_thread() is threading.main_thread())
            return original(*arguments)

        monkeypatch.setattr(documents, name, work)

    watched("document")
    watched("crawl_result")
    url = f"{site.url}/page/heavy"
    put(cache, url, {**GOOD, "screenshot": "A" * (1 << 20)}, variant=variant)

    async def work(crawler: Any) -> None:
        assert (await crawler.arun(url, config=config())).success
        await drop_in.arun_many(crawler, [url], config())
        # Made of the cached one, and stored with its screenshot.
        assert (await crawler.arun(url, config=config(only_text=True))).screenshot

    crawl(work)
    assert not site.fetches
    assert threads["crawl_result"] == [False] * 3
    assert threads["document"] == [False]


def test_a_stale_hit_leaves_the_copy_of_this_process(site: Any, tmp_path: Path, counts: Any) -> None:
    own = Service(tmp_path)
    drop_in.install(own.url, ttl=1, stale=600)
    url = f"{site.url}/page/kept"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await asyncio.sleep(2.1)
        # Takes no lease, and so goes on with the stale page.
        assert (await crawler.arun(url, config=config(CacheMode.READ_ONLY))).success
        assert (counts("lookups", "hit"), site.fetches["/page/kept"]) == (1, 1)
        own.kill()
        assert (await crawler.arun(url, config=config(CacheMode.READ_ONLY))).success

    try:
        crawl(work)
    finally:
        own.stop()
        drop_in.uninstall()
    assert counts("lookups", "hit_fallback") == 1
    assert site.fetches["/page/kept"] == 1


@pytest.mark.parametrize(
    ("second", "hits"),
    # After the first kind, the client asks once more for what is left.
    [(b"{broken", 3), (b'{"index":1,"status":200,"document":{}}', 1), (None, 0)],
    ids=["no JSON", "members are missing", "of the first"],
)
def test_the_look_up_of_many_survives_a_broken_answer(site: Any, counts: Any, second: bytes | None, hits: int) -> None:
    """What came before the line that is broken is used, the rest is crawled."""
    wanted = [f"{site.url}/page/line{number}" for number in range(3)]
    head = {"index": 0, "status": 200, "etag": "e", "age": 1, "ttl": 100, "document": GOOD}
    if second is None:
        del head["age"]
    body = json.dumps(head, separators=(",", ":")).encode() + b"\n" + (second or b"") + b"\n"
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    threading.Thread(target=serve, daemon=True).start()
    drop_in.install(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=2, fallback_bytes=0)

    async def work(crawler: Any) -> None:
        results = await drop_in.arun_many(crawler, wanted, config())
        assert sorted(result.url for result in results) == wanted
        assert all(result.success for result in results)

    crawl(work)
    listening.close()
    drop_in.uninstall()
    assert (counts("many", "hit"), counts("many", "crawled")) == (hits, 3 - hits)
