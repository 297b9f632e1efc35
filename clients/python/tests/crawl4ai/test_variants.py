"""Which options make another variant, which do not, and that no secret can be read from one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import crawl4ai
import pytest
from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig
from crawl4ai.async_configs import GeolocationConfig, HTTPCrawlerConfig, LLMConfig
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy, AsyncPlaywrightCrawlerStrategy
from crawl4ai.content_filter_strategy import BM25ContentFilter, PruningContentFilter
from crawl4ai.extraction_strategy import JsonCssExtractionStrategy, LLMExtractionStrategy, RegexExtractionStrategy
from crawl4ai.markdown_generation_strategy import DefaultMarkdownGenerator
from crawling import VERSION, config, crawl

import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai.variants import DERIVED, IGNORED, Uncacheable, Variants, base_variant

PACKAGE = Path(crawl4ai.__file__).parent
SCHEMA = {"name": "n", "baseSelector": "div", "fields": [{"name": "a", "selector": "b", "type": "text"}]}


def of(run: CrawlerRunConfig | None = None, browser: BrowserConfig | None = None, **options: Any) -> str:
    crawler = AsyncWebCrawler(config=browser or BrowserConfig(verbose=False))
    return Variants(**options).of(run or CrawlerRunConfig(), crawler)


def parts(variant: str) -> tuple[str, str]:
    if not variant:
        return "f0", "d0"
    fetch, derived = variant.split(".")
    return fetch, derived


def test_defaults_are_the_default_variant() -> None:
    assert of() == ""
    assert (
        of(
            CrawlerRunConfig(excluded_tags=None, js_code=None),
            BrowserConfig(headless=False, extra_args=["--no-sandbox"]),
        )
        == ""
    )


@pytest.mark.parametrize(
    "options",
    [
        {"cache_mode": CacheMode.ENABLED},
        {"verbose": False},
        {"page_timeout": 5},
        {"stream": True},
        {"semaphore_count": 9},
        {"mean_delay": 3.0},
        {"check_robots_txt": True},
        {"screenshot": True},
        {"pdf": True},
        {"proxy_config": "http://user:pw@proxy:1"},
    ],
)
def test_what_makes_no_other_variant(options: dict[str, Any]) -> None:
    assert of(CrawlerRunConfig(**options)) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"css_selector": "div"},
        {"js_code": "a()"},
        {"wait_for": "css:x"},
        {"user_agent": "me"},
        {"locale": "de"},
        {"scan_full_page": True},
        {"capture_mhtml": True},
        {"fetch_ssl_certificate": True},
        {"geolocation": GeolocationConfig(latitude=1, longitude=2)},
        {"delay_before_return_html": 3.0},
        {"magic": True},
        {"capture_network_requests": True},
        {"timezone_id": "Europe/Berlin"},
    ],
)
def test_fetch_options(options: dict[str, Any]) -> None:
    fetch, derived = parts(of(CrawlerRunConfig(**options)))
    assert fetch != "f0"
    assert derived == "d0"


DERIVING = [
    {"excluded_tags": ["nav"]},
    {"target_elements": ["main"]},
    {"word_count_threshold": 30},
    {"only_text": True},
    {"extraction_strategy": JsonCssExtractionStrategy(SCHEMA)},
    {"extraction_strategy": JsonCssExtractionStrategy({**SCHEMA, "baseSelector": "p"})},
    {"extraction_strategy": RegexExtractionStrategy(pattern=RegexExtractionStrategy.Email)},
    {"extraction_strategy": RegexExtractionStrategy(pattern=RegexExtractionStrategy.Url)},
    {
        "extraction_strategy": LLMExtractionStrategy(
            llm_config=LLMConfig(provider="openai/gpt-4o", api_token="sk-1"), instruction="a"
        )
    },
    {
        "extraction_strategy": LLMExtractionStrategy(
            llm_config=LLMConfig(provider="openai/gpt-4o", api_token="sk-1"), instruction="b"
        )
    },
    {
        "extraction_strategy": LLMExtractionStrategy(
            llm_config=LLMConfig(provider="openai/o1", api_token="sk-1"), instruction="b"
        )
    },
    {"markdown_generator": DefaultMarkdownGenerator(options={"ignore_links": True})},
    {"markdown_generator": DefaultMarkdownGenerator(content_filter=PruningContentFilter())},
    {"markdown_generator": DefaultMarkdownGenerator(content_filter=PruningContentFilter(threshold=0.9))},
    {"markdown_generator": DefaultMarkdownGenerator(content_filter=BM25ContentFilter(user_query="q"))},
]


def test_derived_options_are_all_different_and_fetch_alike() -> None:
    variants = [of(CrawlerRunConfig(**options)) for options in DERIVING]
    assert len(set(variants)) == len(variants)
    assert {parts(variant)[0] for variant in variants} == {"f0"}
    assert {base_variant(variant) for variant in variants} == {""}
    both = of(CrawlerRunConfig(css_selector="a", excluded_tags=["nav"]))
    assert base_variant(both) == of(CrawlerRunConfig(css_selector="a"))
    assert base_variant("") is base_variant("my own") is base_variant(of(CrawlerRunConfig(css_selector="a"))) is None


@pytest.mark.parametrize(
    "browser",
    [
        {"user_agent": "me"},
        {"viewport_width": 400},
        {"java_script_enabled": False},
        {"text_mode": True},
        {"headers": {"X-A": "b"}},
        {"cookies": [{"name": "a", "value": "b", "url": "https://x"}]},
        {"storage_state": {"cookies": [], "origins": []}},
        {"browser_type": "firefox"},
        {"user_agent_mode": "random"},
        {"extra_args": ["--lang=de"]},
    ],
)
def test_browser_options_that_change_the_page(browser: dict[str, Any]) -> None:
    fetch, derived = parts(of(None, BrowserConfig(**browser)))
    assert fetch != "f0"
    assert derived == "d0"


@pytest.mark.skipif(not hasattr(CrawlerRunConfig, "set_defaults"), reason="set_defaults came with 0.8.0")
def test_what_set_defaults_says_is_an_option() -> None:
    plain = of(CrawlerRunConfig(css_selector="a"))
    try:
        CrawlerRunConfig.set_defaults(css_selector="a", only_text=True)
        BrowserConfig.set_defaults(viewport_width=400)
        set_for_all = of(CrawlerRunConfig(), BrowserConfig())
        # Another reference than the process that has set nothing.
        from crawlcache.crawl4ai import variants

        variants._defaults.clear()
        assert of(CrawlerRunConfig(), BrowserConfig()) == set_for_all
        CrawlerRunConfig.reset_defaults("only_text")
        BrowserConfig.reset_defaults()
        assert of() == of(CrawlerRunConfig(css_selector="a")) == plain
        CrawlerRunConfig.reset_defaults()
    finally:
        CrawlerRunConfig.reset_defaults()
        BrowserConfig.reset_defaults()
    assert set_for_all == of(CrawlerRunConfig(css_selector="a", only_text=True), BrowserConfig(viewport_width=400))
    assert of() == ""


def test_zero_is_not_nothing_and_one_is_not_true() -> None:
    """`max_scroll_steps=0` scrolls not at all, None as far as the page goes."""

    def with_option(name: str, value: Any) -> str:
        run = CrawlerRunConfig()
        setattr(run, name, value)
        return of(run)

    assert with_option("max_scroll_steps", 0) != with_option("max_scroll_steps", None) == ""
    assert with_option("experimental", 0) != with_option("experimental", False)
    assert with_option("magic", 0) != ""
    assert len({with_option("experimental", value) for value in (0, 1, True, "1", [1], [True])}) == 6


def fetching_from(strategy: Any) -> str:
    return Variants().of(CrawlerRunConfig(), AsyncWebCrawler(crawler_strategy=strategy, config=BrowserConfig()))


def test_the_state_of_an_own_strategy_counts() -> None:
    class Own(AsyncHTTPCrawlerStrategy):
        def __init__(self, country: str, token: str = "") -> None:
            super().__init__()
            self.country = country
            self.token = token
            self._lock = asyncio.Lock()

    assert fetching_from(Own("de")) == fetching_from(Own("de")) != fetching_from(Own("us"))
    assert fetching_from(Own("de", token="mine")) != fetching_from(Own("de", token="yours"))
    used = Own("de")

    async def use() -> None:
        before = fetching_from(used)
        async with used, used._lock:
            assert used._session is not None
            assert fetching_from(used) == before

    asyncio.run(use())

    # One that has another inside, which has begun to work.
    class Around:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    inner = AsyncHTTPCrawlerStrategy()
    before = fetching_from(Around(inner))

    async def begin() -> None:
        async with inner:
            assert fetching_from(Around(inner)) == before

    asyncio.run(begin())
    assert before != fetching_from(Around(AsyncHTTPCrawlerStrategy(HTTPCrawlerConfig(method="POST"))))


def test_another_adapter_of_the_browser_sees_another_page() -> None:
    if VERSION < (0, 8):
        pytest.skip("looked at with the newest version")
    from crawl4ai.browser_adapter import PlaywrightAdapter, StealthAdapter, UndetectedAdapter

    class Own(PlaywrightAdapter):
        def __init__(self, accent: str) -> None:
            self.accent = accent

    adapters = [None, StealthAdapter(), UndetectedAdapter(), Own("a"), Own("b")]
    found = [fetching_from(AsyncPlaywrightCrawlerStrategy(browser_adapter=adapter)) for adapter in adapters]
    assert found[0] == fetching_from(AsyncPlaywrightCrawlerStrategy(browser_adapter=PlaywrightAdapter())) == ""
    assert len(set(found)) == len(adapters)


def test_a_file_of_cookies_counts_by_what_it_says(tmp_path: Path) -> None:
    def with_file(name: str, value: str) -> str:
        (tmp_path / name).write_text(f'{{"cookies": [{{"name": "sid", "value": "{value}"}}], "origins": []}}')
        return of(None, BrowserConfig(storage_state=str(tmp_path / name)))

    assert with_file("a", "one") == with_file("b", "one") != with_file("a", "two")
    state = {"origins": [], "cookies": [{"name": "sid", "value": "one"}]}
    assert of(None, BrowserConfig(storage_state=state)) == with_file("c", "one")
    (tmp_path / "broken").write_text("{")
    for name in ("broken", "absent"):
        with pytest.raises(Uncacheable) as raised:
            of(None, BrowserConfig(storage_state=str(tmp_path / name)))
        assert raised.value.reason == "unhashable"


def test_an_attached_browser_may_be_logged_in() -> None:
    for options in ({"cdp_url": "http://127.0.0.1:1"}, {"browser_mode": "builtin"}):
        with pytest.raises(Uncacheable, match="cache_attached_browsers") as raised:
            of(None, BrowserConfig(**options))
        assert raised.value.reason == "credentials"
        assert of(None, BrowserConfig(**options), cache_attached_browsers=True) == ""
    if "create_isolated_context" in vars(BrowserConfig()):
        assert of(None, BrowserConfig(cdp_url="http://127.0.0.1:1", create_isolated_context=True)) == ""


def test_the_context_of_an_attached_browser_counts() -> None:
    if "target_id" not in vars(BrowserConfig()):
        pytest.skip("contexts and targets came with 0.8.0")
    found = {
        of(None, BrowserConfig(cdp_url="http://127.0.0.1:1", **ids), cache_attached_browsers=True)
        for ids in (
            {},
            {"browser_context_id": "a"},
            {"browser_context_id": "b"},
            {"browser_context_id": "a", "target_id": "t"},
        )
    }
    assert len(found) == 4


def test_a_variant_of_ones_own_is_for_attached_browsers_too(service: Any) -> None:
    crawler = AsyncWebCrawler(config=BrowserConfig(cdp_url="http://127.0.0.1:1"))
    cache = drop_in.install(service.url)
    with pytest.raises(Uncacheable):
        cache.variant("https://x/", config(), crawler)
    assert drop_in.install(service.url, variant="mine").variant("https://x/", config(), crawler) == "mine"
    cache = drop_in.install(service.url, cache_attached_browsers=True)
    assert cache.variant("https://x/", config(), crawler) == ""
    drop_in.uninstall()


def test_a_random_user_agent_is_one_variant() -> None:
    assert of(None, BrowserConfig(user_agent_mode="random")) == of(None, BrowserConfig(user_agent_mode="random"))


def test_secrets_of_services_make_no_variant_and_those_of_sites_do() -> None:
    def llm(token: str) -> str:
        return of(
            CrawlerRunConfig(
                extraction_strategy=LLMExtractionStrategy(
                    llm_config=LLMConfig(provider="openai/o1", api_token=token), instruction="x"
                )
            )
        )

    assert llm("sk-secret-1") == llm("sk-secret-2")
    cookies = [
        of(None, BrowserConfig(cookies=[{"name": "sid", "value": value, "url": "https://x"}]))
        for value in ("one", "two")
    ]
    assert cookies[0] != cookies[1]
    assert not any("one" in variant or "sid" in variant for variant in cookies)
    assert (
        of(None, BrowserConfig(cookies=[{"name": "sid", "value": "one", "url": "https://x"}]), key="k") not in cookies
    )


def test_a_variant_is_short_and_plain() -> None:
    assert re.fullmatch(r"f[0-9a-f]{32}\.d[0-9a-f]{32}", of(CrawlerRunConfig(css_selector="a", only_text=True)))


def test_the_same_in_another_process() -> None:
    program = """
