"""Rows for the Crawl4AI drop-in: the coroutines of Crawl4AI's cache, answered by its own manager and by the service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from footprint import disk_bytes
from processes import start_service
from table import AtLeast, Bound, Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from crawl4ai_cache import ENVIRONMENT, python  # noqa: E402

# What the drop-in needs beside the real Crawl4AI.
REQUIREMENTS = ROOT / "clients" / "python" / "tests" / "crawl4ai" / "requirements.txt"
PROGRAM = Path(__file__).with_name("crawl4ai_client_program.py")
PAGES = 400
# How many times as many a second as Crawl4AI's own, and how many times as short the 99th percentile is to be, at least.
NAMES = {
    "read_1": ("drop-in, hit, 1 task", 1.0, 1.0),
    "read_32": ("drop-in, hit, 32 tasks", 1.5, 1.0),
    "write_1": ("drop-in, write, 1 task", 1.0, 1.0),
    "write_32": ("drop-in, write, 32 tasks", 1.0, 0.5),
}
BYTES = range(145_000, 155_001)
LEAST_SMALLER = 5.0
MOST_OVERHEAD_MS = 1.0


def interpreter() -> Path:
    """One that has Crawl4AI and what the drop-in needs, as scripts/test-crawl4ai makes it."""
    found = python()
    done = ENVIRONMENT / "requirements-drop-in.txt"
    if found.is_relative_to(ENVIRONMENT) and (not done.exists() or done.read_bytes() != REQUIREMENTS.read_bytes()):
        install = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(REQUIREMENTS)], check=True)
        shutil.copy(REQUIREMENTS, done)
    return found


def rows(bench: Any) -> list[Row]:
    """In one process, by turns: the same pages through Crawl4AI's manager and through the drop-in."""
    data = bench.scratch / "crawl4ai-client"
    service, _ = start_service(bench.service, data)
    own = bench.scratch / "crawl4ai-own"
    own.mkdir()
    with service as running:
        command = [str(interpreter()), str(PROGRAM), str(own), f"http://{running.address}", str(bench.corpus), str(PAGES), str(bench.options.rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
    said = json.loads(done.stdout.splitlines()[-1])
    made: list[Row] = []
    for name, (title, least, least_p99) in NAMES.items():
        pairs = [(each["drop_in"][name], each["own"][name]) for each in said["rounds"]]
        for measure, unit, wanted in (("per_second", "/s", least), ("p99_ms", " ms", least_p99)):
            ours, theirs = ([pair[side][measure] for pair in pairs] for side in (0, 1))
            ratios = [one / other if measure == "per_second" else other / one for one, other in zip(ours, theirs)]
            detail = f"{median(ours):,.1f}{unit} to {median(theirs):,.1f}{unit}"
            made.append(AtLeast(title if measure == "per_second" else f"{title}, p99", ratios, wanted, detail))
    ours, theirs = disk_bytes(data), said["own_bytes"]
    stored = PAGES * bench.options.rounds
    made.append(AtLeast("drop-in, bytes on disk a page", [theirs / ours], LEAST_SMALLER, f"{ours / stored / 1000:.1f} kB to {theirs / stored / 1000:.1f} kB"))
    over = said["overhead"]
    if over["bytes"] not in BYTES:
        raise RuntimeError(f"the document of the overhead has {over['bytes']} bytes")
    made.append(Bound(f"drop-in, hit of {over['bytes'] / 1000:.0f} kB beyond its HTTP call", "ms", [over["drop_in"] - over["http"]], MOST_OVERHEAD_MS))
    return made
