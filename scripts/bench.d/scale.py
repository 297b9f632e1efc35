"""Rows for large stores: what each work costs with ten thousand, a hundred thousand and a million results."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.parse
from contextlib import ExitStack
from dataclasses import dataclass

import maintenance
from bench import Bench, expect
from large_store import Store, check, fill, url
from load import Sample
from processes import Process, ask
from table import Curve, Row

LOOKUP_KEYS = 10_000
BATCH_KEYS = 100
PAGE = 50
MOST_RATIO = 1.5
# What the bound is about. A store of a thousand could not fill its pages of a listing.
BOUND_FROM = 1_000_000


@dataclass(frozen=True)
class Work:
    """One operation, and how it is asked for."""

    name: str
    operation: str
    clients: int
    options: tuple[str | int, ...] = ()
    most_ratio: float | None = None


def rows(bench: Bench) -> list[Row]:
    """The curves, and then the largest store under maintenance."""
    begun = time.monotonic()
    told = lambda what: print(f"  {what} after {time.monotonic() - begun:.0f} s", file=sys.stderr)  # noqa: E731
    stores = fill(bench)
    told("filled")
    with ExitStack() as stack:
        starts = [start_times(bench, stores)]
        services = [stack.enter_context(store.serve()[0]) for store in stores]
        for store, service in zip(stores, services):
            check(store, service)
        table = curves(bench, stores, services)
    told("measured the works")
    table = [*starts, *table, *maintenance.rows(bench, stores[-1])]
    told("measured maintenance")
    for store in stores:
        shutil.rmtree(store.data_dir)
    return table


def start_times(bench: Bench, stores: list[Store]) -> Curve:
    """From exec to ready."""
    points: list[tuple[int, list[float]]] = [(store.entries, []) for store in stores]
    for _ in range(max(bench.options.rounds, 1)):
        for store, (_, values) in zip(stores, points):
            process, seconds = store.serve()
            with process:
                values.append(seconds * 1000)
    return Curve("start to ready", "ms", points)


def works(bench: Bench, store: Store, service: Process) -> list[Work]:
    """Everything that is measured, what changes the store last."""
    clients = bench.options.clients
    few = max(clients // 4, 1)
    most = MOST_RATIO if bench.options.largest >= BOUND_FROM else None
    listing = lambda name, query: Work(  # noqa: E731
        name, "list", few, ("--list", f"/v1/results?limit={PAGE}{query}"), most)
    return [
        Work("SQLite hit, keys all over the store", "get", clients, (), most),
        Work("miss", "miss", clients),
        listing(f"list of {PAGE}, first page", ""),
        listing(f"list of {PAGE}, from the middle", deep(store, service)),
        listing(f"list of {PAGE} of one host", "&host=host-3.bench.example"),
        listing(f"list of {PAGE} below a prefix", "&prefix=https://host-3.bench.example/section-4/"),
        Work(f"lookup of {LOOKUP_KEYS} keys", "lookup", 1, ("--keys", LOOKUP_KEYS)),
        Work(f"batch get of {BATCH_KEYS}", "batch", 4, ("--keys", BATCH_KEYS)),
        Work("put, unchanged", "put", clients),
        # Each round has keys of its own; the stores grow alike.
        Work("put, new", "new", clients),
    ]


def deep(store: Store, service: Process) -> str:
    """A query with a cursor in the middle of the store, reached without walking there."""
    middle = ask(service.address, "GET", f"/v1/results?url={url(store.entries // 2 - 1)}")
    until = json.loads(middle.body)["items"][0]["updated_at"]
    page = json.loads(ask(service.address, "GET", f"/v1/results?until={until}&limit=1").body)
    expect(len(page["items"]) == 1 and "next_cursor" in page, "there is no page in the middle")
    return f"&until={urllib.parse.quote(until)}&cursor={page['next_cursor']}"


def curves(bench: Bench, stores: list[Store], services: list[Process]) -> list[Row]:
    """Each work on each store by turns."""
    seconds = 0.75 * bench.brief
    traffic = [store.traffic(service) for store, service in zip(stores, services)]
    of_each = [works(bench, store, service) for store, service in zip(stores, services)]
    table: list[Row] = []
    used = 0
    for same in zip(*of_each):
        samples: list[list[Sample]] = [[] for _ in stores]
        for number in range(bench.options.rounds + 1):
            used += 1
            for place, work in enumerate(same):
                sample = traffic[place].closed(
                    work.operation, seconds if number else 0.3, "--clients", work.clients, "--seed", used,
                    "--first", 10_000_000 + used * 1_000_000, *work.options)
                if number:
                    samples[place].append(sample)
        for unit, measure in (("p50 ms", "p50_ms"), ("CPU µs", "cpu_us")):
            points = [(store.entries, [getattr(sample, measure) for sample in taken])
                      for store, taken in zip(stores, samples)]
            table.append(Curve(f"{same[0].name}: {unit}", unit.split()[-1], points, same[0].most_ratio))
    return table
