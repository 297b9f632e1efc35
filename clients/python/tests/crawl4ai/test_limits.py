"""A service that grants less, answers badly or slowly; and what `install` takes from where."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crawling import config, crawl
from service import Service

import crawlcache
import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai.counters import Counters
from crawlcache.crawl4ai.fallback import Breaker
from crawlcache.crawl4ai.service import Away, Refused
from crawlcache.crawl4ai.service import Service as Asked


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Service]:
    """A service with short leases and shorter waiting."""
    own = Service(
        tmp_path,
        CRAWLCACHE_LEASES__MAX_WAIT_SECONDS="2",
        CRAWLCACHE_LEASES__SECONDS="5",
        CRAWLCACHE_LEASES__MAX_SECONDS="5",
    )
    yield own
    own.stop()
    drop_in.uninstall()


def test_a_service_with_lower_limits_is_asked_for_less(
    site: Any, short: Service, counts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    drop_in.install(short.url, lease=30, wait=20)
    site.seconds = 1

    async def work(crawler: Any) -> None:
        results = await asyncio.gather(*(crawler.arun(f"{site.url}/page/limits", config=config()) for _ in range(5)))
        assert all(result.success for result in results)

    drop_in._counters._said.clear()
    with caplog.at_level(logging.WARNING, "crawlcache.crawl4ai"):
        crawl(work)
        crawl(work)
    assert site.fetches["/page/limits"] == 1
    assert (counts("lookups", "error"), counts("lookups", "hit")) == (0, 9)
    assert (counts("leases", "won"), counts("leases", "stored")) == (1, 1)
    said = [record.getMessage() for record in caplog.records if record.name == "crawlcache.crawl4ai"]
    assert len([text for text in said if "a wait of 2 s" in text]) == 1
    assert len([text for text in said if "a lease of 5 s" in text]) == 1


def test_a_service_where_nobody_may_wait(site: Any, tmp_path: Path, counts: Any) -> None:
    own = Service(tmp_path, CRAWLCACHE_LEASES__MAX_WAIT_SECONDS="0")
    drop_in.install(own.url)

    async def work(crawler: Any) -> None:
        for _ in range(2):
            assert (await crawler.arun(f"{site.url}/page/no-wait", config=config())).success

    try:
        crawl(work)
    finally:
        own.stop()
        drop_in.uninstall()
    assert (site.fetches["/page/no-wait"], counts("lookups", "error"), counts("leases", "stored")) == (1, 0, 1)


class Answering:
    """A client that answers with what it is told to."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)

    async def stats(self) -> str:
        error = self.errors.pop(0)
        if error is not None:
            raise error
        return "well"


SLOW = crawlcache.Timeout(0, "timeout", "slow")
BROKEN = crawlcache.InvalidAnswer(0, "invalid_answer", "cut")
GONE = crawlcache.Unavailable(0, "connection_failed", "nobody", maybe_processed=False)


def outcomes(*errors: Exception | None) -> str:
    """What comes of one call after the other: a letter each, in capitals if the service was not even asked."""
    client = Answering(*errors)
    service = Asked(client, Counters())

    async def work() -> str:
        text = ""
        for _ in errors:
            left = len(client.errors)
            try:
                await service.ask(lambda client: client.stats())
                text += "w"
            except Away:
                text += "a" if len(client.errors) < left else "A"
            except Refused:
                text += "r"
        return text

    return asyncio.run(work())


def test_one_bad_answer_pauses_nothing() -> None:
    assert outcomes(BROKEN, BROKEN, BROKEN, BROKEN, None) == "rrrrw"


def test_only_several_slow_answers_in_a_row_make_a_pause() -> None:
    assert outcomes(SLOW, SLOW, None, SLOW, SLOW, None) == "aawaaw"
    assert outcomes(SLOW, BROKEN, SLOW, SLOW, None) == "araaw"
    assert outcomes(SLOW, SLOW, SLOW, None) == "aaaA"


def test_nobody_there_makes_a_pause_at_once() -> None:
    assert outcomes(GONE, None) == "aA"


def test_a_slow_try_after_a_pause_makes_the_next_one_longer() -> None:
    now = [0.0]
    breaker = Breaker(1.0, 4.0, lambda: now[0])
    assert breaker.failed()
    now[0] = 1.0
    assert breaker.admits()
    now[0] = 1.5
    breaker.failed(slow=True)
    now[0] = 3.0
    assert not breaker.admits()
    now[0] = 3.5
    assert breaker.admits()


def test_what_is_given_counts_more_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLCACHE_LEASE", "7")
    monkeypatch.setenv("CRAWLCACHE_WAIT", "3")
    try:
        taken = drop_in.install("http://127.0.0.1:9").settings
        assert (taken.lease, taken.wait) == (7, 3)
        given = drop_in.install("http://127.0.0.1:9", lease=30.0, wait=20.0).settings
        assert (given.lease, given.wait) == (30, 20)
        given = drop_in.install("http://127.0.0.1:9", lease=30, wait=20).settings
        assert (given.lease, given.wait) == (30, 20)
        none = drop_in.install("http://127.0.0.1:9", lease=None, wait=None).settings
        assert (none.lease, none.wait) == (None, None)
        monkeypatch.delenv("CRAWLCACHE_LEASE")
        monkeypatch.delenv("CRAWLCACHE_WAIT")
        default = drop_in.install("http://127.0.0.1:9").settings
        assert (default.lease, default.wait) == (30, 20)
    finally:
        drop_in.uninstall()
