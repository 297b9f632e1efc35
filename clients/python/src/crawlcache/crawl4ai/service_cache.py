"""The cache that stands in for Crawl4AI's: the coroutines that its crawler calls, answered by the service.

Nothing here raises into a crawl. Whatever goes wrong is a miss, which is counted, and logged at most once a minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import crawlcache

from . import derive, documents
from .counters import Counters
from .fallback import Fallback
from .runs import Run, current
from .service import Away, Refused, Service
from .variants import Uncacheable, Variants, base_variant

MOST_CONNECTIONS = 1000
VariantOf = Callable[[str, Any, Any], "str | None"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the drop-in behaves; the parameters of `install`, which describes them."""

    url: str | None = None
    token: str | None = None
    ttl: float | None = None
    max_age: float | None = None
    stale: float | None = None
    lease: float | None = 30.0
    wait: float | None = 20.0
    timeout: float = 5.0
    connect_timeout: float = 1.0
    fallback_bytes: int = 64 * 1024 * 1024
    fallback_seconds: float = 3600.0
    variant: str | VariantOf | None = None
    variant_key: str | bytes | None = None
    cache_sessions: bool = False
    derive: bool = True
    store_failed: bool = False
    keep_secrets: bool = False


class ServiceCache:
    """Takes the place of `crawl4ai.async_webcrawler.async_db_manager`."""

    def __init__(
        self, settings: Settings, counters: Counters | None = None, client: Callable[[], Any] | None = None
    ) -> None:
        self.settings = settings
        self.counters = counters or Counters()
        self.fallback = Fallback(settings.fallback_bytes, settings.fallback_seconds)
        self._variants = Variants(key=settings.variant_key, cache_sessions=settings.cache_sessions)
        self.service = Service(client() if client else self._client(), self.counters)
        self._tasks: set[asyncio.Task[Any]] = set()

    # What Crawl4AI calls.

    async def aget_cached_url(self, url: str) -> Any:
        """The result of a url for the run under way, or None."""
        try:
            return await self._read(url)
        except Exception as error:
            self._failed("lookups", "error", "a look-up failed: %s", error)
            return None

    async def aget_cache_metadata(self, url: str) -> dict[str, Any] | None:
        """What the origin can be asked with whether a page has changed. Costs no request after a hit."""
        try:
            run = self._run("lookups")
            if run is None or run.variant is None:
                return None
            hit = run.hit
            if hit is None:
                variant = self._variant_of(run)
                hit = await self.service.get(url, variant=variant, fields=["head_fingerprint", "response_headers"])
                if not hit:
                    return None
            return _metadata(url, hit)
        except Away:
            return None
        except Exception as error:
            self._failed("lookups", "error", "reading what is known of a page failed: %s", error)
            return None

    async def aupdate_cache_metadata(
        self, url: str, etag: str | None = None, last_modified: str | None = None, head_fingerprint: str | None = None
    ) -> None:
        """Notes that a page is still as it was, and its new validators, without sending it again."""
        run = self._run("updates")
        if run is not None and run.variant is not None:
            await self._confirm(
                run,
                url,
                origin_etag=etag or None,
                origin_last_modified=last_modified or None,
                head_fingerprint=head_fingerprint or None,
            )

    async def acache_url(self, result: Any) -> None:
        """Stores what a run has fetched, unless it failed."""
        try:
            run = self._run("stores")
            if run is not None and run.variant is not None:
                await self._store(run, documents.unwrapped(result))
        except Exception as error:
            self._failed("stores", "error", "a result could not be stored: %s", error)

    # What older versions call, and what scripts do.

    async def initialize(self) -> None:
        """There is nothing to prepare: no directory, no database."""

    async def cleanup(self) -> None:
        """Closes the connections; a call after that opens new ones."""
        for task in list(self._tasks):
            if task.get_loop() is asyncio.get_running_loop():
                await asyncio.wait([task], timeout=1.0)
        try:
            await self.service.close()
        except Exception as error:
            self.counters.warn("close", "closing connections failed: %s", error)

    async def ainit_db(self) -> None:
        """As `initialize`."""

    async def aget_total_count(self) -> int:
        """How many results this process keeps for the time in which the service is away."""
        return len(self.fallback)

    async def aclear_db(self) -> None:
        """Forgets what this process keeps. The service's results are everybody's: `crawlcache purge` deletes those."""
        self.fallback.clear()
        self.counters.warn("clear", "the results of the service stay: delete them there (crawlcache purge)")

    async def aflush_db(self) -> None:
        """As `aclear_db`."""
        await self.aclear_db()

    # The run around these calls.

    def begin(self, url: Any, config: Any, crawler: Any, keywords: dict[str, Any]) -> Run:
        """Notes a run before Crawl4AI begins it."""
        run = Run(url, _default_config() if config is None else config, crawler, keywords)
        if isinstance(url, str) and (run.reads or run.writes):
            try:
                run.variant = self.variant(url, run.config, crawler, keywords)
            except Uncacheable as error:
                run.why = error.reason
                self.counters.warn(f"skipped {error.reason}", "a run is not cached: %s", error)
            except Exception as error:
                run.why = "variant"
                self.counters.warn("variant", "a run is not cached: its variant could not be computed: %s", error)
        return run

    async def end(self, run: Run, result: Any) -> Any:
        """Gives back what a run holds. Returns what `arun` is to return: the stale page where there is no new one."""
        if run.renewal is not None:
            run.renewal.cancel()
        lease = run.lease
        if lease is not None and not lease.stored and not lease.lost:
            self._later(self._release(lease))
        if result is None:
            return None
        try:
            failed = not result.success
            if run.hit is not None and not run.confirmed and getattr(result, "cache_status", None) == "hit_validated":
                # The fingerprint was the same: Crawl4AI says so to nobody.
                await self._confirm(run, run.url)
            if failed and run.stale is not None and run.reads:
                old = documents.hit_result(run.stale)
                if "cache_status" in type(old).model_fields:
                    old.cache_status = "hit_fallback"
                return type(result)(old) if hasattr(result, "_results") else old
        except Exception as error:
            self._failed("lookups", "error", "the end of a run failed: %s", error)
        return result

    def variant(self, url: str, config: Any, crawler: Any = None, keywords: dict[str, Any] | None = None) -> str:
        """The variant of a run. Raises `Uncacheable`."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise Uncacheable("credentials", "a url with a password in it would be stored with it")
        chosen = self.settings.variant
        if callable(chosen):
            chosen = chosen(url, config, crawler)
            if chosen is None:
                raise Uncacheable("variant", "the variant function says so")
        if chosen is not None:
            return chosen
        if parts.scheme == "file":
            # The same path is another file on another host.
            keywords = {**(keywords or {}), "host": _host()}
        return self._variants.of(config, crawler, keywords)

    def required(self, config: Any) -> list[str]:
        """The fields without which a page is none for this run."""
        return [name for name in ("screenshot", "pdf") if getattr(config, name, False)]

    # Reading.

    async def _read(self, url: str) -> Any:
        run = self._run("lookups")
        if run is None or run.variant is None:
            return None
        settings, required = self.settings, self.required(run.config)
        leased = {"lease": settings.lease, "wait": settings.wait or None} if settings.lease and run.writes else {}
        try:
            answer = await self.service.get(
                url, variant=run.variant, require=required, max_age=settings.max_age, stale=settings.stale, **leased
            )
        except Away:
            return self._from_fallback(run, url, required)
        if answer:
            run.hit = answer
            if answer.lease is not None and answer.stale:
                # This run is the one that fetches the page anew; everybody else goes on with the stale one.
                run.stale, run.hit = answer, None
                self._holds(run, answer.lease)
                self.counters.count("lookups", "revalidate")
                return None
            result = documents.hit_result(answer)
            self.fallback.keep(url, run.variant, answer.raw, ttl=max(answer.ttl, 0), age=answer.age)
            self.counters.count("lookups", "hit")
            return result
        if answer.lease is not None:
            self._holds(run, answer.lease)
        if settings.derive:
            found = await self._derive(run, url, required)
            if found is not None:
                self.counters.count("lookups", "derived")
                return found
        self.counters.count(
            "lookups", "held" if answer.held_until else "failed" if answer.reason == "failed" else "miss"
        )
        return None

    def _from_fallback(self, run: Run, url: str, required: list[str]) -> Any:
        kept = self.fallback.find(url, run.variant or "")
        if kept is not None:
            raw, age = kept
            document = json.loads(raw)
            young = self.settings.max_age is None or age <= self.settings.max_age
            if young and all(document.get(name) is not None for name in required):
                run.hit = _Kept(document, age)
                self.counters.count("lookups", "hit_fallback")
                return documents.hit_result(run.hit)
        self.counters.count("lookups", "away")
        return None

    async def _derive(self, run: Run, url: str, required: list[str]) -> Any:
        """Makes the result of a page that the cache has under other derived options, without fetching it."""
        base = base_variant(run.variant or "")
        if base is None or run.crawler is None:
            return None
        try:
            hit = await self.service.get(url, variant=base, require=["html", *required], max_age=self.settings.max_age)
            if not hit:
                return None
            result = await derive.derived_result(run, documents.hit_result(hit))
            if result is None:
                return None
        except Away:
            return None
        except Exception as error:
            self.counters.warn("derive", "a page could not be derived from the cached one: %s", error)
            return None
        run.hit = hit
        if run.writes:
            await self._put(run, result, hit.validators, ttl=max(1, hit.ttl))
        return result

    # Writing.

    async def _store(self, run: Run, result: Any) -> None:
        # A service without a guard would take it for a good one.
        if not _good(result) and (not self.settings.store_failed or not self.service.guards):
            self.counters.count("stores", "refused_failed")
            return
        await self._put(run, result, None, ttl=self.settings.ttl)

    async def _put(self, run: Run, result: Any, validators: Any, ttl: float | None) -> None:
        variant = self._variant_of(run)
        good = _good(result)
        try:
            document = documents.document(result)
            for name in ("session_id", "dispatch_result", "cached_at"):
                # Of this run, not of the page.
                document.pop(name, None)
            if not self.settings.keep_secrets:
                derive.without_secrets(document)
            if not good:
                document["success"] = False
            raw = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            self._failed("stores", "unstorable", "%s", error)
            return
        url = result.url
        if good:
            self.fallback.keep(url, variant, raw, ttl=ttl)
        headers = document.get("response_headers")
        known = {
            "origin_etag": validators.etag if validators else _header(headers, "etag"),
            "origin_last_modified": validators.last_modified if validators else _header(headers, "last-modified"),
            "head_fingerprint": validators.head_fingerprint if validators else document.get("head_fingerprint"),
        }
        lease = run.lease if run.lease is not None and not run.lease.lost else None
        try:
            await self.service.ask(
                lambda client: client.put(
                    url,
                    raw,
                    variant=variant,
                    ttl=ttl,
                    lease=lease,
                    **{name: value for name, value in known.items() if value},
                )
            )
        except Away:
            self.counters.count("stores", "fallback" if good and self.settings.fallback_bytes else "away")
            return
        except Refused as refused:
            if isinstance(refused.error, crawlcache.LeaseOutdated):
                # Somebody else was given the page meanwhile, and theirs counts.
                self.counters.count("stores", "outdated")
                if lease is not None:
                    lease.lost = True
            elif isinstance(refused.error, crawlcache.TooLarge):
                self._failed("stores", "too_large", "%s", refused)
            else:
                self._failed("stores", "error", "a result was refused: %s", refused)
            return
        self.counters.count("stores", "stored" if good else "failed")
        if lease is not None:
            lease.stored = True
            self.counters.count("leases", "stored")

    async def _confirm(self, run: Run, url: str, **validators: str | None) -> None:
        run.confirmed = True
        variant = self._variant_of(run)
        given = {name: value for name, value in validators.items() if value}
        try:
            await self.service.ask(lambda client: client.patch(url, {}, variant=variant, confirmed=True, **given))
            self.counters.count("updates", "confirmed")
        except Away:
            self.counters.count("updates", "away")
        except Exception as error:
            self._failed("updates", "error", "a page could not be confirmed: %s", error)

    # Leases.

    def _holds(self, run: Run, lease: Any) -> None:
        run.lease = lease
        self.counters.count("leases", "won")
        run.renewal = asyncio.get_running_loop().create_task(self._renew(lease))

    async def _renew(self, lease: Any) -> None:
        """Keeps a lease for as long as its run lasts."""
        while not lease.stored:
            await asyncio.sleep(max(0.3, (lease.seconds or self.settings.lease or 30) / 3))
            if lease.stored:
                return
            try:
                await self.service.ask(lambda client: client.renew(lease))
                self.counters.count("leases", "renewed")
            except Refused:
                if lease is not None:
                    lease.lost = True
                self.counters.count("leases", "lost")
                return
            except Away:
                # Until it runs out, it is still ours.
                continue

    async def _release(self, lease: Any) -> None:
        try:
            await self.service.ask(lambda client: client.release(lease))
            self.counters.count("leases", "released")
        except (Away, Refused):
            # It runs out by itself.
            pass

    # Odds and ends of one place.

    def _run(self, series: str) -> Run | None:
        run = current.get()
        if run is None:
            self.counters.count(series, "skipped") if series != "updates" else None
            self.counters.count("skipped", "outside")
            self.counters.warn("outside", "a crawler that was made before crawlcache was installed is not cached")
        elif run.variant is None:
            self.counters.count(series, "skipped") if series != "updates" else None
            self.counters.count("skipped", run.why or "variant")
        return run

    def _client(self) -> Any:
        settings = self.settings
        # Whoever waits for a lease keeps a connection: the holder must find another one to store the page with.
        return crawlcache.AsyncClient(
            settings.url,
            token=settings.token,
            timeout=settings.timeout,
            connect_timeout=settings.connect_timeout,
            retries=1,
            max_connections=MOST_CONNECTIONS,
        )

    @staticmethod
    def _variant_of(run: Run) -> str:
        return run.variant or ""

    def _failed(self, series: str, result: str, message: str, *arguments: Any) -> None:
        self.counters.count(series, result)
        self.counters.warn(f"{series} {result}", message, *arguments)

    def _later(self, work: Any) -> None:
        """Does something after the run, which does not wait for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Kept:
    """A hit of the fallback, as far as a run looks at it."""

    validators = None
    lease = None

    def __init__(self, document: dict[str, Any], age: float) -> None:
        self.document = document
        self.age = age


