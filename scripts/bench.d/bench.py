"""What every row works with: the programs, a scratch directory, how long to measure, and how rounds take turns."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Callable

from load import Sample, Wrk, run_loop
from processes import Process, ask
from table import Versus

KEY = "/v1/result?url=https://bench.example/page/"
ZSTD = {"Accept-Encoding": "zstd"}


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
        self.corpus = scratch / "corpus"
        self.small_corpus = scratch / "small-corpus"
        make_corpus = programs / "examples" / "make_corpus"
        subprocess.run([make_corpus, self.corpus, "--bytes", "150000"], check=True)
        subprocess.run([make_corpus, self.small_corpus, "--bytes", "4000", "--stored"], check=True)

    def document(self) -> bytes:
        return (self.corpus / "0000.json").read_bytes()

    def fill(self, data_dir: Path, corpus: Path, entries: int) -> None:
        run_loop(self.put_loop, "--data-dir", data_dir, "--corpus", corpus, "--entries", str(entries))

    def loop_of(self, name: str) -> Path:
        """A program of `examples`."""
        return self.load.with_name(name)

    def fill_over_http(self, service: Process, entries: int) -> None:
        """Puts the corpus under the first `entries` keys."""
        documents = [path.read_bytes() for path in sorted(self.corpus.iterdir())]
        for number in range(entries):
            put = ask(service.address, "PUT", f"{KEY}{number}", {"Content-Type": "application/json"},
                      documents[number % len(documents)])
            expect(put.status in (200, 201), f"the put of entry {number} answers {put.status}")

    def rounds(self, row: Versus, ours: Callable[[float], Sample], reference: Callable[[float], Sample]) -> Versus:
        """Runs both sides in turn, after a warm-up of each."""
        ours(1.0)
        reference(1.0)
        for _ in range(self.options.rounds):
            row.ours.append(ours(self.options.seconds))
            row.reference.append(reference(self.options.seconds))
        return row


def expect(condition: bool, what: str) -> None:
    """Stops before anything wrong is measured."""
    if not condition:
        raise SystemExit(f"bench: not what it should be: {what}")
