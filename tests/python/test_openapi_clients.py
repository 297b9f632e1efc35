"""The OpenAPI document in the hands of others: a linter, two generators of clients, and a browser that presses Execute."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, Service

DOCUMENT = ROOT / "docs" / "openapi.json"
SOURCES = ROOT / "tests" / "openapi"
TOOLS = ROOT / ".cache" / "openapi"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Runs a program that must succeed, and returns what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-8000:]}"
    return done.stdout


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A copy of tests/openapi with the tools beside it, for what is generated."""
    assert (TOOLS / "node_modules").is_dir(), "there are no tools: run scripts/fetch-openapi-tools"
    folder = tmp_path / "openapi"
    shutil.copytree(SOURCES, folder)
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    return folder


def test_the_linter_finds_nothing(workshop: Path) -> None:
    command = ["node_modules/.bin/redocly", "lint", DOCUMENT, "--config=redocly.yaml", "--format=stylish"]
    said = run(*command, cwd=workshop, REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    assert "Your API description is valid" in said


def test_a_generated_typescript_client(workshop: Path, service: Service) -> None:
    run("node_modules/.bin/openapi-typescript", DOCUMENT, "--output=api.d.ts", cwd=workshop)
    run("node_modules/.bin/tsc", cwd=workshop)
    run("node", "client.js", service.url, cwd=workshop)


def test_a_generated_go_client(workshop: Path, service: Service) -> None:
    folder = workshop / "go"
    (folder / "client").mkdir()
    run(TOOLS / "oapi-codegen", "-config", "oapi-codegen.yaml", DOCUMENT, cwd=folder)
    go = {"GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"}
    problem = json.loads(run(TOOLS / "go", "run", ".", service.url, cwd=folder, **go))
    assert problem["type"] == "urn:crawlcache:problem:result_not_found"


def test_execute_sends_what_the_page_shows(workshop: Path, service: Service) -> None:
    chromium = run(ROOT / "scripts" / "fetch-chromium", cwd=ROOT).splitlines()[-1]
    said = run("node", "docs_page.mjs", service.url, chromium, cwd=workshop)
    paths = json.loads(DOCUMENT.read_text())["paths"].values()
    operations = [operation for item in paths for operation in item.values()]
    expected = [each["operationId"] for each in operations if {"results", "sessions"} & set(each["tags"])]
    assert [line.split()[0] for line in said.splitlines()] == expected
    assert len(expected) > 25
