"""What a run must not share: what others have left in its crawler, and what its code reads from elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy
from crawling import CHECKS_FRESHNESS, config, crawl, http_crawler, status

import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai import left
from crawlcache.crawl4ai.variants import Uncacheable, Variants


@pytest.fixture
def named(site: Any) -> Iterator[Any]:
    """The site by a name: clients keep no cookies for addresses."""
    site.url = site.url.replace("127.0.0.1", "localhost")
    return site


def visit(named: Any, work: Any, **options: Any) -> Any:
    """Runs work with a crawler that is made for it, which is told the address of the site."""
    return crawl(lambda crawler: work(crawler, named.url), **options)


def test_cookies_that_every_visitor_is_given_keep_nothing_from_the_cache(named: Any, cache: Any, counts: Any) -> None:
    cookies: list[int] = []

    async def work(crawler: Any, url: str) -> None:
        for number in range(3):
            await crawler.arun(f"{url}/visit/{number}", config=config())
        cookies.append(len(crawler.crawler_strategy._session.cookie_jar))
        # Not cached, and elsewhere: what is there already is not by this one.
        await crawler.arun(f"{url.replace('localhost', '127.0.0.1')}/page/elsewhere", config=config(CacheMode.BYPASS))
        for number in range(4):
            await crawler.arun(f"{url}/visit/{number}", config=config())

    visit(named, work)
    visit(named, work)
    assert counts("skipped", "state") == 0
    assert cookies == [1, 0]
    assert counts("stores", "stored") == 4
    assert counts("lookups", "hit") == 3 + 7


def test_a_run_that_is_not_cached_and_leaves_nothing_keeps_nothing(named: Any, cache: Any, counts: Any) -> None:
    async def work(crawler: Any, url: str) -> None:
        await crawler.arun(f"{url}/page/plain", config=config(CacheMode.BYPASS))
        for _ in range(2):
            await crawler.arun(f"{url}/page/plain", config=config())

    visit(named, work)
    assert counts("skipped", "state") == 0
    assert counts("lookups", "hit") == 1


@pytest.mark.parametrize("known", [False, True], ids=["new cookie", "cookie of a visitor"])
def test_what_a_run_leaves_that_is_not_cached_keeps_its_site_out(
    named: Any, cache: Any, counts: Any, known: bool
) -> None:
    """Also where the cookie was there before, with the same value: a server may log in the session that it has."""
    path = f"/private/{known}"

    async def work(crawler: Any, url: str) -> None:
        elsewhere = url.replace("localhost", "127.0.0.1")
        if known:
            await crawler.arun(f"{url}/login/a?user=alice", config=config())
        await crawler.arun(f"{url}/login/b?user=alice", config=config(CacheMode.BYPASS))
        for _ in range(2):
            assert "account-alice" in (await crawler.arun(f"{url}{path}", config=config())).html
            results = await drop_in.arun_many(crawler, [f"{url}{path}"], config())
            assert [status(result) for result in results] == ["miss" if CHECKS_FRESHNESS else None]
            await crawler.arun(f"{elsewhere}{path}", config=config())

    visit(named, work)
    assert counts("lookups", "hit") == 1
    assert counts("skipped", "state") > 0

    async def anonymous(crawler: Any, url: str) -> None:
        assert "account-nobody" in (await crawler.arun(f"{url}{path}", config=config())).html

    visit(named, anonymous)

    # Somebody who is logged in is not shown the page of a visitor.
    visit(named, work)


def test_a_login_during_a_fetch_keeps_its_page_out(named: Any, cache: Any, counts: Any) -> None:
    async def work(crawler: Any, url: str) -> None:
        slow = asyncio.create_task(crawler.arun(f"{url}/held/slow", config=config()))
        while not named.fetches["/held/slow"]:
            await asyncio.sleep(0.01)
        await crawler.arun(f"{url}/login/c?user=alice", config=config(CacheMode.BYPASS))
        named.released.set()
        await slow

    visit(named, work)
    assert counts("stores", "stored") == 0
    assert counts("stores", "skipped") == counts("skipped", "state") == 1


def test_the_word_of_the_caller_counts(named: Any, service: Any, counts: Any) -> None:
    async def work(crawler: Any, url: str) -> None:
        await crawler.arun(f"{url}/login/d?user=alice", config=config(CacheMode.BYPASS))
        for _ in range(2):
            await crawler.arun(f"{url}/private/word", config=config())

    for options in ({"cache_after_uncached": True}, {"variant": "alice"}):
        drop_in.install(service.url, **options)
        visit(named, work)
        drop_in.uninstall()
    assert counts("stores", "stored") == counts("lookups", "hit") == 2


def test_runs_that_act_on_a_site_make_other_pages_of_it(named: Any, cache: Any, counts: Any) -> None:
    """And those pages are found again by crawlers that did the same."""

    async def work(crawler: Any, url: str) -> None:
        await crawler.arun(f"{url}/visit/list", config=config(js_code="more()"))
        await crawler.arun(f"{url}/page/detail", config=config())
        await crawler.arun(f"{url}/page/detail", config=config(js_code="more()"))

    async def plainly(crawler: Any, url: str) -> None:
        await crawler.arun(f"{url}/page/detail", config=config())

    visit(named, work)
    assert counts("stores", "stored") == 3
    visit(named, plainly)
    assert counts("stores", "stored") == 4
    named.fetches.clear()
    visit(named, work)
    # The list is a hit and leaves nothing, so that the rest is as for any visitor.
    assert counts("lookups", "hit") == 3
    assert counts("skipped", "state") == 0


def test_a_hook_that_is_taken_away_leaves_what_it_did(named: Any, cache: Any, counts: Any) -> None:
    async def log_in(url: str, keywords: Any) -> None:
        keywords["headers"]["X-Account"] = "alice"

    async def work(crawler: Any, url: str) -> None:
        strategy = crawler.crawler_strategy
        strategy.set_hook("before_request", log_in)
        await crawler.arun(f"{url}/login/e?user=alice", config=config())
        strategy.set_hook("before_request", lambda *_, **__: None)
        await crawler.arun(f"{url}/private/e", config=config())
        await crawler.arun(f"{url}/private/e", config=config())

    async def anonymous(crawler: Any, url: str) -> None:
        assert "account-nobody" in (await crawler.arun(f"{url}/private/e", config=config())).html

    visit(named, work)
    assert counts("lookups", "hit") == 1
    visit(named, anonymous)


def test_crawlers_without_a_strategy_or_of_another_kind(named: Any, cache: Any, counts: Any) -> None:
    """Of what cannot be looked into, everything is held that runs may have left."""

    class Own:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def crawl(self, url: str, **more: Any) -> Any:
            return await self.inner.crawl(url, **more)

        async def __aenter__(self) -> Any:
            return await self.inner.__aenter__()

        async def __aexit__(self, *error: Any) -> Any:
            return await self.inner.__aexit__(*error)

    async def work() -> None:
        strategy = Own(AsyncHTTPCrawlerStrategy())
        async with AsyncWebCrawler(crawler_strategy=strategy, config=BrowserConfig(verbose=False)) as crawler:
            await crawler.arun(f"{named.url}/page/own", config=config())
            await crawler.arun(f"{named.url}/page/own", config=config())
            assert counts("lookups", "hit") == 1
            await crawler.arun(f"{named.url}/page/own", config=config(CacheMode.BYPASS))
            await crawler.arun(f"{named.url}/page/own", config=config())
            assert counts("lookups", "hit") == 1
            assert counts("skipped", "state") > 0
        await cache.cleanup()

    asyncio.run(work())
    assert cache._crawlers.of(object()) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", "example.com"),
        (".login.Example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("app.ab.de", "ab.de"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_the_site_of_a_host(host: str, expected: str) -> None:
    assert left.site(host) == expected


# Programs whose hook does something else with each value, however it comes by it.
HOLDING = """
import argparse, collections, contextvars, dataclasses, enum, functools, importlib, operator, os, types
from importlib import import_module as imported
import module_of_test
VALUE = {value!r}
os.environ["VALUE_OF_TEST"] = VALUE
os.environ["NAMED_OF_TEST"] = VALUE
module_of_test.NAME = VALUE
module_of_test.thing = types.SimpleNamespace(of=VALUE)
CONTEXT = contextvars.ContextVar("value", default=None)
CONTEXT.set(VALUE)
class Plain:
    def __init__(self, token): self.token = token
    def read(self): return self.token
