"""`arun_many`: one look-up, hits at once, only the rest crawled."""

from __future__ import annotations

from typing import Any

from crawl4ai import CacheMode, MemoryAdaptiveDispatcher, RateLimiter
from crawling import VERSION, config, crawl, status

import crawlcache.crawl4ai as drop_in


def urls(site: Any, count: int, name: str) -> list[str]:
    return [f"{site.url}/page/{name}{number}" for number in range(count)]


def test_hits_come_without_the_rate_limiter(site: Any, cache: Any, counts: Any) -> None:
    wanted = urls(site, 100, "limited")

    limiter = RateLimiter()

    async def work(crawler: Any) -> None:
        for url in wanted:
            await crawler.arun(url, config=config())
        dispatcher = MemoryAdaptiveDispatcher(rate_limiter=limiter)
        results = await drop_in.arun_many(crawler, wanted, config(), dispatcher=dispatcher)
        assert [result.url for result in results] == wanted
        for result in results:
            assert result.success
            assert status(result) == ("hit" if VERSION >= (0, 8) else None)
            assert result.dispatch_result.task_id
            assert result[0].dispatch_result.task_id

    crawl(work)
    assert not limiter.domains, "it was asked"
    assert len(site.fetches) == 100
    assert counts("many", "hit") == 100


def test_only_the_rest_is_crawled(site: Any, cache: Any) -> None:
    wanted = urls(site, 6, "rest")

    async def work(crawler: Any) -> None:
        for url in wanted[:4]:
            await crawler.arun(url, config=config())
        results = await drop_in.arun_many(crawler, [*wanted, wanted[0]], config())
        assert sorted(result.url for result in results) == sorted([*wanted, wanted[0]])
        assert all(result.success and result.dispatch_result.task_id for result in results)
        assert await drop_in.arun_many(crawler, [], config()) == []

    crawl(work)
    assert all(site.fetches[f"/page/rest{number}"] == 1 for number in range(6))


def test_streams_hits_before_the_rest_is_fetched(site: Any, cache: Any) -> None:
    wanted = urls(site, 4, "stream")

    async def work(crawler: Any) -> None:
        for url in wanted[2:]:
            await crawler.arun(url, config=config())
        stream = await drop_in.arun_many(crawler, wanted, config(stream=True))
        seen = []
        async for result in stream:
            seen.append(result.url)
            if len(seen) == 2:
                assert seen == wanted[2:]
                assert not site.fetches["/page/stream0"]
        assert sorted(seen) == sorted(wanted)

    crawl(work)


def test_each_url_by_its_own_configuration(site: Any, cache: Any) -> None:
    wanted = [f"{site.url}/page/a", f"{site.url}/page/b", f"{site.url}/page/c"]
    configs = [
        config(url_matcher="*/a", excluded_selector=".two"),
        config(CacheMode.BYPASS, url_matcher="*/b"),
        config(url_matcher="*/c", excluded_selector=".one"),
    ]

    async def work(crawler: Any) -> None:
        for _ in range(2):
            results = {result.url[-1]: result for result in await drop_in.arun_many(crawler, wanted, configs)}
            assert "second part" not in results["a"].cleaned_html
            assert "first part" in results["b"].cleaned_html
            assert "first part" not in results["c"].cleaned_html
        # A url that none fits is refused, as by Crawl4AI.
        [refused] = await drop_in.arun_many(crawler, [f"{site.url}/page/none"], configs)
        assert not refused.success

    crawl(work)
    assert [site.fetches[f"/page/{name}"] for name in "abc"] == [1, 2, 1]


def test_modes_that_do_not_read(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        await crawler.arun(f"{site.url}/page/modes", config=config())
        for mode in (CacheMode.BYPASS, CacheMode.WRITE_ONLY):
            await drop_in.arun_many(crawler, [f"{site.url}/page/modes"], config(mode))

    crawl(work)
    assert site.fetches["/page/modes"] == 3


def test_without_the_service_everything_is_crawled(site: Any) -> None:
    drop_in.install("http://127.0.0.1:9", fallback_bytes=0)

    async def work(crawler: Any) -> None:
        assert len(await drop_in.arun_many(crawler, urls(site, 3, "alone"), config())) == 3
        drop_in.uninstall()
        assert len(await drop_in.arun_many(crawler, urls(site, 3, "alone"), config(CacheMode.BYPASS))) == 3

    crawl(work)
    assert sum(site.fetches.values()) == 6
