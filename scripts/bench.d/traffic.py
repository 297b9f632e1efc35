"""Runs the generator of mixed work, and says what came of it and what it cost the service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from load import Sample, sample
from processes import Process, ask

Interval = dict[str, Any]


class Traffic:
    """The generator, over the entries of one store."""

    def __init__(self, program: Path, service: Process, *options: str | Path | int) -> None:
        self.service = service
        self.command = [str(part) for part in (program, "--address", service.address, *options)]

    def closed(self, operation: str, seconds: float, *options: str | int) -> Sample:
        """One operation as fast as answers come."""
        before = self.service.cpu_seconds()
        line = list(self.lines("--mix", operation, "--seconds", seconds, *options))[-1]
        report = line["operations"][operation]
        report["per_second"] = report["requests"] / line["at"]
        return sample(report, self.service.cpu_seconds() - before)

    def lines(self, *options: str | int | float) -> Iterator[Interval]:
        """The report, interval by interval as it comes."""
        child = subprocess.Popen([*self.command, *map(str, options)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        try:
            for line in child.stdout:
                yield json.loads(line)
        except BaseException:
            # Whoever asked needs no more.
            child.kill()
            raise
        finally:
            child.stdout.close()
            ended = child.wait()
        if ended:
            raise RuntimeError(f"{' '.join(self.command[:3])} ended with {ended}")


def counter(service: Process, series: str) -> float:
    """The value of a series of /metrics."""
    for line in ask(service.address, "GET", "/metrics").body.decode().splitlines():
        if line.startswith(f"crawlcache_{series} "):
            return float(line.split()[-1])
    raise RuntimeError(f"there is no series {series}")
