"""Rows for sessions: made, read, changed and kept alive."""

from __future__ import annotations

import json

from bench import JSON, Bench, expect
from load import Sample, run_work
from processes import ask, start_service
from table import Alone, Row

SESSIONS = 2000


def rows(bench: Bench) -> list[Row]:
    """On the embedded store; every change is durable when it is answered."""
    process, _ = start_service(bench.service, bench.data_dir("sessions"))
    with process as service:
        for number in range(SESSIONS):
            body = json.dumps({"id": f"bench-{number}", "project_id": "bench", "user_metadata": {"job": number}}).encode()
            made = ask(service.address, "POST", "/v1/sessions", JSON, body)
            expect(made.status == 201, f"a session answers {made.status}")
        changed = ask(service.address, "PATCH", "/v1/sessions/bench-0", JSON, b'{"user_metadata":{"step":1}}')
        expect(json.loads(changed.body)["user_metadata"] == {"job": 0, "step": 1}, "the change is not a merge")
        used = {"number": 0}

        def run(action: str, seconds: float) -> Sample:
            # A creation needs a number that no other run comes to; a change another value.
            used["number"] += 1_000_000
            work = ("sessions", action, "--sessions", str(SESSIONS), "--first", str(used["number"]))
            return run_work(bench.load, service, seconds, bench.options.clients, *work)

        return [bench.alone(Alone(f"session {action}"), lambda seconds, action=action: run(action, seconds))
                for action in ("get", "create", "patch", "touch")]