def _good(result: Any) -> bool:
    """Whether a result is worth keeping: Crawl4AI's own verdict, an error status, nothing in it."""
    if not result.success:
        return False
    if isinstance(result.status_code, int) and result.status_code >= 400:
        return False
    return bool(result.html) or bool(result.downloaded_files)


def _metadata(url: str, hit: Any) -> dict[str, Any]:
    headers = hit.document.get("response_headers")
    validators = hit.validators
    return {
        "url": url,
        "etag": (validators and validators.etag) or _header(headers, "etag") or "",
        "last_modified": (validators and validators.last_modified) or _header(headers, "last-modified") or "",
        "head_fingerprint": (validators and validators.head_fingerprint) or hit.document.get("head_fingerprint") or "",
        "cached_at": time.time() - hit.age,
        "response_headers": headers if isinstance(headers, dict) else {},
    }


def _header(headers: Any, name: str) -> str | None:
    """A header by its name in any case."""
    if isinstance(headers, dict):
        for header, value in headers.items():
            if str(header).lower() == name and isinstance(value, str):
                return value
    return None


@functools.lru_cache(maxsize=1)
def _default_config() -> Any:
    """What Crawl4AI takes where a run has no configuration. Making one takes it milliseconds."""
    from crawl4ai.async_configs import CrawlerRunConfig

    return CrawlerRunConfig()


def _host() -> str:
    import platform

    return platform.node()
