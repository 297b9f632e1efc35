"""Rows for a large store while it is swept, evicts, or is backed up: what that does to those who read and write."""

from __future__ import annotations

import subprocess
import threading
import time
from statistics import median

from bench import Bench, expect
from large_store import Store, put
from processes import Process
from table import During, Row
from traffic import Interval, Traffic, counter

RATE = 2000
"""Gets a second: far below what two cores can do, so that nothing queues unless something holds it up."""
WARM_SECONDS = 3
PUT_RATE = 400
EXPIRED = 100_000
MOST_RATIO = 2.0
NEVER = {"CRAWLCACHE_SQLITE__SWEEP_SECONDS": "86400"}
EXPIRED_ROWS = 'removed_entries_total{reason="expired"}'
COLD_ROWS = 'removed_entries_total{reason="size"}'


def rows(bench: Bench, store: Store) -> list[Row]:
    """Backup first: the others take from the store."""
    before, busy = 2, max(int(bench.options.seconds), 2)
    table = [*during("backup", [backup(store, before, busy) for _ in range(bench.options.rounds)])]
    put(bench, store.data_dir, 9_000_000, EXPIRED, "--ttl", "1")
    table += during("sweep", [sweep(store, before, busy) for _ in range(bench.options.rounds)])
    return table + during("eviction", [evict(store, before, busy) for _ in range(bench.options.rounds)])


def during(what: str, rounds: list[tuple[list[Interval], list[Interval]]]) -> list[Row]:
    """A row for each operation: the middle interval before, and the middle one meanwhile."""
    table: list[Row] = []
    for operation in rounds[0][0][0]["operations"]:
        p99 = lambda intervals: median(line["operations"][operation]["p99_us"] / 1000 for line in intervals)  # noqa: E731, B023
        pairs = [(p99(quiet), p99(busy)) for quiet, busy in rounds]
        table.append(During(f"p99 of {operation} during {what}", "ms", pairs, MOST_RATIO if operation == "get" else None))
    return table


def watch(lines: list[Interval], grown: list[float]) -> tuple[list[Interval], list[Interval]]:
    """The intervals before a counter grows, and those in which it does."""
    quiet = [line for line, by in zip(lines, grown) if by == 0]
    busy = [line for line, by in zip(lines, grown) if by > 0]
    return quiet, busy


def observe(traffic: Traffic, service: Process, series: str, seconds: int, *options: str | int) -> tuple[
        list[Interval], list[float]]:
    """A line a second, and by how much a counter grew meanwhile, without those that warm up."""
    lines: list[Interval] = []
    values = [counter(service, series)]
    for line in traffic.lines("--rate", RATE, "--seconds", WARM_SECONDS + seconds, "--interval", 1, *options):
        lines.append(line)
        values.append(counter(service, series))
    # The last line is what is left after the last whole second.
    counted = slice(WARM_SECONDS, WARM_SECONDS + seconds)
    return lines[counted], [after - before for before, after in zip(values, values[1:])][counted]


def sweep(store: Store, before: int, busy: int) -> tuple[list[Interval], list[Interval]]:
    """The sweep begins some seconds after the start, and goes on."""
    settings = {"CRAWLCACHE_SQLITE__SWEEP_SECONDS": str(WARM_SECONDS + before + 1), "CRAWLCACHE_RESULTS__KEEP_STALE_SECONDS": "0"}
    process, _ = store.serve(settings)
    with process as service:
        lines, grown = observe(store.traffic(service), service, EXPIRED_ROWS, before + 1 + busy, "--mix", "get")
    quiet, swept = watch(lines, grown)
    expect(bool(quiet) and bool(swept), f"the sweep took {grown}")
    return quiet, swept


def evict(store: Store, before: int, busy: int) -> tuple[list[Interval], list[Interval]]:
    """The same gets and puts without a bound and with one that is below what the store has."""
    process, _ = store.serve(NEVER)
    with process as service:
        quiet, _ = beside_puts(store, service, before)
        used = counter(service, 'store_size_bytes{backend="sqlite"}')
    process, _ = store.serve({**NEVER, "CRAWLCACHE_SQLITE__MAX_BYTES": str(int(used * 0.9))})
    with process as service:
        lines, grown = beside_puts(store, service, busy)
    _, evicting = watch(lines, grown)
    expect(bool(evicting), "nothing was evicted")
    return quiet, evicting


def beside_puts(store: Store, service: Process, seconds: int) -> tuple[list[Interval], list[float]]:
    """Gets while new results are put on connections of their own: no get waits behind a put."""
    puts = store.traffic(service).lines(
        "--mix", "new", "--rate", PUT_RATE, "--seconds", WARM_SECONDS + seconds, "--interval", 1, "--first", int(time.time() * 1000))
    # Read from a thread: the generator must not wait for whoever reads its lines.
    done: list[Interval] = []
    putting = threading.Thread(target=lambda: done.extend(puts))
    putting.start()
    lines, grown = observe(store.traffic(service), service, COLD_ROWS, seconds, "--mix", "get", "--may-miss")
    putting.join()
    expect(len(done) >= WARM_SECONDS + seconds, "the puts ended early")
    for line, put_line in zip(lines, done[WARM_SECONDS:]):
        line["operations"].update(put_line["operations"])
    return lines, grown


def backup(store: Store, before: int, busy: int) -> tuple[list[Interval], list[Interval]]:
    """Backups as the command makes them, one after the other."""
    process, _ = store.serve(NEVER)
    with process as service:
        lines = store.traffic(service).lines(
            "--mix", "get", "--rate", RATE, "--seconds", WARM_SECONDS + before + busy + 2,
            "--interval", 1)
        quiet = [next(lines) for _ in range(WARM_SECONDS + before)]
        backups = Backups(store)
        backups.start()
        try:
            # In the first of these seconds the backup begins; what comes after the last is no whole second.
            meanwhile = [next(lines) for _ in range(busy + 1)]
            lines.close()
        finally:
            backups.stop()
    return quiet[WARM_SECONDS:], meanwhile[1:]


class Backups(threading.Thread):
    """Makes backups until it is told to stop; the last one is finished."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.target = store.data_dir.with_name("backup.db")
        self.command = [store.bench.service, "backup", self.target, "--data-dir", store.data_dir]
        self.stopping = False
        self.failed: str | None = None

    def run(self) -> None:
        while not self.stopping and self.failed is None:
            ended = subprocess.run(self.command, capture_output=True, text=True)
            if ended.returncode:
                self.failed = ended.stderr
            self.target.unlink(missing_ok=True)

    def stop(self) -> None:
        self.stopping = True
        self.join()
        expect(self.failed is None, f"the backup failed: {self.failed}")
