"""The tour in the README is run, and its output is what the service really says.

`UPDATE_DOCUMENTS=1` writes the output anew.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from conftest import ROOT, Service

README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)

# What differs from run to run.
VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]+\b"), "REQUEST"),
    (re.compile(r"(ttl=|\"ttl\":|\"age\":|age: )\d+"), r"\1N"),
    (re.compile(r"(\"version\":\")[0-9a-f]+"), r"\1V"),
    (re.compile(r"(\"token\":\")[0-9a-f]{64}"), r"\1T"),
    (re.compile(r"detail=(sqlite|memory)"), "detail=SOURCE"),
]


def normal(text: str) -> str:
    """The text with everything that varies replaced."""
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text.strip()


def run(command: str, service: Service) -> str:
    """Runs one line of the tour against the service of this test."""
    command = command.replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    output = done.stdout.replace("\r", "").replace(service.url, "http://127.0.0.1:8080").rstrip("\n")
    return f"{output}\n" if output else ""


def test_the_tour_shows_what_the_service_says(service: Service) -> None:
    readme = README.read_text()
    rewritten = readme
    commands = 0
    for block in BLOCK.findall(readme):
        lines = [line for line in block.splitlines() if line.startswith("$ ")]
        commands += len(lines)
        real = "".join(f"{line}\n{run(line[2:], service)}" for line in lines)
        if normal(real) != normal(block):
            assert os.environ.get("UPDATE_DOCUMENTS"), f"the README says\n{block}\nbut it is\n{real}"
            rewritten = rewritten.replace(block, real)
    assert commands >= 10
    if rewritten != readme:
        README.write_text(rewritten)
