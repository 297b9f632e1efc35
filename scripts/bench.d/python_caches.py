"""Rows for a cache inside a Python process, requests-cache on SQLite, beside the service asked from Python and by wrk."""

from __future__ import annotations

from pathlib import Path

from bench import ZSTD, Bench
from environment import NotHere, python
from load import Wrk
from processes import start_service
from table import LeftOut, Row, Versus
from worker import Worker

PROGRAM = Path(__file__).with_name("python_caches_worker.py")
CLIENT = Path(__file__).resolve().parents[2] / "clients" / "python" / "src"
PAGES = 400
AT_ONCE = (1, 32)


def rows(bench: Bench) -> list[Row]:
    """A hit as a dictionary in the program's hands, one thread and many; and what wrk gets of the service meanwhile."""
    try:
        interpreter = python()
    except NotHere as why:
        return [LeftOut("a hit against requests-cache on SQLite", str(why))]
    folder = bench.data_dir("python-caches")
    folder.mkdir()
    service, _ = start_service(bench.service, folder / "crawlcache")
    made: list[Row] = []
    with service as running:
        bench.fill_over_http(running, PAGES)
        with Worker(interpreter, PROGRAM, f"http://{running.address}", folder / "requests-cache", CLIENT, str(PAGES)) as worker:
            worker.ask("fill")
            for at_once in AT_ONCE:
                wrk = Wrk(1, at_once)
                samples = bench.in_turn({
                    "client": lambda seconds: worker.measure("client", seconds, running, at_once=at_once),
                    "cache": lambda seconds: worker.measure("requests-cache", seconds, at_once=at_once),
                    "identity": lambda seconds: wrk.run(running, "/", seconds, {}, PAGES),
                    "zstd": lambda seconds: wrk.run(running, "/", seconds, ZSTD, PAGES),
                }, bench.brief)
                threads = f"{at_once} thread{'s' * (at_once > 1)}"
                against = f"requests-cache on SQLite, {threads}"
                made += [
                    Versus(name, against, ours=samples[side], reference=samples["cache"])
                    for name, side in (
                        (f"hit through the Python client, {threads}", "client"),
                        (f"hit, wrk, identity, {at_once} clients", "identity"),
                        (f"hit, wrk, zstd, {at_once} clients", "zstd"),
                    )
                ]
    return made
