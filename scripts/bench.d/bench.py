"""What every row works with: the programs, a scratch directory, how long to measure, and how rounds take turns."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Callable

from bodies import Bodies
from load import Sample, Wrk, run_loop
from processes import Process, ask
from table import Alone, Versus

KEY = "/v1/result?url=https://bench.example/page/"
ZSTD = {"Accept-Encoding": "zstd"}
JSON = {"Content-Type": "application/json"}


class Bench:
    """The programs, a scratch directory, and how long to measure."""

    def __init__(self, options: argparse.Namespace, programs: Path, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self.wrk = Wrk(options.threads, options.clients)
        self.service = programs / "crawlcache"
        self.bare = programs / "examples" / "bare_hyper"
        self.load = programs / "examples" / "load"
        self.put_loop = programs / "examples" / "put_loop"
        self.bodies = Bodies(programs / "examples" / "make_corpus", scratch)
        self.brief = min(options.seconds, 1.0)
        """How long a round of a row takes that has no target of its own."""
        self._numbers = itertools.count()

    @property
    def corpus(self) -> Path:
        """Documents of 150 KB of JSON."""
        return self.bodies.of_json(150_000)

    @property
    def small_corpus(self) -> Path:
        """Documents of 4 KB stored."""
        return self.bodies.stored(4000, 64)

    def document(self) -> bytes:
        return (self.corpus / "0000.json").read_bytes()

    def data_dir(self, name: str) -> Path:
        """A new place for a data directory."""
        return self.scratch / f"{name}-{next(self._numbers)}"

    def fill(self, data_dir: Path, corpus: Path, entries: int) -> None:
        run_loop(self.put_loop, "--data-dir", data_dir, "--corpus", corpus, "--entries", str(entries))

    def large_store(self) -> Path:
        """The data directory of a store with `options.entries` small results. Nobody may change it."""
        data_dir = self.scratch / "large"
        if not data_dir.exists():
            self.fill(data_dir, self.small_corpus, self.options.entries)
        return data_dir

    def loop_of(self, name: str) -> Path:
        """A program of `examples`."""
        return self.load.with_name(name)

    def fill_over_http(self, service: Process, entries: int) -> None:
        """Puts the corpus under the first `entries` keys."""
        documents = [path.read_bytes() for path in sorted(self.corpus.iterdir())]
        for number in range(entries):
            put = ask(service.address, "PUT", f"{KEY}{number}", JSON, documents[number % len(documents)])
            expect(put.status in (200, 201), f"the put of entry {number} answers {put.status}")

    def rounds(
        self, row: Versus, ours: Callable[[float], Sample], reference: Callable[[float], Sample],
        seconds: float | None = None,
    ) -> Versus:
        """Runs both sides in turn, after a warm-up of each."""
        seconds = seconds or self.options.seconds
        warm_up = min(seconds, 1.0)
        ours(warm_up)
        reference(warm_up)
        for _ in range(self.options.rounds):
            row.ours.append(ours(seconds))
            row.reference.append(reference(seconds))
        return row

    def alone(self, row: Alone, ours: Callable[[float], Sample]) -> Alone:
        """Runs brief rounds, after a warm-up."""
        ours(self.brief)
        row.ours += [ours(self.brief) for _ in range(self.options.rounds)]
        return row

    def in_turn(self, sides: dict[str, Callable[[float], Sample]], seconds: float) -> dict[str, list[Sample]]:
        """Runs any number of sides in turn, round by round, after a warm-up of each."""
        for run in sides.values():
            run(min(seconds, 1.0))
        samples: dict[str, list[Sample]] = {name: [] for name in sides}
        for _ in range(self.options.rounds):
            for name, run in sides.items():
                samples[name].append(run(seconds))
        return samples


def expect(condition: bool, what: str) -> None:
    """Stops before anything wrong is measured."""
    if not condition:
        raise SystemExit(f"bench: not what it should be: {what}")
