"""Starts the real binary on a free port and stops it by id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TEST_BINARY", ROOT / "target" / "debug" / "crawlcache"))


class Service:
    """One running crawlcache."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Starts the process and waits until it says where it listens."""
        environment = {
            **os.environ,
            "CRAWLCACHE_SERVER__LISTEN": "127.0.0.1:0",
            "CRAWLCACHE_SERVER__DATA_DIR": str(self.data_dir),
            **self.settings,
        }
        self.log = (self.data_dir.parent / f"{self.data_dir.name}.log").open("a+")
        start = self.log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen([str(BINARY), "serve"], stderr=self.log, text=True, env=environment)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            text = Path(self.log.name).read_text()[start:]
            if found := re.search(r"listens on (http://\S+)", text):
                self.url = found.group(1)
                return
            assert self.process.poll() is None, f"the service did not start:\n{text}"
            time.sleep(0.01)
        raise AssertionError("the service did not say where it listens")

    def stop(self) -> int:
        """Stops the process as an operator would and returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.log.close()
        return code


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service on an empty data directory."""
    running = Service(tmp_path / "data")
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A client that accepts no coding unless a test says so."""
    with requests.Session() as client:
        client.headers["Accept-Encoding"] = "identity"
        yield client
