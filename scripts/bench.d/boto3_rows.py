"""Rows for DynamoDB asked from Python: by boto3 itself, and through the service by urllib3."""

from __future__ import annotations

import itertools
from pathlib import Path

from bench import Bench
from dynamodb import dynamodb_local, settings
from environment import NotHere, python
from load import Sample
from processes import Process, start_service
from table import LeftOut, Row, Versus
from worker import Worker

PROGRAM = Path(__file__).with_name("boto3_worker.py")
KEYS = 400
AT_ONCE = (1, 32)


def rows(bench: Bench) -> list[Row]:
    """Gets and puts of the same documents in the same Python loop; the service has no memory tier."""
    try:
        interpreter = python()
    except NotHere as why:
        return [LeftOut("DynamoDB from Python, against boto3", str(why))]
    with dynamodb_local() as endpoint:
        process, _ = start_service(bench.service, bench.data_dir("boto3"), settings(endpoint, "boto3-"))
        with process as service, Worker(
            interpreter, PROGRAM, f"http://{service.address}", endpoint, bench.corpus, str(KEYS)
        ) as worker:
            worker.ask("fill")
            return [row for at_once in AT_ONCE for row in rows_at_once(bench, service, worker, at_once)]


def rows_at_once(bench: Bench, service: Process, worker: Worker, at_once: int) -> list[Row]:
    fresh = itertools.count(at_once * 1_000_000_000, 1_000_000)

    def put(work: str, seconds: float, *behind: Process) -> Sample:
        # Every key is new, on either side.
        return worker.measure(work, seconds, *behind, at_once=at_once, first=next(fresh))

    samples = bench.in_turn({
        "get": lambda seconds: worker.measure("get_result", seconds, service, at_once=at_once),
        "get_item": lambda seconds: worker.measure("get_item", seconds, at_once=at_once),
        "put": lambda seconds: put("put_result", seconds, service),
        "put_item": lambda seconds: put("put_item", seconds),
    }, bench.brief)
    threads = f"{at_once} thread{'s' * (at_once > 1)}"
    return [
        Versus(f"DynamoDB {name} from Python, {threads}", f"boto3 {name}_item", ours=samples[name], reference=samples[f"{name}_item"])
        for name in ("get", "put")
    ]
