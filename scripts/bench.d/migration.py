"""Rows for migration: how fast results go from SQLite to DynamoDB, against the bare SDK's `BatchWriteItem`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from dynamodb import dynamodb_local
from table import AtLeast, Row

# Enough for seconds, and few enough that a DynamoDB Local in memory holds them all.
RESULTS = 20_000
BARE = re.compile(r"([\d.]+) s, (\d+) a second")


def rows(bench: Any) -> list[Row]:
    """The same results into fresh tables of the same schema, by turns."""
    data_dir = bench.scratch / "migration"
    bench.fill(data_dir, bench.small_corpus, RESULTS)
    bare, alone, beside = [], [], []
    with dynamodb_local() as endpoint:
        tables = Tables(bench.service, endpoint)
        for _ in range(bench.options.rounds):
            bare.append(tables.bare(bench.loop_of("batch_write_loop"), bench.small_corpus))
            alone.append(tables.migrate(data_dir, "--exclusive"))
            beside.append(tables.migrate(data_dir))
    row = lambda name, rates, least: AtLeast(  # noqa: E731
        name, [rate / reference for rate, reference in zip(rates, bare)], least,
        f"{min(rates):,.0f}–{max(rates):,.0f}/s of {min(bare):,.0f}–{max(bare):,.0f}/s")
    return [
        row("migration over BatchWriteItem, nobody else writes", alone, 0.8),
        # Each insertion carries its condition; DynamoDB Local looks the table up for each of them.
        row("migration over BatchWriteItem, beside a service", beside, 0.3),
    ]


class Tables:
    """Tables that are made anew for each run."""

    def __init__(self, service: Path, endpoint: str) -> None:
        self.service = service
        self.endpoint = endpoint
        self.environment = {
            **os.environ,
            "CRAWLCACHE_DYNAMODB__ENDPOINT": endpoint,
            "CRAWLCACHE_DYNAMODB__TABLE_PREFIX": "migration-",
        }

    def crawlcache(self, *arguments: str) -> str:
        command = [str(self.service), *arguments]
        ended = subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True)
        return ended.stdout

    def fresh(self) -> None:
        self.crawlcache("tables", "create")
        self.crawlcache("tables", "delete", "--yes")
        self.crawlcache("tables", "create")

    def bare(self, loop: Path, corpus: Path) -> float:
        """Results a second of the bare SDK."""
        self.fresh()
        table = json.loads(self.crawlcache("tables", "describe", "--json"))[0]["name"]
        command = [str(loop), "--endpoint", self.endpoint, "--table", table, "--corpus", str(corpus)]
        command += ["--items", str(RESULTS), "--clients", "16", "batch-write"]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        found = BARE.search(ended.stdout)
        if not found:
            raise RuntimeError(f"the bare loop says nothing: {ended.stdout}")
        return float(found.group(2))

    def migrate(self, data_dir: Path, *options: str) -> float:
        """Results a second of a migration, the start of the process and all checkpoints included."""
        self.fresh()
        report = json.loads(self.crawlcache(
            "migrate", "--offline", "--data-dir", str(data_dir), "--restart", "--json", *options))
        if report["counts"] != {"copied": RESULTS}:
            raise SystemExit(f"bench: the migration came to {report['counts']}")
        return report["done"] / report["seconds"]
