"""Fleets of real crawlers in several processes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from crawling import config, crawl
from fleet import Fleet
from service import Service
from site_ import html
from waiting import until, wait_until

import crawlcache.crawl4ai as drop_in


@pytest.mark.once
def test_fifty_crawlers_while_the_service_is_killed_and_started_again(site: Any, tmp_path: Path) -> None:
    own = Service(tmp_path)
    pages = [f"{site.url}/page/{number}" for number in range(20)]
    fleet = Fleet(tmp_path, [own.url], 5, crawlers=10, urls=pages, rounds=2, pause=0.2, install={"lease": 2, "wait": 5})
    try:
        fleet.begin()
        wait_until("each page is fetched", lambda: len(site.fetches) == 20)
        own.kill()
        time.sleep(1.5)
        own.start()
        failed, metrics = fleet.end()
    finally:
        own.stop()
    assert failed == 0
    runs = 5 * 10 * 20 * 2
    looked_up = metrics["lookups"]
    assert sum(looked_up.values()) >= runs
    # It went away, was noticed, was lived without, and was used again.
    assert metrics["breaker"]["opened"] >= 5
    assert looked_up["hit"] > runs / 4
    fetched = sum(site.fetches.values())
    assert len(site.fetches) == 20
    assert fetched < runs / 8, f"{fetched} fetches of 20 pages in {runs} runs"


DYNAMODB = os.environ.get("TEST_DYNAMODB_ENDPOINT")


def on_dynamodb(directory: Path) -> list[Service]:
    """Two instances over the same tables."""
    settings = {
        "CRAWLCACHE_STORE__BACKEND": "dynamodb",
        "CRAWLCACHE_DYNAMODB__ENDPOINT": DYNAMODB or "",
        "CRAWLCACHE_DYNAMODB__REGION": "us-east-1",
        "CRAWLCACHE_DYNAMODB__CREATE_TABLES": "true",
        "CRAWLCACHE_DYNAMODB__TABLE_PREFIX": f"fleet-{os.getpid()}-",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    services = []
    for number in range(2):
        (directory / f"instance-{number}").mkdir()
        services.append(Service(directory / f"instance-{number}", **settings))
    return services


@pytest.mark.once
@pytest.mark.parametrize("backend", ["sqlite", "dynamodb"])
def test_two_hundred_crawlers_fetch_twenty_pages_twenty_times(site: Any, tmp_path: Path, backend: str) -> None:
    if backend == "dynamodb" and not DYNAMODB:
        assert not os.environ.get("TEST_REQUIRE_DYNAMODB"), "TEST_DYNAMODB_ENDPOINT is not set"
        pytest.skip("TEST_DYNAMODB_ENDPOINT is not set")
    services = [Service(tmp_path)] if backend == "sqlite" else on_dynamodb(tmp_path)
    site.seconds = 0.5
    pages = [f"{site.url}/page/{number}" for number in range(20)]
    fleet = Fleet(
        tmp_path,
        [one.url for one in services],
        4,
        crawlers=50,
        urls=pages,
        each=4,
        install={"lease": 30, "wait": 30, "timeout": 30},
    )
    try:
        fleet.begin()
        _, metrics = fleet.end()
    finally:
        for one in services:
            one.stop()
    assert sum(site.fetches.values()) == 20
    assert metrics["leases"]["won"] == metrics["leases"]["stored"] == 20
    assert metrics["lookups"]["hit"] == 200 * 4 - 20


def test_a_slow_fetch_keeps_its_lease(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, lease=3, wait=300)

    async def work(crawler: Any) -> None:
        url = f"{site.url}/held/slow"
        runs = [asyncio.create_task(crawler.arun(url, config=config())) for _ in range(10)]
        await until("two renewals", lambda: counts("leases", "renewed") >= 2, *runs)
        site.released.set()
        assert all([(await run).success for run in runs])

    crawl(work)
    drop_in.uninstall()
    assert site.fetches["/held/slow"] == 1
    assert counts("leases", "stored") == 1


@pytest.mark.once
def test_a_fetch_that_fails_gives_its_lease_back(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, lease=60, wait=30, store_failed=False)
    site.statuses["/page/fails"] = 500

    async def work(crawler: Any) -> None:
        assert not (await crawler.arun(f"{site.url}/page/fails", config=config())).success
        await until("the lease is given back", lambda: counts("leases", "released") > 0)
        site.statuses.clear()
        assert (await crawler.arun(f"{site.url}/page/fails", config=config())).success

    crawl(work)
    drop_in.uninstall()
    assert (counts("leases", "won"), counts("leases", "released"), counts("leases", "stored")) == (2, 1, 1)


@pytest.mark.once
def test_a_crawl_that_is_cancelled_gives_its_lease_back(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, lease=60, wait=30)

    async def work(crawler: Any) -> None:
        url = f"{site.url}/held/cancelled"
        task = asyncio.create_task(crawler.arun(url, config=config()))
        await until("the page is fetched", lambda: site.fetches["/held/cancelled"] > 0, task)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        site.released.set()
        assert (await crawler.arun(url, config=config())).success

    crawl(work)
    drop_in.uninstall()
    assert (counts("leases", "won"), counts("leases", "released"), counts("leases", "stored")) == (2, 1, 1)


@pytest.mark.once
def test_the_lease_of_a_holder_that_dies_goes_to_the_next(site: Any, service: Any, tmp_path: Path, counts: Any) -> None:
    site.seconds = 600
    fleet = Fleet(tmp_path, [service.url], 1, crawlers=1, urls=[f"{site.url}/page/dies"], install={"lease": 2})
    fleet.begin()
    wait_until("the page is fetched", lambda: site.fetches["/page/dies"] > 0)
    fleet.children[0].kill()
    fleet.children[0].communicate()
    site.seconds = 0
    drop_in.install(service.url, lease=2, wait=60)

    async def work(crawler: Any) -> None:
        assert (await crawler.arun(f"{site.url}/page/dies", config=config())).success

    crawl(work)
    drop_in.uninstall()
    assert site.fetches["/page/dies"] == 2
    assert (counts("leases", "won"), counts("leases", "stored")) == (1, 1)


@pytest.mark.once
def test_a_stale_page_is_used_by_all_but_one(site: Any, service: Any, counts: Any) -> None:
    drop_in.install(service.url, ttl=1, stale=600, wait=10)
    url = f"{site.url}/held/stale"
    site.released.set()

    async def work(crawler: Any) -> None:
        await crawler.arun(url, config=config())
        await asyncio.sleep(2.1)
        site.contents["/held/stale"] = html("Renewed", "renewed")
        site.released.clear()
        runs = [asyncio.create_task(crawler.arun(url, config=config())) for _ in range(8)]
        # One waits for the new page, the others go on with the old one.
        await until("seven have ended", lambda: sum(run.done() for run in runs) >= 7)
        site.released.set()
        assert sorted(["renewed" in (await run).markdown for run in runs]) == [False] * 7 + [True]
        # And when the site fails, the stale page is better than none.
        await asyncio.sleep(2.1)
        site.statuses["/held/stale"] = 503
        result = await crawler.arun(url, config=config())
        assert result.success
        assert "renewed" in result.markdown

    crawl(work)
    drop_in.uninstall()
    assert counts("lookups", "revalidate") == 2
    assert site.fetches["/held/stale"] == 3
