"""Pages that fail: kept apart for a short time, so that nobody stands in line for them."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from crawl4ai import CacheMode
from crawling import config, crawl
from service import Service
from site_ import html
from waiting import until

import crawlcache
import crawlcache.crawl4ai as drop_in


def read(cache: Any, url: str, variant: str, **options: Any) -> Any:
    with crawlcache.Client(cache.settings.url) as client:
        return client.get(url, variant=variant, **options)


def run(site: Any, cache: Any, path: str) -> str:
    """Crawls a page that fails; its variant."""
    variants: list[str] = []

    async def work(crawler: Any) -> None:
        url = f"{site.url}{path}"
        variants.append(cache.variant(url, config(), crawler))
        assert not (await crawler.arun(url, config=config())).success

    crawl(work)
    return variants[0]


def waiters(service: Any) -> int:
    """How many requests wait at the service for somebody else's page."""
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=300) as answer:
        found = re.search(r"^crawlcache_lease_waiters (\d+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return int(found.group(1))


def test_who_waits_for_a_page_that_fails_does_not_stand_in_line(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, wait=60, timeout=300)
    site.statuses["/held/down"] = 503

    async def work(crawler: Any) -> None:
        runs = [asyncio.create_task(crawler.arun(f"{site.url}/held/down", config=config())) for _ in range(12)]
        await until("eleven wait", lambda: waiters(service) == 11, *runs)
        site.released.set()
        assert not any([(await run).success for run in runs])

    crawl(work)
    drop_in.uninstall()
    # In a line, each would have had the lease in its turn.
    assert counts("leases", "won") == 1
    assert counts("lookups", "failed") == 11


@pytest.mark.parametrize("path", ["/missing/kept", "/blocked/kept", "/page/status"])
def test_a_failed_page_is_kept_as_such_and_is_no_hit(site: Any, cache: Any, counts: Any, path: str) -> None:
    site.statuses["/page/status"] = 500
    variant = run(site, cache, path)
    url = f"{site.url}{path}"
    assert counts("stores", "failed") == 1
    assert not read(cache, url, variant, quality="good")
    failed = read(cache, url, variant, quality="failed")
    assert failed.document["success"] is False
    assert failed.ttl <= 300
    run(site, cache, path)
    assert site.fetches[path] == 2
    assert (counts("stores", "failed"), counts("stores", "stored"), counts("lookups", "hit")) == (2, 0, 0)


def test_the_good_page_stays(site: Any, cache: Any) -> None:
    path = "/page/good-then-bad"
    url = f"{site.url}{path}"

    async def work(crawler: Any) -> None:
        assert (await crawler.arun(url, config=config())).success
        site.statuses[path] = 500
        assert not (await crawler.arun(url, config=config(CacheMode.WRITE_ONLY))).success
        assert "first part" in (await crawler.arun(url, config=config())).markdown

    crawl(work)
    assert site.fetches[path] == 2


def test_a_page_that_nobody_answers_for_is_noted_too(cache: Any, counts: Any) -> None:
    """Crawl4AI hands over nothing where the fetch itself failed."""

    class Nowhere:
        url = "http://127.0.0.1:9"

    variant = run(Nowhere, cache, "/closed")
    assert counts("stores", "failed") == 1
    assert read(cache, "http://127.0.0.1:9/closed", variant, quality="failed").document["error_message"]


def test_modes_that_do_not_write_leave_no_failed_page(site: Any, cache: Any, counts: Any) -> None:
    async def work(crawler: Any) -> None:
        for mode in (CacheMode.READ_ONLY, CacheMode.BYPASS, CacheMode.DISABLED):
            assert not (await crawler.arun(f"{site.url}/missing/unwritten", config=config(mode))).success

    crawl(work)
    assert counts("stores", "failed") == counts("stores", "refused_failed") == 0


def test_nothing_failed_is_stored_if_it_is_not_wanted(site: Any, service: Any, counts: Any) -> None:
    cache = drop_in.install(service.url, store_failed=False)
    variant = run(site, cache, "/missing/unwanted")
    drop_in.uninstall()
    assert counts("stores", "refused_failed") == 1
    assert not read(cache, f"{site.url}/missing/unwanted", variant)


@pytest.mark.parametrize("there", [False, True])
def test_a_service_that_does_not_guard_is_given_no_failed_pages(
    site: Any, tmp_path: Path, counts: Any, there: bool
) -> None:
    """Neither where it has the page, which would be replaced, nor where it has none."""
    own = Service(tmp_path, CRAWLCACHE_RESULTS__GUARD="false")
    cache = drop_in.install(own.url)
    path = "/page/unguarded"
    url = f"{site.url}{path}"
    variants: list[str] = []

    async def work(crawler: Any) -> None:
        variants.append(cache.variant(url, config(), crawler))
        site.contents[path] = html("Page", "whole")
        if there:
            await crawler.arun(url, config=config())
        site.statuses[path] = 500
        for _ in range(2):
            assert not (await crawler.arun(url, config=config(CacheMode.WRITE_ONLY))).success

    try:
        crawl(work)
        found = read(cache, url, variants[0])
        assert bool(found) == there
        assert not there or "whole" in found.document["html"]
    finally:
        own.stop()
        drop_in.uninstall()
    assert (counts("stores", "failed"), counts("stores", "refused_failed")) == (0, 2)
