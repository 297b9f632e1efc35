"""Rows for a working set ten times the memory tier, of which a few keys are wanted often, and the memory that it takes."""

from __future__ import annotations

import json
import re

from bench import JSON, KEY, Bench, expect
from load import Sample, run_works
from processes import Process, ask, start_service
from table import Alone, Bound, Figure, Row

TIER_BYTES = 16 << 20
TIMES = 10
PUTS = 0.1
# Beside the tier: the page caches of SQLite (4 readers, a writer and whatever lists, 16 MiB each), what an idle service
# has, and the documents under way.
BESIDE_MIB = 6 * 16 + 30 + 30
LOOKUPS = re.compile(r'^crawlcache_lookups_total\{op="get",result="(\w+)"\} (\S+)$', re.M)


def rows(bench: Bench) -> list[Row]:
    """90 % gets and 10 % puts by Zipf's law."""
    data_dir = bench.data_dir("mixed")
    entries = TIMES * TIER_BYTES // stored_bytes(bench)
    bench.fill(data_dir, bench.corpus, entries)
    process, _ = start_service(bench.service, data_dir, {"CRAWLCACHE_MEMORY__BYTES": str(TIER_BYTES)})
    parts: dict[str, list[Sample]] = {"get": [], "put": []}
    row = Alone(f"mixed, 90 % get and 10 % put, Zipf over {entries:,} keys")
    with process as service:
        def run(seed: int, seconds: float) -> tuple[Sample, dict[str, Sample]]:
            work = ("--seed", str(seed), "mixed", "--corpus", str(bench.corpus), "--keys", str(entries), "--puts", str(PUTS))
            return run_works(bench.load, service, seconds, bench.options.clients, *work)

        run(1, bench.options.seconds)
        before = lookups(service)
        for number in range(bench.options.rounds):
            whole, by_part = run(number + 2, bench.options.seconds)
            row.ours.append(whole)
            for name, sample in by_part.items():
                parts[name].append(sample)
        counted = {result: count - before[result] for result, count in lookups(service).items()}
        resident = service.resident_mib()
    hits = counted["hit_memory"] / sum(counted.values())
    most = TIER_BYTES / (1 << 20) + BESIDE_MIB
    return [
        row,
        *(Figure(f"mixed: {name}, p99", "ms", [sample.p99_ms for sample in samples]) for name, samples in parts.items()),
        Figure("mixed: gets answered from memory", "%", [hits * 100], f"{best(entries) * 100:.0f} % if the tier held the most wanted tenth"),
        Bound(f"loaded memory, with a tier of {TIER_BYTES >> 20} MiB", "MiB", [resident], most),
    ]


def stored_bytes(bench: Bench) -> int:
    """What a document of the corpus takes once it is stored, on average."""
    process, _ = start_service(bench.service, bench.data_dir("sizes"))
    with process as service:
        puts = [ask(service.address, "PUT", f"{KEY}{number}", JSON, path.read_bytes())
                for number, path in enumerate(sorted(bench.corpus.iterdir()))]
    expect({put.status for put in puts} == {201}, "a put of the corpus is refused")
    return sum(json.loads(put.body)["stored_bytes"] for put in puts) // len(puts)


def lookups(service: Process) -> dict[str, float]:
    """How many gets came to what so far."""
    text = ask(service.address, "GET", "/metrics").body.decode()
    return {result: float(count) for result, count in LOOKUPS.findall(text)}


def best(entries: int) -> float:
    """The share of gets that go to the most wanted tenth of the keys."""
    weights = [1 / rank for rank in range(1, entries + 1)]
    return sum(weights[: entries // TIMES]) / sum(weights)
