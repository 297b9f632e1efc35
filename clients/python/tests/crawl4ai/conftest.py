"""What the tests of the Crawl4AI drop-in share. They need the real Crawl4AI: scripts/test-crawl4ai."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BASE = Path(tempfile.mkdtemp(prefix="crawl4ai-"))

_found = importlib.util.find_spec("crawl4ai")
# This directory itself is found as a package without a file.
if _found is None or _found.origin is None:
    # The tests of the client itself run without it.
    collect_ignore_glob = ["test_*.py"]
else:
    # Crawl4AI makes directories when it is imported.
    os.environ["HOME"] = os.environ["CRAWL4_AI_BASE_DIRECTORY"] = str(BASE)
    os.environ["CRAWL4AI_NO_CLOUD_NOTICE"] = "1"
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]
    from service import Relay, Service
    from site_ import Site

    import crawlcache.crawl4ai as drop_in


def pytest_sessionstart() -> None:
    """Stops where another version would be tested than the one that is meant, which then nobody would have tested."""
    expected = os.environ.get("TEST_CRAWL4AI_VERSION")
    if expected and _found is not None and _found.origin is not None:
        found = ".".join(map(str, drop_in.versions.installed()))
        if found != expected:
            pytest.exit(f"this is Crawl4AI {found}, but the one to test is {expected}", returncode=3)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not os.environ.get("TEST_DYNAMODB_ENDPOINT"):
        terminalreporter.write_line("NOT TESTED: fleets on DynamoDB, as TEST_DYNAMODB_ENDPOINT is not set", yellow=True)


@pytest.fixture(scope="session")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.stop()


@pytest.fixture
def service(_service: Service) -> Service:
    """A running service, shared by the tests: each uses urls of its own."""
    if _service.process.poll() is not None:
        _service.start()
    return _service


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site of this test."""
    running = Site()
    yield running
    running.stop()


@pytest.fixture
def cache(service: Service) -> Iterator[Any]:
    """The drop-in, installed for the service."""
    yield drop_in.install(service.url)
    drop_in.uninstall()


@pytest.fixture
def relay(service: Service) -> Iterator[Relay]:
    """A way to the service that remembers what was sent."""
    running = Relay(service.address)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _no_database() -> Iterator[None]:
    """Crawl4AI's own database must never come to be."""
    yield
    assert not list(BASE.rglob("crawl4ai.db*"))


CHROMIUM = os.environ.get("TEST_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A headless Chromium; the address of its debugging protocol."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: scripts/fetch-chromium")
    profile = tmp_path_factory.mktemp("chromium")
    process = subprocess.Popen(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = Path(profile) / "DevToolsActivePort"
    deadline = time.monotonic() + 300
    while not (file.exists() and file.read_text().strip()):
        assert process.poll() is None, "Chromium has ended"
        assert time.monotonic() < deadline, "Chromium does not say where it listens"
        time.sleep(0.05)
    address = f"http://127.0.0.1:{file.read_text().split()[0]}"
    assert json.load(urllib.request.urlopen(f"{address}/json/version"))["Browser"]
    yield address
    process.terminate()
    process.wait(300)


class Counts:
    """What a test has added to the counters."""

    def __init__(self) -> None:
        self._before = drop_in.metrics()

    def __call__(self, series: str, result: str) -> int:
        return drop_in.metrics()[series][result] - self._before[series][result]


@pytest.fixture
def counts() -> Any:
    return Counts()
