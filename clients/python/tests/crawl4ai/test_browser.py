"""A real Chromium, driven by Crawl4AI's own browser strategy: pages, screenshots, pdfs, blocks, error pages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from crawl4ai import AsyncWebCrawler, BrowserConfig
from crawl4ai.models import CrawlResult
from crawling import VERSION, config, status
from site_ import html

import crawlcache.crawl4ai as drop_in


@pytest.fixture
def cache(service: Any) -> Iterator[Any]:
    """The drop-in, which is told that the Chromium of these tests is logged in nowhere."""
    yield drop_in.install(service.url, cache_attached_browsers=True)
    drop_in.uninstall()


@contextlib.asynccontextmanager
async def browser(address: str, **options: Any) -> AsyncIterator[AsyncWebCrawler]:
    async with AsyncWebCrawler(config=BrowserConfig(cdp_url=address, verbose=False, **options)) as crawler:
        yield crawler


def drive(address: str, work: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with browser(address, **options) as crawler:
            try:
                return await work(crawler)
            finally:
                await drop_in.installed().cleanup()

    return asyncio.run(run())


def test_a_page_its_screenshot_and_its_pdf(chromium: str, site: Any, cache: Any) -> None:
    url = f"{site.url}/page/shown"
    site.contents["/page/shown"] = html("Shown", "<script>document.write('<b>written by script</b>')</script>")

    async def work(crawler: Any) -> list[Any]:
        results = [await crawler.arun(url, config=config()) for _ in range(2)]
        assert site.fetches["/page/shown"] == 1
        results += [await crawler.arun(url, config=config(screenshot=True, pdf=True)) for _ in range(2)]
        assert site.fetches["/page/shown"] == 2
        # Who wants no picture is answered with the page that has one.
        results.append(await crawler.arun(url, config=config()))
        results.append(await crawler.arun(url, config=config(screenshot=True)))
        assert site.fetches["/page/shown"] == 2
        return results

    results = drive(chromium, work)
    for result in results:
        assert result.success, result.error_message
        assert "written by script" in result.markdown
        assert result.status_code == 200
        assert {name.lower() for name in result.response_headers} >= {"cache-control", "content-type"}
    fetched, hit = results[2][0], results[3][0]
    # Older versions put a long page together out of parts, as a bitmap.
    picture = b"\x89PNG\r\n\x1a\n" if VERSION >= (0, 8) else b"BM"
    assert base64.b64decode(fetched.screenshot).startswith(picture)
    assert fetched.pdf.startswith(b"%PDF")
    assert (hit.screenshot, hit.pdf) == (fetched.screenshot, fetched.pdf)
    assert hit.model_dump()["pdf"] == fetched.pdf
    assert dumped(hit) == dumped(fetched)
    # Without the pdf there is nothing that JSON could not hold.
    hit.pdf = fetched.pdf = None
    assert dumped(hit) == dumped(fetched)
    assert "written by script" in str(dumped(hit))
    if VERSION >= (0, 8):
        assert [status(result) for result in results] == ["miss", "hit", "miss", "hit", "hit", "hit"]


def dumped(result: Any) -> Any:
    """What a result becomes as JSON, but for what tells a hit from a fetch; of one that JSON cannot hold, the error."""
    try:
        values = json.loads(result.model_dump_json())
    except ValueError as error:
        # A pdf that is not UTF-8, whoever made it.
        return f"{type(error).__name__}: {error}"
    for name in ("cache_status", "cached_at"):
        values.pop(name, None)
    return values


def test_a_page_that_answers_404_or_blocks_is_never_kept_as_good(
    chromium: str, site: Any, cache: Any, counts: Any
) -> None:
    async def work(crawler: Any) -> None:
        for path in ("/missing/1", "/blocked/1"):
            for _ in range(2):
                await crawler.arun(f"{site.url}{path}", config=config())
            assert site.fetches[path] == 2, path

    drive(chromium, work)
    assert counts("stores", "stored") == 0
    assert counts("stores", "failed") == 4


@pytest.mark.skipif(
    "redirected_status_code" not in CrawlResult.model_fields, reason="this Crawl4AI does not say how redirects end"
)
def test_an_error_at_the_end_of_redirects_does_not_replace_the_good_page(
    chromium: str, site: Any, cache: Any, counts: Any
) -> None:
    path = "/redirect/limited"
    url = f"{site.url}{path}"

    async def work(crawler: Any) -> None:
        from crawl4ai import CacheMode

        assert (await crawler.arun(url, config=config())).success
        site.targets[path], site.statuses["/page/limit"] = "/page/limit", 429
        limited = await crawler.arun(url, config=config(CacheMode.WRITE_ONLY))
        # What Crawl4AI takes for a success.
        assert (limited.success, limited.status_code, limited.redirected_status_code) == (True, 302, 429)
        assert "Page /page/target" in (await crawler.arun(url, config=config())).markdown

    drive(chromium, work)
    assert site.fetches["/page/limit"] == 1
    assert (counts("stores", "stored"), counts("stores", "failed")) == (1, 1)


def test_a_block_does_not_replace_the_good_page(chromium: str, site: Any, service: Any) -> None:
    async def work(crawler: Any) -> None:
        assert (await crawler.arun(url, config=config())).success
        site.contents[path], site.statuses[path] = "<html><body>Access denied</body></html>", 403
        from crawl4ai import CacheMode

        await crawler.arun(url, config=config(CacheMode.WRITE_ONLY))
        assert site.fetches[path] == 2
        result = await crawler.arun(url, config=config())
        assert "first part" in result.markdown
        assert site.fetches[path] == 2

    for store_failed in (False, True):
        path = f"/page/turns-{store_failed}"
        url = f"{site.url}{path}"
        drop_in.install(service.url, store_failed=store_failed, cache_attached_browsers=True)
        drive(chromium, work)
        drop_in.uninstall()


def test_network_and_console_logs_mhtml_and_scripts(chromium: str, site: Any, cache: Any) -> None:
    url = f"{site.url}/page/logs"
    site.contents["/page/logs"] = html("Logs", "<script>console.log('said')</script>")
    options = {
        "capture_network_requests": True,
        "capture_console_messages": True,
        "capture_mhtml": True,
        "js_code": "return 6 * 7",
    }

    async def work(crawler: Any) -> Any:
        return [(await crawler.arun(url, config=config(**options)))[0] for _ in range(2)]

    fetched, hit = drive(chromium, work)
    assert site.fetches["/page/logs"] == 1
    for name in (
        "network_requests",
        "console_messages",
        "mhtml",
        "js_execution_result",
        "redirected_url",
        "metadata",
        "tables",
        "media",
    ):
        assert getattr(hit, name) == getattr(fetched, name), name
    assert hit.network_requests
    assert any("said" in str(message) for message in hit.console_messages)
    assert hit.mhtml
    assert hit.js_execution_result["results"]
    assert json.loads(hit.model_dump_json())["html"] == fetched.html


def test_what_a_browser_shows_that_is_logged_in_is_not_kept_for_all(
    chromium: str, site: Any, service: Any, counts: Any
) -> None:
    site.contents["/page/login"] = html("Login", "<script>document.cookie = 'sid=mine; path=/; max-age=600'</script>")

    def cookies() -> list[bool]:
        return ["sid=mine" in headers.get("Cookie", "") for _, path, headers in site.requests if path == "/page/inside"]

    async def twice(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"{site.url}/page/inside", config=config())).success

    async def logged_in(crawler: Any) -> None:
        await crawler.arun(f"{site.url}/page/login", config=config())
        await twice(crawler)

    drop_in.install(service.url)
    try:
        drive(chromium, logged_in)
        assert cookies() == [True, True]
        assert counts("skipped", "credentials") > 0
        assert counts("stores", "stored") == 0
        if VERSION >= (0, 8):
            # A context of its own is logged in nowhere.
            drive(chromium, twice, create_isolated_context=True)
            assert cookies() == [True, True, False]
            assert counts("stores", "stored") == counts("lookups", "hit") == 1
    finally:
        drop_in.uninstall()


def test_a_selector_in_the_browser_is_another_page(chromium: str, site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert (
                "second part"
                not in (await crawler.arun(f"{site.url}/page/css", config=config(css_selector=".one"))).html
            )
            assert "second part" in (await crawler.arun(f"{site.url}/page/css", config=config())).html

    drive(chromium, work)
    assert site.fetches["/page/css"] == 2


def test_the_default_browser_is_the_default_variant(chromium: str, site: Any, cache: Any) -> None:
    """A plain client finds what a browser with nothing but defaults has stored."""
    import crawlcache

    async def work(crawler: Any) -> None:
        await crawler.arun(f"{site.url}/page/plain", config=config())

    drive(chromium, work)
    with crawlcache.Client(cache.settings.url) as client:
        hit = client.get(f"{site.url}/page/plain")
        assert hit
        assert "first part" in hit.document["markdown"]["raw_markdown"]
        assert drop_in.hit_result(hit).markdown.raw_markdown == hit.document["markdown"]["raw_markdown"]
