"""Generates load, and turns what the generators say into samples."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from processes import Headers, Process

SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: float
    """CPU time of what was measured, for each request."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Wrk:
    """How wrk is run."""

    threads: int
    clients: int

    def run(self, process: Process, path: str, seconds: float, headers: Headers, keys: int | None = None) -> Sample:
        """Load on one path, or on `keys` keys. Any answer but 2xx and 3xx is an error."""
        script = "report.lua" if keys is None else "keys.lua"
        command = ["wrk", f"-t{self.threads}", f"-c{self.clients}", f"-d{seconds:.0f}s", "-s", str(SCRIPTS / script)]
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
        return sample(report, process.cpu_seconds() - before)


def run_load(program: Path, process: Process, seconds: float, clients: int, *work: str) -> Sample:
    """Load from our own generator."""
    options = ["--address", process.address, "--seconds", str(seconds), "--clients", str(clients)]
    before = process.cpu_seconds()
    output = subprocess.run([program, *options, *work], check=True, capture_output=True, text=True).stdout
    return sample(json.loads(output), process.cpu_seconds() - before)


def run_loop(program: Path, *options: str | Path) -> Sample:
    """A program that is its own load. Its start and end are part of its CPU time."""
    child = subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{program} ended with {child.returncode}")
    return sample(json.loads(output), usage.ru_utime + usage.ru_stime)


def sample(report: dict[str, Any], cpu_seconds: float) -> Sample:
    return Sample(
        per_second=report["per_second"],
        p50_ms=report["p50_us"] / 1000,
        p99_ms=report["p99_us"] / 1000,
        p999_ms=report["p999_us"] / 1000,
        cpu_us=cpu_seconds * 1e6 / max(report["requests"], 1),
    )
