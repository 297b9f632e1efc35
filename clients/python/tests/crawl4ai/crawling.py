"""Crawlers for the tests: over plain HTTP, and in a real Chromium."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig
from crawl4ai.async_configs import HTTPCrawlerConfig
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy

import crawlcache.crawl4ai as drop_in

T = TypeVar("T")
VERSION = drop_in.versions.installed()
#: Freshness checks came with 0.8.0.
CHECKS_FRESHNESS = VERSION >= (0, 8)


def config(mode: CacheMode | None = CacheMode.ENABLED, **options: Any) -> CrawlerRunConfig:
    return CrawlerRunConfig(cache_mode=mode, verbose=False, **options)


@contextlib.asynccontextmanager
async def http_crawler(**options: Any) -> AsyncIterator[AsyncWebCrawler]:
    strategy = AsyncHTTPCrawlerStrategy(browser_config=HTTPCrawlerConfig(**options))
    async with AsyncWebCrawler(crawler_strategy=strategy, config=BrowserConfig(verbose=False)) as crawler:
        yield crawler


def crawl(work: Callable[[AsyncWebCrawler], Awaitable[T]], **options: Any) -> T:
    """Runs work with a crawler over plain HTTP, in an event loop of its own."""

    async def run() -> T:
        async with http_crawler(**options) as crawler:
            try:
                return await work(crawler)
            finally:
                if (cache := drop_in.installed()) is not None:
                    await cache.cleanup()

    return asyncio.run(run())


def status(result: Any) -> str | None:
    """Whether a result came from the cache, as far as this version of Crawl4AI says so."""
    return getattr(result, "cache_status", None)
