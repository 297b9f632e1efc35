"""Results, listings and sessions at the real service, by both clients."""

from __future__ import annotations

import random
import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from conftest import BINARY, Clients, Either, Service

import crawlcache
from crawlcache import Hit, Item, Key, Miss, NotModified, Rejected, Stored, Validators
from crawlcache import _codec as codec


@pytest.fixture
def site() -> str:
    """The address of a site that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example"


ODD = [
    '{"n":[1e400,-0,0.10,1.0,1E5,123456789012345678901234567890,0.1234567890123456789012345]}',
    '{"s":"\\ud800 \\u0000 \\/ \\u00e9 é 😀 \\ud83d\\ude00"}',
    '{ "spaces" : [ 1 , 2 ] ,\n\t"line": "breaks" }\n',
    '{"":{"":[[],{}]},"deep":' + "[" * 100 + "]" * 100 + "}",
    "{}",
    '{"document":{"document":"\\",\\"document\\":"},"index":5,"url":7}',
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
async def test_documents_come_back_digit_for_digit(client: Either, site: str, text: str) -> None:
    url = site + '/odd,"document":?q=a+b&c=%20#frag'
    for document in (text, text.encode()):
        assert isinstance(await client.put(url, document), Stored)
        found = await client.get(url)
        # White space between the top-level members is all that the service leaves out.
        expected = b'{"spaces":[ 1 , 2 ],"line":"breaks"}' if "spaces" in text else text.encode()
        assert found.raw == expected
        assert found.document == codec.loads(text.encode())
        (batched,) = await client.batch_get([url])
        assert batched.document == found.document
        assert batched.raw == expected
    (outcome,) = await client.batch_put([(url, text)])
    assert outcome.outcome in ("refreshed", "replaced")
    assert (await client.get(url)).document == codec.loads(text.encode())


async def test_dictionaries_come_back(client: Either, site: str) -> None:
    document = {"big": 10**30, "float": 0.1, "half": "\ud800", "text": "é😀\u2028", "none": None, "list": [True, {}]}
    stored = await client.put(f"{site}/", document, ttl=60)
    assert (stored.outcome, stored.quality, stored.key) == ("created", "good", Key(f"{site}/"))
    found = await client.get(f"{site}/")
    assert found.document == document
    assert (found.etag, found.stale, found.source in ("memory", "sqlite")) == (stored.etag, False, True)
    assert 0 < found.ttl <= 60


async def test_thirty_megabytes_come_back(client: Either, site: str) -> None:
    dice = random.Random(1)
    # Half of it hardly compresses.
    document = {"a": dice.randbytes(7_500_000).hex(), "b": "text " * 3_000_000}
    stored = await client.put(f"{site}/", document)
    assert stored.raw_bytes > 30_000_000
    found = await client.get(f"{site}/")
    assert found.document == document
    (batched,) = await client.batch_get([f"{site}/"])
    assert batched.raw == found.raw
    (outcome,) = await client.batch_put([(f"{site}/2", document)])
    assert outcome.etag == stored.etag
    await client.delete(f"{site}/")


async def test_what_counts_as_an_answer_is_up_to_the_caller(client: Either, site: str) -> None:
    url = f"{site}/"
    missed = await client.get(url)
    assert (bool(missed), missed.reason, missed.failed, missed.lease) == (False, "absent", False, None)
    await client.put(url, {"url": url, "html": "<p>", "markdown": ""}, variant="v", ttl=60)
    assert (await client.get(url)).reason == "variant"
    assert (await client.get(url, variant="v", require=["markdown"])).reason == "field_missing"
    assert (await client.get(url, variant="v", fields=["html"])).document == {"html": "<p>"}
    found = await client.get(url, variant="v", consistent=True, max_age=60, require="html")
    assert (found.url, found.variant, found.source) == (url, "v", "sqlite")
    await client.put(url, {"old": 1}, updated_at="2026-01-01T00:00:00Z", ttl=0)
    assert (await client.get(url)).reason == "expired"
    stale = await client.get(url, stale=10**9)
    assert (stale.stale, stale.document) == (True, {"old": 1})
    assert stale.age > 1000
    assert stale.updated_at.year == 2026


async def test_what_the_caller_has_is_not_sent_again(client: Either, site: str) -> None:
    stored = await client.put(f"{site}/", {"a": 1}, origin_etag='"o"', origin_last_modified="m", head_fingerprint="f")
    same = await client.get(f"{site}/", etag=stored.etag)
    assert isinstance(same, NotModified)
    assert same
    assert same.validators == Validators('"o"', "m", "f")
    assert (same.etag, same.ttl > 0) == (stored.etag, True)
    assert isinstance(await client.get(f"{site}/", etag="0" * 32), Hit)


async def test_conditions(client: Either, site: str) -> None:
    url = f"{site}/"
    first = await client.put(url, {"a": 1}, if_absent=True)
    with pytest.raises(crawlcache.PreconditionFailed):
        await client.put(url, {"a": 2}, if_absent=True)
    second = await client.put(url, {"a": 2}, if_match=first.etag)
    for refused in (
        client.put(url, {"a": 3}, if_match=first.etag),
        client.patch(url, {"a": 3}, if_match=first.etag),
        client.delete(url, if_match=first.etag),
    ):
        with pytest.raises(crawlcache.PreconditionFailed):
            await refused
    assert (await client.get(url)).document == {"a": 2}
    await client.delete(url, if_match=second.etag)
    assert not await client.get(url)
    await client.delete(url)


async def test_a_patch_changes_fields_or_confirms(client: Either, site: str) -> None:
    url = f"{site}/"
    with pytest.raises(crawlcache.NotFound):
        await client.patch(url, {"a": 1})
    stored = await client.put(url, {"a": 1, "b": 2}, updated_at="2026-01-01T00:00:00Z")
    await client.patch(url, {"b": None, "c": [3]})
    assert (await client.get(url, stale=10**9)).document == {"a": 1, "c": [3]}
    confirmed = await client.patch(url, confirmed=True, ttl=100, origin_etag='"n"')
    assert confirmed.etag != stored.etag
    found = await client.get(url, max_age=5)
    assert found.validators.etag == '"n"'
    assert 95 < found.ttl <= 100


@pytest.mark.parametrize("url", ["", "nothing", "https://", "x" * 9000])
async def test_a_bad_url_is_refused(client: Either, url: str) -> None:
    with pytest.raises(crawlcache.InvalidRequest) as raised:
        await client.get(url)
    assert raised.value.status == 400
    with pytest.raises(crawlcache.InvalidRequest):
        await client.put(url, {})


@pytest.mark.parametrize("document", ["[]", "{", '{"a":1,"a":2}'])
async def test_a_bad_document_is_refused(client: Either, site: str, document: str) -> None:
    with pytest.raises(crawlcache.InvalidRequest):
        await client.put(f"{site}/", document)
    assert not await client.get(f"{site}/")


async def test_batches_of_any_size_keep_their_order(client: Either, site: str) -> None:
    urls = [f"{site}/{n}" for n in range(2300)]

    def items() -> Any:
        for n, url in enumerate(urls):
            yield (url, {"n": n}) if n % 3 else {"url": url, "variant": "v", "document": {"n": n}, "ttl": 60}
        yield Item("bad", {"n": -1})
        yield Item(f"{site}/last", '{"n":1.50}', ttl=5, validators=Validators("e"))

    outcomes = await client.batch_put(items())
    assert [outcome.index for outcome in outcomes] == list(range(2302))
    assert all(isinstance(outcome, Stored) for outcome in (*outcomes[:2300], outcomes[-1]))
    bad = outcomes[2300]
    assert isinstance(bad, Rejected)
    assert (bool(bad), bad.key, bad.error.code) == (False, Key("bad"), "invalid_url")

    keys = [Key(url, "" if n % 3 else "v") for n, url in enumerate(urls)]
    found = await client.batch_get([*keys, "bad", f"{site}/none", f"{site}/last"], require="n")
    assert [hit.document["n"] for hit in found[:2300]] == list(range(2300))
    assert [hit.index for hit in found] == list(range(2303))
    refused, missed, last = found[2300:]
    assert isinstance(refused, Rejected)
    assert isinstance(missed, Miss)
    assert (missed.reason, missed.key) == ("absent", Key(f"{site}/none"))
    assert (last.raw, last.ttl <= 5) == (b'{"n":1.50}', True)

    states = await client.lookup([*keys * 5, ("bad", ""), f"{site}/none"])
    assert len(states) == 11_502
    assert all(state.fresh and state.ttl is not None for state in states[:11_500])
    assert [state.state for state in states[11_500:]] == ["invalid", "absent"]
    assert [state.key for state in states[:2300]] == keys

    listed = await client.list(host=site.removeprefix("https://"), page_size=700)
    assert {(item["url"], item["variant"]) for item in listed} == {*keys, Key(f"{site}/last")}
    among = [item["url"] for item in await client.list(prefix=f"{site}/229")]
    assert among == [item["url"] for item in listed if item["url"].startswith(f"{site}/229")]
    assert len(among) == 11
    nothing = [await client.batch_get([]), await client.batch_put([]), await client.lookup([])]
    assert nothing == [[], [], []]


async def test_what_is_exported_can_be_imported(clients: Clients, client: Either, site: str, service: Service) -> None:
    await client.batch_put([(f"{site}/{n}", {"n": n, "t": "é" * 3000}) for n in range(1100)])
    host = site.removeprefix("https://")
    lines = await client.export(host=host)
    assert len(lines) == 1100
    other = clients(service.url)
    report = await other.import_lines([*lines, b'{"url":"bad","document":{}}'])
    assert (report["lines"], report["created"], report["failed"], report["complete"]) == (1101, 1100, 1, True)
    assert report["errors"][0]["line"] == 1101
    assert sorted(await other.export(host=host)) == sorted(lines)
    again = await other.import_lines([line.decode() for line in lines[:5]])
    assert (again["lines"], again["created"]) == (5, 0)
    dry = await other.purge(host=host, dry_run=True)
    assert (dry["matched"], dry["deleted"]) == (1100, 0)
    assert (await other.purge(host=host))["deleted"] == 1100
    assert await other.list() == []


async def test_the_service_says_how_it_is(client: Either, clients: Clients, service: Service) -> None:
    assert (await client.health())["status"] == "healthy"
    assert await client.ready() is True
    assert (await client.stats())["entries"] >= 0
    gone = clients(service.url, retries=0)
    assert await gone.ready()
    service.end()
    with pytest.raises(crawlcache.Unavailable):
        await gone.ready()


async def test_sessions_live(client: Either) -> None:
    sessions = client.sessions
    project = uuid.uuid4().hex
    made = await sessions.create({"project_id": project, "user_metadata": {"n": 1}})
    name = made["id"]
    with pytest.raises(crawlcache.Conflict):
        await sessions.create({"id": name})
    assert (await sessions.get(name))["status"] == "CREATING"
    assert await sessions.get(name, fields=["id"]) == {"id": name}
    assert await sessions.get("sess_none") is None
    changed = await sessions.patch(name, {"user_metadata": {"m": 2}}, if_match=made["version"])
    assert changed["user_metadata"] == {"n": 1, "m": 2}
    with pytest.raises(crawlcache.PreconditionFailed):
        await sessions.patch(name, {"user_metadata": {}}, if_match=made["version"])
    ready = await sessions.status(name, "READY", expected_status="CREATING", reason="up", source="test")
    assert ready["status"] == "READY"
    with pytest.raises(crawlcache.Conflict) as raised:
        await sessions.status(name, "STARTING", expected_status="CREATING")
    assert raised.value.problem["current"] == "READY"
    assert (await sessions.touch(name, ttl_seconds=600))["id"] == name
    for n in range(5):
        await sessions.append(name, "Navigated", {"n": n})
    history = await sessions.events(name, page_size=2)
    assert [event["detail"].get("n") for event in history if event["event_type"] == "Navigated"] == list(range(5))
    after = await sessions.events(name, after=history[-2]["index"])
    assert after == history[-1:]
    for n in range(3):
        await sessions.put(f"{project}-{n}", {"project_id": project})
    listed = await sessions.list(project_id=project, page_size=2)
    assert {item["id"] for item in listed} == {name, *(f"{project}-{n}" for n in range(3))}
    found = await sessions.batch_get(
        [name, "sess_none", *(f"{project}-{n % 3}" for n in range(120))], fields=["status"]
    )
    assert set(found) == {item["id"] for item in listed}
    with pytest.raises(crawlcache.PreconditionFailed):
        await sessions.put(f"{project}-0", {"project_id": project}, if_absent=True)
    for item in listed:
        await sessions.delete(item["id"])
    assert await sessions.list(project_id=project) == []


async def test_tokens_are_asked_for(clients: Clients, tmp_path: Path) -> None:
    data = tmp_path / "guarded"
    data.mkdir()
    make = [str(BINARY), "token", "create", "--name", "reader", "--scopes", "read"]
    environment = {"CRAWLCACHE_SERVER__DATA_DIR": str(data)}
    made = subprocess.run(make, env=environment, capture_output=True, text=True, check=True)
    token = re.search(r"\S{30,}", made.stdout)
    assert token, made.stdout
    guarded = Service(data)
    guarded.start()
    try:
        with pytest.raises(crawlcache.Unauthorized) as raised:
            await clients(guarded.url).get("https://a.b/")
        assert raised.value.status == 401
        reader = clients(guarded.url, token=token.group())
        assert (await reader.get("https://a.b/")).reason == "absent"
        with pytest.raises(crawlcache.Forbidden):
            await reader.put("https://a.b/", {})
    finally:
        guarded.end()
