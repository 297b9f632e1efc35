"""What a type checker makes of programs that use the client as docs/python.md shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
PROGRAM = """
from typing_extensions import assert_type

from crawlcache import AsyncClient, Client, Fresh, Held, Hit, Miss, NotModified, Quality, Rejected, Tried, Won


def asks(client: Client, quality: Quality, etag: str | None) -> str:
    hit = client.get("https://a.example/", quality=quality)
    assert_type(hit, Hit | Miss)
    if not hit:
        return hit.reason
    assert_type(hit, Hit)
    again = client.get("https://a.example/", etag=hit.etag)
    assert_type(again, Hit | Miss | NotModified)
    if again:
        assert_type(again, Hit | NotModified)
    assert_type(client.get("https://a.example/", etag=etag), Hit | Miss | NotModified)
    for outcome in client.batch_get(["https://a.example/"], quality="good"):
        if outcome:
            print(outcome.document)
        else:
            assert_type(outcome, Miss | Rejected)
    won = client.acquire("https://a.example/", quality="best")
    if won:
        assert_type(won, Won)
    else:
        assert_type(won, Held | Fresh | Tried)
    return str(hit.document["html"])


async def asks_too(client: AsyncClient) -> None:
    hit = await client.get("https://a.example/", quality="failed")
    assert_type(hit, Hit | Miss)
    if hit:
        print(hit.document)
    again = await client.get("https://a.example/", etag="x")
    assert_type(again, Hit | Miss | NotModified)
"""


def checked(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    file = directory / "program.py"
    file.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir", str(directory)]
    environment = {**os.environ, "MYPYPATH": str(SOURCES)}
    return subprocess.run([*command, str(file)], cwd=directory, env=environment, capture_output=True, text=True)


def test_answers_are_told_apart_by_their_truth(tmp_path: Path) -> None:
    done = checked(tmp_path, PROGRAM)
    assert done.returncode == 0, done.stdout + done.stderr
    # And the checker sees what is wrong.
    wrong = checked(tmp_path, PROGRAM.replace('quality="failed"', 'quality="bad"'))
    assert 'No overload variant of "get"' in wrong.stdout
