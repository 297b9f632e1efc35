"""Runs with other options are not answered with the wrong page, and need no fetch where the html is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from crawl4ai.extraction_strategy import JsonCssExtractionStrategy
from crawling import VERSION, config, crawl

import crawlcache.crawl4ai as drop_in


def extraction(selector: str) -> Any:
    fields = [{"name": "text", "selector": selector, "type": "text"}]
    return JsonCssExtractionStrategy({"name": "parts", "baseSelector": "body", "fields": fields})


@pytest.mark.skipif(VERSION < (0, 8), reason="its HTTP strategy does not look at css_selector")
def test_another_selector_is_another_page(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            for selector, there, not_there in (
                (".one", "first part", "second part"),
                (".two", "second part", "first part"),
            ):
                result = await crawler.arun(f"{site.url}/page/selector", config=config(css_selector=selector))
                assert there in result.cleaned_html
                assert not_there not in result.cleaned_html

    crawl(work)
    assert site.fetches["/page/selector"] == 2


def test_another_extraction_is_made_of_the_cached_page(site: Any, cache: Any, counts: Any) -> None:
    async def work(crawler: Any) -> None:
        url = f"{site.url}/page/extract"
        plain = await crawler.arun(url, config=config())
        assert plain.extracted_content is None
        for _ in range(2):
            for selector, text in ((".one", "first part"), (".two", "second part")):
                result = await crawler.arun(url, config=config(extraction_strategy=extraction(selector)))
                assert json.loads(result.extracted_content)[0]["text"].strip() == text
                assert result.response_headers == plain.response_headers
                assert result.status_code == 200
        assert (await crawler.arun(url, config=config())).extracted_content is None

    crawl(work)
    assert site.fetches["/page/extract"] == 1
    assert counts("lookups", "derived") == 2
    assert counts("lookups", "hit") == 3
    assert counts("stores", "stored") == 3


def test_what_is_derived_is_what_would_have_been_fetched(site: Any, service: Any) -> None:
    options = {"excluded_tags": ["a"], "extraction_strategy": extraction(".one"), "word_count_threshold": 2}
    documents = []
    for derive in (True, False):
        drop_in.install(service.url, derive=derive, variant_key=f"derive {derive}")

        async def work(crawler: Any) -> None:
            await crawler.arun(f"{site.url}/page/alike", config=config())
            for _ in range(2):
                result = await crawler.arun(f"{site.url}/page/alike", config=config(**options))
                document = drop_in.document(result)
                for name in ("cache_status", "cached_at", "crawl_stats", "response_headers"):
                    document.pop(name, None)
                documents.append(document)

        crawl(work)
        drop_in.uninstall()
    assert documents[0] == documents[1] == documents[2] == documents[3]
    assert site.fetches["/page/alike"] == 1 + 2


def test_a_derived_page_is_not_younger_than_its_source(site: Any, service: Any) -> None:
    import asyncio

    import crawlcache

    cache = drop_in.install(service.url, ttl=100)
    url = f"{site.url}/page/ages"
    keys: list[str] = []

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await asyncio.sleep(1.1)
        await crawler.arun(url, config=config(only_text=True))
        keys.append(cache.variant(url, config(only_text=True), crawler))

    crawl(work)

    async def read() -> Any:
        async with crawlcache.AsyncClient(service.url) as client:
            return await client.get(url, variant=keys[0])

    assert asyncio.run(read()).ttl < 100
    drop_in.uninstall()


def test_a_screenshot_that_is_not_there_is_a_miss(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            await crawler.arun(f"{site.url}/page/shot", config=config())
        # This strategy cannot make one: it is fetched each time, as Crawl4AI does, and the page stays.
        for _ in range(2):
            await crawler.arun(f"{site.url}/page/shot", config=config(screenshot=True))
        await crawler.arun(f"{site.url}/page/shot", config=config())

    crawl(work)
    assert site.fetches["/page/shot"] == 3
