"""Stores of very many small results on many hosts: filled without HTTP, and checked over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bench import Bench, expect
from processes import Process, ask, start_service
from traffic import Traffic

HOSTS = 10
STORED_BYTES = 2000
FILL_CLIENTS = 512
NO_MEMORY = {"CRAWLCACHE_MEMORY__BYTES": "0"}


class Store:
    """A store of so many entries, and the service that runs on it."""

    def __init__(self, bench: Bench, data_dir: Path, entries: int) -> None:
        self.bench = bench
        self.data_dir = data_dir
        self.entries = entries

    def serve(self, settings: dict[str, str] | None = None) -> tuple[Process, float]:
        return start_service(self.bench.service, self.data_dir, {**NO_MEMORY, **(settings or {})})

    def traffic(self, service: Process) -> Traffic:
        return Traffic(self.bench.loop_of("traffic"), service, "--entries", self.entries, "--hosts", HOSTS,
                       "--corpus", corpus_of(self.bench))


def url(number: int) -> str:
    """The url of an entry, as the generators make it."""
    return f"https://host-{number % HOSTS}.bench.example/section-{number // HOSTS % 10}/page/{number}"


def corpus_of(bench: Bench) -> Path:
    return bench.bodies.stored(STORED_BYTES, 64)


def fill(bench: Bench) -> list[Store]:
    """One store that grows by ten and by ten again, with a copy of each size."""
    largest = bench.options.largest
    growing = bench.scratch / "scale"
    stores, filled = [], 0
    for entries in (largest // 100, largest // 10, largest):
        put(bench, growing, filled, entries - filled)
        filled = entries
        data_dir = bench.scratch / f"scale-{entries}"
        if entries < largest:
            shutil.copytree(growing, data_dir)
        else:
            growing.rename(data_dir)
        stores.append(Store(bench, data_dir, entries))
    return stores


def put(bench: Bench, data_dir: Path, first: int, entries: int, *options: str) -> None:
    """Puts results in large transactions, without HTTP."""
    command = [bench.put_loop, "--data-dir", data_dir, "--corpus", corpus_of(bench), "--hosts", str(HOSTS),
               "--clients", str(FILL_CLIENTS), "--first", str(first), "--entries", str(entries), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def check(store: Store, service: Process) -> None:
    """Everything is there, and comes from SQLite."""
    documents = sorted(corpus_of(store.bench).iterdir())
    for number in (0, store.entries // 2, store.entries - 1):
        answer = ask(service.address, "GET", f"/v1/result?url={url(number)}")
        expect(answer.status == 200, f"entry {number} answers {answer.status}")
        document = json.loads(documents[number % len(documents)].read_bytes())
        expect(json.loads(answer.body) == document, f"entry {number} came back changed")
        expect("detail=sqlite" in (answer.header("cache-status") or ""), "the hit is not from SQLite")
        put = ask(service.address, "PUT", f"/v1/result?url={url(number)}", {"Content-Type": "application/json"},
                  answer.body)
        outcome = json.loads(put.body)["outcome"]
        expect((put.status, outcome) == (200, "refreshed"), f"the put of what is there comes to {put.status}, {outcome}")
    stats = json.loads(ask(service.address, "GET", "/health").body)
    expect(stats["status"] == "healthy", f"the service says {stats['status']}")
