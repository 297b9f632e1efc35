"""The real binary, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crawlcache import AsyncClient, Client

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("TEST_BINARY", ROOT / "target" / "debug" / "crawlcache"))


# Many of these wait at once; the default executor has few.
THREADS = ThreadPoolExecutor(120)


class Service:
    """One running crawlcache, which keeps its port when it is started again."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.listen = "127.0.0.1:0"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    def start(self) -> None:
        """Starts the process and waits until it says where it listens."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CRAWLCACHE_")}
        environment |= {
            "CRAWLCACHE_SERVER__LISTEN": self.listen,
            "CRAWLCACHE_SERVER__DATA_DIR": str(self.data_dir),
            **self.settings,
        }
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as log:
            self.process = subprocess.Popen([str(BINARY), "serve"], stderr=log, text=True, env=environment)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            text = self.log.read_text()[begin:]
            if found := re.search(r"listens on http://(\S+)", text):
                self.listen = found.group(1)
                self.url = f"http://{self.listen}"
                return
            assert self.process.poll() is None, f"the service did not start:\n{text}"
            time.sleep(0.01)
        raise AssertionError("the service did not say where it listens")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the process, by default as an operator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests that leave others' keys alone."""
    running = Service(tmp_path_factory.mktemp("shared") / "data")
    running.start()
    yield running
    running.end()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own."""
    running = Service(tmp_path / "data")
    running.start()
    yield running
    running.end()


class Either:
    """Both clients as one to the tests: everything is awaited, and streams are lists."""

    def __init__(self, real: Any) -> None:
        self.real = real

    @property
    def sessions(self) -> Either:
        return Either(self.real.sessions)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.real, name)
        if isinstance(self.real, AsyncClient) or type(self.real).__name__ == "AsyncSessions":

            async def call(*arguments: Any, **options: Any) -> Any:
                outcome = method(*arguments, **options)
                if inspect.isasyncgen(outcome):
                    return [item async for item in outcome]
                return await outcome
        else:

            async def call(*arguments: Any, **options: Any) -> Any:
                def work() -> Any:
                    outcome = method(*arguments, **options)
                    return list(outcome) if inspect.isgenerator(outcome) else outcome

                return await asyncio.get_running_loop().run_in_executor(THREADS, work)

        return call


class Clients:
    """Makes clients of the kind under test, and closes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._made: list[Any] = []

    def __call__(self, url: str, **options: Any) -> Either:
        made: Any = AsyncClient(url, **options) if self.kind == "asyncio" else Client(url, **options)
        self._made.append(made)
        return Either(made)

    async def close(self) -> None:
        for made in self._made:
            if isinstance(made, AsyncClient):
                await made.aclose()
            else:
                made.close()


@pytest.fixture(params=["threads", "asyncio"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[Clients]:
    """Makes clients of either kind."""
    made = Clients(request.param)
    yield made
    await made.close()


@pytest.fixture
async def client(clients: Clients, shared: Service) -> Either:
    """A client of the shared service."""
    return clients(shared.url)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_python(code: str, *arguments: str) -> str:
    """Runs a program of its own, in which every warning is an error; gives what it prints."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert "Unclosed" not in done.stderr, done.stderr
    return done.stdout
