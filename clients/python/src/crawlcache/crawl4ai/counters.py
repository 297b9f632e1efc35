"""What the drop-in has done, as numbers: a dictionary, and metrics of prometheus_client where that is installed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("crawlcache.crawl4ai")

# Every series is there from the start, at zero.
SERIES = {
    "lookups": (
        "Reads of the cache by what came of them",
        ("hit", "hit_fallback", "derived", "revalidate", "miss", "failed", "held", "error", "away", "skipped"),
    ),
    "stores": (
        "Results by what became of them",
        (
            "stored",
            "failed",
            "refused_failed",
            "outdated",
            "fallback",
            "too_large",
            "unstorable",
            "error",
            "away",
            "skipped",
        ),
    ),
    "leases": ("Leases of this process", ("won", "renewed", "lost", "released", "stored")),
    "updates": ("Confirmations of cached pages", ("confirmed", "outdated", "error", "away")),
    "skipped": (
        "Runs that are not cached, by why",
        ("session", "unhashable", "credentials", "outside", "variant", "state", "sent"),
    ),
    "many": ("Urls of arun_many", ("hit", "crawled")),
    "breaker": ("How often the service was given a pause", ("opened",)),
}


class Counters:
    """Counts by series and result."""

    def __init__(self) -> None:
        self._counts = {series: dict.fromkeys(results, 0) for series, (_, results) in SERIES.items()}
        self._said: dict[str, tuple[float, int]] = {}

    def count(self, series: str, result: str) -> None:
        counts = self._counts[series]
        counts[result] = counts.get(result, 0) + 1

    def read(self) -> dict[str, dict[str, int]]:
        """A copy of all counts."""
        return {series: dict(counts) for series, counts in self._counts.items()}

    def warn(self, topic: str, message: str, *arguments: Any) -> None:
        """Logs a warning, at most one a minute of each topic."""
        now = time.monotonic()
        last, dropped = self._said.get(topic, (float("-inf"), 0))
        if now - last < 60:
            self._said[topic] = (last, dropped + 1)
            return
        self._said[topic] = (now, 0)
        more = f" ({dropped} more like this since)" if dropped else ""
        logger.warning("%s%s", message % arguments if arguments else message, more)


class Collector:
    """The counts for prometheus_client, as `crawlcache_crawl4ai_<series>_total{result}`."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        for series, counts in self.counters.read().items():
            family = CounterMetricFamily(f"crawlcache_crawl4ai_{series}", f"{SERIES[series][0]}.", labels=["result"])
            for result, number in counts.items():
                family.add_metric([result], number)
            yield family


def register(counters: Counters) -> Any:
    """Registers the counts with prometheus_client; None where that is not installed."""
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return None
    collector = Collector(counters)
    REGISTRY.register(collector)
    return collector


def unregister(collector: Any) -> None:
    """Undoes `register`."""
    if collector is not None:
        from prometheus_client import REGISTRY

        REGISTRY.unregister(collector)
