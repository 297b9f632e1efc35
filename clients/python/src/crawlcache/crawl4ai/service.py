"""Asking the service: with a pause while it is away, and without what it does not grant."""

from __future__ import annotations

import asyncio
import re
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
        self._most: dict[str, float] = {}
        #: Whether it keeps failed results apart from good ones; None where nothing has shown it yet.
        self.guards: bool | None = None

    async def ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Calls something of the client."""
        if not self._breaker.admits():
            raise Away
        try:
            answer = await call(self._client)
        except crawlcache.InvalidAnswer as error:
            # One answer that is broken: the next one may not be.
            self._breaker.succeeded()
            raise Refused(error) from error
        except crawlcache.Unavailable as error:
            self._gone(error, slow=isinstance(error, crawlcache.Timeout))
            raise Away from error
        except crawlcache.CrawlcacheError as error:
            self._breaker.succeeded()
            raise Refused(error) from error
        except (OSError, asyncio.TimeoutError) as error:
            self._gone(error, slow=isinstance(error, (asyncio.TimeoutError, TimeoutError)))
            raise Away from error
        self._breaker.succeeded()
        return answer

    async def get(self, url: str, **options: Any) -> Any:
        """Asks for a good result, with a lease if this token may have one."""
        options = {name: value for name, value in options.items() if value not in (None, [])}
        answer = await self._granted({"quality": "good", **options}, lambda client, given: client.get(url, **given))
        if not answer and answer.failed:
            self.guards = True
        return answer

    async def stream(self, options: dict[str, Any], opened: Callable[[Any, dict[str, Any]], Awaitable[T]]) -> T:
        """Opens a stream of good results; `opened` is given the client and the options that the service knows."""
        return await self._granted({"quality": "good", **options}, opened)

    async def close(self) -> None:
        """Closes the connections; a call after that opens new ones."""
        await self._client.aclose()

    async def _granted(self, options: dict[str, Any], call: Callable[[Any, dict[str, Any]], Awaitable[T]]) -> T:
        while True:
            given = {
                name: min(value, self._most[name]) if name in self._most else value
                for name, value in options.items()
                if name not in self._without
            }
            try:
                return await self.ask(lambda client, given=given: call(client, given))  # type: ignore[misc]
            except Refused as refused:
                if not self._asks_for_less(refused.error, given):
                    raise

    def _asks_for_less(self, error: Exception, given: dict[str, Any]) -> bool:
        """Notes what the service does not grant; False if that is not what it has refused."""
        name, most = _limit(error, given)
        if most is not None:
            self._most[name] = most
            self._counters.warn(f"limit {name}", "the service is asked for a %s of %g s: %s", name, most, error)
            return True
        dropped = frozenset({"lease", "wait"}) if name else _not_granted(error, given)
        if not dropped:
            return False
        self._without |= dropped
        if "quality" in dropped:
            self.guards = False
        names = " and ".join(sorted(dropped))
        self._counters.warn(f"without {names}", "the service is asked without %s: %s", names, error)
        return True

    def _gone(self, error: Exception, *, slow: bool) -> None:
        if self._breaker.failed(slow=slow):
            self._counters.count("breaker", "opened")
        self._counters.warn("away", "the cache service does not answer, crawls go on without it: %s", error)


def _limit(error: Exception, given: dict[str, Any]) -> tuple[str, float | None]:
    """Which of `lease` and `wait` is beyond what the service is set to, and how much it grants if it says so."""
    if not isinstance(error, crawlcache.InvalidRequest) or error.code != "invalid_parameter":
        return "", None
    name = error.problem.get("field")
    if name not in ("lease", "wait") or name not in given:
        return "", None
    found = re.search(r"is not between \d+ and (\d+)$", error.detail)
    most = float(found[1]) if found else given[name]
    return name, most if most < given[name] else None


def _not_granted(error: Exception, given: dict[str, Any]) -> frozenset[str]:
    """What to ask without: leases, with a token that only reads; what is new, at a service that is older."""
    if isinstance(error, crawlcache.Forbidden) and "lease" in given:
        return frozenset({"lease", "wait"})
    if isinstance(error, crawlcache.InvalidRequest) and "unknown field" in error.detail:
        for names in (frozenset({"quality"}), frozenset({"lease", "wait"})):
            if any(f"`{name}`, expected" in error.detail for name in names & given.keys()):
                return names
    return frozenset()
