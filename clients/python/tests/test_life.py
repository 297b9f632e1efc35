"""Clients through what happens to processes: restarts, forks, threads, loops, and their own end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Clients, Service, run_python

import crawlcache
from crawlcache import AsyncClient, Client


async def test_a_killed_service_is_away_and_then_back(clients: Clients, service: Service) -> None:
    client = clients(service.url, retries=8, timeout=20)
    urls = [f"https://a.b/{n}" for n in range(60)]
    stop = False
    count = 0

    async def work(url: str) -> None:
        nonlocal count
        while not stop:
            await client.put(url, {"url": url, "text": "x" * 3000})
            found = await client.get(url)
            assert found.document["url"] == url
            count += 1

    tasks = [asyncio.ensure_future(work(url)) for url in urls]
    for _ in range(2):
        await asyncio.sleep(0.7)
        await asyncio.to_thread(service.end, signal.SIGKILL)
        before = count
        await asyncio.sleep(0.3)
        assert count - before < 60
        await asyncio.to_thread(service.start)
    before = count
    await asyncio.sleep(1)
    stop = True
    # Nobody saw an error, and everybody went on.
    await asyncio.gather(*tasks)
    assert count > before + 10


async def test_without_retries_the_caller_hears_of_it_and_a_later_call_works(
    clients: Clients, service: Service
) -> None:
    client = clients(service.url, retries=0)
    await client.put("https://a.b/", {})
    await asyncio.to_thread(service.end, signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(crawlcache.Unavailable):
            await client.get("https://a.b/")
    await asyncio.to_thread(service.start)
    assert await client.get("https://a.b/")


async def test_a_hundred_tasks(shared: Service) -> None:
    async with AsyncClient(shared.url, max_connections=10) as client:

        async def work(n: int) -> None:
            url = f"https://tasks.example/{n}"
            for turn in range(5):
                await client.put(url, {"n": n, "turn": turn})
                found = await client.get(url)
                assert isinstance(found, crawlcache.Hit)
                assert found.document == {"n": n, "turn": turn}

        await asyncio.gather(*map(work, range(100)))


def test_thirty_threads(shared: Service) -> None:
    with Client(shared.url, max_connections=5) as client, ThreadPoolExecutor(30) as threads:

        def work(n: int) -> bool:
            url = f"https://threads.example/{n}"
            client.put(url, {"n": n})
            found = client.get(url)
            return isinstance(found, crawlcache.Hit) and found.document == {"n": n}

        assert all(threads.map(work, range(300)))


def test_one_client_in_several_loops_one_after_another(shared: Service) -> None:
    client = AsyncClient(shared.url)

    async def use() -> int:
        await client.put("https://loops.example/", {})
        assert await client.get("https://loops.example/")
        return len(client._by_loop)

    # Loops that are closed are forgotten with their connections.
    assert [asyncio.run(use()) for _ in range(4)] == [1, 1, 1, 1]
    asyncio.run(client.aclose())


def test_one_client_in_several_loops_at_once(shared: Service) -> None:
    client = AsyncClient(shared.url)
    together = threading.Barrier(4)

    async def use(n: int) -> bool:
        url = f"https://loops.example/{n}"
        together.wait()
        for turn in range(20):
            await client.put(url, {"turn": turn})
            found = await client.get(url)
            assert isinstance(found, crawlcache.Hit)
            assert found.document == {"turn": turn}
        together.wait()
        if n == 0:
            await client.aclose()
        await asyncio.sleep(0.2)
        return bool(await client.get(url))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda n: asyncio.run(use(n)), range(4)))
    asyncio.run(client.aclose())


def _in_child(url: str, kind: str) -> None:
    client = INHERITED[kind]
    if isinstance(client, Client):
        works = all(client.get(f"https://fork.example/{n}").document == {"n": n} for n in range(50))  # type: ignore[union-attr]
    else:

        async def use() -> bool:
            found = await asyncio.gather(*(client.get(f"https://fork.example/{n}") for n in range(50)))
            await client.aclose()
            return [hit.document for hit in found] == [{"n": n} for n in range(50)]

        works = asyncio.run(use())
    os._exit(0 if works else 1)


INHERITED: dict[str, Client | AsyncClient] = {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_fork_opens_connections_of_its_own(shared: Service, kind: str) -> None:
    INHERITED["threads"] = parent = Client(shared.url)
    INHERITED["asyncio"] = AsyncClient(shared.url)
    list(parent.batch_put((f"https://fork.example/{n}", {"n": n}) for n in range(50)))
    parent.get("https://fork.example/0")
    loop = asyncio.new_event_loop()
    warm = INHERITED["asyncio"]
    assert isinstance(warm, AsyncClient)
    loop.run_until_complete(warm.get("https://fork.example/0"))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_in_child, args=(shared.url, kind)) for _ in range(3)]
    for child in children:
        child.start()
    for n in range(50):
        found = parent.get(f"https://fork.example/{n}")
        assert isinstance(found, crawlcache.Hit)
        assert found.document == {"n": n}
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert loop.run_until_complete(warm.get("https://fork.example/1"))
    loop.run_until_complete(warm.aclose())
    loop.close()
    parent.close()


def test_clients_end_without_a_word(shared: Service) -> None:
    code = """
