"""Rows for the service beside Crawl4AI's own cache in one process: gets, puts, and bytes on disk of the same documents."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import JSON, KEY, ZSTD, Bench, expect
from footprint import disk_bytes
from load import Sample, Wrk, run_load
from processes import Process, ask, start_service
from table import AtLeast, LeftOut, Row, Versus, middle
from worker import Worker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from crawl4ai_cache import python  # noqa: E402

PROGRAM = Path(__file__).with_name("crawl4ai_service_worker.py")
PAGES = 400
CLIENTS = 32
OWN = "Crawl4AI's own cache"
LEAST_GETS = 30.0
LEAST_SHORTER_P99 = 10.0
LEAST_PUTS = 3.0
LEAST_SMALLER = 5.0


def write_documents(bench: Bench, folder: Path) -> list[bytes]:
    """The corpus over and over, each page with content of its own, as on the web."""
    folder.mkdir()
    results = [json.loads(path.read_text()) for path in sorted(bench.corpus.iterdir())]
    documents = []
    for number in range(PAGES):
        result = results[number % len(results)]
        mark = f"<!-- {number} -->"
        markdown = {**result["markdown"], "raw_markdown": result["markdown"]["raw_markdown"] + mark}
        own = {"html": result["html"] + mark, "cleaned_html": result["cleaned_html"] + mark, "markdown": markdown}
        documents.append(json.dumps({**result, **own}, ensure_ascii=False).encode())
        (folder / f"{number:04}.json").write_bytes(documents[-1])
    return documents


def rows(bench: Bench) -> list[Row]:
    """Crawl4AI with 32 tasks in one process, the service with 32 clients."""
    try:
        interpreter = python()
    except (OSError, subprocess.CalledProcessError) as why:
        return [LeftOut(f"the service against {OWN}", f"Crawl4AI cannot be installed: {why}")]
    folder = bench.data_dir("crawl4ai-service")
    folder.mkdir()
    documents = write_documents(bench, folder / "documents")
    data_dir, own = folder / "crawlcache", folder / "own"
    own.mkdir()
    with Worker(interpreter, PROGRAM, own, folder / "documents") as worker:
        worker.ask("fill")
        with start_service(bench.service, data_dir)[0] as service:
            for number, document in enumerate(documents):
                put = ask(service.address, "PUT", f"{KEY}{number}", JSON, document)
                expect(put.status == 201, f"the put of page {number} answers {put.status}")
        made = [size_row(own, data_dir, len(documents))]
        with start_service(bench.service, data_dir)[0] as service:
            made += get_rows(bench, service, worker, documents)
            made += [put_row(bench, service, worker, folder / "documents")]
    return made


def size_row(own: Path, data_dir: Path, pages: int) -> Row:
    """What both take on the disk. The service has been stopped, and so has checkpointed its own."""
    with sqlite3.connect(own / ".crawl4ai" / "crawl4ai.db") as database:
        expect(database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "the checkpoint of Crawl4AI's database")
        expect(database.execute("SELECT count(*) FROM crawled_data").fetchone()[0] == pages, "the pages of Crawl4AI's cache")
    database.close()
    theirs, ours = disk_bytes(own / ".crawl4ai") / pages, disk_bytes(data_dir) / pages
    detail = f"{ours / 1000:.1f} kB to {theirs / 1000:.1f} kB of {OWN}"
    return AtLeast("bytes on disk a result", [theirs / ours], LEAST_SMALLER, detail, OWN)


def get_rows(bench: Bench, service: Process, worker: Worker, documents: list[bytes]) -> list[Row]:
    for number, document in enumerate(documents):
        answer = ask(service.address, "GET", f"{KEY}{number}")
        expect(answer.status == 200 and json.loads(answer.body) == json.loads(document), f"page {number} of the service")
    wrk = Wrk(bench.options.threads, CLIENTS)
    run: Callable[[dict[str, str]], Callable[[float], Sample]] = (
        lambda headers: lambda seconds: wrk.run(service, "/", seconds, headers, PAGES))
    samples = bench.in_turn({
        "identity": run({}),
        "zstd": run(ZSTD),
        "own": lambda seconds: worker.measure("get", seconds, at_once=CLIENTS),
    }, bench.options.seconds)
    made: list[Row] = []
    for coding in ("identity", "zstd"):
        ours, theirs = samples[coding], samples["own"]
        title = f"get of {len(documents[0]) / 1000:.0f} kB, {coding}, {CLIENTS} clients"
        made.append(Versus(title, OWN, ours=ours, reference=theirs, least_ratio=LEAST_GETS))
        shorter = [other.p99_ms / one.p99_ms for one, other in zip(ours, theirs)]
        detail = f"{middle(ours, 'p99_ms'):.1f} ms to {middle(theirs, 'p99_ms'):.1f} ms of {OWN}"
        made.append(AtLeast(f"{title}, p99", shorter, LEAST_SHORTER_P99, detail, OWN))
    return made


def put_row(bench: Bench, service: Process, worker: Worker, corpus: Path) -> Row:
    """Puts of pages that are new."""
    fresh = itertools.count(1_000_000, 1_000_000)
    # A number that begins a document: each side puts the same ones.
    first = lambda: next(fresh) // PAGES * PAGES  # noqa: E731
    samples = bench.in_turn({
        "ours": lambda seconds: run_load(
            bench.load, service, seconds, CLIENTS, "put", "--corpus", str(corpus), "--first", str(first())),
        "own": lambda seconds: worker.measure("put", seconds, at_once=CLIENTS, first=first()),
    }, bench.options.seconds)
    return Versus(f"put, {CLIENTS} clients", OWN, ours=samples["ours"], reference=samples["own"], least_ratio=LEAST_PUTS)
