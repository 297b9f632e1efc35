"""The Python environment of the rows that need packages: made in .cache/bench-python when its requirements change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".cache" / "bench-python"


class NotHere(Exception):
    """A Python environment cannot be made, and why."""


def python() -> Path:
    """An interpreter that has the packages of requirements.txt."""
    done = ENVIRONMENT / "requirements.txt"
    if not done.exists() or done.read_bytes() != REQUIREMENTS.read_bytes():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        run([sys.executable, "-m", "venv", ENVIRONMENT])
        run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS])
        shutil.copy(REQUIREMENTS, done)
    return ENVIRONMENT / "bin" / "python"


def run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotHere(f"the Python environment cannot be made: {said[-1] if said else command[0]}")
