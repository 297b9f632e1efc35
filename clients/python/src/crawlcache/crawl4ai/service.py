"""Asking the service: with a pause while it is away, and without what it does not grant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import crawlcache

from .counters import Counters
from .fallback import Breaker

T = TypeVar("T")


class Away(Exception):
    """The service is not asked now, or did not answer."""


class Refused(Exception):
    """The service answered with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Service:
    """The service as the drop-in sees it. Every method raises `Away` or `Refused`, and nothing else."""

    def __init__(self, client: Any, counters: Counters) -> None:
        self._client = client
        self._counters = counters
        self._breaker = Breaker()
        self._without: frozenset[str] = frozenset()

    @property
    def guards(self) -> bool:
        """Whether it keeps failed results apart from good ones, as far as is known."""
        return "quality" not in self._without

    async def ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Calls something of the client."""
        if not self._breaker.admits():
            raise Away
        try:
            answer = await call(self._client)
        except crawlcache.Unavailable as error:
            self._gone(error)
            raise Away from error
        except crawlcache.CrawlcacheError as error:
            self._breaker.succeeded()
            raise Refused(error) from error
        except (OSError, asyncio.TimeoutError) as error:
            self._gone(error)
            raise Away from error
        self._breaker.succeeded()
        return answer

    async def get(self, url: str, **options: Any) -> Any:
        """Asks for a good result, with a lease if this token may have one."""
        options = {name: value for name, value in options.items() if value not in (None, [])}
        return await self._granted({"quality": "good", **options}, lambda client, given: client.get(url, **given))

    async def stream(self, options: dict[str, Any], opened: Callable[[Any, dict[str, Any]], Awaitable[T]]) -> T:
        """Opens a stream of good results; `opened` is given the client and the options that the service knows."""
        return await self._granted({"quality": "good", **options}, opened)

    async def close(self) -> None:
        """Closes the connections; a call after that opens new ones."""
        await self._client.aclose()

    async def _granted(self, options: dict[str, Any], call: Callable[[Any, dict[str, Any]], Awaitable[T]]) -> T:
        while True:
            given = {name: value for name, value in options.items() if name not in self._without}
            try:
                return await self.ask(lambda client, given=given: call(client, given))  # type: ignore[misc]
            except Refused as refused:
                dropped = _not_granted(refused.error, given)
                if not dropped:
                    raise
                self._without |= dropped
                names = " and ".join(sorted(dropped))
                self._counters.warn(f"without {names}", "the service is asked without %s: %s", names, refused)

    def _gone(self, error: Exception) -> None:
        if self._breaker.failed():
            self._counters.count("breaker", "opened")
        self._counters.warn("away", "the cache service does not answer, crawls go on without it: %s", error)


def _not_granted(error: Exception, given: dict[str, Any]) -> frozenset[str]:
    """What to ask without: leases, with a token that only reads; what is new, at a service that is older."""
    if isinstance(error, crawlcache.Forbidden) and "lease" in given:
        return frozenset({"lease", "wait"})
    if isinstance(error, crawlcache.InvalidRequest) and "unknown field" in error.detail:
        for names in (frozenset({"quality"}), frozenset({"lease", "wait"})):
            if any(f"`{name}`, expected" in error.detail for name in names & given.keys()):
                return names
    return frozenset()
