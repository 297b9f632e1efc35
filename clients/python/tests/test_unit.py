"""The core without a service: JSON, lines, addresses, and what a client refuses by itself."""

from __future__ import annotations

import json
import math
import pickle
import random
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import ROOT

import crawlcache
from crawlcache import AsyncClient, Client, Item, Key
from crawlcache import _batch as batch
from crawlcache import _calls as calls
from crawlcache import _codec as codec
from crawlcache import _lease_calls as leases
from crawlcache import _wire as wire


@pytest.fixture(params=["json", "orjson"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both readers of JSON."""
    if request.param == "json":
        monkeypatch.setattr(codec, "orjson", None)
    else:
        pytest.importorskip("orjson")
    return str(request.param)


VALUES = [
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**40,
    0.1,
    1e-300,
    5e-324,
    1.7976931348623157e308,
    0.30000000000000004,
    -0.0,
    "\ud800",
    "\udfff\ud800x",
    "\U0001f600",
    'é\u0000\u001f\u2028\\"/',
    [],
    {},
    None,
    True,
    {"": {"": [[], {}]}},
]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_json_there_and_back(value: Any, reader: str) -> None:
    raw = codec.dumps({"value": value})
    back = codec.loads_object(raw)["value"]
    assert back == value
    assert type(back) is type(value)
    assert raw == codec.dumps(codec.loads(raw))
    assert math.copysign(1, back) == -1 if value == 0 and isinstance(value, float) else True


def test_both_readers_agree_on_odd_documents(reader: str) -> None:
    for text in ['{"a":1e400}', '{"a":1.000000000000000000000001}', '{"a":1,"a":2}', '"\\ud83d\\ude00"', " [1 ,2]\n"]:
        assert codec.loads(text.encode()) == json.loads(text)
    deep = b"[" * 500 + b"]" * 500
    assert codec.loads(deep) == json.loads(deep)


@pytest.mark.parametrize("raw", [b"", b"{", b"nul", b'{"a":1}x', b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 100_000])
def test_what_is_not_json_is_an_invalid_answer(raw: bytes, reader: str) -> None:
    with pytest.raises(crawlcache.InvalidAnswer):
        codec.loads(raw)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object(), b"bytes", datetime.now()], ids=repr)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        codec.dumps({"value": value})


@pytest.mark.parametrize("document", [[1], None, 5, object()], ids=["list", "none", "number", "object"])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        calls.put("https://a.b/", document)


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: calls.get("https://a.b/", etag=bad),
        lambda bad: calls.put("https://a.b/", {}, if_match=bad),
        lambda bad: calls.put("https://a.b/", {}, lease=bad),
        lambda bad: leases.renew(bad),
        lambda bad: Client("http://a", token=bad),
    ],
)
@pytest.mark.parametrize("bad", ["a\r\nX: y", "é", "\ud800"], ids=ascii)
def test_nothing_slips_into_headers(make: Any, bad: str) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        make(bad)


def test_json_text_goes_as_it_is() -> None:
    text = '{"n": 1.10, "s":"\\u0061"}'
    assert codec.document_bytes(text) == codec.document_bytes(text.encode()) == text.encode()
    assert codec.document_bytes(bytearray(text.encode())) == text.encode()


@pytest.mark.parametrize("coding", ["identity", "zstd"])
def test_lines_are_found_wherever_the_pieces_end(coding: str) -> None:
    dice = random.Random(3)
    lines = [b"x" * dice.choice([1, 5, 300, 70_000]) for _ in range(40)]
    body = b"\n".join(lines) + b"\n\n"
    if coding == "zstd":
        # Two frames, the first in several flushed blocks and without its size.
        compressor = codec.zstd.ZstdCompressor(level=1)
        parts = [
            compressor.compress(body[start : start + 9999], compressor.FLUSH_BLOCK) for start in range(0, 90_000, 9999)
        ]
        at = len(range(0, 90_000, 9999)) * 9999
        body = b"".join(parts) + compressor.flush() + codec.compress(body[at:])
    for size in (1, 7, 1000, len(body)):
        found = codec.LineReader(coding)
        got = [line for start in range(0, len(body), size) for line in found.feed(body[start : start + size])]
        got += found.end()
        assert got == lines


def test_a_cut_or_broken_stream_is_noticed() -> None:
    body = codec.compress(b"line\n" * 1000)
    cut = codec.LineReader("zstd")
    list(cut.feed(body[:-4]))
    with pytest.raises(crawlcache.InvalidAnswer):
        cut.end()
    with pytest.raises(crawlcache.InvalidAnswer):
        list(codec.LineReader("zstd").feed(b"nothing of the kind"))
    with pytest.raises(crawlcache.InvalidAnswer):
        codec.LineReader("br")


def test_the_last_line_needs_no_end() -> None:
    reader = codec.LineReader(None)
    assert [*reader.feed(b"a\nb"), *reader.end()] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0", 0, 0),
        (" 7 ", 7, 7),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1e9, 1e10),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0, 0),
        ("Fri, 01 Jan 1999 00:00:00 -0000", 0, 0),
    ],
)
def test_retry_after_is_read(text: str, low: float, high: float) -> None:
    seconds = wire.retry_after({"Retry-After": text})
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "99999999999"])
def test_retry_after_that_is_none_is_nothing(text: str) -> None:
    assert wire.retry_after({"Retry-After": text}) is None
    assert wire.retry_after({}) is None


def test_pauses_grow_at_random_and_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: most.append(high) or low)
    tries = wire.Tries(wire.Policy(timeout=100, retries=9), wire.Request("GET", "/"))
    for _ in range(9):
        tries.pause_after(crawlcache.Unavailable(503, "unavailable", ""))
    assert most == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    with pytest.raises(crawlcache.Unavailable):
        tries.pause_after(crawlcache.Unavailable(503, "unavailable", ""))


def test_waiting_for_a_lease_adds_to_the_timeout() -> None:
    call = calls.get("https://a.b/", lease=30, wait=20)
    assert 49 < wire.Tries(wire.Policy(timeout=30), call.request).remaining() <= 50
    tries = wire.Tries(wire.Policy(timeout=0.01), wire.Request("GET", "/"))
    time.sleep(0.02)
    with pytest.raises(crawlcache.Timeout):
        tries.remaining()


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "http://", "127.0.0.1:8080", "http://u:p@a", "http://a/?x=1", "http://a/#x"]
)
def test_an_address_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLCACHE_URL", "nonsense")
    for kind in (Client, AsyncClient):
        with pytest.raises(crawlcache.InvalidRequest):
            kind(url)


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLCACHE_URL", "http://cache.example:1/")
    monkeypatch.setenv("CRAWLCACHE_TOKEN", "t")
    assert Client().url == "http://cache.example:1"
    assert AsyncClient()._address.headers["Authorization"] == "Bearer t"
    assert "Authorization" not in Client("http://a", token="")._address.headers
    monkeypatch.delenv("CRAWLCACHE_URL")
    assert Client().url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("options", [{"timeout": 0}, {"connect_timeout": -1}, {"retries": -1}, {"max_connections": 0}])
def test_limits_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Client("http://a", **options)


def test_parameters_are_written_so_that_they_come_back() -> None:
    assert calls.target("/p", {"url": "https://a.b/ü?x=1&y=%20#f+g", "none": None, "yes": True}) == (
        "/p?url=https://a.b/%C3%BC%3Fx%3D1%26y%3D%2520%23f%2Bg&yes=true"
    )
    with pytest.raises(crawlcache.InvalidRequest):
        calls.get("https://a.b/\ud800")
    call = calls.get(
        "https://a.b/", fields=["head", "markdown"], require="html", max_age=1.9, stale=1.1, quality="good"
    )
    assert call.request.target.endswith("&fields=head%2Cmarkdown&require=html&max_age=1&stale=2&quality=good")


def test_times_are_written_as_the_service_reads_them() -> None:
    zone = timezone(timedelta(hours=2))
    assert calls.moment(datetime(2026, 1, 2, 3, 4, 5, 600_000, zone)) == "2026-01-02T01:04:05.600000Z"
    assert calls.moment(1_700_000_000) == "1700000000"
    assert calls.moment("2026-01-02T03:04:05Z") == "2026-01-02T03:04:05Z"
    assert calls.instant("2026-01-02T03:04:05.600Z") == datetime(2026, 1, 2, 3, 4, 5, 600_000, timezone.utc)
    assert calls.instant("2026-01-02T03:04:05Z") == datetime(2026, 1, 2, 3, 4, 5, 0, timezone.utc)
    assert calls.instant("yesterday") is None


@pytest.mark.parametrize(
    ("etag", "header"), [("ab", '"ab"'), ('"ab"', '"ab"'), ('W/"ab"', 'W/"ab"'), ("*", "*"), ("ab,cd", '"ab", "cd"')]
)
def test_preconditions_are_quoted(etag: str, header: str) -> None:
    assert calls.quoted(etag) == header
    assert calls.bare('W/"ab-zstd"') == "ab"


@pytest.mark.parametrize("key", [None, 5, ("a",), ("a", 1), ["a", "b"], b"https://a.b/"])
def test_a_key_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        calls.lookups([key])


def test_what_cannot_be_told_is_not_absent() -> None:
    said = {
        "counts": {"fresh": 1, "stale": 0, "absent": 1, "leased": 0, "invalid": 0, "unknown": 2},
        "results": [
            {"state": "fresh", "age": 1, "ttl": 2, "etag": "ab"},
            {"state": "unknown", "reason": "result"},
            {"state": "absent", "reason": "absent"},
            {"state": "unknown", "reason": "lease"},
        ],
    }
    (call,) = calls.lookups([f"https://a.b/{n}" for n in range(4)])
    states = call.judge(wire.Answer(200, {"content-type": "application/json"}, json.dumps(said).encode()))
    assert [(state.state, state.reason, state.known) for state in states] == [
        ("fresh", None, True),
        ("unknown", "result", False),
        ("absent", "absent", True),
        ("unknown", "lease", False),
    ]
    to_fetch = [state.key.url for state in states if state.known and not state.fresh]
    assert to_fetch == ["https://a.b/2"]


@pytest.mark.parametrize("item", [{}, {"url": "u"}, {"url": "u", "document": {}, "tll": 5}, "u"])
def test_an_item_that_is_none_is_refused(item: Any) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        list(batch.BatchPut().add(item))


def test_items_fill_requests_by_number_and_by_bytes() -> None:
    def sizes(count: int, size: int, **options: Any) -> list[int]:
        collected = batch.BatchPut(**options)
        parts = [part for n in range(count) for part in collected.add((f"https://a.b/{n}", {"t": "x" * size}))]
        return [len(part._lines) for part in [*parts, *collected.rest()]]

    assert sizes(2500, 1) == [1000, 1000, 500]
    assert sizes(5, 1000, body_bytes=2500) == [2, 2, 1]
    assert sizes(3, 5000, body_bytes=2500) == [1, 1, 1]
    assert sizes(0, 1) == []


def test_an_item_becomes_one_line() -> None:
    lease = crawlcache.Lease("ab", Key("u"), None, 30)
    item = Item(("u", "v"), '{\r\n "a": 1.10\n}', ttl=1, lease=lease, validators=crawlcache.Validators(etag="e"))
    collected = batch.BatchPut(ttl=9)
    list(collected.add(item))
    list(collected.add({"url": "w", "document": {}, "validators": {"last_modified": "m"}}))
    (part,) = collected.rest()
    assert part.call().request.body == (
        b'{"url":"u","variant":"v","ttl":1,"lease":"ab","validators":{"etag":"e"},"document":{   "a": 1.10 }}\n'
        b'{"url":"w","ttl":9,"validators":{"last_modified":"m"},"document":{}}\n'
    )


def test_errors_survive_pickling() -> None:
    error = crawlcache.Unavailable(503, "overloaded", "busy", {"a": 1}, maybe_processed=False, retry_after=2)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == "503 overloaded: busy"


def test_outcomes_read_well() -> None:
    miss = crawlcache.Miss(Key("u"), "failed", {"failed": {"why": "status", "status_code": 503}})
    assert not miss
    assert miss.failed
    assert miss.failure["why"] == "status"
    hit = crawlcache.Hit(
        Key("https://a.b/"), b"{}", etag="e", age=1, ttl=2, last_modified="Sat, 21 Nov 2026 10:15:37 GMT"
    )
    assert repr(hit) == "<Hit 'https://a.b/' age=1 ttl=2 good 2 bytes>"
    assert hit.updated_at == datetime(2026, 11, 21, 10, 15, 37, 0, timezone.utc)
    assert hit.document is hit.document


def test_the_version_is_that_of_the_service() -> None:
    manifest = ROOT / "Cargo.toml"
    found = re.search(r'^version = "(.*)"', manifest.read_text(), re.MULTILINE)
    assert found
    assert crawlcache.__version__ == found.group(1)
