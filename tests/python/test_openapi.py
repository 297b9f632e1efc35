"""Schemathesis against the OpenAPI document: no 5xx, and no answer that the document does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import requests

from conftest import Service

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def test_every_answer_is_documented(tmp_path: Path) -> None:
    # Schemathesis gives up on an answer after ten seconds: it must not wait longer for leases that it has itself.
    service = Service(tmp_path / "data", CRAWLCACHE_LEASES__MAX_WAIT_SECONDS="1")
    service.start()
    try:
        for url in ["https://example.com/", "https://example.com/a"]:
            document = {"url": url, "html": "<p>text</p>", "markdown": "text", "screenshot": "iVBORw0KGgo=", "pdf": "JVBERi0="}
            stored = requests.put(f"{service.url}/v1/result", params={"url": url}, json=document, timeout=10)
            stored.raise_for_status()
        run_schemathesis(service, tmp_path)
    finally:
        service.stop()


def test_every_answer_to_operators_is_documented(tmp_path: Path) -> None:
    # Nothing listens where DynamoDB should be: even so nothing may fail.
    service = Service(
        tmp_path / "data",
        CRAWLCACHE_STORE__BACKEND="routed",
        DYNAMODB_ENDPOINT="http://127.0.0.1:9",
        DYNAMODB_MAX_RETRIES="0",
    )
    service.start()
    try:
        for n in range(5):
            change = {"percent": 10 * n, "reason": f"step {n}"}
            requests.patch(f"{service.url}/v1/admin/routing", json=change, timeout=10).raise_for_status()
        queued = requests.put(
            f"{service.url}/v1/result", params={"url": "https://example.com/"}, json={}, timeout=10
        )
        queued.raise_for_status()
        run_schemathesis(service, tmp_path, "--include-path-regex=^/v1/admin/")
    finally:
        service.stop()


def run_schemathesis(service: Service, directory: Path, *more: str) -> None:
    """Sends what the document allows and what it does not, and fails for every answer that it does not know."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{service.url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--max-examples=30",
        "--generation-deterministic",
        *more,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    environment = {**os.environ, **hooks}
    # It keeps what it learnt in the working directory.
    run = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment, check=False)
    assert run.returncode == 0, "\n".join(line[:400] for line in run.stdout.splitlines())[-8000:]
    assert "No test cases were generated" not in run.stdout


def test_the_docs_page_needs_no_network(service: Service) -> None:
    page = requests.get(f"{service.url}/docs/", timeout=10)
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "http://" not in page.text and "https://" not in page.text, "the page must load nothing from elsewhere"
    for asset in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"]:
        assert requests.get(f"{service.url}/docs/{asset}", timeout=10).status_code == 200, asset
