"""Rows for DynamoDB: the service against the bare SDK, what both cost in capacity units, and the start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import ZSTD
from load import Sample, Wrk, run_load, run_loop
from processes import Answer, Headers, Process, ask, start_bare, start_service
from table import AtLeast, Bound, Row, Versus, middle

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import pages  # noqa: E402

CLIENTS = (1, 32)
# Four milliseconds from request to answer, as DynamoDB takes in the same region ("single-digit milliseconds"): the farther
# away, the less an overhead would count.
AWAY_MICROS = 2000
# More than a few put both cores to work all the time: then a latency is a share of the cores again, and no target.
CLIENTS_AWAY = {"get": ((1, 1.05), (8, 1.05), (32, None)), "put": ((1, 1.05), (4, 1.05), (32, None))}
KEYS = 1000
PAGES = 500
# An attribute a field cannot hold more than an item: such pages are left out on both sides.
MOST_BYTES = 380_000
STARTS = 10
UNITS = re.compile(r'^crawlcache_dynamodb_capacity_units_total\{.*unit="(\w+)"\} (\S+)$', re.M)


@dataclass
class Latency(Versus):
    """Our median latency against that of a reference: how many times as long a call takes."""

    most_ratio: float | None = None

    def ratio(self) -> float:
        return middle(self.ours, "p50_ms") / middle(self.reference, "p50_ms")

    def target(self) -> str:
        return "" if self.most_ratio is None else f"≤ {self.most_ratio:.2f}"

    def met(self) -> bool | None:
        return None if self.most_ratio is None else self.ratio() <= self.most_ratio

    def as_dict(self) -> dict[str, Any]:
        added = 1000 * (middle(self.ours, "p50_ms") - middle(self.reference, "p50_ms"))
        return {**super().as_dict(), "kind": "latency", "most_ratio": self.most_ratio, "added_us": added}

    def cells(self) -> list[str]:
        cells = super().cells()
        cells[1:3] = [milliseconds(self.ours), f"{milliseconds(self.reference)} {self.against}"]
        return cells


def milliseconds(samples: list[Sample]) -> str:
    values = [sample.p50_ms for sample in samples]
    return f"{median(values):.2f} ms ({min(values):.2f}–{max(values):.2f})"


@dataclass
class Effort(Versus):
    """Our CPU time against that of what cannot be left out: the SDK's call and, beside it, a bare HTTP answer."""

    answers: list[Sample] = field(default_factory=list)

    def least_us(self) -> float:
        return middle(self.reference, "cpu_us") + middle(self.answers, "cpu_us")

    def ratio(self) -> float:
        return middle(self.ours, "cpu_us") / self.least_us()

    def cells(self) -> list[str]:
        cells = super().cells()
        parts = " + ".join(f"{middle(samples, 'cpu_us'):.0f}" for samples in (self.reference, self.answers))
        cells[1:3] = [f"{middle(self.ours, 'cpu_us'):.0f} µs", f"{parts} µs {self.against}"]
        cells[6] = f"{middle(self.ours, 'cpu_us'):.1f} / {self.least_us():.1f}"
        return cells

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "answers": [sample.as_dict() for sample in self.answers]}


