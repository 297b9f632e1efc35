"""The benchmark's own arithmetic: rows of every kind become a table, verdicts and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench.d"
sys.path.insert(0, str(BENCH))

from dynamodb import Effort, Latency  # noqa: E402
from load import Sample  # noqa: E402
from table import Alone, AtLeast, Bound, Curve, During, Figure, LeftOut, Series, Versus, render  # noqa: E402
from targets import summary, verdicts  # noqa: E402

FAST = [Sample(per_second=100.0, p50_ms=1.0, p99_ms=2.0, p999_ms=3.0, cpu_us=10.0)]
SLOW = [Sample(per_second=90.0, p50_ms=1.2, p99_ms=4.0, p999_ms=5.0, cpu_us=12.0)]
ROWS = [
    Versus("memory hit, zstd, 30 KB stored", "bare hyper", ours=SLOW, reference=FAST, least_ratio=0.85),
    Versus("SQLite hit, zstd, warm", "memory hit", ours=SLOW, reference=FAST, least_ratio=0.7, most_p99_ms=3.0),
    Latency("DynamoDB get, 1 clients, p50", "bare SDK", ours=SLOW, reference=FAST, most_ratio=1.05),
    Effort("DynamoDB get, CPU time", "bare SDK + bare hyper", ours=SLOW, reference=FAST, answers=FAST),
    AtLeast("bytes on disk a result", [6.0], 5.0, "25 kB to 150 kB"),
    Bound("idle memory", "MB", [29.0, 31.0, 22.0], 30.0),
    Curve("list of one host", "ms", [(10_000, [1.0]), (1_000_000, [2.0])], 1.5),
    During("p99 of gets while sweeping", "ms", [(1.0, 1.5)], 2.0),
    Series("resident memory, MiB", "MiB", [(0.0, 20.0), (10.0, 21.0)]),
    LeftOut("boto3", "not here"),
    Alone("list 50 of 100,000, first page", ours=FAST),
    Figure("bytes on disk a result, 4 KB stored", "B", [4100.0]),
]


def as_saved() -> list[dict[str, object]]:
    rows = [{"group": "test", **row.as_dict(), "cells": row.cells()} for row in ROWS]
    return json.loads(json.dumps(rows))


def test_rows_of_every_kind_have_their_place_in_the_table() -> None:
    lines = render([row["cells"] for row in as_saved()]).splitlines()
    assert len(lines) == 2 + len(ROWS)


def test_targets_are_judged_from_what_is_saved() -> None:
    found = {part.label: part.met for _, parts in verdicts(as_saved()) for part in parts}
    assert found["hit / bare hyper"] is True
    assert found["SQLite hit / memory hit"] is False, "its p99 is too long"
    assert found["DynamoDB get / bare SDK"] is False, "1.2 times as long is more than 1.05"
    assert found["idle memory"] is True
    assert found["list, a million / ten thousand"] is False
    assert found["p99 while sweeping / before"] is True
    assert found["put / loop"] is None, "it was not measured"
    assert "MISSED" in summary(as_saved())
