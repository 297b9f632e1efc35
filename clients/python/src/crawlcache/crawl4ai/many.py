"""Many urls at once: what the cache has comes at once, and only the rest is crawled.

Crawl4AI's own `arun_many` asks its cache inside its dispatcher, so that hits wait for the rate limiter as fetches do.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from . import documents
from .runs import Run
from .service import Refused
from .service_cache import ServiceCache


async def arun_many(
    cache: ServiceCache | None,
    crawler: Any,
    urls: Sequence[str],
    config: Any = None,
    dispatcher: Any = None,
    **keywords: Any,
) -> Any:
    """As `crawler.arun_many`: a list, or an asynchronous generator if the (first) configuration streams."""
    from crawl4ai.async_configs import CrawlerRunConfig

    urls = list(urls)
    config = config if config is not None else CrawlerRunConfig()
    first = (config[0] if config else None) if isinstance(config, (list, tuple)) else config
    if cache is None or getattr(first, "deep_crawl_strategy", None) is not None:
        return await crawler.arun_many(urls, config=config, dispatcher=dispatcher, **keywords)
    if first is not None and first.stream:
        return _stream(cache, crawler, urls, config, dispatcher, keywords)
    return [result async for result in _stream(cache, crawler, urls, config, dispatcher, keywords)]


async def _stream(
    cache: ServiceCache, crawler: Any, urls: list[str], config: Any, dispatcher: Any, keywords: dict[str, Any]
) -> AsyncIterator[Any]:
    missing = [True] * len(urls)
    if not crawler.ready:
        await crawler.start()
    try:
        async for place, result in _hits(cache, crawler, urls, config, keywords):
            missing[place] = False
            cache.counters.count("many", "hit")
            yield result
    except Exception as error:
        cache.counters.warn("many", "the look-up of many urls failed, the rest is crawled: %s", error)
    rest = [url for url, wanted in zip(urls, missing, strict=True) if wanted]
    if not rest:
        return
    for _ in rest:
        cache.counters.count("many", "crawled")
    crawled = await crawler.arun_many(rest, config=config, dispatcher=dispatcher, **keywords)
    if hasattr(crawled, "__aiter__") and not isinstance(crawled, list):
        async for result in crawled:
            yield result
    else:
        for result in crawled:
            yield result


async def _hits(
    cache: ServiceCache, crawler: Any, urls: list[str], config: Any, keywords: dict[str, Any]
) -> AsyncIterator[tuple[int, Any]]:
    """The urls that the cache answers, by their place among `urls`."""
    from crawl4ai.models import CrawlResultContainer

    settings = cache.settings
    # One request for each set of fields that a page must have.
    wanted: dict[tuple[str, ...], list[tuple[int, tuple[str, str]]]] = {}
    variants: dict[int, Run] = {}
    for place, url in enumerate(urls):
        chosen = _config_of(url, config)
        if chosen is None or not _looked_up(url, chosen, crawler):
            continue
        # Of a configuration that was met before, only what the url itself decides is looked at.
        alike = not callable(settings.variant) and not url.startswith("file:") and "@" not in url
        known = variants.get(id(chosen)) if alike else None
        if known is None:
            known = cache.begin(url, chosen, crawler, keywords)
            if alike:
                variants[id(chosen)] = known
        run = Run(url, chosen, crawler, keywords)
        run.variant, run.options = known.variant, known.options
        await cache.look(run)
        if run.variant is not None:
            wanted.setdefault(tuple(cache.required(chosen)), []).append((place, (url, run.variant)))
    for required, entries in wanted.items():
        begun = time.time()
        keys = [key for _, key in entries]
        options = {"require": list(required) or None, "max_age": settings.max_age}
        hits = await cache.service.stream(options, functools.partial(_opened, keys))
        async for hit in hits:
            if not hit:
                continue
            place, (url, variant) = entries[hit.index]
            try:
                result = await documents.worked(len(hit.raw), functools.partial(documents.page, hit, url))
                if result is None:
                    continue
                result.success = True
                result.redirected_url = result.redirected_url or url
                if "cache_status" in type(result).model_fields:
                    result.cache_status = "hit"
                result.dispatch_result = _dispatched(begun)
                container = CrawlResultContainer(result)
                container.dispatch_result = result.dispatch_result
            except Exception as error:
                cache.counters.count("lookups", "error")
                cache.counters.warn("lookups error", "a look-up failed: %s", error)
                continue
            cache.keep(url, variant, hit)
            cache.counters.count("lookups", "hit")
            yield place, container


async def _opened(keys: list[tuple[str, str]], client: Any, options: dict[str, Any]) -> AsyncIterator[Any]:
    """A stream whose first answer has come, so that a service that is away shows here."""
    iterator = client.batch_get(keys, **options).__aiter__()
    try:
        head = [await iterator.__anext__()]
    except StopAsyncIteration:
        head = []
    return _chained(head, iterator)


async def _chained(head: list[Any], iterator: Any) -> AsyncIterator[Any]:
    for answer in head:
        yield answer
    while True:
        try:
            answer = await iterator.__anext__()
        except StopAsyncIteration:
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise Refused(error) from error
        yield answer


def _config_of(url: str, config: Any) -> Any:
    """The configuration of a url, as the dispatchers choose it."""
    if not isinstance(config, (list, tuple)):
        return config
    return next((one for one in config if one.is_match(url)), None)


def _looked_up(url: Any, config: Any, crawler: Any) -> bool:
    """Whether Crawl4AI would answer this url from its cache without asking anybody else."""
    from crawl4ai.cache_context import CacheContext, CacheMode

    run = Run(url, config, crawler, {})
    if not isinstance(url, str) or not run.reads or getattr(config, "check_cache_freshness", False):
        return False
    return bool(CacheContext(url, config.cache_mode or CacheMode.ENABLED).should_read())


def _dispatched(begun: float) -> Any:
    from crawl4ai.models import DispatchResult

    return DispatchResult(
        task_id=str(uuid.uuid4()),
        memory_usage=0.0,
        peak_memory=0.0,
        start_time=begun,
        end_time=time.time(),
        error_message="",
    )
