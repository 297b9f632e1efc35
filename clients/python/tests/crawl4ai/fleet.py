"""Starts the processes of a fleet and collects what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("fleet_program.py")


class Fleet:
    """Processes that wait for their start."""

    def __init__(self, directory: Path, services: list[str], processes: int, **work: Any) -> None:
        import crawl4ai

        self.directory = directory
        self.children = []
        for number in range(processes):
            home = directory / f"home-{number}"
            home.mkdir()
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("CRAWLCACHE_")},
                "HOME": str(home),
                "CRAWL4_AI_BASE_DIRECTORY": str(home),
                "PYTHONPATH": str(Path(crawl4ai.__file__).parents[1]),
            }
            child = subprocess.Popen(
                [sys.executable, str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(directory / f"log-{number}").open("w"),
                text=True,
                env=environment,
            )
            self._send(child, json.dumps({"service": services[number % len(services)], "process": number, **work}))
            self.children.append(child)
        for number, child in enumerate(self.children):
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "ready", (directory / f"log-{number}").read_text()

    @staticmethod
    def _send(child: Any, line: str) -> None:
        child.stdin.write(f"{line}\n")
        child.stdin.flush()

    def begin(self) -> None:
        """Lets all crawl."""
        for child in self.children:
            self._send(child, "go")

    def end(self, seconds: float = 300) -> tuple[int, dict[str, Counter[str]]]:
        """Waits for all; how many runs failed, and the counts of all together."""
        failed, metrics = 0, {}
        for number, child in enumerate(self.children):
            output, _ = child.communicate(timeout=seconds)
            assert child.returncode == 0, (self.directory / f"log-{number}").read_text()
            said = json.loads(output.splitlines()[-1])
            failed += said["failed"]
            assert not said["failed"], said["failures"]
            for series, counts in said["metrics"].items():
                metrics.setdefault(series, Counter()).update(counts)
        assert not list(self.directory.rglob("crawl4ai.db*"))
        return failed, metrics
