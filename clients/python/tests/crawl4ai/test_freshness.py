"""Crawl4AI's freshness checks against the service: 304, changed pages, fingerprints."""

from __future__ import annotations

import time
from typing import Any

import pytest
from crawling import CHECKS_FRESHNESS, config, crawl, status
from site_ import html

pytestmark = pytest.mark.skipif(not CHECKS_FRESHNESS, reason="freshness checks came with 0.8.0")


def test_an_unchanged_page_is_confirmed_without_its_body(site: Any, service: Any, relay: Any, counts: Any) -> None:
    import crawlcache.crawl4ai as drop_in

    drop_in.install(relay.url)
    url = f"{site.url}/etag/same"

    async def work(crawler: Any) -> None:
        assert status(await crawler.arun(url, config=config())) == "miss"
        sent = len(relay.sent)
        for _ in range(2):
            assert status(await crawler.arun(url, config=config(check_cache_freshness=True))) == "hit_validated"
        # Two look-ups and two confirmations: heads, no body.
        assert len(relay.sent) - sent < 4000

    crawl(work)
    drop_in.uninstall()
    assert (site.fetches["/etag/same"], site.revalidations["/etag/same"]) == (1, 2)
    assert counts("updates", "confirmed") == 2


def test_a_changed_page_is_fetched(site: Any, cache: Any) -> None:
    url = f"{site.url}/etag/changed"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        site.contents["/etag/changed"] = html("Another title", "all new")
        result = await crawler.arun(url, config=config(check_cache_freshness=True))
        assert status(result) == "miss"
        assert "all new" in result.markdown
        assert "all new" in (await crawler.arun(url, config=config())).markdown

    crawl(work)
    assert site.fetches["/etag/changed"] == 2 + 1  # one of them for the fingerprint


def test_a_fingerprint_is_enough_and_confirms_the_page(site: Any, cache: Any, counts: Any) -> None:
    url = f"{site.url}/page/print"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        assert status(await crawler.arun(url, config=config(check_cache_freshness=True))) == "hit_validated"
        site.contents["/page/print"] = html("New title")
        assert status(await crawler.arun(url, config=config(check_cache_freshness=True))) == "miss"

    crawl(work)
    assert counts("updates", "confirmed") == 1


def test_an_origin_that_is_away_does_not_take_the_page_with_it(site: Any, cache: Any) -> None:
    url = f"{site.url}/etag/away"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        site.stop()
        try:
            assert status(await crawler.arun(url, config=config(check_cache_freshness=True))) == "hit_fallback"
        finally:
            site.__init__()

    crawl(work)


def test_validators_are_stored_beside_the_document(site: Any, cache: Any) -> None:
    import asyncio

    import crawlcache

    url = f"{site.url}/etag/beside"
    variant = []

    async def work(crawler: Any) -> None:
        variant.append(cache.variant(url, config(), crawler))
        await crawler.arun(url, config=config())

    crawl(work)

    async def read() -> Any:
        async with crawlcache.AsyncClient(cache.settings.url) as client:
            return await client.get(url, variant=variant[0])

    hit = asyncio.run(read())
    assert hit.validators.etag == hit.document["response_headers"]["Etag"]
    assert hit.validators.last_modified == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert hit.validators.head_fingerprint == hit.document["head_fingerprint"]
    assert time.time() - 60 < hit.updated_at.timestamp()