class Attribute:
    token = VALUE
@dataclasses.dataclass(frozen=True)
class Frozen:
    password: str
Named = collections.namedtuple("Named", "secret")
class Slots:
    __slots__ = ("api_key",)
    def __init__(self): self.api_key = VALUE
class Kept(dict): pass
kept = Kept(a=VALUE)
plain, frozen, named, slots = Plain(VALUE), Frozen(VALUE), Named(VALUE), Slots()
spaces = [argparse.Namespace(user=VALUE)]
space = types.SimpleNamespace(account=Plain(VALUE))
class Kind(enum.Enum):
    ONE = VALUE
SET = VALUE
def setting():
    global SET
    if SET is None: SET = ""
    return SET
bound = plain.read
part = functools.partial(Plain.read, plain)
getter = kept.get
KEY = "NAMED_OF_TEST"
environ = os.environ
def helper(): return deeper()
def deeper(): return plain.token
@functools.lru_cache
def cached(): return plain.token
def closing(value):
    def closed(): return value
    return closed
closed = closing(plain)
passed = closing(module_of_test)
def decorated(function):
    @functools.wraps(function)
    async def inner(*a, **k): return [plain, await function(*a, **k)]
    return inner
del VALUE
"""
WAYS = {
    "object": "plain.token",
    "method": "plain.read()",
    "class attribute": "Attribute.token",
    "class attribute of an object": "Attribute()",
    "frozen": "frozen.password",
    "named tuple": "named.secret",
    "slots": "slots.api_key",
    "dictionary of an own kind": "kept['a']",
    "object in a list": "spaces[0].user",
    "own object in a namespace": "space.account.token",
    "value of an enumeration": "Kind.ONE.value",
    "variable that is set as well": "setting()",
    "module that is passed on": "passed().NAME",
    "bound method": "bound()",
    "partial": "part()",
    "method of a builtin": "getter('a')",
    "helper of a helper": "helper()",
    "cached helper": "cached()",
    "closure": "closed().token",
    "comprehension": "[plain.token for _ in range(1)]",
    "lambda": "(lambda: plain.token)()",
    "default": "(lambda value=plain: value)()",
    "module": "module_of_test.NAME",
    "object of a module": "module_of_test.thing.of",
    "module by a name": "getattr(module_of_test, url, None)",
    "attributes of a module": "vars(module_of_test)[url]",
    "module imported in it": "__import__('module_of_test').NAME",
    "context": "CONTEXT.get()",
    "environment": "os.environ['VALUE_OF_TEST']",
    "environment by get": "os.environ.get('VALUE_OF_TEST', '')",
    "environment by getenv": "os.getenv('VALUE_OF_TEST')",
    "environment by a constant": "os.environ[KEY]",
    "environment by name": "environ['VALUE_OF_TEST']",
    "environment by a variable": "[os.environ[name] for name in ('VALUE_OF_TEST',)]",
    "environment with a default": "os.getenv('VALUE_OF_TEST', default=url)",
    "environment by a text with a variable": "os.environ[f'VALUE_{url}']",
    "environment by a sum": "os.environ['VALUE_' + url]",
    "environment by a sum with a constant": "os.environ[KEY + url]",
    "environment by a template": "os.getenv('VALUE_%s' % url)",
    "environment by a format": "os.environ.get('VALUE_{}'.format(url))",
    "environment by a method of a constant": "os.getenv(KEY.upper())",
    "environment for another function": "operator.getitem(os.environ, 'VALUE_OF_TEST')",
    "getter for another function": "functools.reduce(os.environ.get, 'VALUE_OF_TEST')",
    "environment as a whole": "dict(os.environ)",
    "module imported by a function": "importlib.import_module('module_of_test').NAME",
    "module imported by another name": "imported('module_of_test').NAME",
    "expanded variables": "os.path.expandvars('$VALUE_OF_TEST')",
    "expanded": "eval('plain.token')",
    "globals": "globals()['plain']",
    "file": "open('file-of-test').read()",
    "path": "pathlib.Path('a').read_text()",
}
UNKNOWABLE = {
    "module that is passed on",
    "module imported in it",
    "environment by a variable",
    "environment by a text with a variable",
    "environment by a sum",
    "environment by a sum with a constant",
    "environment by a template",
    "environment by a format",
    "environment by a method of a constant",
    "environment for another function",
    "getter for another function",
    "environment as a whole",
    "module imported by a function",
    "module imported by another name",
    "expanded variables",
    "expanded",
    "globals",
    "file",
    "path",
}


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://a.example/?{name}=1" for name in ("token", "accessToken", "ssotoken", "sid", "session_id", "auth")),
        "https://a.example/?magicLink=1",
        "https://a.example/#access_token=1",
        "https://a.example/#/in?ticket=1",
    ],
)
def test_a_key_in_a_url_is_told(url: str) -> None:
    crawler = AsyncWebCrawler(crawler_strategy=AsyncHTTPCrawlerStrategy(), config=BrowserConfig(verbose=False))
    variants = Variants()
    options = variants.options(CrawlerRunConfig(), crawler, {})
    assert variants.identity(url, options, "")
    assert not variants.identity("https://a.example/?page=1&author=b#part", options, "")


def test_a_login_that_goes_on_counts_at_its_host() -> None:
    strategy = AsyncHTTPCrawlerStrategy()
    found = left.Left(strategy, trusted=True, shared=False)
    held = {("a.example", "/", "sid"): {"of a visitor"}}

    async def cookies() -> Any:
        return held

    async def work() -> tuple[frozenset[str], frozenset[str]]:
        await found.enter("login", "a.example")
        return await found.at("a.example", ""), await found.at("b.example", "")

    found._known, found._cookies = held, cookies  # type: ignore[method-assign]
    assert asyncio.run(work()) == ({"login"}, set())


def variant_of(hook: Any) -> str:
    strategy = AsyncHTTPCrawlerStrategy()
    strategy.set_hook("before_request", hook)
    crawler = AsyncWebCrawler(crawler_strategy=strategy, config=BrowserConfig(verbose=False))
    return Variants().of(CrawlerRunConfig(), crawler)


def hook_reading(value: str, way: str, head: str = "async def hook(url, keywords):") -> Any:
    program = sys.modules["program_of_test"] = types.ModuleType("program_of_test")
    names = vars(program)
    exec(HOLDING.format(value=value), names)
    exec(f"{head}\n    return {way}\n", names)
    return names["hook"]


@pytest.fixture
def module_of_test(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("module_of_test")
    monkeypatch.setitem(sys.modules, "module_of_test", module)
    monkeypatch.setitem(sys.modules, "program_of_test", module)
    for name in ("VALUE_OF_TEST", "NAMED_OF_TEST"):
        monkeypatch.setenv(name, "")
    return module


@pytest.mark.parametrize("way", WAYS)
def test_what_a_hook_reads_counts(way: str, module_of_test: Any) -> None:
    def found(value: str) -> str:
        return contextvars.copy_context().run(lambda: variant_of(hook_reading(value, WAYS[way])))

    if way in UNKNOWABLE:
        with pytest.raises(Uncacheable) as raised:
            found("alice")
        assert raised.value.reason == "unhashable"
        return
    alice, bob = found("alice"), found("bob")
    assert alice != bob
    assert alice == found("alice") != ""


def test_what_is_imported_in_a_hook_counts(module_of_test: Any) -> None:
    ways = {
        "from module_of_test import NAME": "NAME",
        "import module_of_test as other": "other.NAME",
        "from module_of_test import thing": "thing.of",
    }
    for way, read in ways.items():
        head = f"async def hook(url, keywords):\n    {way}"
        found = {variant_of(hook_reading(value, read, head)) for value in ("alice", "bob", "alice")}
        assert len(found) == 2, way
    with pytest.raises(Uncacheable, match="not imported yet"):
        variant_of(
            hook_reading("alice", "absent", "async def hook(url, keywords):\n    import absent_of_test as absent")
        )


def test_classes_that_read_the_environment_when_they_are_made(module_of_test: Any) -> None:
    kind = type("BaseSettings", (), {"__module__": "pydantic_settings.main"})
    own = type("Own", (kind,), {"__module__": "program_of_test"})
    made = own()
    made.token = "alice"
    hook = hook_reading("alice", "Own().token")
    hook.__globals__["Own"] = own
    with pytest.raises(Uncacheable, match="environment"):
        variant_of(hook)
    hook = hook_reading("alice", "SETTINGS.token")
    hook.__globals__["SETTINGS"] = made
    before = variant_of(hook)
    made.token = "bob"
    assert variant_of(hook) != before


def test_tools_of_a_program_make_no_other_variant(module_of_test: Any) -> None:
    tools = """
