"""Every cache mode, and the kinds of urls and pages, with Crawl4AI's HTTP strategy."""

from __future__ import annotations

import asyncio
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from crawl4ai import CacheMode
from crawl4ai.deep_crawling import BFSDeepCrawlStrategy
from crawling import VERSION, config, crawl, http_crawler
from service import Service
from site_ import CHALLENGE, html

import crawlcache.crawl4ai as drop_in


@pytest.mark.parametrize(
    ("mode", "fetches"),
    [
        (CacheMode.ENABLED, 1),
        (None, 1),
        (CacheMode.READ_ONLY, 2),
        (CacheMode.WRITE_ONLY, 2),
        (CacheMode.BYPASS, 2),
        (CacheMode.DISABLED, 2),
    ],
)
def test_what_each_mode_fetches_and_leaves_behind(site: Any, cache: Any, mode: Any, fetches: int) -> None:
    url = f"{site.url}/page/mode"

    async def work(crawler: Any) -> None:
        for _ in range(2):
            result = await crawler.arun(url, config=config(mode))
            assert result.success
            assert "first part" in result.markdown
        assert site.fetches["/page/mode"] == fetches
        # Whether it is in the cache now.
        await crawler.arun(url, config=config(CacheMode.READ_ONLY))
        stored = mode in (CacheMode.ENABLED, None, CacheMode.WRITE_ONLY)
        assert site.fetches["/page/mode"] == fetches + (not stored)

    crawl(work)


