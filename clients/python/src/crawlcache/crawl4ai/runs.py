"""What is known of the run of Crawl4AI that is under way: Crawl4AI tells its cache nothing but the url."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .service_cache import ServiceCache

_MARK = "_crawlcache_wrapper"

current: ContextVar[Run | None] = ContextVar("crawlcache_run", default=None)


class Sent:
    """The headers of the request that a page is the answer to, and the hosts that it came by."""

    def __init__(self) -> None:
        self.headers: dict[str, str] | None = None
        self.hosts: list[str] = []


class Run:
    """One call of `arun`, from its begin to its end."""

    def __init__(self, url: str, config: Any, crawler: Any, keywords: dict[str, Any]) -> None:
        self.url = url
        self.config = config
        self.crawler = crawler
        self.keywords = keywords
        #: The variant, or None if the run must not be cached, and then why.
        self.variant: str | None = None
        self.why: str | None = None
        #: What the cache answered, and what it may answer if the crawl fails.
        self.hit: Any = None
        self.stale: Any = None
        #: Whether the hit is of the page that the answer was made of.
        self.derived = False
        self.confirmed = False
        #: Whether Crawl4AI has handed over what it fetched.
        self.handed_over = False
        self.lease: Any = None
        self.renewal: Any = None
        self.sent = Sent()
        #: The options of the run, where the variant is made of them.
        self.options: Any = None
        #: What was left in the crawler, and the other runs that have left something for the site of this one.
        self.left: Any = None
        self.others: frozenset[str] = frozenset()
        #: As whom the run leaves something itself, if it is noted as one that does.
        self.identity = ""
        self.entered = False

    @property
    def mode(self) -> str:
        """The cache mode, by the name that Crawl4AI gives it."""
        mode = getattr(self.config, "cache_mode", None)
        return "enabled" if mode is None else str(getattr(mode, "value", mode))

    @property
    def reads(self) -> bool:
        return self.mode in ("enabled", "read_only")

    @property
    def writes(self) -> bool:
        return self.mode in ("enabled", "write_only")


class Wrapper:
    """Stands in for `AsyncWebCrawler.arun` and tells the cache of each run; does nothing while none is installed."""

    def __init__(self) -> None:
        self.cache: ServiceCache | None = None
        self._kind: Any = None
        self._original: Any = None
        self._wrapped: Any = None

    def install(self, kind: Any, cache: ServiceCache) -> None:
        """Wraps `arun` of a class; where somebody has wrapped it anew since, the wrapper inside is woken up."""
        self.cache = cache
        if self._kind is kind and self._wrapped is not None:
            return
        original = kind.arun
        wrapper = self

        @functools.wraps(original)
        async def arun(crawler: Any, url: Any, config: Any = None, *arguments: Any, **keywords: Any) -> Any:
            cache = wrapper.cache
            if cache is None:
                return await original(crawler, url, config, *arguments, **keywords)
            run = cache.begin(url, config, crawler, keywords)
            token = current.set(run)
            result: Any = None
            try:
                await cache.enter(run)
                result = await original(crawler, url, config, *arguments, **keywords)
            finally:
                current.reset(token)
                replaced = await cache.end(run, result)
            return replaced

        setattr(arun, _MARK, True)
        self._kind, self._original, self._wrapped = kind, original, arun
        kind.arun = arun

    def uninstall(self) -> None:
        """Puts the original back, or, where somebody has wrapped the wrapper, stops doing anything."""
        self.cache = None
        if self._kind is not None and self._kind.__dict__.get("arun") is self._wrapped:
            self._kind.arun = self._original
            self._kind = self._original = self._wrapped = None
