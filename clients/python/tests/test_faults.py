"""What goes wrong on the way: how often, when and what is tried again, and what the caller is told."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from conftest import Clients, free_port
from scripted import Scripted, answer, cut, drip, hit, problem, silence

import crawlcache
from crawlcache import _codec as codec

URL = "https://example.com/"
STORED = b'{"outcome":"created","url":"https://example.com/","variant":"","etag":"00","raw_bytes":2,"stored_bytes":2}'


async def test_a_busy_service_is_asked_again_when_it_says(clients: Clients) -> None:
    with Scripted(problem(503, "overloaded", Retry_After="1"), hit()) as server:
        found = await clients(server.url).get(URL)
        assert found.document == {"a": 1}
        assert (found.etag, found.age, found.ttl, found.source) == ("0123456789abcdef0123456789abcdef", 5, 55, "sqlite")
        first, second = server.heard
        assert second.at - first.at >= 1.0


async def test_retry_after_may_be_a_date(clients: Clients) -> None:
    date = formatdate(time.time() + 2, usegmt=True)
    with Scripted(answer(429, b"slow down", Retry_After=date), hit()) as server:
        assert await clients(server.url).get(URL)
        first, second = server.heard
        # Dates have whole seconds.
        assert second.at - first.at >= 0.9


async def test_a_pause_beyond_the_timeout_is_not_waited_for(clients: Clients) -> None:
    with Scripted(problem(503, "overloaded", Retry_After="60")) as server:
        with pytest.raises(crawlcache.Unavailable) as raised:
            await clients(server.url, timeout=3).get(URL)
        assert (raised.value.status, raised.value.code, raised.value.retry_after) == (503, "overloaded", 60)
        assert len(server.heard) == 1


@pytest.mark.parametrize("retries", [0, 2])
async def test_as_many_retries_as_asked_for(clients: Clients, retries: int) -> None:
    with Scripted(problem(503, "unavailable")) as server:
        with pytest.raises(crawlcache.Unavailable):
            await clients(server.url, retries=retries).get(URL)
        assert len(server.heard) == retries + 1


async def test_nobody_there_is_unavailable(clients: Clients) -> None:
    with pytest.raises(crawlcache.Unavailable) as raised:
        await clients(f"http://127.0.0.1:{free_port()}").get(URL)
    assert (raised.value.status, raised.value.code) == (0, "connection_failed")
    assert not raised.value.maybe_processed


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(cut(), id="no answer"),
        pytest.param(cut(b"HTTP/1.1 200 OK\r\nContent-Le"), id="cut in the head"),
        pytest.param(cut(b'HTTP/1.1 200 OK\r\nContent-Length: 70\r\nETag: "00"\r\n\r\n{"a"'), id="cut in the body"),
        pytest.param(hit(codec.compress(b'{"a":1}' * 500)[:-3], Content_Encoding="zstd"), id="zstd that is cut"),
        pytest.param(hit(b"\x28\xb5\x2f\xfd nonsense", Content_Encoding="zstd"), id="zstd that is none"),
        pytest.param(hit(b"{}", Content_Encoding="br"), id="coding that was not asked for"),
        pytest.param(answer(200, b"<html>log in</html>", Content_Type="text/html"), id="somebody else"),
        pytest.param(answer(302, b"", Location="http://example.com/"), id="redirect"),
        pytest.param(answer(502, b"<html>bad gateway</html>", Content_Type="text/html"), id="proxy"),
        pytest.param(cut(b"SSH-2.0-OpenSSH_9.2\r\n"), id="not HTTP"),
    ],
)
async def test_a_broken_answer_is_asked_for_again(clients: Clients, broken: object) -> None:
    with Scripted(broken, hit()) as server:  # type: ignore[arg-type]
        found = await clients(server.url).get(URL)
        assert found.document == {"a": 1}
        assert len(server.heard) == 2
    with Scripted(broken) as server:  # type: ignore[arg-type]
        with pytest.raises(crawlcache.Unavailable):
            await clients(server.url, retries=1).get(URL)
        assert len(server.heard) == 2


async def test_json_that_is_none_is_told_when_the_document_is_asked_for(clients: Clients) -> None:
    with Scripted(hit(b'{"a":')) as server:
        found = await clients(server.url).get(URL)
        assert found.raw == b'{"a":'
        with pytest.raises(crawlcache.InvalidAnswer):
            _ = found.document


async def test_a_service_that_is_slow_is_a_timeout(clients: Clients) -> None:
    with Scripted(silence(3)) as server:
        with pytest.raises(crawlcache.Timeout) as raised:
            await clients(server.url, timeout=0.5).get(URL)
        assert isinstance(raised.value, TimeoutError)


async def test_a_body_that_drips_does_not_outlast_the_timeout(clients: Clients) -> None:
    with Scripted(drip(5)) as server:
        client = clients(server.url, timeout=0.5, max_connections=1)
        for _ in range(3):
            with pytest.raises(crawlcache.Timeout) as raised:
                await client.get(URL)
            # It was not the connection that was missing: that of the call before is given up.
            assert raised.value.maybe_processed
        assert len(server.heard) == 3


async def test_what_may_have_been_done_is_done_again_only_if_that_changes_nothing(clients: Clients) -> None:
    async def requests_of(name: str, *arguments: object, **options: object) -> int:
        with Scripted(cut()) as server:
            client = clients(server.url, retries=1)
            with pytest.raises(crawlcache.Unavailable) as raised:
                await getattr(client.sessions if name.startswith("s.") else client, name.removeprefix("s."))(
                    *arguments, **options
                )
            assert raised.value.maybe_processed
            return len(server.heard)

    assert await requests_of("get", URL) == 2
    assert await requests_of("put", URL, {}) == 2
    assert await requests_of("delete", URL) == 2
    assert await requests_of("lookup", [URL]) == 2
    assert await requests_of("batch_get", [URL]) == 2
    assert await requests_of("batch_put", [(URL, {})]) == 2
    assert await requests_of("patch", URL, {"a": 1}, if_match="00") == 2
    assert await requests_of("renew", "00") == 2
    assert await requests_of("release", "00") == 2
    assert await requests_of("s.put", "a", {}) == 2
    # Asked for twice, the lease of the first would be held by nobody that knows of it.
    assert await requests_of("get", URL, lease=30) == 1
    assert await requests_of("acquire", URL) == 1
    assert await requests_of("patch", URL, {"a": 1}) == 1
    assert await requests_of("s.create", {}) == 1
    assert await requests_of("s.patch", "a", {}) == 1
    assert await requests_of("s.append", "a", "Navigated") == 1


async def test_what_was_not_begun_is_always_tried_again(clients: Clients) -> None:
    won = answer(
        201,
        b'{"state":"won","token":"ab","url":"https://example.com/","variant":"","seconds":30}',
        Content_Type="application/json",
    )
    for refused in (problem(503, "overloaded"), answer(429, b"")):
        with Scripted(refused, won) as server:
            outcome = await clients(server.url).acquire(URL)
            assert outcome
            assert outcome.lease.token == "ab"
            assert len(server.heard) == 2
    # A 503 of another kind may come after the lease was granted.
    with Scripted(problem(503, "timeout"), won) as server:
        with pytest.raises(crawlcache.Unavailable):
            await clients(server.url).acquire(URL)
        assert len(server.heard) == 1


async def test_a_failed_precondition_says_whether_an_earlier_try_may_be_why(clients: Clients) -> None:
    failed = problem(412, "precondition_failed")
    with Scripted(cut(), failed) as server:
        with pytest.raises(crawlcache.PreconditionFailed) as raised:
            await clients(server.url).put(URL, {}, if_absent=True)
        assert raised.value.repeated
    with Scripted(failed) as server:
        with pytest.raises(crawlcache.PreconditionFailed) as raised:
            await clients(server.url).put(URL, {}, if_absent=True)
        assert not raised.value.repeated


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_url", crawlcache.InvalidRequest),
        (401, "unauthorized", crawlcache.Unauthorized),
        (403, "forbidden", crawlcache.Forbidden),
        (404, "not_found", crawlcache.NotFound),
        (409, "lease_lost", crawlcache.LeaseLost),
        (409, "lease_outdated", crawlcache.LeaseOutdated),
        (409, "write_conflict", crawlcache.Conflict),
        (412, "precondition_failed", crawlcache.PreconditionFailed),
        (413, "body_too_large", crawlcache.TooLarge),
        (422, "immutable_field", crawlcache.InvalidRequest),
        (500, "internal_error", crawlcache.ServiceError),
        (502, "backend_credentials", crawlcache.Unavailable),
        (507, "storage_full", crawlcache.StorageFull),
    ],
)
async def test_each_error_has_a_kind_and_is_told_at_once(
    clients: Clients, status: int, code: str, kind: type[crawlcache.ServiceError]
) -> None:
    with Scripted(problem(status, code, members={"field": "x"})) as server:
        with pytest.raises(crawlcache.ServiceError) as raised:
            await clients(server.url).put(URL, {})
        assert type(raised.value) is kind
        assert (raised.value.status, raised.value.code, raised.value.detail) == (status, code, f"about {code}")
        assert raised.value.problem["field"] == "x"
        assert len(server.heard) == 1


async def test_a_batch_that_breaks_goes_on_where_it_was(clients: Clients) -> None:
    def line(index: int, page: int) -> bytes:
        return (
            b'{"index":%d,"url":"https://a.b/%d","variant":"","status":200,"etag":"e","age":1,"ttl":2,"document":{"i":%d}}\n'
            % (
                index,
                page,
                page,
            )
        )

    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"

    def chunk(text: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(text), text)

    with Scripted(
        cut(head + chunk(line(0, 0) + line(1, 1)) + chunk(line(2, 2)[:30])),
        cut(head + chunk(line(0, 2))),
        answer(200, line(0, 3) + line(1, 4)),
    ) as server:
        found = await clients(server.url, retries=1).batch_get([f"https://a.b/{n}" for n in range(5)])
        assert [(item.index, item.key.url, item.document) for item in found] == [
            (n, f"https://a.b/{n}", {"i": n}) for n in range(5)
        ]
        assert [b"/2" in heard.body and b"/1" not in heard.body for heard in server.heard] == [False, True, False]


async def test_no_more_connections_than_allowed(clients: Clients) -> None:
    with Scripted(hit(after=0.05)) as server:
        client = clients(server.url, max_connections=3)
        await asyncio.gather(*(client.get(URL) for _ in range(30)))
        assert len(server.heard) == 30
        assert server.most_open == 3


async def test_a_large_batch_that_is_refused_goes_in_parts(clients: Clients) -> None:
    outcome = b'{"line":1,"status":201,"outcome":"created","url":"u","variant":"","etag":"e"}\n'
    too_large = problem(413, "body_too_large")
    with Scripted(too_large, answer(200, outcome), too_large) as server:
        stored, refused = await clients(server.url).batch_put([("https://a.b/0", {}), ("https://a.b/1", {})])
        assert stored.outcome == "created"
        assert isinstance(refused, crawlcache.Rejected)
        assert isinstance(refused.error, crawlcache.TooLarge)
        assert (refused.key.url, refused.index) == ("https://a.b/1", 1)
        assert len(server.heard) == 3


async def test_every_request_says_who_asks(clients: Clients) -> None:
    with Scripted(answer(201, STORED, Content_Type="application/json")) as server:
        await clients(server.url + "/cache/", token="secret").put(URL, {"a": "x" * 5000}, variant="é")
        (heard,) = server.heard
        assert heard.target == "/cache/v1/result?url=https://example.com/&variant=%C3%A9"
        assert heard.headers["user-agent"] == f"crawlcache-python/{crawlcache.__version__}"
        assert heard.headers["authorization"] == "Bearer secret"
        assert heard.headers["content-encoding"] == "zstd"
        assert codec.loads(codec.decompress(heard.body)) == {"a": "x" * 5000}
        assert len(heard.body) < 200


async def test_a_hit_with_a_stale_answer_may_carry_a_lease(clients: Clients) -> None:
    with Scripted(
        hit(
            Cache_Status="crawlcache; hit; ttl=-7; detail=stale, nginx; hit; ttl=3",
            Crawlcache_Lease="ab" * 32,
            Crawlcache_Lease_Expires="2026-11-21T10:00:30.000Z",
            Crawlcache_Quality="failed",
            Crawlcache_Origin_Etag='W/"x"',
        )
    ) as server:
        found = await clients(server.url).get(URL, stale=60, lease=30, wait=2)
        assert (found.stale, found.ttl, found.source, found.quality) == (True, -7, "stale", "failed")
        assert (found.lease.token, found.lease.seconds, found.lease.expires_at.second) == ("ab" * 32, 30, 30)
        assert found.validators.etag == 'W/"x"'
        assert server.heard[0].target.endswith("&stale=60&lease=30&wait=2")
