"""Crawl4AI with crawlcache instead of its own cache.

    import crawlcache.crawl4ai
    crawlcache.crawl4ai.install("http://127.0.0.1:8080")

From then on every crawler of this process that has a cache mode asks the service. See docs/crawl4ai.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from . import many, versions
from .counters import Counters, register, unregister
from .documents import crawl_result, document, hit_result
from .runs import Wrapper
from .sent import Observer
from .service_cache import ServiceCache, Settings
from .variants import Uncacheable, Variants, base_variant
from .versions import UnsupportedCrawl4AI

__all__ = [
    "ServiceCache",
    "Settings",
    "Uncacheable",
    "UnsupportedCrawl4AI",
    "Variants",
    "arun_many",
    "base_variant",
    "crawl_result",
    "document",
    "hit_result",
    "install",
    "installed",
    "metrics",
    "uninstall",
]


class _Default(float):
    """A number that was not given: the environment may have another."""


_LEASE = _Default(30.0)
_WAIT = _Default(20.0)
_wrapper = Wrapper()
_observer = Observer()
_counters = Counters()
_state: dict[str, Any] = {"original": None, "cache": None, "collector": None}


def install(
    url: str | None = None,
    *,
    token: str | None = None,
    ttl: float | None = None,
    max_age: float | None = None,
    stale: float | None = None,
    lease: float | None = _LEASE,
    wait: float | None = _WAIT,
    timeout: float = 5.0,
    connect_timeout: float = 1.0,
    fallback_bytes: int = 64 * 1024 * 1024,
    fallback_seconds: float = 3600.0,
    variant: str | Callable[[str, Any, Any], str | None] | None = None,
    variant_key: str | bytes | None = None,
    cache_sessions: bool = False,
    cache_attached_browsers: bool = False,
    cache_after_uncached: bool = False,
    derive: bool = True,
    store_failed: bool = True,
    keep_secrets: bool = False,
) -> ServiceCache:
    """Puts the service in the place of Crawl4AI's cache, in this process. May be called again with other settings.

    Crawlers must be made afterwards: one that exists already is not cached, and says so in the log. What is not given
    and has an environment variable is taken from there: CRAWLCACHE_URL, CRAWLCACHE_TOKEN, CRAWLCACHE_TTL,
    CRAWLCACHE_MAX_AGE, CRAWLCACHE_STALE, CRAWLCACHE_LEASE, CRAWLCACHE_WAIT, CRAWLCACHE_VARIANT_KEY.

    - `url`, `token`: of the service. The token needs the scope `write`; with `read`, pages are used, never stored.
    - `ttl`: seconds for which what is stored is fresh; None leaves it to the service.
    - `max_age`: seconds after which a page is too old for this crawler, whatever its ttl.
    - `stale`: seconds past its expiry for which a page may be used while one crawler of the fleet fetches it anew, and
      instead of a fetch that fails.
    - `lease`, `wait`: seconds of the lease that a crawler takes on a page it is about to fetch (kept up while the fetch
      lasts), and for how long the others wait for that page before they fetch it themselves. 0 or None: no leases.
    - `timeout`, `connect_timeout`: seconds for an answer of the service (beside `wait`) and for a connection to it.
    - `fallback_bytes`, `fallback_seconds`: what this process keeps of the documents it has read and written, for the
      time in which the service is away, and for how long.
    - `variant`: a text, or a function of (url, config, crawler), instead of the digest of the options; a function may
      return None for a run that is not to be cached.
    - `variant_key`: keys the digest, where an option is a secret that could be guessed. The same in the whole fleet.
    - `cache_sessions`: caches runs with a `session_id` too, each session for itself.
    - `cache_attached_browsers`: caches what a browser shows that ran before (`cdp_url`), or one with a profile of its
      own (`user_data_dir`), as if logged in nowhere.
    - `cache_after_uncached`: caches pages of a site also after runs that are not cached have left cookies for it in the
      same crawler, as if they were logged in nowhere.
    - `derive`: makes the result of a page that is cached with other derived options out of its html.
    - `store_failed`: stores failed results as such, for minutes, beside the good ones, so that who waits for the page
      need not wait longer. They are no hits, and a service that does not keep them apart is not given any.
    - `keep_secrets`: stores request logs with the credentials in them.

    Raises `UnsupportedCrawl4AI` with a version that it does not know.
    """
    module = versions.webcrawler()
    given = _from_environment(url=url, token=token, ttl=ttl, max_age=max_age, stale=stale, variant_key=variant_key)
    if lease is _LEASE:
        lease = _number("CRAWLCACHE_LEASE", lease)
    if wait is _WAIT:
        wait = _number("CRAWLCACHE_WAIT", wait)
    settings = Settings(
        **given,
        lease=lease,
        wait=wait,
        timeout=timeout,
        connect_timeout=connect_timeout,
        fallback_bytes=fallback_bytes,
        fallback_seconds=fallback_seconds,
        variant=variant,
        cache_sessions=cache_sessions,
        cache_attached_browsers=cache_attached_browsers,
        cache_after_uncached=cache_after_uncached,
        derive=derive,
        store_failed=store_failed,
        keep_secrets=keep_secrets,
    )
    cache = ServiceCache(settings, _counters)
    if _state["original"] is None:
        _state["original"] = module.async_db_manager
    module.async_db_manager = cache
    # Crawl4AI binds the name once more where it defines it, and other programs may read it there.
    import crawl4ai.async_database as database

    database.async_db_manager = cache
    _wrapper.install(module.AsyncWebCrawler, cache)
    _observer.install()
    if _state["collector"] is None:
        _state["collector"] = register(_counters)
    _state["cache"] = cache
    return cache


def uninstall() -> None:
    """Gives Crawl4AI its own cache back."""
    if _state["original"] is None:
        return
    module = versions.webcrawler()
    import crawl4ai.async_database as database

    module.async_db_manager = database.async_db_manager = _state["original"]
    _wrapper.uninstall()
    _observer.uninstall()
    unregister(_state["collector"])
    _state.update(original=None, cache=None, collector=None)


def installed() -> ServiceCache | None:
    """The cache that is installed, or None."""
    cache: ServiceCache | None = _state["cache"]
    return cache


def metrics() -> dict[str, dict[str, int]]:
    """What this process has done with its cache, as counts since it began: series, then result."""
    return _counters.read()


async def arun_many(
    crawler: Any, urls: Sequence[str], config: Any = None, dispatcher: Any = None, **keywords: Any
) -> Any:
    """As `crawler.arun_many`, but what the cache has comes at once, after one look-up, and only the rest is crawled.

    A list, hits first, or an asynchronous generator where the (first) configuration streams, as Crawl4AI's own.
    Urls are looked up if their cache mode reads; with `check_cache_freshness` Crawl4AI asks the origin for each.
    """
    return await many.arun_many(_state["cache"], crawler, urls, config, dispatcher, **keywords)


def _from_environment(**given: Any) -> dict[str, Any]:
    """What was not given, from the environment."""
    for name, value in given.items():
        if value is None:
            variable = f"CRAWLCACHE_{name.upper()}"
            given[name] = (
                _number(variable, None) if name in ("ttl", "max_age", "stale") else os.environ.get(variable) or None
            )
    if given["url"] is None:
        raise ValueError('the url of the service is missing: install("http://…") or CRAWLCACHE_URL')
    return given


def _number(variable: str, default: float | None) -> float | None:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{variable} is {text!r}, but must be a number of seconds") from None
