"""Rows for routing: what it adds to hits and puts, and what a cut DynamoDB does to hits."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from typing import Any

from bench import ZSTD
from dynamodb import dynamodb_local
from load import run_load
from processes import Headers, ask, start_service
from table import Bound, Row, Versus

KEYS = 2000
KEY = "/v1/result?url=https://bench.example/page/"


class Cuttable:
    """A TCP proxy in front of DynamoDB that can be cut."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").rstrip("/").partition(":")
        self.upstream = (host, int(port))
        self.is_cut = False
        self.open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Closes what is open, and everything that comes."""
        self.is_cut = True
        for stream in self.open:
            stream.close()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if self.is_cut:
                client.close()
                continue
            server = socket.create_connection(self.upstream)
            self.open += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
        except OSError:
            pass
        finally:
            one.close()
            other.close()


def settings(endpoint: str, prefix: str, percent: float, dual: bool) -> Headers:
    """A service over both stores."""
    return {
        "CRAWLCACHE_STORE__BACKEND": "routed",
        "CRAWLCACHE_DYNAMODB__ENDPOINT": endpoint,
        "CRAWLCACHE_DYNAMODB__TABLE_PREFIX": prefix,
        "CRAWLCACHE_DYNAMODB__CREATE_TABLES": "true",
        "CRAWLCACHE_ROUTING__PERCENT": str(percent),
        "CRAWLCACHE_ROUTING__DUAL_WRITE": str(dual).lower(),
    }


def rows(bench: Any) -> list[Row]:
    """Everything, on one DynamoDB Local."""
    with dynamodb_local() as endpoint:
        return [*hits(bench, endpoint), *puts(bench, endpoint), *outage(bench, endpoint)]


def hits(bench: Any, endpoint: str) -> list[Row]:
    """The same keys with and without a router, from memory and from SQLite."""
    table: list[Row] = []
    plain_dir, routed_dir = bench.scratch / "hits-plain", bench.scratch / "hits-routed"
    bench.fill(plain_dir, bench.corpus, KEYS)
    shutil.copytree(plain_dir, routed_dir)
    for name, memory in (("memory", {}), ("SQLite", {"CRAWLCACHE_MEMORY__BYTES": "0"})):
        plain, _ = start_service(bench.service, plain_dir, memory)
        routed, _ = start_service(bench.service, routed_dir, {**settings(endpoint, "hits-", 0, False), **memory})
        with plain, routed:
            for process in (plain, routed):
                for number in range(KEYS):
                    ask(process.address, "GET", f"{KEY}{number}", ZSTD)
                detail = ask(process.address, "GET", f"{KEY}0", ZSTD).header("cache-status") or ""
                if f"detail={name.lower()}" not in detail:
                    raise SystemExit(f"bench: the hit is not from {name}: {detail}")
            run = lambda process: lambda seconds: bench.wrk.run(process, "/", seconds, ZSTD, KEYS)  # noqa: E731
            table.append(bench.rounds(
                Versus(f"{name} hit with a router", "without", least_ratio=0.98), run(routed), run(plain)))
    return table


def puts(bench: Any, endpoint: str) -> list[Row]:
    """Puts with and without a second side."""
    table: list[Row] = []
    corpus, used = str(bench.corpus), {"number": 0}

    def fresh() -> str:
        used["number"] += 1_000_000
        return str(used["number"])

    for owner, percent in (("SQLite", 0.0), ("DynamoDB", 100.0)):
        both, _ = start_service(
            bench.service, bench.scratch / f"both-{owner}", settings(endpoint, f"both-{owner}-", percent, True))
        one, _ = start_service(
            bench.service, bench.scratch / f"one-{owner}", settings(endpoint, f"one-{owner}-", percent, False))
        with both, one:
            run = lambda process: lambda seconds: run_load(  # noqa: E731
                bench.load, process, seconds, bench.options.clients, "put", "--corpus", corpus, "--first", fresh())
            table.append(bench.rounds(
                Versus(f"put to both, {owner} owns", "to the owner alone", least_ratio=0.87), run(both), run(one)))
    return table


def outage(bench: Any, endpoint: str) -> list[Row]:
    """Hits of both owners before and after DynamoDB is cut off, with a copy of everything in SQLite."""
    proxy = Cuttable(endpoint)
    process, _ = start_service(bench.service, bench.scratch / "outage", {
        **settings(proxy.url, "outage-", 50.0, True), "CRAWLCACHE_MEMORY__BYTES": "0"})
    with process as service:
        bench.fill_over_http(service, KEYS)
        run = lambda: bench.wrk.run(service, "/", bench.options.seconds, ZSTD, KEYS)  # noqa: E731
        run()
        before = [run() for _ in range(bench.options.rounds)]
        proxy.cut()
        after = [run() for _ in range(bench.options.rounds)]
        state = json.loads(ask(service.address, "GET", "/health").body)["status"]
        if state != "degraded":
            raise SystemExit(f"bench: DynamoDB is cut off, and the service says {state}")
    ratios = [late.p99_ms / early.p99_ms for early, late in zip(before, after)]
    return [
        Bound("p99 of hits of both owners", "ms", [sample.p99_ms for sample in before], float("inf")),
        Bound("p99 of the same, DynamoDB cut", "ms", [sample.p99_ms for sample in after], float("inf")),
        Bound("p99 of hits, DynamoDB cut over normal", "×", ratios, 2.0),
    ]
