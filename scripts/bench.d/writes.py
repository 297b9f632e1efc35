"""Rows for durable puts: of new keys, of the same again, and of other content, against a loop without HTTP."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import JSON, KEY, Bench, expect
from load import Sample, run_work, run_loop
from processes import Process, ask, start_service
from reads import check_answer
from table import Row, Versus

# Keys that are put again.
KEYS = 2000


def rows(bench: Bench) -> list[Row]:
    """Against a loop that only parses, compresses and commits."""
    ours, loop = bench.data_dir("puts"), bench.data_dir("put-loop")
    bench.fill(ours, bench.corpus, KEYS)
    shutil.copytree(ours, loop)
    process, _ = start_service(bench.service, ours)
    with process as service:
        put = ask(service.address, "PUT", f"{KEY}0", JSON, bench.document())
        expect(put.status == 200, f"the put answers {put.status}")
        check_answer(ask(service.address, "GET", f"{KEY}0"), {}, bench.document())
        sides = Sides(bench, service, loop)
        # In this order: a changed store has other documents than those that are put again.
        return [
            sides.row("durable put of what is there", ("--keys", str(KEYS)), False),
            sides.row("durable put of other content", ("--keys", str(KEYS), "--changed"), False),
            sides.row("durable put", (), True),
        ]


class Sides:
    """A service and a loop that put the same, on stores that are alike."""

    def __init__(self, bench: Bench, service: Process, loop_dir: Path) -> None:
        self.bench = bench
        self.service = service
        self.loop_dir = loop_dir
        self.used = {"service": 0, "loop": 0}

    def first(self, side: str) -> str:
        """Where a run begins: no other run comes so far."""
        self.used[side] += 1_000_000
        return str(self.used[side])

    def row(self, name: str, work: tuple[str, ...], is_target: bool) -> Row:
        bench, corpus, clients = self.bench, str(self.bench.corpus), self.bench.options.clients
        name = f"{name}, {len(bench.document()):,} B of JSON"

        def ours(seconds: float) -> Sample:
            options = ("--corpus", corpus, "--first", self.first("service"), *work)
            return run_work(bench.load, self.service, seconds, clients, "put", *options)

        def loop(seconds: float) -> Sample:
            options = ("--corpus", corpus, "--first", self.first("loop"), *work)
            return run_loop(bench.put_loop, "--data-dir", str(self.loop_dir), "--seconds", str(seconds),
                            "--clients", str(clients), *options)

        row = Versus(name, "in-process loop", least_ratio=0.7 if is_target else None)
        return bench.rounds(row, ours, loop, seconds=None if is_target else bench.brief)
