"""Starts and stops what is measured, and reads what it costs from /proc."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

READY_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What an HTTP request came to."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known.lower() == name), None)


def ask(address: str, method: str, path: str, headers: Headers | None = None, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


class Process:
    """A process that serves HTTP. Use it in a `with`: it is stopped at the end."""

    def __init__(self, arguments: list[str | Path], address: str, child: subprocess.Popen[str]) -> None:
        self.arguments = arguments
        self.address = address
        self.child = child

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.child.send_signal(2)
        try:
            self.child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far, of all threads."""
        # The second field is the program's name in parentheses, which may hold spaces.
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def disk_bytes_read(self) -> int:
        """What has come from a disk so far, and not from the page cache."""
        for line in Path(f"/proc/{self.child.pid}/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
        raise RuntimeError("/proc has no read_bytes")

    def resident_mib(self) -> float:
        """Memory that is resident now."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("/proc has no VmRSS")

    def descriptors(self) -> int:
        """Files and sockets that are open now."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.child.pid}/task"))


def free_address() -> str:
    """An address of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start_service(program: Path, data_dir: Path, settings: Headers | None = None) -> tuple[Process, float]:
    """Starts crawlcache on a data directory. Returns it with the seconds from exec to its first 200 on /readyz."""
    data_dir.mkdir(parents=True, exist_ok=True)
    address = free_address()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRAWLCACHE_")}
    environment["CRAWLCACHE_SERVER__LISTEN"] = address
    environment["CRAWLCACHE_SERVER__DATA_DIR"] = str(data_dir)
    environment.update(settings or {})
    log = (data_dir.parent / f"{data_dir.name}.log").open("w")
    begun = time.perf_counter()
    child = subprocess.Popen([program, "serve"], env=environment, stdout=log, stderr=log, text=True)
    process = Process([program, "serve"], address, child)
    while True:
        try:
            if ask(address, "GET", "/readyz").status == 200:
                return process, time.perf_counter() - begun
        except (ConnectionError, http.client.HTTPException):
            pass
        if child.poll() is not None or time.perf_counter() - begun > READY_SECONDS:
            child.kill()
            raise RuntimeError(f"{program} does not get ready:\n{Path(log.name).read_text()}")
        time.sleep(0.0005)


def start_bare(program: Path, answer: Answer, body_file: Path) -> Process:
    """Starts the bare hyper handler with the same status, headers and body as `answer`."""
    body_file.write_bytes(answer.body)
    # hyper itself adds these two.
    headers = [f"{name}:{value}" for name, value in answer.headers if name.lower() not in ("date", "content-length")]
    arguments: list[str | Path] = [program, str(answer.status), body_file, *headers]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return Process(arguments, child.stdout.readline().strip(), child)