import asyncio, datetime, decimal, json, logging, re, threading
from typing import Any, Optional
logger, lock, gate = logging.getLogger("a"), threading.Lock(), asyncio.Semaphore(3)
nothing, since, price = object(), datetime.date(2020, 1, 1), decimal.Decimal("1.5")
class Mistake(Exception): pass
def recursive(left): return left and again(left - 1)
def again(left): return recursive(left)
async def hook(url, keywords):
    logger.info(json.dumps(url))
    async with gate, lock:
        if re.match("a", url) is nothing or since or price: raise Mistake(recursive(3))
"""

    def compiled(text: str) -> str:
        names: dict[str, Any] = {"__name__": "program_of_test"}
        exec(text, names)
        return variant_of(names["hook"])

    assert compiled(tools) == compiled(tools)
    for old, new in (("left - 1", "left - 2"), ("1.5", "1.6"), ("2020", "2021"), ("(3))", "(4))")):
        assert compiled(tools.replace(old, new)) != compiled(tools), new


def test_the_agent_of_the_first_moment_counts() -> None:
    browser = BrowserConfig(verbose=False)
    crawler = AsyncWebCrawler(config=browser)
    before = Variants().of(CrawlerRunConfig(magic=True), crawler)
    browser.user_agent = "one that Crawl4AI has drawn"
    browser.headers["sec-ch-ua"] = "its hint"
    assert Variants().of(CrawlerRunConfig(magic=True), crawler) == before
    assert Variants().of(CrawlerRunConfig(), crawler) == ""
    assert Variants().of(CrawlerRunConfig(), AsyncWebCrawler(config=BrowserConfig(user_agent="mine"))) != ""


def test_a_profile_may_be_logged_in(tmp_path: Any) -> None:
    browser = BrowserConfig(verbose=False, use_persistent_context=True, user_data_dir=str(tmp_path))
    with pytest.raises(Uncacheable, match="user_data_dir") as raised:
        Variants().of(CrawlerRunConfig(), AsyncWebCrawler(config=browser))
    assert raised.value.reason == "credentials"
    assert Variants(cache_attached_browsers=True).of(CrawlerRunConfig(), AsyncWebCrawler(config=browser))


def test_crawlers_at_one_browser_share_what_it_holds() -> None:
    crawlers = left.Crawlers(trust_attached=True)

    def attached(**options: Any) -> Any:
        browser = BrowserConfig(cdp_url="http://127.0.0.1:1", verbose=False, **options)
        return crawlers.of(AsyncWebCrawler(config=browser))

    async def work() -> None:
        first = attached()
        await first.enter(left.UNSHARED)
        first.leave(left.UNSHARED, ["app.example.com"])
        second = attached()
        assert second is first
        # It cannot be asked now.
        assert await second.at("example.com", "") == {left.UNSHARED}
        assert await second.at("example.org", "") == frozenset()

    asyncio.run(work())


@pytest.mark.once
def test_a_crawler_that_is_used_before_is_looked_at_first(named: Any, cache: Any, counts: Any) -> None:
    async def work() -> None:
        async with http_crawler() as crawler:
            async with crawler.crawler_strategy._session.get(f"{named.url}/login/f?user=alice") as answer:
                await answer.read()
            await crawler.arun(f"{named.url}/private/f", config=config())
        await cache.cleanup()

    asyncio.run(work())
    assert counts("skipped", "state") > 0
    assert counts("stores", "stored") == 0
