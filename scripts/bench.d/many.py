"""Rows for requests about many results: look-ups, batches and pages of a listing, over a large store."""

from __future__ import annotations

import json
import urllib.parse

from bench import JSON, Bench, expect
from load import run_work
from processes import Process, ask, start_service
from table import Alone, Bound, Row, Versus

LOOKUP_KEYS = 10_000
BATCH_KEYS = 100
BATCH_CLIENTS = 8
PAGE = 100
# How far down the listing the deep page is.
DEEP = 0.8
# An item of a listing: its age gains digits while it is measured.
DIGITS = 4


def lookup_rows(bench: Bench) -> list[Row]:
    """The frontier filter."""
    entries = bench.options.entries
    process, _ = start_service(bench.service, bench.large_store())
    with process as service:
        keys = [f"https://bench.example/page/{number}" for number in (0, entries - 1, entries)]
        answer = ask(service.address, "POST", "/v1/results/lookup", JSON, json.dumps({"keys": keys}).encode())
        states = [result["state"] for result in json.loads(answer.body)["results"]]
        expect(states == ["fresh", "fresh", "absent"], f"the look-up says {states}")
        row = bench.alone(
            Alone(f"lookup of {LOOKUP_KEYS:,} keys over {entries:,}"),
            lambda seconds: run_work(bench.load, service, seconds, 1, "lookup", "--keys", str(LOOKUP_KEYS), "--entries", str(entries)))
    return [
        Bound(f"{row.name}, p50", "ms", [sample.p50_ms for sample in row.ours], 50.0),
        Bound(f"{row.name}, p99", "ms", [sample.p99_ms for sample in row.ours], 50.0),
        Alone(f"{row.name}, one client", "requests", row.ours),
    ]


def batch_rows(bench: Bench) -> list[Row]:
    """Whole results and their markdown in batches, against as many single gets of the same keys."""
    entries = 1000
    data_dir = bench.data_dir("batch")
    bench.fill(data_dir, bench.small_corpus, entries)
    process, _ = start_service(bench.service, data_dir)
    with process as service:
        keys = [f"https://bench.example/page/{number}" for number in (0, entries)]
        answer = ask(service.address, "POST", "/v1/results/batch-get", JSON, json.dumps({"keys": keys}).encode())
        lines = [json.loads(line) for line in answer.body.splitlines()]
        document = json.loads((bench.small_corpus / "0000.json").read_bytes())
        expect([line["status"] for line in lines] == [200, 404], "the batch has other outcomes")
        expect(lines[0]["document"] == document, "the document of the batch is another one")
        rows: list[Row] = []
        for name, fields in (("whole", ()), ("only markdown", ("markdown",))):
            batch = ("batch", "--keys", str(BATCH_KEYS), "--entries", str(entries), *(f"--field={each}" for each in fields))
            suffix = "".join(f"&fields={each}" for each in fields)
            single = ("get", *(f"--path=/v1/result?url=https://bench.example/page/{number * 7919 % entries}{suffix}"
                               for number in range(500)))
            run = lambda work, keys, service=service: lambda seconds: run_work(  # noqa: E731
                bench.load, service, seconds, BATCH_CLIENTS, *work).times(keys)
            row = Versus(f"batch get of {BATCH_KEYS}, {name}, in keys", "single gets")
            rows.append(bench.rounds(row, run(batch, BATCH_KEYS), run(single, 1), seconds=bench.brief))
        return rows


def list_rows(bench: Bench) -> list[Row]:
    """The first page, one far down, and filtered ones."""
    entries = bench.options.entries
    process, _ = start_service(bench.service, bench.large_store())
    with process as service:
        # The newest hundredth: a page looks at no more than 10,000 results, and comes with a cursor for the others.
        prefix = urllib.parse.quote(f"https://bench.example/page/{str(entries - 1)[:2]}", safe="")
        some = urllib.parse.quote("https://bench.example/", safe="")
        pages = {
            "first page": f"/v1/results?limit={PAGE}",
            f"page at {int(entries * DEEP):,}": deep(service, int(entries * DEEP)),
            "filtered by host": f"/v1/results?limit={PAGE}&host=bench.example",
            "filtered by a prefix of the newest": f"/v1/results?limit={PAGE}&prefix={prefix}",
            "filtered by prefix and status": f"/v1/results?limit={PAGE}&prefix={some}&status=200",
        }
        rows: list[Row] = []
        for name, path in pages.items():
            items = json.loads(ask(service.address, "GET", path).body)["items"]
            expect(len(items) == PAGE, f"the {name} of the listing has {len(items)} items")
            work = ("get", "--path", path, "--slack", str(PAGE * DIGITS))
            row = Alone(f"list {PAGE} of {entries:,}, {name}")
            rows.append(bench.alone(row, lambda seconds, work=work: run_work(
                bench.load, service, seconds, BATCH_CLIENTS, *work)))
        return rows


def deep(service: Process, items: int) -> str:
    """The path of the page so many items down, which only following the cursor reaches."""
    cursor, seen = "", set()
    for met in range(1000, items + 1, 1000):
        page = json.loads(ask(service.address, "GET", f"/v1/results?limit=1000{cursor}").body)
        seen |= {item["url"] for item in page["items"]}
        expect(len(seen) == met, f"the cursor meets {len(seen)} results instead of {met}")
        cursor = f"&cursor={page['next_cursor']}"
    return f"/v1/results?limit={PAGE}{cursor}"
