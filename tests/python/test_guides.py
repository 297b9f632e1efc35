"""Every example of the guides is run against a real service, and shows what really comes out.

`UPDATE_DOCUMENTS=1` writes the output anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Service
from test_readme import BLOCK, normal

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
ANOTHER = "@@ another command @@"

# What differs from run to run, beside what does in the README.
TOKEN = re.compile(r"\b[0-9a-f]{64}\b")
WAIT = re.compile(r"(retry-after: |\"retry_after\":|ttl=)-?\d+")


def settled(text: str) -> str:
    """The text with everything that varies replaced."""
    return WAIT.sub(r"\1N", TOKEN.sub("TOKEN", normal(text)))


def compare(page: Path, pairs: list[tuple[str, str]]) -> None:
    """Compares what the page shows with what came out, or writes the latter into it."""
    text = page.read_text()
    for shown, real in pairs:
        if settled(shown) != settled(real):
            assert os.environ.get("UPDATE_DOCUMENTS"), f"{page.name} says\n{shown}\nbut it is\n{real}"
            assert text.count(shown) == 1 or not shown.strip(), shown
            text = text.replace(shown, real, 1)
    page.write_text(text)


def test_the_life_of_a_result_with_curl(service: Service, tmp_path: Path) -> None:
    page = ROOT / "docs" / "curl.md"
    text = page.read_text()
    assert {kind for kind, _ in FENCE.findall(text)} == {"console"}
    blocks = BLOCK.findall(text)
    commands = [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in blocks]
    assert sum(map(len, commands)) >= 25
    # One shell runs all, since later commands use what earlier ones have found out.
    script = "\n".join(f"{command}\necho '{ANOTHER}'" for block in commands for command in block)
    script = script.replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=True)
    assert done.stderr == ""
    outputs = iter(done.stdout.replace("\r", "").replace(service.url, "http://127.0.0.1:8080").split(f"{ANOTHER}\n"))
    real = []
    for block in commands:
        lines = []
        for command in block:
            output = next(outputs).strip("\n")
            lines.append(f"$ {command}\n" + (f"{output}\n" if output else ""))
        real.append("".join(lines))
    compare(page, list(zip(blocks, real, strict=True)))


def test_the_guide_for_python(service: Service, tmp_path: Path) -> None:
    page = ROOT / "docs" / "python.md"
    fences = FENCE.findall(page.read_text())
    assert {kind for kind, _ in fences} == {"sh", "python", "text"}
    code = [(kind, body) for kind, body in fences if kind != "sh"]
    # Each program is followed by what it prints.
    assert [kind for kind, _ in code] == ["python", "text"] * (len(code) // 2)
    programs = [body for kind, body in code if kind == "python"]
    assert len(programs) >= 10
    program = f"\nprint({ANOTHER!r})\n".join(programs)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "CRAWLCACHE_URL": service.url, "CRAWLCACHE_TOKEN": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = [body for kind, body in code if kind == "text"]
    real = [output.lstrip("\n") for output in done.stdout.split(f"{ANOTHER}\n")]
    # The place of an output is after its program: an empty one is not unique by itself.
    pairs = [
        (f"{source}```\n\n```text\n{old}```", f"{source}```\n\n```text\n{new}```")
        for source, old, new in zip(programs, shown, real, strict=True)
    ]
    compare(page, pairs)


@pytest.mark.parametrize(
    "command",
    [
        body.strip()
        for kind, body in FENCE.findall((ROOT / "docs" / "python.md").read_text())
        if kind == "sh"
    ],
)
def test_the_package_installs_as_the_guide_says(command: str, tmp_path: Path) -> None:
    assert command.startswith("pip install ")
    pip = f"'{sys.executable}' -m pip install --quiet --disable-pip-version-check --target '{tmp_path}' "
    subprocess.run(["bash", "-c", command.replace("pip install ", pip)], cwd=ROOT, timeout=300, check=True)
    look = "import crawlcache, sys; print(crawlcache.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", look], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.startswith(str(tmp_path))
    assert (tmp_path / "crawlcache" / "py.typed").exists()
    assert (tmp_path / "orjson").exists() == ("fast" in command)
