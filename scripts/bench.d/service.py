"""Rows for the service on its embedded store: memory, SQLite, puts, look-ups, start and idle memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import Callable

from bench import KEY, ZSTD, Bench, expect
from load import Sample, run_load, run_loop
from processes import Answer, Process, ask, start_bare, start_service
from table import Bound, Row, Versus

SPREAD_KEYS = 2000
LOOKUP_KEYS = 10_000
STARTS = 20
NO_MEMORY = {"CRAWLCACHE_MEMORY__BYTES": "0"}


def memory_rows(bench: Bench) -> list[Row]:
    """One hot document against a bare handler that returns the same bytes."""
    process, _ = start_service(bench.service, bench.scratch / "memory")
    with process as service:
        put = ask(service.address, "PUT", f"{KEY}0", {"Content-Type": "application/json"}, bench.document())
        expect(put.status == 201, f"the put answers {put.status}")
        ask(service.address, "GET", f"{KEY}0")
        etag = ask(service.address, "GET", f"{KEY}0", ZSTD).header("etag") or ""
        row = lambda name, least: Versus(name, "bare hyper", least_ratio=least)  # noqa: E731
        stored = json.loads(put.body)["stored_bytes"]
        document = len(bench.document())
        return [
            against_bare(bench, service, row(f"memory hit, zstd, {stored} B", 0.85), ZSTD),
            against_bare(bench, service, row(f"memory hit, identity, {document} B", 0.5), {}),
            against_bare(bench, service, row("memory hit, 304", None), {**ZSTD, "If-None-Match": etag}),
        ]


def against_bare(bench: Bench, service: Process, row: Versus, headers: dict[str, str]) -> Row:
    answer = ask(service.address, "GET", f"{KEY}0", headers)
    check_answer(bench, answer, headers)
    expect("detail=memory" in (answer.header("cache-status") or ""), "the hit is not from memory")
    with start_bare(bench.bare, answer, bench.scratch / "body") as bare:
        same = ask(bare.address, "GET", "/")
        expect((same.status, same.body) == (answer.status, answer.body), "the bare handler's answer")
        return bench.rounds(
            row,
            lambda seconds: bench.wrk.run(service, f"{KEY}0", seconds, headers),
            lambda seconds: bench.wrk.run(bare, "/", seconds, headers),
        )


def check_answer(bench: Bench, answer: Answer, headers: dict[str, str]) -> None:
    """Compares an answer of entry 0 with the document that was put."""
    if "If-None-Match" in headers:
        expect((answer.status, answer.body) == (304, b""), f"the 304 is {answer.status} with a body")
        return
    expect(answer.status == 200, f"the hit answers {answer.status}")
    coding = answer.header("content-encoding")
    expect(coding == headers.get("Accept-Encoding"), f"the coding is {coding}")
    body = answer.body
    if coding == "zstd":
        if shutil.which("zstd") is None:
            expect(body[:4] == b"\x28\xb5\x2f\xfd", "the body is no zstd frame")
            return
        body = subprocess.run(["zstd", "-dc"], input=body, check=True, capture_output=True).stdout
    expect(json.loads(body) == json.loads(bench.document()), "the document came back changed")


def sqlite_row(bench: Bench) -> list[Row]:
    """The same keys from SQLite and from memory."""
    on_disk, in_memory = bench.scratch / "on-disk", bench.scratch / "in-memory"
    bench.fill(on_disk, bench.corpus, SPREAD_KEYS)
    shutil.copytree(on_disk, in_memory)
    first, _ = start_service(bench.service, on_disk, NO_MEMORY)
    second, _ = start_service(bench.service, in_memory)
    with first as disk, second as memory:
        for number in range(SPREAD_KEYS):
            ask(memory.address, "GET", f"{KEY}{number}", ZSTD)
        for process, source in ((disk, "sqlite"), (memory, "memory")):
            answer = ask(process.address, "GET", f"{KEY}0", ZSTD)
            check_answer(bench, answer, ZSTD)
            expect(f"detail={source}" in (answer.header("cache-status") or ""), f"the hit is not from {source}")
        row = Versus("SQLite hit, zstd, warm", "memory hit", least_ratio=0.7, most_p99_ms=3.0)
        run = lambda process: lambda seconds: bench.wrk.run(process, "/", seconds, ZSTD, SPREAD_KEYS)  # noqa: E731
        return [bench.rounds(row, run(disk), run(memory))]


def put_row(bench: Bench) -> list[Row]:
    """Durable puts against a loop that only parses, compresses and commits."""
    clients = str(bench.options.clients)
    used = {"service": 1, "loop": 0}

    def first(side: str, sample: Callable[[str], Sample]) -> Sample:
        # Every key is fresh, and both stores grow alike.
        used[side] += 1_000_000
        return sample(str(used[side]))

    process, _ = start_service(bench.service, bench.scratch / "puts")
    with process as service:
        put = ask(service.address, "PUT", f"{KEY}0", {"Content-Type": "application/json"}, bench.document())
        expect(put.status == 201, f"the put answers {put.status}")
        check_answer(bench, ask(service.address, "GET", f"{KEY}0"), {})
        corpus, loop_dir = str(bench.corpus), bench.scratch / "put-loop"
        row = Versus(f"durable put, {len(bench.document())} B", "in-process loop", least_ratio=0.7)
        return [
            bench.rounds(
                row,
                lambda seconds: first("service", lambda number: run_load(
                    bench.load, service, seconds, bench.options.clients, "put", "--corpus", corpus, "--first", number)),
                lambda seconds: first("loop", lambda number: run_loop(
                    bench.put_loop, "--data-dir", loop_dir, "--corpus", corpus, "--first", number,
                    "--seconds", str(seconds), "--clients", clients)),
            )
        ]


def lookup_row(bench: Bench) -> list[Row]:
    """The frontier filter over a large store."""
    entries = bench.options.entries
    data_dir = bench.scratch / "lookup"
    bench.fill(data_dir, bench.small_corpus, entries)
    process, _ = start_service(bench.service, data_dir)
    with process as service:
        keys = [f"https://bench.example/page/{number}" for number in (0, entries - 1, entries)]
        body = json.dumps({"keys": keys}).encode()
        answer = ask(service.address, "POST", "/v1/results/lookup", {"Content-Type": "application/json"}, body)
        states = [result["state"] for result in json.loads(answer.body)["results"]]
        expect(states == ["fresh", "fresh", "absent"], f"the look-up says {states}")
        work = ["lookup", "--keys", str(LOOKUP_KEYS), "--entries", str(entries)]
        run = lambda seconds: run_load(bench.load, service, seconds, 1, *work)  # noqa: E731
        run(1.0)
        samples = [run(bench.options.seconds) for _ in range(bench.options.rounds)]
    name = f"lookup of {LOOKUP_KEYS} keys over {entries}"
    return [
        Bound(f"{name}, p50", "ms", [sample.p50_ms for sample in samples], 50.0),
        Bound(f"{name}, p99", "ms", [sample.p99_ms for sample in samples], 50.0),
    ]


def start_rows(bench: Bench) -> list[Row]:
    """From exec to ready, on a new directory and on one that is there; and what an idle service holds."""
    fresh, known, resident = [], [], []
    for number in range(STARTS):
        data_dir = bench.scratch / f"start-{number}"
        for times in (fresh, known):
            process, seconds = start_service(bench.service, data_dir)
            with process as service:
                times.append(seconds * 1000)
                if number < 3:
                    time.sleep(0.5)
                    resident.append(service.resident_mib())
    return [
        Bound("start to ready, new directory", "ms", fresh, 100.0),
        Bound("start to ready, known directory", "ms", known, 100.0),
        Bound("idle memory", "MiB", resident, 30.0),
    ]
