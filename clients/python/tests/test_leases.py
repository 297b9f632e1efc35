"""Leases at the real service: one fetches, the others wait or move on, whoever is late is refused."""

from __future__ import annotations

import asyncio
import time
import uuid

import aiohttp
import pytest
from conftest import Either, Service

import crawlcache
from crawlcache import AsyncClient, Client, Fresh, Held, Item, Key, Tried, Won


@pytest.fixture
def url() -> str:
    """A page that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example/"


async def test_one_wins_and_the_others_are_told_until_when(client: Either, url: str) -> None:
    won = await client.acquire(url, seconds=20)
    assert isinstance(won, Won)
    assert won
    assert (len(won.lease.token), won.lease.key, won.lease.seconds) == (64, Key(url), 20)
    held = await client.acquire((url, ""))
    assert isinstance(held, Held)
    assert not held
    assert held.expires_at == won.lease.expires_at
    assert 0 < held.retry_after <= 20
    # Another variant is another page.
    assert await client.acquire(url, variant="v")
    stored = await client.put(url, {"a": 1}, ttl=60, lease=won.lease)
    assert won.lease.stored
    fresh = await client.acquire(url)
    assert isinstance(fresh, Fresh)
    assert (bool(fresh), fresh.etag, 0 < fresh.ttl <= 60) == (False, stored.etag, True)


async def test_who_waits_for_what_fails_is_told_to_move_on(shared: Service, client: Either, url: str) -> None:
    won = await client.acquire(url)
    async with AsyncClient(shared.url) as other:
        waiting = asyncio.create_task(other.acquire(url, wait=10, quality="good"))
        await until_one_waits(shared)
        await client.put(url, {"success": False}, lease=won.lease)
        tried = await waiting
    assert isinstance(tried, Tried)
    assert (bool(tried), tried.key, tried.state) == (False, Key(url), "failed")
    assert 0 < tried.retry_after <= 300
    # Who insists gets the lease.
    assert await client.acquire(url, quality="good")


async def until_one_waits(service: Service) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            async with session.get(f"{service.url}/metrics") as answer:
                if "crawlcache_lease_waiters 1\n" in await answer.text():
                    return
            await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def test_a_get_takes_the_lease_of_what_is_missing(client: Either, url: str) -> None:
    miss = await client.get(url, lease=20)
    assert (miss.reason, miss.lease.seconds, miss.held_until) == ("absent", 20, None)
    other = await client.get(url, lease=20)
    assert (other.lease, other.held_until) == (None, miss.lease.expires_at)
    assert 0 < other.retry_after <= 20
    (state,) = await client.lookup([url])
    assert state.state == "leased"
    await client.put(url, {"a": 1}, ttl=60, lease=miss.lease)
    hit = await client.get(url, lease=20, wait=5)
    assert (hit.document, hit.lease) == ({"a": 1}, None)


async def test_a_stale_answer_comes_with_one_lease(client: Either, url: str) -> None:
    await client.put(url, {"a": 1}, ttl=0)
    first = await client.get(url, stale=1000, lease=20)
    second = await client.get(url, stale=1000, lease=20)
    assert (first.stale, first.document, first.lease.seconds) == (True, {"a": 1}, 20)
    assert (second.stale, second.lease) == (True, None)


async def test_who_waits_gets_what_the_holder_stores(client: Either, url: str) -> None:
    won = await client.acquire(url)
    waiting = [asyncio.ensure_future(client.get(url, lease=30, wait=20)) for _ in range(10)]
    await asyncio.sleep(0.3)
    assert not any(each.done() for each in waiting)
    await client.put(url, {"a": 1}, ttl=60, lease=won.lease.token)
    found = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert [hit.document for hit in found] == [{"a": 1}] * 10


async def test_what_is_given_back_is_won_by_one_who_waits(client: Either, url: str) -> None:
    won = await client.acquire(url)
    waiting = [asyncio.ensure_future(client.acquire(url, wait=3)) for _ in range(3)]
    await asyncio.sleep(0.3)
    await client.release(won.lease)
    outcomes = await asyncio.gather(*waiting)
    assert sum(isinstance(outcome, Won) for outcome in outcomes) == 1
    # To give back twice is no error.
    await client.release(won.lease)


async def test_who_is_late_is_refused(client: Either, url: str) -> None:
    late = await client.acquire(url, seconds=1)
    next_one = await client.acquire(url, wait=5)
    assert isinstance(next_one, Won)
    with pytest.raises(crawlcache.LeaseLost):
        await client.renew(late.lease)
    assert late.lease.lost
    with pytest.raises(crawlcache.LeaseOutdated):
        await client.put(url, {"late": True}, lease=late.lease)
    assert not late.lease.stored
    (refused,) = await client.batch_put([Item(url, {"late": True}, lease=late.lease)])
    assert isinstance(refused.error, crawlcache.LeaseOutdated)
    (stored,) = await client.batch_put([Item(url, {"late": False}, lease=next_one.lease)])
    assert stored.outcome == "created"
    assert next_one.lease.stored
    assert (await client.get(url)).document == {"late": False}


async def test_a_renewal_keeps_a_lease(client: Either, url: str) -> None:
    won = await client.acquire(url, seconds=1)
    until = await client.renew(won.lease, seconds=30)
    assert won.lease.expires_at == until
    await asyncio.sleep(1.2)
    assert isinstance(await client.acquire(url), Held)
    with pytest.raises(crawlcache.InvalidRequest):
        await client.renew("nonsense")


def test_a_block_holds_the_lease_of_a_slow_fetch(shared: object, url: str) -> None:
    with Client(shared.url) as client:  # type: ignore[attr-defined]
        with client.leased(url, seconds=3) as outcome:
            assert isinstance(outcome, Won)
            granted = outcome.lease.expires_at
            deadline = time.monotonic() + 300
            while outcome.lease.expires_at == granted:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert isinstance(client.acquire(url), Held)
            client.put(url, {"a": 1}, lease=outcome.lease)
        with client.leased(url) as outcome:
            assert isinstance(outcome, Fresh)
        client.delete(url)

        def fail() -> None:
            with client.leased(url) as outcome:
                assert isinstance(outcome, Won)
                with client.leased(url) as other:
                    assert isinstance(other, Held)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        # It was given back, and so is the lease of a block that stores nothing.
        with client.leased(url) as outcome:
            assert outcome
        miss = client.get(url, lease=5)
        assert miss.lease
        with client.holding(miss.lease) as lease:
            client.put(url, {"a": 2}, lease=lease)


async def test_a_block_of_asyncio_does_the_same(shared: object, url: str) -> None:
    async with AsyncClient(shared.url) as client:  # type: ignore[attr-defined]
        async with client.leased(url, seconds=3) as outcome:
            assert isinstance(outcome, Won)
            granted = outcome.lease.expires_at
            deadline = time.monotonic() + 300
            while outcome.lease.expires_at == granted:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert isinstance(await client.acquire(url), Held)
            await client.put(url, {"a": 1}, lease=outcome.lease)
        async with client.leased(url) as outcome:
            assert isinstance(outcome, Fresh)
        await client.delete(url)

        holds = asyncio.Event()

        async def crawl() -> None:
            async with client.leased(url) as outcome:
                assert isinstance(outcome, Won)
                holds.set()
                await asyncio.Event().wait()

        crawling = asyncio.ensure_future(crawl())
        await asyncio.wait_for(holds.wait(), 300)
        assert isinstance(await client.acquire(url), Held)
        crawling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await crawling
        # Cancelled, it was given back, and no renewal is left behind.
        miss = await client.get(url, lease=5)
        assert miss.lease
        async with client.holding(miss.lease) as lease:
            await client.put(url, {"a": 2}, lease=lease)
        assert len(asyncio.all_tasks()) == 1


async def test_a_lost_lease_is_noticed_while_fetching(shared: object, url: str) -> None:
    async with AsyncClient(shared.url) as client, client.leased(url, seconds=1) as outcome:  # type: ignore[attr-defined]
        assert outcome.lease
        await client.release(outcome.lease)
        deadline = time.monotonic() + 300
        while not outcome.lease.lost:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_a_hundred_crawlers_fetch_a_page_once(client: Either, url: str) -> None:
    fetched = 0

    async def crawl() -> int:
        nonlocal fetched
        outcome = await client.get(url, lease=30, wait=20)
        if not outcome:
            assert outcome.lease, outcome
            fetched += 1
            await asyncio.sleep(0.2)
            await client.put(url, {"n": 1}, ttl=60, lease=outcome.lease)
            return 1
        return int(outcome.document["n"])

    count = 100
    assert await asyncio.gather(*(crawl() for _ in range(count))) == [1] * count
    assert fetched == 1