import asyncio, sys
from crawlcache import AsyncClient, Client
with Client(sys.argv[1]) as client:
    client.put("https://end.example/", {"a": 1})
    exported = client.export(host="end.example")
    next(exported)
    exported.close()
    lines = client.batch_get(["https://end.example/"] * 500)
    next(lines)
    lines.close()
    assert client.get("https://end.example/")
async def main():
    async with AsyncClient(sys.argv[1]) as client:
        lines = client.batch_get(["https://end.example/"] * 500)
        async for line in lines:
            break
        await lines.aclose()
        assert await client.get("https://end.example/")
asyncio.run(main())
client = AsyncClient(sys.argv[1])
for _ in range(2):
    asyncio.run(client.get("https://end.example/"))
asyncio.run(client.aclose())
assert "crawl4ai" not in sys.modules
print("done")
"""
    assert run_python(code, shared.url) == "done\n"


async def test_after_its_end_a_client_begins_anew(clients: Clients, shared: Service) -> None:
    client = clients(shared.url)
    await client.put("https://again.example/", {})
    await clients.close()
    assert await client.get("https://again.example/")


async def test_a_stream_that_is_left_early_frees_its_connection(clients: Clients, shared: Service) -> None:
    if clients.kind == "threads":
        with Client(shared.url, max_connections=1, timeout=5) as client:
            list(client.batch_put((f"https://early.example/{n}", {"t": "x" * 3000}) for n in range(500)))
            for _ in range(3):
                for _ in client.batch_get(f"https://early.example/{n}" for n in range(500)):
                    break
            assert client.get("https://early.example/1")
        return
    async with AsyncClient(shared.url, max_connections=1, timeout=5) as asynchronous:
        items = ((f"https://early.example/{n}", {"t": "x" * 3000}) for n in range(500))
        assert len([stored async for stored in asynchronous.batch_put(items)]) == 500
        for _ in range(3):
            stream = asynchronous.batch_get(f"https://early.example/{n}" for n in range(500))
            async for _ in stream:
                break
            await stream.aclose()
        assert await asynchronous.get("https://early.example/1")


async def test_lines_come_as_they_are_sent(shared: Service) -> None:
    asked: list[str] = []

    async def keys() -> object:
        for n in range(3000):
            asked.append(f"https://stream.example/{n}")
            yield asked[-1]

    async def items() -> object:
        async for key in keys():  # type: ignore[attr-defined]
            yield key, {"k": key}

    async with AsyncClient(shared.url) as client:
        seen = 0
        async for stored in client.batch_put(items()):  # type: ignore[arg-type]
            assert isinstance(stored, crawlcache.Stored)
            seen += 1
        assert seen == 3000
        asked.clear()
        asked_before: list[int] = []
        async for hit in client.batch_get(keys()):  # type: ignore[arg-type]
            assert isinstance(hit, crawlcache.Hit)
            asked_before.append(len(asked))
        assert len(asked_before) == 3000
        assert asked_before[0] < 3000, "the first came before the last was asked for"
