"""The real Crawl4AI: its environment, made when it is first needed, and the program that drives its cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "python" / "requirements-crawl4ai.txt"
PROGRAM = ROOT / "tests" / "python" / "crawl4ai_program.py"
ENVIRONMENT = ROOT / ".cache" / "crawl4ai"


def python() -> Path:
    """An interpreter that has Crawl4AI: the one named by TEST_CRAWL4AI_PYTHON, or one below .cache."""
    if named := os.environ.get("TEST_CRAWL4AI_PYTHON"):
        return Path(named)
    done = ENVIRONMENT / "requirements.txt"
    if not done.exists() or done.read_bytes() != REQUIREMENTS.read_bytes():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        install = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(REQUIREMENTS)], check=True)
        shutil.copy(REQUIREMENTS, done)
    return ENVIRONMENT / "bin" / "python"


class Crawl4AI:
    """A cache of Crawl4AI below a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.cache = directory / ".crawl4ai"

    def command(self, *arguments: str) -> list[str]:
        return [str(python()), str(PROGRAM), str(self.directory), *arguments]

    def run(self, *arguments: str) -> str:
        """Runs the program to its end; what it wrote to standard output."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill(self, documents: list[dict[str, Any]]) -> None:
        """Stores documents with Crawl4AI's own manager."""
        file = self.directory / "documents.json"
        file.write_text(json.dumps(documents))
        self.run("fill", str(file))

    def upgrade(self) -> None:
        """Lets the real upgrade of Crawl4AI run, which puts hashes of hashes into every row."""
        self.run("upgrade")