@contextmanager
def distant(bench: Any, endpoint: str, micros: int) -> Iterator[str]:
    """The same DynamoDB, so many microseconds away each way."""
    upstream = endpoint.removeprefix("http://").rstrip("/")
    command = [bench.loop_of("delay_proxy"), "--upstream", upstream, "--micros", str(micros)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield f"http://{child.stdout.readline().strip()}"
    finally:
        child.terminate()
        child.wait()


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """A DynamoDB Local of its own, in memory."""
    command = [ROOT / "scripts" / "test-services"]
    environment = {**os.environ, "TEST_SERVICES_DIR": str(ROOT / ".cache" / f"bench-services.{os.getpid()}")}
    try:
        started = subprocess.run([*command, "start", "dynamodb"], env=environment, capture_output=True, text=True)
        found = re.search(r"TEST_DYNAMODB_ENDPOINT=['\"]?(http://[^\s'\";]+)", started.stdout)
        if not found:
            raise RuntimeError(f"DynamoDB Local does not start: {started.stderr.strip()}")
        yield found.group(1)
    finally:
        subprocess.run([*command, "stop"], env=environment, check=True, capture_output=True)


def settings(endpoint: str, prefix: str) -> Headers:
    """A service on that endpoint, with tables of its own and without memory."""
    return {
        "CRAWLCACHE_STORE__BACKEND": "dynamodb",
        "CRAWLCACHE_DYNAMODB__ENDPOINT": endpoint,
        "CRAWLCACHE_DYNAMODB__TABLE_PREFIX": prefix,
        "CRAWLCACHE_DYNAMODB__CREATE_TABLES": "true",
        "CRAWLCACHE_MEMORY__BYTES": "0",
    }


def units(service: Process) -> dict[str, float]:
    """Capacity units consumed so far, read and write."""
    text = ask(service.address, "GET", "/metrics").body.decode()
    totals = {"read": 0.0, "write": 0.0}
    for unit, value in UNITS.findall(text):
        totals[unit] += float(value)
    return totals


def rows(bench: Any) -> list[Row]:
    """Everything, on one DynamoDB Local."""
    with dynamodb_local() as endpoint:
        bare = bench.loop_of("dynamodb_loop")
        process, _ = start_service(bench.service, bench.scratch / "dynamodb", settings(endpoint, "ours-"))
        # Another start makes the table that the bare SDK works on, of the same schema.
        start_service(bench.service, bench.scratch / "bare", settings(endpoint, "bare-"))[0].__exit__(None, None, None)
        with process as service:
            return [
                *speed(bench, service, bare, endpoint),
                *latency(bench, bare, endpoint),
                *costs(bench, service, endpoint),
                *starts(bench, endpoint),
            ]


def speed(bench: Any, service: Process, bare: Path, endpoint: str) -> list[Row]:
    """Gets and puts of the same documents, one and many clients."""
    corpus = ["--corpus", str(bench.corpus)]
    options = ["--endpoint", endpoint, "--table", "bare-crawl4ai-results", *corpus, "--keys", str(KEYS)]
    run_loop(bare, *options, "--clients", "8", "fill")
    bench.fill_over_http(service, KEYS)
    answer = ask(service.address, "GET", "/v1/result?url=https://bench.example/page/0", ZSTD)
    if answer.status != 200 or "detail=dynamodb" not in (answer.header("cache-status") or ""):
        raise SystemExit(f"bench: the hit is not from DynamoDB: {answer.status} {answer.headers}")
    table: list[Row] = [effort(bench, service, answer, lambda seconds: run_loop(
        bare, *options, "--clients", "32", "--seconds", str(seconds), "get"))]
    fresh = fresh_keys(1_000_000)
    for clients in CLIENTS:
        wrk = Wrk(1, clients)
        loop: Callable[..., Any] = lambda seconds, *work, clients=clients: run_loop(  # noqa: E731
            bare, *options, "--clients", str(clients), "--seconds", str(seconds), *work)
        table.append(bench.rounds(
            Versus(f"DynamoDB get, {clients} clients, all on the same cores", "bare SDK", least_ratio=0.95),
            lambda seconds, wrk=wrk: wrk.run(service, "/", seconds, ZSTD, KEYS),
            lambda seconds, loop=loop: loop(seconds, "get"),
        ))
        put = lambda seconds, clients=clients: run_load(  # noqa: E731
            bench.load, service, seconds, clients, "put", *corpus, "--first", fresh())
        for against, work, least in (
            ("bare SDK, the same update", ("--encode", "--conditional"), 0.95),
            ("bare SDK, a plain put", ("--encode",), None),
        ):
            table.append(bench.rounds(
                Versus(f"DynamoDB put, {clients} clients, all on the same cores", against, least_ratio=least),
                put,
                lambda seconds, loop=loop, work=work: loop(seconds, "--first", fresh(), *work, "put"),
            ))
    return table


def fresh_keys(first: int) -> Callable[[], str]:
    """Numbers of keys under which nothing is stored, far enough from each other for a round of puts."""
    used = {"number": first}

    def fresh() -> str:
        used["number"] += 1_000_000
        return str(used["number"])

    return fresh


def effort(bench: Any, service: Process, answer: Answer, bare: Callable[[float], Sample]) -> Row:
    """What a get costs beside the SDK's call and an HTTP answer of the same bytes."""
    wrk = Wrk(1, 32)
    row = Effort("DynamoDB get, 32 clients, CPU time", "bare SDK + bare hyper")
    with start_bare(bench.bare, answer, bench.scratch / "dynamodb-answer") as hyper:
        def ours(seconds: float) -> Sample:
            row.answers.append(wrk.run(hyper, "/", seconds, ZSTD))
            return wrk.run(service, "/", seconds, ZSTD, KEYS)

        bench.rounds(row, ours, bare)
        # The warm-up's.
        del row.answers[0]
        return row


def latency(bench: Any, bare: Path, endpoint: str) -> list[Row]:
    """How long a call takes through the service where DynamoDB is not on the same machine: then it is the distance
    that counts, rather than whose turn on the cores it is."""
    corpus = ["--corpus", str(bench.corpus)]
    fresh, table = fresh_keys(500_000_000), []
    with distant(bench, endpoint, AWAY_MICROS) as far:
        options = ["--endpoint", far, "--table", "bare-crawl4ai-results", *corpus, "--keys", str(KEYS)]
        # The same tables: both have been filled.
        process, _ = start_service(bench.service, bench.scratch / "distant", settings(far, "ours-"))
        with process as service:
            for work, clients, most in ((work, *one) for work, many in CLIENTS_AWAY.items() for one in many):
                def ours(seconds: float, work: str = work, clients: int = clients) -> Sample:
                    if work == "get":
                        return Wrk(1, clients).run(service, "/", seconds, ZSTD, KEYS)
                    return run_load(bench.load, service, seconds, clients, "put", *corpus, "--first", fresh())

                def loop(seconds: float, work: str = work, clients: int = clients) -> Sample:
                    more = ("--first", fresh(), "--encode", "--conditional") if work == "put" else ()
                    return run_loop(bare, *options, "--clients", str(clients), "--seconds", str(seconds), *more, work)

                busy = "" if most else ", both cores busy"
                name = f"DynamoDB {work}, {clients} clients, p50 with DynamoDB {AWAY_MICROS / 1000:g} ms away each way{busy}"
                table.append(bench.rounds(Latency(name, "bare SDK", most_ratio=most), ours, loop))
    return table


def costs(bench: Any, service: Process, endpoint: str) -> list[Row]:
    """Capacity units of real pages against an attribute a field."""
    folder = bench.scratch / "pages"
    folder.mkdir()
    documents = [page for page in pages.results(PAGES) if len(json.dumps(page).encode()) < MOST_BYTES]
    for number, document in enumerate(documents):
        (folder / f"{number:04}.json").write_text(json.dumps(document))
    before = units(service)
    for document in documents:
        target = "/v1/result?url=" + urllib.parse.quote(document["url"], safe="")
        put = ask(service.address, "PUT", target, {"Content-Type": "application/json"}, json.dumps(document).encode())
        if put.status != 201:
            raise SystemExit(f"bench: a page answers {put.status}: {put.body!r}")
    written = units(service)["write"] - before["write"]
    before = units(service)
    for document in documents:
        target = "/v1/result?url=" + urllib.parse.quote(document["url"], safe="")
        if ask(service.address, "GET", target, ZSTD).status != 200:
            raise SystemExit("bench: a page is not there")
    read = units(service)["read"] - before["read"]
    arguments = [bench.loop_of("dynamodb_plain"), "--endpoint", endpoint, "--corpus", folder]
    plain = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    if plain["plain"]["too_large"]:
        raise SystemExit("bench: a page is too large for an item with an attribute a field")
    return [
        AtLeast(f"units of {len(documents)} puts, plain over packed", [plain["plain"]["put"] / written], 5.0,
                f"{plain['plain']['put']:g} / {written:g}"),
        AtLeast(f"units of {len(documents)} puts, plain with its index over packed", [plain["plain_indexed"]["put"] / written], 5.0,
                f"{plain['plain_indexed']['put']:g} / {written:g}"),
        AtLeast(f"units of {len(documents)} gets, plain over packed", [plain["plain"]["get"] / read], 5.0,
                f"{plain['plain']['get']:g} / {read:g}"),
    ]


def starts(bench: Any, endpoint: str) -> list[Row]:
    """From exec to ready, where the tables are there and where they are made."""
    known, fresh = [], []
    for number in range(STARTS):
        for prefix, times in ((f"start-{number}-", fresh), (f"start-{number}-", known)):
            process, seconds = start_service(bench.service, bench.scratch / "starts", settings(endpoint, prefix))
            process.__exit__(None, None, None)
            times.append(seconds * 1000)
    return [
        Bound("DynamoDB: start to ready, tables are made", "ms", fresh, 1000.0),
        Bound("DynamoDB: start to ready, tables are there", "ms", known, 100.0),
    ]
