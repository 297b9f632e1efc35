"""Good and failed results: a failed fetch stands beside the last good page, and both can be asked for."""

from __future__ import annotations

import uuid

import pytest
from conftest import Either

GOOD = {"success": True, "status_code": 200, "html": "<h1>Good</h1>"}
BAD = {"success": True, "status_code": 503, "html": "<h1>Busy</h1>"}


@pytest.fixture
def url() -> str:
    """A page that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example/"


async def test_a_failed_fetch_does_not_replace_the_last_good_one(client: Either, url: str) -> None:
    assert (await client.put(url, GOOD, ttl=3600)).quality == "good"
    stored = await client.put(url, BAD, ttl=3600)
    assert (stored.quality, stored.why) == ("failed", "status")
    assert (await client.get(url)).document == GOOD
    failed = await client.get(url, quality="failed")
    assert (failed.quality, failed.document) == ("failed", BAD)
    # It lives for a short time only, whatever was asked for.
    assert failed.ttl <= 300
    (listed_good, listed_failed) = sorted(await client.list(url=url), key=lambda item: str(item.get("quality")))
    assert (listed_good.get("quality"), listed_failed["quality"]) == (None, "failed")
    await client.delete(url)
    assert not await client.get(url, quality="failed")


async def test_a_failed_fetch_is_an_answer_unless_only_good_ones_are(client: Either, url: str) -> None:
    stored = await client.put(url, {"success": False, "error_message": "no such host"})
    assert (stored.quality, stored.why) == ("failed", "success")
    found = await client.get(url)
    assert (bool(found), found.quality) == (True, "failed")
    miss = await client.get(url, quality="good")
    assert (bool(miss), miss.reason, miss.failed) == (False, "failed", True)
    assert miss.failure["why"] == "success"
    best, good = await client.batch_get([url]), await client.batch_get([url], quality="good")
    assert (best[0].quality, good[0].failed) == ("failed", True)
    (outcome,) = await client.batch_put([(url, BAD)])
    assert (outcome.quality, outcome.why) == ("failed", "status")
    (state,) = await client.lookup([url], quality="good")
    assert state.state == "absent"
    assert (await client.lookup([url]))[0].fresh