import sys
sys.path[:0] = sys.argv[1:]
from test_variants import *
print(of(own_run(), own_browser()))
"""
    here = Path(__file__).parent
    here_too = of(own_run(), own_browser())
    there = subprocess.run(
        [sys.executable, "-c", program, str(here), str(here.parents[1] / "src")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "12", "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert there.stdout.split()[-1] == here_too


def own_run() -> CrawlerRunConfig:
    return CrawlerRunConfig(css_selector="a", excluded_tags=["b"], extraction_strategy=own_strategy())


def own_browser() -> BrowserConfig:
    return BrowserConfig(headers={"b": "1", "A": "2"}, verbose=False)


def own_strategy(selector: str = "p") -> Any:
    class Own(JsonCssExtractionStrategy):
        names = frozenset({"a", "b", "c"})

        def __init__(self) -> None:
            super().__init__(SCHEMA)
            self._selector = selector

        def run(self, url: str, sections: list[str], *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
            return [{"own": self._selector, "known": url in {"x", "y"}}]

    return Own()


def test_own_classes_and_functions_count_by_their_code() -> None:
    one, two = own_strategy(), own_strategy("div")
    assert of(CrawlerRunConfig(extraction_strategy=one)) != of(CrawlerRunConfig(extraction_strategy=two))
    assert of(CrawlerRunConfig(extraction_strategy=own_strategy())) == of(CrawlerRunConfig(extraction_strategy=one))

    class Other(type(one)):  # type: ignore[misc]
        def run(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
            return []

    assert of(CrawlerRunConfig(extraction_strategy=Other())) != of(CrawlerRunConfig(extraction_strategy=one))


def test_hooks_make_a_variant() -> None:
    def with_hook(hook: Any) -> str:
        crawler = AsyncWebCrawler(config=BrowserConfig(verbose=False))
        crawler.crawler_strategy.set_hook("after_goto", hook)
        return Variants().of(CrawlerRunConfig(), crawler)

    async def one(page: Any, **_: Any) -> Any:
        await page.click("a")

    async def two(page: Any, **_: Any) -> Any:
        await page.click("b")

    assert len({"", with_hook(one), with_hook(two)}) == 3
    # As the Docker server makes them of text.
    compiled: dict[str, Any] = {}
    exec("async def hook(page, **_):\n    await page.click('c')", {}, compiled)
    exec("async def other(page, **_):\n    await page.click('d')", {}, compiled)
    assert with_hook(compiled["hook"]) != with_hook(compiled["other"])


HOOK = """
SELECTOR = {selector}
SEEN = 0
async def hook(page, **_):
    global SEEN
    SEEN += 1
    async def inner():
        await page.click(SELECTOR)
    await inner()
