"""What the measuring Python programs share: loops of threads or tasks, each of which calls again when its last call has ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

# What programs and their packages print goes elsewhere: standard output is for answers.
ANSWERS, sys.stdout = sys.stdout, sys.stderr
# A prime: it meets every key before it meets one again.
STRIDE = 7919


def report(latencies: list[float], elapsed: float) -> dict[str, float]:
    """The same as the Rust generators print."""
    latencies.sort()
    last = len(latencies) - 1
    percentile = lambda share: latencies[min(last, int(len(latencies) * share))] * 1e6 if latencies else 0.0  # noqa: E731
    return {
        "requests": len(latencies), "per_second": len(latencies) / elapsed,
        "p50_us": percentile(0.5), "p99_us": percentile(0.99), "p999_us": percentile(0.999),
    }


def run_threads(call: Callable[[int], object], seconds: float, at_once: int, first: int = 0) -> dict[str, float]:
    """Calls with `first` and the numbers after it, from so many threads."""
    numbers = itertools.count(first)
    latencies: list[float] = []
    failures: list[BaseException] = []
    begun = time.perf_counter()

    def work() -> None:
        try:
            while (start := time.perf_counter()) - begun < seconds and not failures:
                call(next(numbers))
                latencies.append(time.perf_counter() - start)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return report(latencies, time.perf_counter() - begun)


async def run_tasks(call: Callable[[int], Awaitable[object]], seconds: float, at_once: int, first: int = 0) -> dict[str, float]:
    """Calls with `first` and the numbers after it, from so many tasks of this loop."""
    numbers = itertools.count(first)
    latencies: list[float] = []
    begun = time.perf_counter()

    async def work() -> None:
        while (start := time.perf_counter()) - begun < seconds:
            await call(next(numbers))
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return report(latencies, time.perf_counter() - begun)


def expect(condition: bool, what: str) -> None:
    """Ends the program before anything wrong is measured."""
    if not condition:
        raise SystemExit(f"not what it should be: {what}")


def requests() -> Any:
    """The requests on standard input, until it ends."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(said: object) -> None:
    print(json.dumps(said), file=ANSWERS, flush=True)


def serve(works: dict[str, Callable[..., object]]) -> None:
    """Does what is asked for."""
    for request in requests():
        answer(works[request.pop("work")](**request))
