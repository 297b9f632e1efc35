"""Confirmations: under a lease, of the page that was looked at, and only by who may write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from crawl4ai import CacheMode
from crawling import CHECKS_FRESHNESS, config, crawl, status
from site_ import html

import crawlcache
import crawlcache.crawl4ai as drop_in

pytestmark = pytest.mark.skipif(not CHECKS_FRESHNESS, reason="freshness checks came with 0.8.0")


async def stored(cache: Any, url: str, variant: str) -> Any:
    async with crawlcache.AsyncClient(cache.settings.url) as client:
        return await client.get(url, variant=variant, stale=1000)


@pytest.mark.parametrize("kind", ["etag", "page"])
def test_a_stale_page_that_is_unchanged_is_confirmed_under_the_lease(
    site: Any, service: Any, counts: Any, kind: str
) -> None:
    """With a 304, and with nothing but the fingerprint of the head."""
    cache = drop_in.install(service.url, ttl=2, stale=600)
    path = f"/{kind}/stale-checked"
    url = f"{site.url}{path}"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        fetched = site.fetches[path]
        await asyncio.sleep(3.1)
        result = await crawler.arun(url, config=config(check_cache_freshness=True))
        assert status(result) == "hit_validated"
        assert "first part" in result.markdown
        if kind == "etag":
            assert (site.fetches[path], site.revalidations[path]) == (fetched, 1)
        # Fresh again, for everybody.
        hit = await stored(cache, url, cache.variant(url, config(), crawler))
        assert hit.age <= 1
        assert not hit.stale

    crawl(work)
    drop_in.uninstall()
    assert counts("lookups", "revalidate") == 1
    assert counts("updates", "confirmed") == 1
    # The first was ended by the page, the second by its confirmation.
    assert (counts("leases", "won"), counts("leases", "stored"), counts("leases", "released")) == (2, 2, 0)


def test_a_stale_page_that_has_changed_is_fetched_under_the_lease(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, ttl=1, stale=600)
    url = f"{site.url}/etag/stale-changed"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await asyncio.sleep(2.1)
        site.contents["/etag/stale-changed"] = html("Another title", "all new")
        result = await crawler.arun(url, config=config(check_cache_freshness=True))
        assert status(result) == "miss"
        assert "all new" in result.markdown

    crawl(work)
    drop_in.uninstall()
    assert (counts("leases", "won"), counts("leases", "stored")) == (2, 2)
    assert counts("stores", "stored") == 2


def test_another_page_that_came_meanwhile_is_not_confirmed(
    site: Any, cache: Any, counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validators of the first would stand beside the second, which would then never be fetched again."""
    url = f"{site.url}/etag/v1"
    confirm = cache._origin.confirm

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        variant = cache.variant(url, config(), crawler)

        async def late(*arguments: Any, **validators: Any) -> None:
            async with crawlcache.AsyncClient(cache.settings.url) as client:
                await client.put(url, {"html": html("v2"), "success": True}, variant=variant, origin_etag='"v2"')
            await confirm(*arguments, **validators)

        monkeypatch.setattr(cache._origin, "confirm", late)
        assert status(await crawler.arun(url, config=config(check_cache_freshness=True))) == "hit_validated"
        hit = await stored(cache, url, variant)
        assert "v2" in hit.document["html"]
        assert hit.validators.etag == '"v2"'

    crawl(work)
    assert (counts("updates", "confirmed"), counts("updates", "outdated"), counts("updates", "error")) == (0, 1, 0)


@pytest.mark.parametrize("options", [{}, {"only_text": True}], ids=["hit", "derived"])
def test_who_only_reads_confirms_nothing(
    site: Any, service: Any, relay: Any, counts: Any, options: dict[str, Any]
) -> None:
    drop_in.install(relay.url)
    url = f"{site.url}/etag/read-only-{len(options)}"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        sent = len(relay.sent)
        run = config(CacheMode.READ_ONLY, check_cache_freshness=True, **options)
        assert status(await crawler.arun(url, config=run)) == "hit_validated"
        assert b"PATCH" not in relay.sent[sent:]
        assert b"PUT" not in relay.sent[sent:]

    crawl(work)
    drop_in.uninstall()
    assert {name: counts("updates", name) for name in ("confirmed", "outdated", "error")} == {
        "confirmed": 0,
        "outdated": 0,
        "error": 0,
    }


def test_a_derived_hit_confirms_nothing_either(site: Any, cache: Any, counts: Any) -> None:
    url = f"{site.url}/etag/derived"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await crawler.arun(url, config=config(only_text=True, check_cache_freshness=True))

    crawl(work)
    assert counts("lookups", "derived") == 1
    assert site.fetches["/etag/derived"] == 1
    assert (counts("updates", "confirmed"), counts("updates", "error")) == (0, 0)