def test_a_read_only_hit_comes_from_the_cache(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        await crawler.arun(f"{site.url}/page/ro", config=config())
        assert (await crawler.arun(f"{site.url}/page/ro", config=config(CacheMode.READ_ONLY))).success
        assert site.fetches["/page/ro"] == 1

    crawl(work)


def test_a_hit_has_everything_and_can_be_dumped(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> tuple[Any, Any]:
        url = f"{site.url}/etag/whole"
        return (await crawler.arun(url, config=config()))[0], (await crawler.arun(url, config=config()))[0]

    fetched, hit = crawl(work)
    assert site.fetches["/etag/whole"] == 1
    one, two = fetched.model_dump(), hit.model_dump()
    for name in ("cache_status", "cached_at"):
        one.pop(name, None), two.pop(name, None)
    assert one == two
    assert hit.model_dump_json()
    assert pickle.loads(pickle.dumps(hit)).markdown.markdown_with_citations == fetched.markdown.markdown_with_citations
    if VERSION >= (0, 8):
        assert (fetched.cache_status, hit.cache_status) == ("miss", "hit")
        assert hit.cached_at > 1.6e9


def test_redirects_keep_where_they_led(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            result = await crawler.arun(f"{site.url}/redirect/1", config=config())
            assert result.redirected_url == f"{site.url}/page/target"
            assert result.url == f"{site.url}/redirect/1"

    crawl(work)
    assert site.fetches["/redirect/1"] == site.fetches["/page/target"] == 1


def test_prefetch_finds_links_without_markdown(site: Any, cache: Any, counts: Any) -> None:
    if VERSION < (0, 8):
        pytest.skip("prefetch came with 0.8.0")

    async def work(crawler: Any) -> None:
        for _ in range(2):
            result = await crawler.arun(f"{site.url}/page/prefetch", config=config(prefetch=True))
            assert result.success, result.error_message
            assert result.markdown is None
            assert [link["href"] for link in result.links["internal"]] == [f"{site.url}/page/other"]
        assert result[0].model_dump_json()  # of the hit: what Crawl4AI has fetched itself cannot be dumped here
        # The page with everything is another one.
        assert (await crawler.arun(f"{site.url}/page/prefetch", config=config())).markdown

    crawl(work)
    assert site.fetches["/page/prefetch"] == 2
    assert counts("stores", "stored") == 2


def test_an_error_page_is_not_cached(site: Any, cache: Any, counts: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert not (await crawler.arun(f"{site.url}/missing/1", config=config())).success

    crawl(work)
    assert site.fetches["/missing/1"] == 2
    assert counts("stores", "stored") == 0


@pytest.mark.parametrize("markers", ["", "Just a moment"])
def test_a_challenge_with_status_200_is_never_a_good_page(site: Any, counts: Any, tmp_path: Path, markers: str) -> None:
    """By Crawl4AI's own verdict where it has one, and by the service's."""
    if not markers and find_spec("crawl4ai.antibot_detector") is None:
        pytest.skip("this version has no verdict about blocked pages")
    own = Service(tmp_path, CRAWLCACHE_RESULTS__BLOCK_MARKERS=markers) if markers else Service(tmp_path)
    path = "/page/challenged"

    async def work(crawler: Any) -> None:
        for _ in range(2):
            result = await crawler.arun(f"{site.url}/challenge/1", config=config())
            assert "Checking your browser" in result.html
            assert result.status_code == 200
            if not markers:
                assert not result.success
        assert site.fetches["/challenge/1"] == 2
        # And it takes no good page's place.
        assert (await crawler.arun(f"{site.url}{path}", config=config())).success
        site.contents[path] = CHALLENGE
        assert "Checking" in (await crawler.arun(f"{site.url}{path}", config=config(CacheMode.WRITE_ONLY))).html
        assert "first part" in (await crawler.arun(f"{site.url}{path}", config=config())).markdown

    try:
        cache = drop_in.install(own.url, store_failed=True)
        crawl(work)
    finally:
        drop_in.uninstall()
        own.stop()
    assert site.fetches[path] == 2
    assert (counts("stores", "stored"), counts("stores", "failed"), len(cache.fallback)) == (1, 3, 1)


def test_raw_html_is_never_cached_and_files_are(site: Any, cache: Any, counts: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(Path(__file__).read_text())

    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"raw:{'<p>some words</p>' * 300}", config=config())).success
        assert counts("lookups", "miss") == 0
        for _ in range(2):
            assert (await crawler.arun(f"file://{file}", config=config())).success
        assert counts("lookups", "hit") == 1

    crawl(work)


def test_pages_that_break_the_own_cache(site: Any, cache: Any) -> None:
    """Line ends, markdown that is JSON, and pages without any text come back as they were."""
    pages = {"crlf": "<p>a</p>\r\n" * 900, "json": "[1,2]" + "<!-- x -->" * 900, "empty": "<script>1</script>" * 500}

    async def work(crawler: Any) -> None:
        for name, content in pages.items():
            site.contents[f"/page/{name}"] = f"<html><head><title>{name}</title></head><body>{content}</body></html>"
            url = f"{site.url}/page/{name}"
            first, second = [(await crawler.arun(url, config=config()))[0] for _ in range(2)]
            if first.success:
                assert site.fetches[f"/page/{name}"] == 1, name
            assert second.html == first.html
            assert str(second.markdown) == str(first.markdown)

    crawl(work)


def test_sessions_are_left_alone_unless_asked_for(site: Any, service: Any, counts: Any) -> None:
    async def work(crawler: Any) -> None:
        for session in ("a", "a", "b"):
            await crawler.arun(f"{site.url}/page/session", config=config(session_id=session))

    drop_in.install(service.url)
    crawl(work)
    assert site.fetches["/page/session"] == 3
    assert counts("skipped", "session") > 0
    drop_in.install(service.url, cache_sessions=True)
    crawl(work)
    drop_in.uninstall()
    assert site.fetches["/page/session"] == 5


def test_a_large_page_comes_back_whole(site: Any, cache: Any) -> None:
    site.contents["/page/large"] = html("Large", "<p>words of a large page</p>" * 40_000)

    async def work(crawler: Any) -> None:
        first, second = [(await crawler.arun(f"{site.url}/page/large", config=config()))[0] for _ in range(2)]
        assert len(first.html) > 1_000_000
        assert (second.html, second.markdown) == (first.html, first.markdown)

    crawl(work)
    assert site.fetches["/page/large"] == 1


def test_a_deep_crawl_is_cached_page_by_page(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        for _ in range(2):
            run = config(deep_crawl_strategy=BFSDeepCrawlStrategy(max_depth=1, max_pages=5, include_external=True))
            results = await crawler.arun(f"{site.url}/page/deep", config=run)
            assert {result.url.rsplit("/", 1)[1] for result in results} == {"deep", "other"}
            assert all(result.success for result in results)

    crawl(work)
    assert site.fetches == {"/page/deep": 1, "/page/other": 1}


def test_two_event_loops_and_concurrent_runs(site: Any, cache: Any) -> None:
    async def work(crawler: Any) -> None:
        modes = [config(), config(excluded_tags=["div"]), config(CacheMode.BYPASS)] * 6
        results = await asyncio.gather(*(crawler.arun(f"{site.url}/page/loops", config=one) for one in modes))
        for result, one in zip(results, modes, strict=True):
            assert ("first part" in result.markdown) == (not one.excluded_tags)

    crawl(work)
    crawl(work)


def test_a_crawler_that_was_there_before_is_not_cached(site: Any, service: Any, counts: Any) -> None:
    async def run() -> None:
        async with http_crawler() as crawler:
            drop_in.install(service.url)
            try:
                for _ in range(2):
                    assert (await crawler.arun(f"{site.url}/page/before", config=config())).success
            finally:
                drop_in.uninstall()

    asyncio.run(run())
    assert site.fetches["/page/before"] == 2
    assert counts("skipped", "outside") > 0


def test_other_wrappers_of_arun_are_kept(site: Any, service: Any) -> None:
    from crawl4ai import AsyncWebCrawler

    own = AsyncWebCrawler.arun
    seen = []

    def wrapping(inner: Any, name: str) -> Any:
        async def arun(self: Any, url: str, config: Any = None, **keywords: Any) -> Any:
            seen.append(name)
            return await inner(self, url, config=config, **keywords)

        return arun

    AsyncWebCrawler.arun = wrapping(own, "inside")
    drop_in.install(service.url)
    AsyncWebCrawler.arun = outside = wrapping(AsyncWebCrawler.arun, "outside")

    async def twice(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"{site.url}/page/wrapped", config=config())).success

    crawl(twice)
    assert site.fetches["/page/wrapped"] == 1
    assert seen == ["outside", "inside"] * 2
    drop_in.uninstall()
    assert AsyncWebCrawler.arun is outside
    assert crawl(lambda crawler: crawler.arun(f"{site.url}/page/wrapped", config=config(CacheMode.BYPASS))).success
    # Installed again, the wrapper inside works again, once.
    drop_in.install(service.url)
    crawl(twice)
    drop_in.uninstall()
    assert site.fetches["/page/wrapped"] == 2
    AsyncWebCrawler.arun = own
    drop_in._wrapper._kind = drop_in._wrapper._wrapped = None
