"""Rows for reads of one result: from memory in each coding and size, from SQLite warm and cold, and of what is not there."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable

from bench import JSON, KEY, ZSTD, Bench, expect
from load import Sample, run_work
from processes import Answer, Headers, Process, ask, start_bare, start_service
from table import Alone, Figure, LeftOut, Row, Versus

GZIP = {"Accept-Encoding": "gzip"}
IDENTITY: Headers = {}
STORED = (4000, 30_000, 150_000)
SPREAD_KEYS = 2000
# More than one round can ask for, so that no page is asked for twice.
COLD_KEYS = 30_000
NO_MEMORY = {"CRAWLCACHE_MEMORY__BYTES": "0"}
# As good as none: what SQLite itself keeps must not answer.
NO_CACHES = {**NO_MEMORY, "CRAWLCACHE_SQLITE__CACHE_BYTES": "65536"}
PAGE_BYTES = 4096


def memory_rows(bench: Bench) -> list[Row]:
    """Hot documents against a bare handler that returns the same bytes."""
    process, _ = start_service(bench.service, bench.data_dir("memory"))
    with process as service:
        rows: list[Row] = []
        for size in STORED:
            hot = Hot(bench, service, (bench.bodies.stored(size) / "0000.json").read_bytes())
            rows.append(hot.row(f"memory hit, zstd, {size // 1000} KB stored", ZSTD, 0.85 if size == 30_000 else None))
            if size == 30_000:
                rows.append(hot.row("memory hit, gzip, 30 KB stored", GZIP))
                rows.append(hot.row("memory hit, 304", {**ZSTD, "If-None-Match": hot.etag}))
                rows.append(hot.row("memory hit, only markdown, zstd, 30 KB stored", ZSTD, fields="markdown"))
                rows.append(hot.row("memory hit, only markdown, identity, 30 KB stored", IDENTITY, fields="markdown"))
            else:
                rows.append(hot.row(f"memory hit, identity, {size // 1000} KB stored", IDENTITY))
        hot = Hot(bench, service, bench.document())
        rows.append(hot.row("memory hit, identity, 150 KB of JSON", IDENTITY, 0.5))
        return [*rows, whole_pages(bench, service)]


class Hot:
    """One document that is in memory, under entry 0."""

    def __init__(self, bench: Bench, service: Process, document: bytes) -> None:
        self.bench = bench
        self.service = service
        self.document = document
        put = ask(service.address, "PUT", f"{KEY}0", JSON, document)
        expect(put.status in (200, 201), f"the put answers {put.status}")
        ask(service.address, "GET", f"{KEY}0")
        self.etag = ask(service.address, "GET", f"{KEY}0", ZSTD).header("etag") or ""

    def row(self, name: str, headers: Headers, least: float | None = None, fields: str | None = None) -> Row:
        path = f"{KEY}0" if fields is None else f"{KEY}0&fields={fields}"
        # The first one may make what the others are answered with.
        ask(self.service.address, "GET", path, headers)
        answer = ask(self.service.address, "GET", path, headers)
        check_answer(answer, headers, self.document, fields)
        expect("detail=memory" in (answer.header("cache-status") or ""), "the hit is not from memory")
        name = f"{name}, {len(answer.body):,} B" if answer.body else name
        with start_bare(self.bench.bare, answer, self.bench.scratch / "body") as bare:
            same = ask(bare.address, "GET", "/")
            expect((same.status, same.body) == (answer.status, answer.body), "the bare handler's answer")
            wrk, length = self.bench.wrk, len(answer.body)
            return self.bench.rounds(
                Versus(name, "bare hyper", least_ratio=least),
                lambda seconds: wrk.run(self.service, path, seconds, headers, body_bytes=length),
                lambda seconds: wrk.run(bare, "/", seconds, headers, body_bytes=length),
                seconds=self.bench.brief if least is None else None,
            )


def check_answer(answer: Answer, headers: Headers, document: bytes, fields: str | None = None) -> None:
    """Compares an answer with the document that was put."""
    if "If-None-Match" in headers:
        expect((answer.status, answer.body) == (304, b""), f"the 304 is {answer.status} with a body")
        return
    expect(answer.status == 200, f"the hit answers {answer.status}")
    coding = answer.header("content-encoding")
    expect(coding == headers.get("Accept-Encoding"), f"the coding is {coding}")
    body = answer.body
    if coding == "gzip":
        body = gzip.decompress(body)
    elif coding == "zstd":
        if shutil.which("zstd") is None:
            expect(body[:4] == b"\x28\xb5\x2f\xfd", "the body is no zstd frame")
            return
        body = subprocess.run(["zstd", "-dc"], input=body, check=True, capture_output=True).stdout
    wanted, found = json.loads(document), json.loads(body)
    if fields is None:
        expect(found == wanted, "the document came back changed")
    else:
        expect(found.get(fields) == wanted[fields], f"`{fields}` came back changed")
        expect("html" not in found, "more came back than was asked for")


def whole_pages(bench: Bench, service: Process) -> Row:
    """Every page of the corpus as it is, all in memory."""
    documents = sorted(bench.bodies.whole().iterdir())
    for number, path in enumerate(documents):
        put = ask(service.address, "PUT", f"{KEY}{number}", JSON, path.read_bytes())
        expect(put.status in (200, 201), f"the put of a page answers {put.status}")
    sizes = [len(ask(service.address, "GET", f"{KEY}{number}", ZSTD).body) for number in range(len(documents))]
    last = ask(service.address, "GET", f"{KEY}{len(documents) - 1}", ZSTD)
    check_answer(last, ZSTD, documents[-1].read_bytes())
    expect("detail=memory" in (last.header("cache-status") or ""), "the hit is not from memory")
    mean = sum(sizes) // len(sizes)
    row = Alone(f"memory hit, zstd, {len(sizes)} pages of a real corpus, {mean:,} B on average")
    return bench.alone(row, lambda seconds: bench.wrk.run(service, "/", seconds, ZSTD, len(sizes)))


def sqlite_rows(bench: Bench) -> list[Row]:
    """The same keys from SQLite and from memory; and from a disk."""
    on_disk, in_memory = bench.data_dir("on-disk"), bench.data_dir("in-memory")
    bench.fill(on_disk, bench.corpus, SPREAD_KEYS)
    shutil.copytree(on_disk, in_memory)
    first, _ = start_service(bench.service, on_disk, NO_MEMORY)
    second, _ = start_service(bench.service, in_memory)
    with first as disk, second as memory:
        for number in range(SPREAD_KEYS):
            ask(memory.address, "GET", f"{KEY}{number}", ZSTD)
        for process, source in ((disk, "sqlite"), (memory, "memory")):
            answer = ask(process.address, "GET", f"{KEY}0", ZSTD)
            check_answer(answer, ZSTD, bench.document())
            expect(f"detail={source}" in (answer.header("cache-status") or ""), f"the hit is not from {source}")
        row = Versus("SQLite hit, zstd, warm", "memory hit", least_ratio=0.7, most_p99_ms=3.0)
        run = lambda process: lambda seconds: bench.wrk.run(process, "/", seconds, ZSTD, SPREAD_KEYS)  # noqa: E731
        warm = bench.rounds(row, run(disk), run(memory))
    return [warm, *cold_rows(bench)]


def cold_rows(bench: Bench) -> list[Row]:
    """Nothing of the store is in the page cache when a round begins, and each key is asked for once."""
    data_dir = bench.data_dir("cold")
    bench.fill(data_dir, bench.corpus, COLD_KEYS)
    row, read = Alone("SQLite hit, zstd, cold"), []
    for _ in range(bench.options.rounds):
        drop_page_cache(data_dir)
        process, _ = start_service(bench.service, data_dir, NO_CACHES)
        with process as service:
            before, sampled = service.disk_bytes_read(), 0.0
            sample = bench.wrk.run(service, "/", bench.brief, ZSTD, COLD_KEYS)
            row.ours.append(sample)
            sampled = sample.per_second * max(bench.brief, 1.0)
            read.append((service.disk_bytes_read() - before) / max(sampled, 1.0))
    if min(read) < PAGE_BYTES:
        return [LeftOut(row.name, "this file system keeps its pages: name one on a disk with --scratch")]
    return [row, Figure("SQLite hit, cold: read from the disk", "KB a hit", [each / 1000 for each in read])]


def drop_page_cache(folder: Path) -> None:
    """Drops what the kernel keeps of these files. What is not yet on the disk is written first: it could not be dropped."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def miss_rows(bench: Bench) -> list[Row]:
    """Keys that are not there, each another one, beside a bare handler with the same 404."""
    process, _ = start_service(bench.service, bench.large_store())
    with process as service:
        path = "/v1/result?url=https://absent.example/{}"
        answer = ask(service.address, "GET", path.format("1000000"), ZSTD)
        expect(answer.status == 404 and json.loads(answer.body)["reason"] == "absent", f"the miss answers {answer.status}")
        with start_bare(bench.bare, answer, bench.scratch / "body") as bare:
            def run(process: Process) -> Callable[[float], Sample]:
                work = ("get", "--path", path, "--status", "404", "--header", "accept-encoding:zstd")
                return lambda seconds: run_work(bench.load, process, seconds, bench.options.clients, *work)
            return [bench.rounds(Versus("miss", "bare hyper"), run(service), run(bare), seconds=bench.brief)]
