"""The service away, slow, refusing: no crawl notices more than a miss."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest
from crawling import config, crawl
from service import Service

import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai.fallback import Breaker, Fallback


def test_nobody_there(site: Any, counts: Any) -> None:
    drop_in.install("http://127.0.0.1:9")

    async def work(crawler: Any) -> None:
        for number in range(20):
            assert (await crawler.arun(f"{site.url}/page/{number}", config=config())).success

    crawl(work)
    assert sum(site.fetches.values()) == 20
    assert counts("lookups", "away") == 20
    assert counts("stores", "fallback") == 20
    # What was fetched is answered from memory meanwhile.
    crawl(work)
    assert sum(site.fetches.values()) == 20
    assert counts("lookups", "hit_fallback") == 20
    drop_in.uninstall()


def test_a_service_that_accepts_and_never_answers_costs_few_timeouts(site: Any, counts: Any) -> None:
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        cache = drop_in.install(url, timeout=0.5, wait=0, fallback_bytes=0)
        # Its pause never ends, however long the crawl takes.
        cache.service._breaker = Breaker(clock=lambda: 0.0)

        async def work(crawler: Any) -> None:
            for number in range(10):
                assert (await crawler.arun(f"{site.url}/page/mute{number}", config=config())).success

        crawl(work)
        listening.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connections.append(listening.accept()[0])
    for connection in connections:
        connection.close()
    # Without a breaker each of ten look-ups and ten stores would have waited.
    assert 1 <= len(connections) <= Breaker.SLOW
    assert counts("lookups", "away") == counts("stores", "away") == 10
    assert counts("breaker", "opened") == 1
    drop_in.uninstall()


def test_it_recovers(site: Any, tmp_path: Any, counts: Any) -> None:
    own = Service(tmp_path)
    drop_in.install(own.url, fallback_bytes=0)
    url = f"{site.url}/page/back"

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        own.kill()
        assert (await crawler.arun(url, config=config())).success
        assert site.fetches["/page/back"] == 2
        own.start()
        for _ in range(100):
            before = counts("lookups", "hit")
            assert (await crawler.arun(url, config=config())).success
            if counts("lookups", "hit") > before:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the service is not used again")

    try:
        crawl(work)
    finally:
        own.stop()
        drop_in.uninstall()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 3\r\n\r\n[1]',
        b'HTTP/1.1 200 OK\r\nETag: "x"\r\nCache-Status: crawlcache; hit\r\nContent-Length: 13\r\n\r\n{"html": [1]}',
    ],
)
def test_nonsense_is_a_miss(site: Any, answer: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    drop_in.install(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=2, fallback_bytes=0)

    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"{site.url}/page/nonsense", config=config())).success
        assert (
            len(await drop_in.arun_many(crawler, [f"{site.url}/page/nonsense", f"{site.url}/page/n2"], config())) == 2
        )

    crawl(work)
    listening.close()
    drop_in.uninstall()
    assert site.fetches["/page/nonsense"] == 3


def test_a_token_that_only_reads(site: Any, tmp_path: Any, counts: Any) -> None:
    """Pages are used; storing is refused and noticed."""
    import subprocess

    from service import BINARY

    directory = tmp_path / "data"
    environment = {"CRAWLCACHE_SERVER__DATA_DIR": str(directory), "PATH": "/usr/bin:/bin"}
    tokens = {
        scope: subprocess.run(
            [
                str(BINARY),
                "token",
                "create",
                "--name",
                f"the-{scope}",
                "--scopes",
                "read,write" if scope == "write" else scope,
            ],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-1]
        for scope in ("write", "read")
    }
    own = Service(tmp_path)

    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"{site.url}/page/reader", config=config())).success

    try:
        drop_in.install(own.url, token=tokens["read"], fallback_bytes=0)
        crawl(work)
        assert counts("stores", "error") == 2
        drop_in.install(own.url, token=tokens["write"], fallback_bytes=0)
        crawl(work)
        assert counts("lookups", "hit") == 1
        drop_in.install(own.url, token=tokens["read"], fallback_bytes=0)
        crawl(work)
        assert counts("lookups", "hit") == 3
        assert site.fetches["/page/reader"] == 3
    finally:
        own.stop()
        drop_in.uninstall()


def test_the_fallback_is_bounded() -> None:
    now = [0.0]
    memory = Fallback(100, 10, lambda: now[0])
    for number in range(10):
        memory.keep(f"u{number}", "", b"x" * 20)
    assert len(memory) == 5
    assert memory.used == 100
    memory.keep("large", "", b"x" * 26)
    assert memory.find("large", "") is None
    assert memory.find("u9", "") == (b"x" * 20, 0.0)
    assert memory.find("u9", "other") is None
    now[0] = 9.0
    assert memory.find("u9", "") == (b"x" * 20, 9.0)
    now[0] = 10.0
    assert memory.find("u9", "") is None
    memory.keep("short", "", b"x", ttl=1)
    now[0] = 11.5
    assert memory.find("short", "") is None
    memory.clear()
    assert memory.used == len(memory) == 0


def test_the_breaker_lets_one_try_after_each_pause() -> None:
    now = [0.0]
    breaker = Breaker(1.0, 4.0, lambda: now[0])
    assert breaker.admits()
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.admits()
    for pause in (1.0, 2.0, 4.0, 4.0):
        now[0] += pause
        assert breaker.admits()
        assert not breaker.admits()
        now[0] += pause / 2
        breaker.failed()
        assert not breaker.admits()
    now[0] += 4.0
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()
