"""The real service, and a relay in front of it that remembers every byte that came in."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
BINARY = Path(os.environ.get("TEST_BINARY", ROOT / "target" / "debug" / "crawlcache"))


class Service:
    """One running crawlcache, which can be killed and started again at the same address."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.settings = settings
        self.address = "127.0.0.1:0"
        self.url = ""
        self._log = directory / "service.log"
        self.start()

    def start(self) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CRAWLCACHE_")},
            "CRAWLCACHE_SERVER__LISTEN": self.address,
            "CRAWLCACHE_SERVER__DATA_DIR": str(self.directory / "data"),
            **self.settings,
        }
        before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("a") as log:
            self.process = subprocess.Popen([str(BINARY), "serve"], stderr=log, env=environment)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            text = self._log.read_text()[before:]
            if found := re.search(r"listens on (http://(\S+))", text):
                self.url, self.address = found.groups()
                return
            assert self.process.poll() is None, f"the service did not start:\n{text}"
            time.sleep(0.01)
        raise AssertionError("the service did not say where it listens")

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(300)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(300)


class Relay:
    """Passes bytes on to a service and keeps what the client sent."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._target = (host, int(port))
        self.sent = bytearray()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        try:
            while data := source.recv(65536):
                if keep:
                    self.sent += data
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()

    def close(self) -> None:
        self._socket.close()
