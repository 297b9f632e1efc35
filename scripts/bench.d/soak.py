"""A long run of steady mixed load, to see whether memory, descriptors and latency stay flat."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import linear_regression, mean, median

from bench import Bench, expect
from processes import Process, ask, start_service
from table import AtLeast, Bound, Row, Series
from traffic import Interval, Traffic, counter

INTERVAL_SECONDS = 10
# More keys than fit: eviction goes on. What is short lives less long than the run: so does the sweep.
KEYS = 60_000
FILLED = 40_000
MIX = "get=750,plain=100,put=40,change=40,short=20,session=30,delete=10,list=4,lookup=3,batch=3"
# Connections for each request a second: each has a session of its own, which must be asked for before it expires.
CLIENTS_PER_RATE = 128 / 2000
SETTINGS = {
    "CRAWLCACHE_SQLITE__MAX_BYTES": str(160 << 20),
    "CRAWLCACHE_SQLITE__SWEEP_SECONDS": "5",
    "CRAWLCACHE_RESULTS__KEEP_STALE_SECONDS": "0",
    # Small enough to be full before the first third is over.
    "CRAWLCACHE_MEMORY__BYTES": str(32 << 20),
    "CRAWLCACHE_MEMORY__DECODED_BYTES": str(8 << 20),
}


def rows(bench: Bench) -> list[Row]:
    """Samples every ten seconds; what counts are the last two thirds."""
    data_dir = bench.scratch / "soak"
    bench.fill(data_dir, bench.small_corpus, FILLED)
    series: dict[str, list[tuple[float, float]]] = {}
    process, _ = start_service(bench.service, data_dir, SETTINGS)
    with process as service:
        traffic = Traffic(bench.loop_of("traffic"), service, "--entries", KEYS, "--corpus", bench.small_corpus,
                          "--clients", max(1, round(bench.options.rate * CLIENTS_PER_RATE)))
        options = ["--mix", MIX, "--rate", bench.options.rate, "--zipf", 0.9, "--may-miss", "--ttl", 20, "--interval", INTERVAL_SECONDS,
                   "--seconds", bench.options.minutes * 60]
        for line in traffic.lines(*options):
            for name, value in observe(service, data_dir, line).items():
                series.setdefault(name, []).append((line["at"], value))
        # The last line is what came after the last whole interval.
        for points in series.values():
            points.pop()
        expect(all(len(points) > 2 for points in series.values()), "the soak is too short to say anything")
        for reason in ("size", "expired"):
            removed = counter(service, f'removed_entries_total{{reason="{reason}"}}')
            expect(removed > 0, f"nothing was removed for the reason {reason}")
        health = ask(service.address, "GET", "/health")
        expect(b'"healthy"' in health.body, f"the service says {health.body!r}")
    return [*verdicts(series, bench.options.rate), *(Series(name, name.split()[-1], points) for name, points in series.items())]


def observe(service: Process, data_dir: Path, line: Interval) -> dict[str, float]:
    """What one interval came to, and what the service holds at its end."""
    size = lambda path: os.path.getsize(path) / (1 << 20)  # noqa: E731
    done = line["operations"]
    taken = {
        "resident memory, MiB": service.resident_mib(),
        "open descriptors, number": service.descriptors(),
        "threads, number": service.threads(),
        "database, MiB": size(data_dir / "crawlcache.db"),
        "log of the database, MiB": size(data_dir / "crawlcache.db-wal"),
        "requests in an interval, number": sum(operation["requests"] for operation in done.values()),
        "gets that found nothing, percent": 100 * done["get"]["absent"] / done["get"]["requests"],
        "server errors so far, number": errors(service),
    }
    for operation in ("get", "change", "session"):
        for percentile in ("p50", "p99"):
            taken[f"{percentile} of {operation}, ms"] = done[operation][f"{percentile}_us"] / 1000
    return taken


def errors(service: Process) -> float:
    """Answers of 500 and above, by the service's own count."""
    total = 0.0
    for line in ask(service.address, "GET", "/metrics").body.decode().splitlines():
        if line.startswith("crawlcache_http_request_duration_seconds_count") and 'status="5' in line:
            total += float(line.split()[-1])
    return total


def verdicts(series: dict[str, list[tuple[float, float]]], rate: float) -> list[Row]:
    """The last two thirds against what flat means."""
    def late(name: str) -> list[tuple[float, float]]:
        return series[name][len(series[name]) // 3:]

    table: list[Row] = []
    for name, most in (("resident memory, MiB", 5.0), ("database, MiB", 5.0), ("open descriptors, number", 0.0)):
        seconds, values = zip(*late(name))
        slope = linear_regression(seconds, values).slope if len(seconds) > 1 else 0.0
        growth = 100 * slope * (seconds[-1] - seconds[0]) / mean(values)
        table.append(Bound(f"growth of {name.split(',')[0]} over the last two thirds", "%", [growth], most))
    for operation in ("get", "change", "session"):
        values = [value for _, value in late(f"p99 of {operation}, ms")]
        middle, last = values[:len(values) // 2], values[len(values) // 2:]
        table.append(Bound(f"p99 of {operation}, last third over middle third", "×", [median(last) / median(middle)], 1.5))
    done = mean(value for _, value in late("requests in an interval, number"))
    table.append(AtLeast("requests done of those that were due", [done / (rate * INTERVAL_SECONDS)], 0.98,
                         f"{done / INTERVAL_SECONDS:,.0f}/s of {rate:,.0f}/s"))
    table.append(Bound("server errors", "errors", [series["server errors so far, number"][-1][1]], 0.0))
    return table
