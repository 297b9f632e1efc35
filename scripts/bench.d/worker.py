"""A Python program that measures on request, so that it takes turns with what else is measured: see closed_loop.py for its side."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from load import Sample, sample
from processes import Process


class Worker(Process):
    """Starts `program`, which answers each line of JSON with one."""

    def __init__(self, python: Path, program: Path, *arguments: str | Path) -> None:
        command: list[str | Path] = [python, program, *arguments]
        # Nothing of the environment that it is started from: neither its proxies nor its credentials.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CRAWLCACHE_"))}
        environment = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        super().__init__(command, "", child)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *failure: Any) -> None:
        # It ends with its input.
        assert self.child.stdin is not None
        self.child.stdin.close()
        try:
            self.child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        if self.child.returncode:
            raise RuntimeError(f"{self.arguments[1]} ended with {self.child.returncode}: see above")

    def ask(self, work: str, **options: Any) -> dict[str, Any]:
        """Has a piece of work done, and waits for what it says."""
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(json.dumps({"work": work, **options}) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.arguments[1]} ended at {work}: see above")
        said: dict[str, Any] = json.loads(line)
        return said

    def measure(self, work: str, seconds: float, *behind: Process, **options: Any) -> Sample:
        """A round. Its CPU time is that of the program and of those behind it."""
        processes = (self, *behind)
        before = sum(process.cpu_seconds() for process in processes)
        report = self.ask(work, seconds=seconds, **options)
        return sample(report, sum(process.cpu_seconds() for process in processes) - before)