class Strategy(Base):
    def run(self, *arguments, **keywords):
        return [super().run, SELECTOR]
"""


def test_constants_of_the_module_count() -> None:
    def compiled(selector: Any) -> dict[str, Any]:
        names: dict[str, Any] = {"Base": JsonCssExtractionStrategy, "__name__": "own"}
        exec(HOOK.format(selector=repr(selector)), names)
        return names

    def with_hook(names: dict[str, Any]) -> str:
        crawler = AsyncWebCrawler(config=BrowserConfig(verbose=False))
        crawler.crawler_strategy.set_hook("after_goto", names["hook"])
        return Variants().of(CrawlerRunConfig(), crawler)

    def with_strategy(names: dict[str, Any]) -> str:
        return of(CrawlerRunConfig(extraction_strategy=names["Strategy"](SCHEMA)))

    for variant in (with_hook, with_strategy):
        found = [variant(compiled(selector)) for selector in ("a", "b", ["a"], {"a": {"b"}}, None, 0)]
        assert len(set(found)) == len(found)
        assert variant(compiled(["a"])) == found[2]
    # What a function counts is no option.
    names = compiled("a")
    before = with_hook(names)
    names["SEEN"] += 1
    assert with_hook(names) == before
    with pytest.raises(Uncacheable, match="too large"):
        with_hook(compiled(list(range(20_000))))


def test_what_cannot_be_told_apart_is_not_cached() -> None:
    class Slotted:
        __slots__ = ("a",)

    with pytest.raises(Uncacheable) as raised:
        of(CrawlerRunConfig(experimental={"thing": Slotted()}))
    assert raised.value.reason == "unhashable"
    with pytest.raises(Uncacheable) as raised:
        of(CrawlerRunConfig(session_id="s"))
    assert raised.value.reason == "session"


def test_what_the_browser_code_reads_is_no_derived_option() -> None:
    """The list of derived options, against the code of this version of Crawl4AI."""
    code = "".join((PACKAGE / name).read_text() for name in ("async_crawler_strategy.py", "browser_manager.py"))
    read = set(re.findall(r"\b(?:config|crawlerRunConfig|crawler_run_config)\.([a-z_]+)", code))
    assert len(read) > 40
    assert not DERIVED & read
    assert not DERIVED & IGNORED
    # Nothing that this version has is forgotten: what is on no list is a fetch option, the careful choice.
    assert {"js_code", "css_selector", "wait_for"} <= set(vars(CrawlerRunConfig())) - DERIVED - IGNORED


def test_a_strategy_is_the_same_after_it_was_used(site: Any, cache: Any) -> None:
    runs = [
        options for options in DERIVING if not isinstance(options.get("extraction_strategy"), LLMExtractionStrategy)
    ]

    async def work(crawler: Any) -> None:
        for options in runs:
            run = config(**options)
            before = cache.variant(f"{site.url}/page/used", run, crawler)
            assert (await crawler.arun(f"{site.url}/page/used", config=run)).success
            assert cache.variant(f"{site.url}/page/used", run, crawler) == before, options

    crawl(work)


def test_how_a_page_is_fetched_matters(site: Any, cache: Any) -> None:
    """The HTTP strategy sees another page than a browser, and what it posts is part of it."""

    async def variant(crawler: Any) -> str:
        return cache.variant("https://x/", config(), crawler)

    found = {
        crawl(variant),
        crawl(variant, method="POST", data={"a": "1"}),
        crawl(variant, headers={"Authorization": "x"}),
        "",
    }
    assert len(found) == 4


def test_a_variant_of_ones_own(service: Any) -> None:
    installed = drop_in.install(service.url, variant="mine")
    assert installed.variant("https://x/", config(css_selector="a")) == "mine"
    installed = drop_in.install(
        service.url, variant=lambda url, run, crawler: None if "private" in url else "v" + str(run.css_selector)
    )
    assert installed.variant("https://x/", config(css_selector="a")) == "va"
    with pytest.raises(Uncacheable):
        installed.variant("https://x/private", config())
    with pytest.raises(Uncacheable, match="password"):
        installed.variant("https://user:pw@x/", config())
    drop_in.uninstall()


def test_versions_are_named_in_derived_variants_only(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, derived = of(CrawlerRunConfig(css_selector="a")), of(CrawlerRunConfig(only_text=True))
    monkeypatch.setattr(drop_in.versions, "installed", lambda: (VERSION[0], VERSION[1] + 1))
    assert of(CrawlerRunConfig(css_selector="a")) == plain
    assert of(CrawlerRunConfig(only_text=True)) != derived
