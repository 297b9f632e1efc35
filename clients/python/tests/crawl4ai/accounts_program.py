"""A process of one account: logs in in many ways, each time with a crawler of its own, and says what it is then shown.

Its work comes as JSON in its first argument. It begins with a line on standard input, and prints JSON: of each case,
whose page it was shown, and from where.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

import aiohttp
from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy
from crawling import config, http_crawler, status
from pydantic import BaseModel, SecretStr

import crawlcache.crawl4ai as drop_in

WORK = json.loads(sys.argv[1])
BYPASS = CacheMode.BYPASS


@dataclasses.dataclass
class Settings:
    token: str


class Model(BaseModel):
    password: SecretStr


class Slots:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


# What programs keep their accounts in.
NAMESPACE = argparse.Namespace(user=WORK["account"])
SETTINGS = Settings(WORK["account"])
MODEL = Model(password=WORK["account"])
SIMPLE = SimpleNamespace(user=WORK["account"])
SLOTS = Slots(WORK["account"])
os.environ["ACCOUNT_OF_TEST"] = WORK["account"]
NAME = "ACCOUNT_OF_TEST"


def _say(keywords: dict[str, Any], account: str) -> None:
    keywords["headers"]["X-Account"] = account


async def by_namespace(url: str, keywords: Any) -> None:
    _say(keywords, NAMESPACE.user)


async def by_settings(url: str, keywords: Any) -> None:
    _say(keywords, SETTINGS.token)


async def by_model(url: str, keywords: Any) -> None:
    _say(keywords, MODEL.password.get_secret_value())


async def by_slots(url: str, keywords: Any) -> None:
    _say(keywords, SLOTS.name)


async def by_environment(url: str, keywords: Any) -> None:
    _say(keywords, os.environ["ACCOUNT_OF_TEST"])


async def by_getenv(url: str, keywords: Any) -> None:
    from os import path

    assert path
    _say(keywords, os.getenv(NAME, "nobody"))


async def by_any_environment(url: str, keywords: Any) -> None:
    _say(keywords, dict(os.environ)["ACCOUNT_OF_TEST"])


def account() -> str:
    return SIMPLE.user


async def by_helper(url: str, keywords: Any) -> None:
    _say(keywords, account())


@functools.lru_cache
def kept() -> str:
    return SIMPLE.user


async def by_kept(url: str, keywords: Any) -> None:
    _say(keywords, kept())


async def by_file(url: str, keywords: Any) -> None:
    _say(keywords, Path(WORK["file"]).read_text())


async def by_import(url: str, keywords: Any) -> None:
    import account_of_test

    _say(keywords, account_of_test.SETTINGS.user)


class Login:
    def __init__(self, token: str) -> None:
        self.token = token

    async def hook(self, url: str, keywords: Any) -> None:
        _say(keywords, self.token)

    def __call__(self, url: str, keywords: Any) -> None:
        _say(keywords, self.token)


HOOKS = {
    "namespace": by_namespace,
    "settings": by_settings,
    "model": by_model,
    "slots": by_slots,
    "environment": by_environment,
    "getenv": by_getenv,
    "any environment": by_any_environment,
    "helper": by_helper,
    "kept": by_kept,
    "file": by_file,
    "import": by_import,
    "method": Login(WORK["account"]).hook,
    "called": Login(WORK["account"]),
    "partial": functools.partial(Login.hook, Login(WORK["account"])),
}


async def shown(crawler: Any, path: str, **options: Any) -> list[str]:
    """Whose page a crawler is shown, twice."""
    found = []
    for _ in range(2):
        result = await crawler.arun(f"{WORK['site']}{path}", config=config(**options))
        assert result.success, result.error_message
        who = result.html.partition("account-")[2].partition("<")[0]
        found.append(f"{who} {status(result)}")
    return found


async def hook_case(name: str) -> list[str]:
    async with http_crawler() as crawler:
        crawler.crawler_strategy.set_hook("before_request", HOOKS[name])
        return await shown(crawler, f"/private/hook-{name.replace(' ', '-')}")


async def http_jar() -> list[str]:
    async with http_crawler() as crawler:
        await crawler.arun(login("http-jar"), config=config(BYPASS))
        return await shown(crawler, "/private/http-jar")


async def http_login_address() -> list[str]:
    """A cached run, whose url is a key."""
    async with http_crawler() as crawler:
        await crawler.arun(login("http-address", "&login_token=" + WORK["account"]), config=config())
        return await shown(crawler, "/private/http-address")


async def http_headers() -> list[str]:
    async with http_crawler(headers={"X-Account": WORK["account"]}) as crawler:
        return await shown(crawler, "/private/http-headers")


async def http_before() -> list[str]:
    """Logged in before the first run."""
    async with http_crawler() as crawler:
        async with crawler.crawler_strategy._session.get(login("http-before")) as answer:
            await answer.read()
        return await shown(crawler, "/private/http-before")


async def http_sent_on() -> list[str]:
    """Logged in at one site, which vouches for the account at another."""
    strategy = AsyncHTTPCrawlerStrategy()
    async with AsyncWebCrawler(crawler_strategy=strategy, config=BrowserConfig(verbose=False)) as crawler:
        await strategy._session.close()
        strategy._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        address = login("http-sso").replace("localhost", "127.0.0.1")
        await crawler.arun(address, config=config(BYPASS))
        return await shown(crawler, "/sso/http")


HTTP = {
    **{f"hook {name}": functools.partial(hook_case, name) for name in HOOKS},
    "jar": http_jar,
    "address": http_login_address,
    "headers": http_headers,
    "before": http_before,
    "sso": http_sent_on,
}


def login(case: str, more: str = "") -> str:
    return f"{WORK['site']}/login/{case}?user={WORK['account']}{more}"


def browser(**options: Any) -> Any:
    """A crawler with contexts of its own in the browser of the tests."""
    given = {
        "cdp_url": WORK["chromium"],
        "create_isolated_context": True,
        "cdp_close_delay": 0,
        "verbose": False,
        **options,
    }
    return AsyncWebCrawler(config=BrowserConfig(**given))


async def browser_uncached() -> list[str]:
    async with browser() as crawler:
        await crawler.arun(login("uncached"), config=config(BYPASS))
        return await shown(crawler, "/private/uncached")


async def browser_session() -> list[str]:
    async with browser() as crawler:
        await crawler.arun(login("session"), config=config(session_id="s"))
        return await shown(crawler, "/private/session")


async def browser_script() -> list[str]:
    """Logs in with a cached run that acts on the page."""
    script = f"document.cookie = 'sid={WORK['account']}; path=/'"
    async with browser() as crawler:
        await crawler.arun(f"{WORK['site']}/page/form", config=config(js_code=script))
        return await shown(crawler, "/private/script")


async def browser_storage() -> list[str]:
    async with browser() as crawler:
        await crawler.arun(f"{WORK['site']}/store/local?user={WORK['account']}", config=config(BYPASS))
        return await shown(crawler, "/stored/local")


async def browser_database() -> list[str]:
    async with browser() as crawler:
        run = config(BYPASS, wait_for="css:#done")
        await crawler.arun(f"{WORK['site']}/store/database?user={WORK['account']}", config=run)
        return await shown(crawler, "/stored/database", wait_for="css:#who")


async def browser_hook() -> list[str]:
    async def log_in(page: Any, context: Any, **_: Any) -> Any:
        await context.add_cookies([{"name": "sid", "value": NAMESPACE.user, "url": WORK["site"]}])
        return page

    async with browser() as crawler:
        crawler.crawler_strategy.set_hook("on_page_context_created", log_in)
        return await shown(crawler, "/private/browser-hook")


async def browser_hook_once() -> list[str]:
    """A hook that logs in and is gone when the page is fetched."""

    async def log_in(page: Any, context: Any, **_: Any) -> Any:
        await context.add_cookies([{"name": "sid", "value": NAMESPACE.user, "url": WORK["site"]}])
        return page

    async with browser() as crawler:
        crawler.crawler_strategy.set_hook("on_page_context_created", log_in)
        await crawler.arun(f"{WORK['site']}/page/once", config=config())
        crawler.crawler_strategy.hooks["on_page_context_created"] = None
        return await shown(crawler, "/private/hook-once")


async def browser_cookies() -> list[str]:
    cookie = {"name": "sid", "value": WORK["account"], "url": WORK["site"]}
    async with browser(cookies=[cookie]) as crawler:
        return await shown(crawler, "/private/cookies")


async def browser_state() -> list[str]:
    cookie = {
        "name": "sid",
        "value": WORK["account"],
        "domain": "localhost",
        "path": "/",
        "expires": -1,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }
    async with browser(storage_state={"cookies": [cookie], "origins": []}) as crawler:
        return await shown(crawler, "/private/state")


async def browser_sent_on() -> list[str]:
    async with browser() as crawler:
        await crawler.arun(login("sso").replace("localhost", "127.0.0.1"), config=config(BYPASS))
        return await shown(crawler, "/sso/browser")


async def browser_agent() -> list[str]:
    """A plain page, fetched beside one with an agent of its own, whose context it gets."""
    async with browser() as crawler:
        if WORK["account"] == "alice":
            await crawler.arun(f"{WORK['site']}/page/agent", config=config(user_agent="alice-agent"))
        return await shown(crawler, "/agent/beside")


async def browser_magic() -> list[str]:
    async with browser() as crawler:
        await crawler.arun(f"{WORK['site']}/page/magic", config=config(BYPASS, magic=True))
        return await shown(crawler, "/agent/magic", magic=True)


BROWSER = {
    "uncached": browser_uncached,
    "session": browser_session,
    "script": browser_script,
    "storage": browser_storage,
    "database": browser_database,
    "hook": browser_hook,
    "hook once": browser_hook_once,
    "cookies": browser_cookies,
    "storage state": browser_state,
    "sso": browser_sent_on,
    "agent": browser_agent,
    "magic": browser_magic,
}


async def tried(case: Any) -> Any:
    try:
        return await case()
    except Exception as error:
        return [repr(error)]


async def main() -> None:
    cache = drop_in.install(WORK["service"], timeout=60, lease=None)
    found = await asyncio.gather(*map(tried, HTTP.values()))
    cases = {f"http {name}": seen for name, seen in zip(HTTP, found, strict=True)}
    # Crawl4AI closes contexts of other crawlers at the same browser, too.
    for name, case in BROWSER.items():
        cases[f"browser {name}"] = await tried(case)
    await cache.cleanup()
    print(json.dumps({"cases": cases, "metrics": drop_in.metrics()}), flush=True)


if __name__ == "__main__":
    sys.stdin.readline()
    asyncio.run(main())
