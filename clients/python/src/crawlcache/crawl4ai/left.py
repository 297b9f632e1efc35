"""What runs leave behind in a crawler: cookies and storage of sites, by which later runs may be logged in there.

A run is as shareable as its options say, as long as the crawler holds nothing for its site that other runs have left:
those that are not cached, and those that act on pages. What plain cached runs leave is what every first visit leaves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import weakref
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .runs import Run, current
from .variants import attached

#: Stands for the runs that are not cached: nothing says as whom they have been at a site.
UNSHARED = "unshared"
# Labels that stand before the name of an organisation: `example.co.uk` is a site, `co.uk` is none.
SECOND = frozenset(
    ["ac", "co", "com", "edu", "gob", "gouv", "gov", "go", "ltd", "me", "mil", "ne", "net", "nhs", "nom", "or", "org"]
)
# Of one crawler, for which the sites that such runs have been at are noted one by one.
MOST_SITES = 50_000
ADDRESS = re.compile(r"^[\d.]+$|:")
# Crawl4AI sets this one itself, for the first page of a context.
OWN_COOKIE = ("cookiesEnabled", "true")

Cookie = tuple[str, str, str]
Cookies = dict[Cookie, set[str]]


def site(host: str) -> str:
    """The site of a host: what its pages share cookies and logins within, as far as its name says."""
    host = host.strip(".").lower()
    labels = host.split(".")
    if ADDRESS.search(host) or len(labels) < 3:
        return host
    long = len(labels[-1]) == 2 and labels[-2] in SECOND
    return ".".join(labels[-3 if long else -2 :])


class Left:
    """What has been left in one crawler, and by which runs."""

    def __init__(self, strategy: Any, trusted: bool, shared: bool) -> None:
        self.strategy: weakref.ref[Any] = weakref.ref(strategy)
        self._shared = shared
        #: By the site: the runs that left something there, by their identities.
        self._by: dict[str, set[str]] = {}
        #: Sites at which such runs have been and whose storage was not looked at yet.
        self._unread: dict[str, set[str]] = {}
        #: The runs that have been at more sites than are noted.
        self._everywhere: set[str] = set()
        self._running: list[str] = []
        self._pending: set[str] = set()
        self._visited: set[str] = set()
        self._known: Cookies = _of_configuration(strategy)
        self._fetched = False
        self._changes = 0
        #: The options of the crawler itself, as they are now, those that it had before, and the sites whose storage
        #: was looked at since.
        self._crawler: str | None = None
        self._former: set[str] = set()
        self._read: set[str] = set()
        if not trusted and _used(strategy):
            self._pending.add(UNSHARED)
            # It may hold storage of any site.
            self._former.add(UNSHARED)

    async def like(self, crawler: str) -> str:
        """Notes the options of the crawler itself. If they have changed, all that it holds was left by another one."""
        if self._crawler is not None and crawler != self._crawler:
            self._former.add(self._crawler)
            self._read.clear()
            self._pending.add(self._crawler)
            strategy = self.strategy()
            self._known = {} if strategy is None else _of_configuration(strategy)
            self._changes += 1
            await self._look()
        self._crawler = crawler
        return crawler

    async def enter(self, identity: str, host: str = "") -> None:
        """A run begins at a host that may leave what others must not see, and long before it ends."""
        if not self._running:
            # What was left before is not this one's.
            if self._pending - {identity}:
                await self._look()
            elif self._fetched and not self._pending:
                self._known = await self._cookies() or self._known
            self._fetched = False
        self._running.append(identity)
        self.spread({identity}, [host])

    def leave(self, identity: str, hosts: Iterable[str]) -> None:
        """Such a run has ended."""
        if identity in self._running:
            self._running.remove(identity)
        self.spread({identity}, hosts)

    def spread(self, identities: Iterable[str], hosts: Iterable[str]) -> None:
        """Notes that what these runs have left may be at these hosts, too."""
        self._pending.update(identities)
        if len(self._visited) + len(self._unread) < MOST_SITES:
            self._visited.update(site(host) for host in hosts if host)
        else:
            self._everywhere.update(identities)
        self._changes += 1

    def fetched(self) -> None:
        """A plain run has fetched something, and may have been given cookies as every visitor is."""
        self._fetched = True

    async def at(self, host: str, identity: str) -> frozenset[str]:
        """The runs, other than those of this identity, that have left something for the site of a host."""
        place = site(host)
        own = {identity, self._crawler}
        if self._pending - {identity}:
            await self._look()
        unread = self._unread.get(place, set())
        if place not in self._read:
            unread = unread | self._former
        if unread - own:
            if await self._stored(place):
                self._by.setdefault(place, set()).update(unread)
            # What others have found meanwhile is still to be looked at.
            rest = self._unread.pop(place, set()) - unread
            if rest:
                self._unread[place] = rest
            self._read.add(place)
        return frozenset((self._by.get(place, set()) | self._everywhere) - own)

    def other(self, hosts: Iterable[str], identity: str) -> frozenset[str]:
        """As `at`, of several hosts, without looking again."""
        found: set[str] = set()
        for place in {site(host) for host in hosts if host}:
            found |= self._by.get(place, set()) | self._unread.get(place, set())
        return frozenset(found - {identity, self._crawler})

    async def _look(self) -> None:
        """Finds out what the runs that are pending have left."""
        pending, visited, changes = set(self._pending), set(self._visited), self._changes
        found = await self._cookies()
        if found is None:
            # What it holds cannot be seen, so that it may be anything.
            places = set(visited)
        else:
            held = {site(domain) for domain, _, _ in found}
            places = {site(cookie[0]) for cookie, value in found.items() if value - self._known.get(cookie, set())}
            places |= held & visited
            if places:
                places |= visited
        for place in places:
            self._by.setdefault(place, set()).update(pending)
        for place in visited - places:
            self._unread.setdefault(place, set()).update(pending)
        if changes == self._changes and not self._running:
            self._pending.clear()
            self._visited.clear()
            self._known = found or self._known

    async def _cookies(self) -> Cookies | None:
        """The cookies that the crawler holds; None where that cannot be seen."""
        strategy = self.strategy()
        try:
            if strategy is None or (self._shared and not _contexts(strategy)):
                return None
            return await _cookies(strategy)
        except Exception:
            return None

    async def _stored(self, place: str) -> bool:
        """Whether a browser holds storage for a site; also where that cannot be seen."""
        strategy = self.strategy()
        try:
            for context in _contexts(strategy):
                try:
                    state = await context.storage_state(indexed_db=True)
                except TypeError:
                    state = await context.storage_state()
                for origin in state.get("origins", ()):
                    if site(urlsplit(origin["origin"]).hostname or "") == place:
                        return True
        except Exception:
            return True
        return False


class Crawlers:
    """What has been left in the crawlers of this process."""

    def __init__(self, trust_attached: bool) -> None:
        self._trust_attached = trust_attached
        self._left: weakref.WeakKeyDictionary[Any, Left] = weakref.WeakKeyDictionary()
        self._attached: dict[str, Left] = {}

    def of(self, crawler: Any) -> Left | None:
        """What has been left in a crawler, noted from its first run on; None where there is no telling it again."""
        strategy = getattr(crawler, "crawler_strategy", None)
        if strategy is None:
            return None
        browser = getattr(strategy, "browser_config", None)
        address = getattr(browser, "cdp_url", None)
        if getattr(browser, "create_isolated_context", False):
            address = None
        try:
            left = self._attached.get(address) if address else self._left.get(strategy)
            if left is None:
                trusted = self._trust_attached and browser is not None and attached(browser)
                left = Left(strategy, trusted, shared=bool(address))
                if address:
                    self._attached[address] = left
                else:
                    self._left[strategy] = left
            # Crawlers at the same browser share what it holds, and the last one can ask it.
            left.strategy = weakref.ref(strategy)
        except TypeError:
            return None
        return left


def _inner(strategy: Any) -> list[Any]:
    """A strategy and those that it keeps inside."""
    from crawl4ai.async_crawler_strategy import AsyncCrawlerStrategy

    found = [strategy]
    for one in found:
        for value in list(getattr(one, "__dict__", {}).values()):
            if isinstance(value, AsyncCrawlerStrategy) and all(value is not other for other in found):
                found.append(value)
    return found


def _contexts(strategy: Any) -> list[Any]:
    """The contexts of the browsers of a strategy."""
    found: list[Any] = []
    for each in _inner(strategy):
        manager = getattr(each, "browser_manager", None)
        if manager is None:
            continue
        some = [*getattr(manager, "contexts_by_config", {}).values()]
        some += [session[0] for session in getattr(manager, "sessions", {}).values()]
        if not getattr(each.browser_config, "create_isolated_context", False):
            some.append(getattr(manager, "default_context", None))
        # Of a browser of its own, Crawl4AI calls the browser itself the default context.
        found += [one for one in some if hasattr(one, "cookies") and all(one is not other for other in found)]
    return found


def _jars(strategy: Any) -> list[Any]:
    """The cookie jars of the HTTP clients of a strategy."""
    sessions: list[Any] = [getattr(one, "_session", None) for one in _inner(strategy)]
    return [session.cookie_jar for session in sessions if hasattr(session, "cookie_jar")]


def _used(strategy: Any) -> bool:
    """Whether a crawler holds something before its first run."""
    return any(len(jar) for jar in _jars(strategy)) or bool(_contexts(strategy))


async def _cookies(strategy: Any) -> Cookies | None:
    """The cookies that a crawler holds; None where that cannot be seen."""
    from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy, AsyncPlaywrightCrawlerStrategy

    if not all(isinstance(one, (AsyncHTTPCrawlerStrategy, AsyncPlaywrightCrawlerStrategy)) for one in _inner(strategy)):
        return None
    found = _of_configuration(strategy)
    for jar in _jars(strategy):
        for morsel in jar:
            _note(found, morsel["domain"], morsel["path"], morsel.key, morsel.value)
    for context in _contexts(strategy):
        for cookie in await context.cookies():
            if (cookie["name"], cookie["value"]) != OWN_COOKIE:
                _note(found, cookie["domain"], cookie["path"], cookie["name"], cookie["value"])
    return found


def _note(found: Cookies, domain: str, path: str, name: str, value: str) -> None:
    found.setdefault((domain.strip("."), path, name), set()).add(value)


def _of_configuration(strategy: Any) -> Cookies:
    """The cookies that a browser is configured with, which are part of every variant."""
    found: Cookies = {}
    for one in _inner(strategy):
        browser = getattr(one, "browser_config", None)
        state = getattr(browser, "storage_state", None)
        cookies = list(getattr(browser, "cookies", None) or ())
        with contextlib.suppress(Exception):
            if isinstance(state, (str, os.PathLike)):
                with open(state, "rb") as file:
                    state = json.load(file)
            cookies += state.get("cookies", ()) if isinstance(state, dict) else ()
        for cookie in cookies:
            with contextlib.suppress(Exception):
                domain = cookie.get("domain") or urlsplit(cookie["url"]).hostname
                _note(found, domain, cookie.get("path") or "/", cookie["name"], cookie["value"])
    return found


async def _redirected(_session: Any, _context: Any, parameters: Any) -> None:
    run = current.get()
    if run is not None:
        run.sent.hosts.append(parameters.url.host or "")


def watch_redirects(strategy: Any) -> None:
    """Lets the HTTP clients of a strategy tell of the hosts that a run is sent on by."""
    import aiohttp

    for one in _inner(strategy):
        session = getattr(one, "_session", None)
        traces = getattr(session, "_trace_configs", None)
        if traces is None or any(getattr(trace, "crawlcache", False) for trace in traces):
            continue
        trace = aiohttp.TraceConfig()
        trace.crawlcache = True  # type: ignore[attr-defined]
        trace.on_request_redirect.append(_redirected)
        trace.freeze()
        traces.append(trace)


def host(url: str) -> str:
    """The host of a url."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def leaves(run: Run) -> bool:
    """Whether a run asks a site for something at all."""
    return isinstance(run.url, str) and not run.url.startswith("raw:")
