"""Generates load, and turns what the generators say into samples."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from processes import TICKS_PER_SECOND, Headers, Process

SCRIPTS = Path(__file__).parent
# What an answer may have beside its body.
MOST_HEAD_BYTES = 1500


@dataclass(frozen=True)
class Sample:
    """One round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: float
    """CPU time of what was measured, for each request."""

    def times(self, operations: int) -> Sample:
        """The same for each of so many operations in one request; latencies stay those of the request."""
        return replace(self, per_second=self.per_second * operations, cpu_us=self.cpu_us / operations)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Wrk:
    """How wrk is run."""

    threads: int
    clients: int

    def run(
        self, process: Process, path: str, seconds: float, headers: Headers, keys: int | None = None,
        body_bytes: int | None = None,
    ) -> Sample:
        """Load on one path, or on `keys` keys. Any answer but 2xx and 3xx is an error, and so are bodies that are
        not of `body_bytes` on average."""
        script = "report.lua" if keys is None else "keys.lua"
        command = ["wrk", f"-t{self.threads}", f"-c{self.clients}", f"-d{max(seconds, 1):.0f}s", "-s", str(SCRIPTS / script)]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        command.append(f"http://{process.address}{path}")
        if keys is not None:
            command += ["--", str(keys)]
        before = process.cpu_seconds()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        report = json.loads(output.splitlines()[-1])
        if report["failed"]:
            raise RuntimeError(f"{report['failed']} requests failed: {output}")
        mean = report["bytes"] / max(report["requests"], 1)
        # Of requests under way at the end a part has been counted.
        if body_bytes is not None and not body_bytes < mean < (body_bytes + MOST_HEAD_BYTES) * 1.1:
            raise RuntimeError(f"answers have {mean:.0f} bytes on average, and their bodies should have {body_bytes}")
        return sample(report, process.cpu_seconds() - before)


def run_load(program: Path, process: Process, seconds: float, clients: int, *work: str) -> Sample:
    """Load from a generator of our own that asks for nothing beforehand."""
    before = process.cpu_seconds()
    report = generate(program, process, seconds, clients, *work)
    return sample(report, process.cpu_seconds() - before)


def run_work(program: Path, process: Process, seconds: float, clients: int, *work: str) -> Sample:
    """Load from examples/load."""
    return run_works(program, process, seconds, clients, *work)[0]


def run_works(program: Path, process: Process, seconds: float, clients: int, *work: str) -> tuple[Sample, dict[str, Sample]]:
    """The same, and what came of each sort of request in it, whose CPU time is not known."""
    # The generator itself looks at the CPU time: what it asks for before the load does not count.
    report = generate(program, process, seconds, clients, "--pid", str(process.child.pid), *work)
    parts = {name: sample(part, 0.0) for name, part in report.get("parts", {}).items()}
    return sample(report, report["cpu_ticks"] / TICKS_PER_SECOND), parts


def generate(program: Path, process: Process, seconds: float, clients: int, *work: str) -> dict[str, Any]:
    """What a generator reports."""
    options = ["--address", process.address, "--seconds", str(seconds), "--clients", str(clients)]
    ended = subprocess.run([program, *options, *work], capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{program.name} {' '.join(work)[:300]}: {ended.stderr}")
    return json.loads(ended.stdout)


def run_loop(program: Path, *options: str | Path) -> Sample:
    """A program that is its own load, and says which CPU time that took; else its start and end are part of it."""
    child = subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{program} ended with {child.returncode}")
    report = json.loads(output)
    spent = report["cpu_ticks"] / TICKS_PER_SECOND if "cpu_ticks" in report else usage.ru_utime + usage.ru_stime
    return sample(report, spent)


def sample(report: dict[str, Any], cpu_seconds: float) -> Sample:
    return Sample(
        per_second=report["per_second"],
        p50_ms=report["p50_us"] / 1000,
        p99_ms=report["p99_us"] / 1000,
        p999_ms=report["p999_us"] / 1000,
        cpu_us=cpu_seconds * 1e6 / max(report["requests"], 1),
    )
