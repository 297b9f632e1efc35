"""Writers that come too late, and renewals that fail, with the renewals as they are."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from crawling import config, crawl
from fleet import Fleet
from site_ import html
from waiting import until, wait_until

import crawlcache
import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai.counters import Counters
from crawlcache.crawl4ai.leases import Leases
from crawlcache.crawl4ai.runs import Run
from crawlcache.crawl4ai.service import Service as Asked


@pytest.mark.once
def test_a_process_that_stood_still_does_not_replace_the_newer_page(site: Any, service: Any, tmp_path: Path) -> None:
    """Its renewal is told that the lease is lost, and its page, which comes after that, is refused."""
    path, site.seconds = "/page/fenced", 5
    url = f"{site.url}{path}"
    fleet = Fleet(tmp_path, [service.url], 1, crawlers=1, urls=[url], install={"lease": 1, "wait": 10})
    fleet.begin()
    wait_until("the page is fetched", lambda: site.fetches[path] > 0)
    os.kill(fleet.children[0].pid, signal.SIGSTOP)
    try:
        time.sleep(1.5)
        site.contents[path], site.seconds = html("Newer", "newer"), 0
        drop_in.install(service.url, lease=1, wait=10)
        assert "newer" in crawl(lambda crawler: crawler.arun(url, config=config())).markdown
        assert site.fetches[path] == 2
    finally:
        os.kill(fleet.children[0].pid, signal.SIGCONT)
    _, metrics = fleet.end()
    assert (metrics["leases"]["won"], metrics["leases"]["lost"]) == (1, 1)
    assert (metrics["stores"]["outdated"], metrics["stores"].get("stored", 0)) == (1, 0)
    assert "newer" in crawl(lambda crawler: crawler.arun(url, config=config())).markdown
    drop_in.uninstall()
    assert site.fetches[path] == 2


class Renewing:
    """A client whose renewals fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.renewals = self.releases = 0

    async def renew(self, lease: Any) -> None:
        self.renewals += 1
        lease.lost = isinstance(self.error, crawlcache.LeaseLost)
        raise self.error

    async def release(self, lease: Any) -> None:
        self.releases += 1


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (crawlcache.ServiceError(500, "internal_error", "once"), False),
        (crawlcache.Forbidden(403, "forbidden", "once"), False),
        (crawlcache.LeaseLost(409, "lease_lost", "it is another's"), True),
    ],
)
def test_only_the_answer_that_it_is_lost_loses_a_lease(error: Exception, lost: bool) -> None:
    client, counters = Renewing(error), Counters()
    run = Run("https://a.example/", config(), None, {})

    async def work() -> None:
        leases = Leases(Asked(client, counters), counters)
        leases.hold(run, crawlcache.Lease("ab", crawlcache.Key(run.url), None, 1))
        expected = 1 if lost else 2
        await until("the renewals", lambda: client.renewals >= expected)
        leases.end(run)
        await leases.settle()

    asyncio.run(work())
    assert run.lease.lost is lost
    # A lease that is not lost is asked for again, and given back at the end.
    assert client.renewals == 1 if lost else client.renewals >= 2
    assert client.releases == (0 if lost else 1)
    assert counters.read()["leases"]["lost"] == int(lost)
