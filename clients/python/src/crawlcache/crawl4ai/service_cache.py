"""The cache that stands in for Crawl4AI's: the coroutines that its crawler calls, answered by the service.

Nothing here raises into a crawl. Whatever goes wrong is a miss, which is counted, and logged at most once a minute.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import crawlcache
from crawlcache._codec import dumps

from . import derive, documents, left, origin, sent
from .counters import Counters
from .fallback import Fallback, FallbackHit
from .leases import Leases
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
    cache_attached_browsers: bool = False
    cache_after_uncached: bool = False
    derive: bool = True
    store_failed: bool = True
    keep_secrets: bool = False


class ServiceCache:
    """Takes the place of `crawl4ai.async_webcrawler.async_db_manager`."""

    def __init__(
        self, settings: Settings, counters: Counters | None = None, client: Callable[[], Any] | None = None
    ) -> None:
        self.settings = settings
        self.counters = counters or Counters()
        self.fallback = Fallback(settings.fallback_bytes, settings.fallback_seconds)
        self._variants = Variants(
            key=settings.variant_key,
            cache_sessions=settings.cache_sessions,
            cache_attached_browsers=settings.cache_attached_browsers,
        )
        self._crawlers = left.Crawlers(settings.cache_attached_browsers)
        self.service = Service(client() if client else self._client(), self.counters)
        self.leases = Leases(self.service, self.counters)
        self._origin = origin.Confirmations(self.service, self.counters, self.leases)

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
                fields = ["head_fingerprint", "response_headers"]
                hit = await self.service.get(url, variant=run.variant, fields=fields)
                if not hit:
                    return None
            return origin.metadata(url, hit)
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
            await self._origin.confirm(
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
                run.handed_over = True
                await self._store(run, documents.unwrapped(result))
        except Exception as error:
            self._failed("stores", "error", "a result could not be stored: %s", error)

    # What older versions call, and what scripts do.

    async def initialize(self) -> None:
        """There is nothing to prepare: no directory, no database."""

    async def cleanup(self) -> None:
        """Closes the connections; a call after that opens new ones."""
        await self.leases.settle()
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
        browser = _browser(crawler)
        if browser is not None:
            sent.configured(browser)
        if isinstance(url, str) and (run.reads or run.writes):
            try:
                run.variant, run.options = self._variant(url, run.config, crawler, keywords)
            except Uncacheable as error:
                self._skip(run, error)
            except Exception as error:
                run.why = "variant"
                self.counters.warn("variant", "a run is not cached: its variant could not be computed: %s", error)
        return run

    async def look(self, run: Run) -> None:
        """Looks at what other runs have left in the crawler, which makes another variant or none."""
        if self.settings.variant is not None or self.settings.cache_after_uncached or not left.leaves(run):
            return
        try:
            run.left = self._crawlers.of(run.crawler)
            if run.left is not None and run.options is not None:
                left.watch_redirects(run.crawler.crawler_strategy)
                await self._admit(run)
        except Uncacheable as error:
            self._skip(run, error)
        except Exception as error:
            self._skip(run, Uncacheable("state", f"what its crawler holds could not be looked at: {error}"))

    async def _admit(self, run: Run) -> None:
        """Lets a run have its page, under a variant of what was left for its site. Raises `Uncacheable`."""
        crawler = await run.left.like(self._variants.of_crawler(run.options))
        run.identity = self._variants.identity(run.url, run.options, crawler)
        run.others = await run.left.at(left.host(run.url), run.identity)
        if left.UNSHARED in run.others:
            raise Uncacheable(
                "state",
                "runs that are not cached have left cookies or storage for its site in the crawler: another crawler, a "
                "variant, or install(cache_after_uncached=True) if they are logged in nowhere",
            )
        if run.others:
            run.variant = self._variants.text(run.options, run.others)

    async def enter(self, run: Run) -> None:
        """Looks, and notes a run that may leave something for others itself."""
        await self.look(run)
        if run.left is None:
            return
        if run.variant is None:
            run.identity = left.UNSHARED
        if run.identity:
            run.entered = True
            try:
                await run.left.enter(run.identity, left.host(run.url) if isinstance(run.url, str) else "")
            except Exception as error:
                self._skip(run, Uncacheable("state", f"what its crawler holds could not be looked at: {error}"))

    def _skip(self, run: Run, error: Uncacheable) -> None:
        run.variant, run.options, run.why = None, None, error.reason
        self.counters.warn(f"skipped {error.reason}", "a run is not cached: %s", error)

    async def end(self, run: Run, result: Any) -> Any:
        """Gives back what a run holds. Returns what `arun` is to return: the stale page where there is no new one."""
        try:
            return result if result is None else await self._ended(run, result)
        except Exception as error:
            self._failed("lookups", "error", "the end of a run failed: %s", error)
            return result
        finally:
            self.leases.end(run)
            if run.entered:
                run.left.leave(run.identity, sent.hosts(run, result))
            elif run.left is not None and (run.hit is None or run.handed_over):
                run.left.fetched()

    async def _ended(self, run: Run, result: Any) -> Any:
        if run.hit is not None and not run.confirmed and getattr(result, "cache_status", None) == "hit_validated":
            # The fingerprint was the same: Crawl4AI says so to nobody.
            await self._origin.confirm(run, run.url)
        if result.success or run.variant is None:
            return result
        if not run.handed_over and _writes(run):
            # The fetch itself has failed, of which Crawl4AI tells its cache nothing.
            await self._store(run, documents.unwrapped(result))
        stale = run.stale
        if stale is None or not run.reads:
            return result
        old: Any = await documents.worked(len(stale.raw), lambda: documents.page(stale, run.url))
        if "cache_status" in type(old).model_fields:
            old.cache_status = "hit_fallback"
        return type(result)(old) if hasattr(result, "_results") else old

    def variant(self, url: str, config: Any, crawler: Any = None, keywords: dict[str, Any] | None = None) -> str:
        """The variant of a run in a crawler that holds nothing of others. Raises `Uncacheable`."""
        return self._variant(url, config, crawler, keywords)[0]

    def _variant(self, url: str, config: Any, crawler: Any, keywords: dict[str, Any] | None) -> tuple[str, Any]:
        """The variant, and the options that it is made of, if it is."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise Uncacheable("credentials", "a url with a password in it would be stored with it")
        chosen = self.settings.variant
        if callable(chosen):
            chosen = chosen(url, config, crawler)
            if chosen is None:
                raise Uncacheable("variant", "the variant function says so")
        if chosen is not None:
            return chosen, None
        if parts.scheme == "file":
            # The same path is another file on another host.
            keywords = {**(keywords or {}), "host": _host()}
        options = self._variants.options(config, crawler, keywords)
        return self._variants.text(options), options

    def required(self, config: Any) -> list[str]:
        """The fields without which a page is none for this run."""
        return [name for name in ("screenshot", "pdf") if getattr(config, name, False)]

    # Reading.

    async def _read(self, url: str) -> Any:
        run = self._run("lookups")
        if run is None or run.variant is None:
            return None
        settings, required = self.settings, self.required(run.config)
        options: dict[str, Any] = {"max_age": settings.max_age, "stale": settings.stale}
        if settings.lease and run.writes:
            options.update(lease=settings.lease, wait=settings.wait or None)
        try:
            answer = await self.service.get(url, variant=run.variant, require=required, **options)
            result = await self._page(run, url, answer)
            if answer and result is None and run.lease is None:
                # No page for Crawl4AI. The service, told so, takes it for missing and grants the lease.
                wanted = ["html", *required]
                answer = await self.service.get(url, variant=run.variant, require=wanted, **options)
                result = await self._page(run, url, answer)
        except Away:
            return await self._from_fallback(run, url, required)
        if result is not None:
            return self._used(run, url, answer, result)
        if not answer and settings.derive:
            found = await self._derive(run, url, required)
            if found is not None:
                self.counters.count("lookups", "derived")
                return found
        why = "miss"
        if not answer:
            why = "held" if answer.held_until else "failed" if answer.failed else "miss"
        self.counters.count("lookups", why)
        return None

    async def _page(self, run: Run, url: str, answer: Any) -> Any:
        """The page of an answer, if there is one; the run has the lease that came with it."""
        if answer.lease is not None:
            self.leases.hold(run, answer.lease)
        if not answer:
            return None
        return await documents.worked(len(answer.raw), lambda: documents.page(answer, url))

    def _used(self, run: Run, url: str, hit: Any, result: Any) -> Any:
        """What a run does with a page that it was given."""
        if hit.stale and hit.lease is not None:
            # This run is the one that sees to a new page; everybody else goes on with the stale one.
            run.stale = hit
            self.counters.count("lookups", "revalidate")
            if not getattr(run.config, "check_cache_freshness", False):
                return None
        else:
            self.counters.count("lookups", "hit")
        run.hit = hit
        self.keep(url, run.variant or "", hit)
        return result

    def keep(self, url: str, variant: str, hit: Any) -> None:
        """Keeps a hit for the time in which the service is away."""
        self.fallback.keep(url, variant, hit.raw, ttl=self._life(hit.ttl), age=hit.age)

    def _life(self, ttl: float | None) -> float | None:
        """For how long what has that time to live may be used: past its expiry, too, if stale pages are."""
        return None if ttl is None else max(0.0, ttl + (self.settings.stale or 0.0))

    async def _from_fallback(self, run: Run, url: str, required: list[str]) -> Any:
        kept = self.fallback.find(url, run.variant or "")
        if kept is not None:
            raw, age = kept
            document = await documents.worked(len(raw), lambda: json.loads(raw))
            young = self.settings.max_age is None or age <= self.settings.max_age
            if young and all(document.get(name) is not None for name in required):
                hit = FallbackHit(document, age)
                result = await documents.worked(len(raw), lambda: documents.page(hit, url))
                if result is not None:
                    run.hit = hit
                    self.counters.count("lookups", "hit_fallback")
                    return result
        self.counters.count("lookups", "away")
        return None

    async def _derive(self, run: Run, url: str, required: list[str]) -> Any:
        """Makes the result of a page that the cache has under other derived options, without fetching it."""
        base = base_variant(run.variant or "")
        if base is None or run.crawler is None:
            return None
        try:
            hit = await self.service.get(url, variant=base, require=["html", *required], max_age=self.settings.max_age)
            cached = await documents.worked(len(hit.raw), lambda: documents.page(hit, url)) if hit else None
            result = None if cached is None else await derive.derived_result(run, cached)
            if result is None:
                return None
        except Away:
            return None
        except Exception as error:
            self.counters.warn("derive", "a page could not be derived from the cached one: %s", error)
            return None
        run.hit, run.derived = hit, True
        if run.writes:
            await self._put(run, result, ttl=max(1, hit.ttl), source=hit)
        return result

    # Writing.

    async def _store(self, run: Run, result: Any) -> None:
        why = await self._unlike(run, result)
        if why is not None:
            self.counters.count("stores", "skipped")
            self.counters.count("skipped", why)
            return
        # A service without a guard would take it for a good one.
        if not documents.good(result) and (not self.settings.store_failed or self.service.guards is False):
            self.counters.count("stores", "refused_failed")
            return
        await self._put(run, result, ttl=self.settings.ttl)

    async def _unlike(self, run: Run, result: Any) -> str | None:
        """Why a page is not the one of the run's variant, if it is not."""
        if run.left is not None:
            hosts = set(sent.hosts(run, result))
            now = await run.left.at(left.host(run.url), run.identity)
            elsewhere = run.left.other(hosts, run.identity) - run.others
            if now != run.others or elsewhere:
                # It was sent on by a site for which others have left something: what it has now may be theirs.
                run.left.spread(elsewhere | now, hosts)
                self.counters.warn("not stored", "a page is not stored: it may show what other runs have left")
                return "state"
        browser = _browser(run.crawler)
        own_code = run.options is not None and run.options.own_code
        if browser is not None and sent.differs(run.config, browser, run.sent, own_code):
            self.counters.warn("sent", "a page is not stored: its browser has sent another agent or other headers")
            return "sent"
        return None

    async def _put(self, run: Run, result: Any, *, ttl: float | None, source: Any = None) -> None:
        """Stores a result; `source` is the hit that it was made of."""
        url, variant, good = result.url, run.variant or "", documents.good(result)
        # What is made of an older page is as old as that, and what is stored under a lease was fetched just now.
        lease = None if source else run.lease
        try:
            size = documents.size(result)
            document, raw = await documents.worked(size, lambda: self._written(result, good))
        except (TypeError, crawlcache.InvalidRequest) as error:
            self._failed("stores", "unstorable", "%s", error)
            return
        if good:
            self.fallback.keep(url, variant, raw, ttl=self._life(ttl), age=source.age if source else 0.0)
        options: dict[str, Any] = {"variant": variant, "ttl": ttl, "lease": lease, **origin.known(document, source)}
        if not good and not self.service.guards:
            # Until it has shown that it keeps these apart, they must not take the place of anything.
            options["if_absent"] = True
        try:
            stored = await self.service.ask(lambda client: client.put(url, raw, **options))
            if not good and stored.quality != "failed":
                self.service.guards = False
                self.counters.warn("guard", "the service takes failed results for good ones: they are not stored")
                await self.service.ask(lambda client: client.delete(url, variant=variant, if_match=stored.etag))
        except Away:
            self.counters.count("stores", "fallback" if good and self.settings.fallback_bytes else "away")
            return
        except Refused as refused:
            if isinstance(refused.error, crawlcache.LeaseOutdated):
                # Somebody else was given the page meanwhile, and theirs counts.
                self.counters.count("stores", "outdated")
                self.fallback.forget(url, variant)
                if lease is not None:
                    lease.lost = True
            elif isinstance(refused.error, crawlcache.TooLarge):
                self._failed("stores", "too_large", "%s", refused)
            elif isinstance(refused.error, crawlcache.PreconditionFailed):
                self.counters.count("stores", "refused_failed")
            else:
                self._failed("stores", "error", "a result was refused: %s", refused)
            return
        self.leases.stored(lease)
        if good and stored.quality == "failed":
            # A block marker, which only the service knows.
            self.fallback.forget(url, variant)
            self.counters.count("stores", "failed")
        elif good:
            self.counters.count("stores", "stored")
        elif self.service.guards is False:
            self.counters.count("stores", "refused_failed")
        else:
            self.service.guards = True
            self.counters.count("stores", "failed")

    def _written(self, result: Any, good: bool) -> tuple[dict[str, Any], bytes]:
        """What is stored of a result, and as JSON."""
        document = documents.document(result)
        for name in ("session_id", "dispatch_result", "cached_at"):
            # Of this run, not of the page.
            document.pop(name, None)
        if not self.settings.keep_secrets:
            derive.without_secrets(document)
        if not good:
            document["success"] = False
        return document, dumps(document)

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

    def _failed(self, series: str, result: str, message: str, *arguments: Any) -> None:
        self.counters.count(series, result)
        self.counters.warn(f"{series} {result}", message, *arguments)


def _writes(run: Run) -> bool:
    """Whether Crawl4AI would hand over what this run fetches; it does not for every kind of url."""
    from crawl4ai.cache_context import CacheContext, CacheMode

    config = run.config
    if not run.writes or not isinstance(run.url, str) or getattr(config, "check_robots_txt", False):
        # A page that this run must not fetch has not failed for the others.
        return False
    return bool(CacheContext(run.url, config.cache_mode or CacheMode.ENABLED).should_write())


@functools.lru_cache(maxsize=1)
def _default_config() -> Any:
    """What Crawl4AI takes where a run has no configuration. Making one takes it milliseconds."""
    from crawl4ai.async_configs import CrawlerRunConfig

    return CrawlerRunConfig()


def _browser(crawler: Any) -> Any:
    """The configuration of the browser of a crawler."""
    strategy = getattr(crawler, "crawler_strategy", None)
    return getattr(strategy, "browser_config", None) or getattr(crawler, "browser_config", None)


def _host() -> str:
    import platform

    return platform.node()
