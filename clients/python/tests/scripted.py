"""A server that answers by a script: for what the real one cannot be brought to do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Step = Callable[[socket.socket], bool]


@dataclass
class Heard:
    """A request that came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


class Scripted:
    """Takes one step of its script for each request; the last step is repeated."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.heard: list[Heard] = []
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        # Without this, whoever waits in `accept` would keep the listener open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            with connection:
                while (heard := _read(connection)) is not None:
                    with self._lock:
                        step = self.steps[min(len(self.heard), len(self.steps) - 1)]
                        self.heard.append(heard)
                    if not step(connection):
                        return
        except OSError:
            pass
        finally:
            with self._lock:
                self.open -= 1


def _read(connection: socket.socket) -> Heard | None:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return None
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    return Heard(method, target, headers, body)


def answer(status: int, body: bytes = b"", *, after: float = 0, **headers: str) -> Step:
    """A whole answer, after some seconds."""

    def step(connection: socket.socket) -> bool:
        time.sleep(after)
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return True

    return step


def problem(status: int, code: str, *, members: dict[str, Any] | None = None, **headers: str) -> Step:
    """A problem as the service sends it."""
    body = json.dumps({**(members or {}), "status": status, "code": code, "detail": f"about {code}"}).encode()
    return answer(status, body, Content_Type="application/problem+json", **headers)


def hit(document: bytes = b'{"a":1}', *, after: float = 0, **headers: str) -> Step:
    """A result as the service sends it."""
    known = {
        "Content_Type": "application/json",
        "ETag": '"0123456789abcdef0123456789abcdef-zstd"',
        "Age": "5",
        "Cache_Status": "crawlcache; hit; ttl=55; detail=sqlite",
    }
    return answer(200, document, after=after, **{**known, **headers})


def cut(text: bytes = b"") -> Step:
    """A part of an answer, or none, and then the connection is gone."""

    def step(connection: socket.socket) -> bool:
        if text:
            connection.sendall(text)
        return False

    return step


def silence(seconds: float) -> Step:
    """No answer."""

    def step(_: socket.socket) -> bool:
        time.sleep(seconds)
        return False

    return step


def drip(seconds: float) -> Step:
    """An answer that comes a byte at a time."""

    def step(connection: socket.socket) -> bool:
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nETag: "00"\r\n\r\n')
        for _ in range(int(seconds / 0.05)):
            connection.sendall(b"x")
            time.sleep(0.05)
        return False

    return step
