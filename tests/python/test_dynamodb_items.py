"""Items of the results table, seen by others: boto3 writes what the service reads, and reads what it writes."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from boto3.dynamodb.types import Binary

import reader
from conftest import BINARY, ROOT, Service

ENDPOINT = os.environ.get("TEST_DYNAMODB_ENDPOINT")
REQUIRED = any(os.environ.get(name) for name in ("TEST_REQUIRE_DYNAMODB", "TEST_REQUIRE_ALL"))

URL = "https://example.com/page"


@pytest.fixture(autouse=True)
def dynamodb_is_there() -> None:
    """Skips where DynamoDB Local is not running, and fails where it must be."""
    if ENDPOINT is None:
        assert not REQUIRED, "TEST_DYNAMODB_ENDPOINT is not set"
        pytest.skip("start DynamoDB Local: eval \"$(scripts/test-services start)\"")


class Fleet:
    """A service on tables of its own, and what others see of its results table."""

    def __init__(self, data_dir: Path, layout: str, namespace: str | None = None) -> None:
        prefix = f"py-{uuid.uuid4().hex[:12]}-"
        self.service = Service(
            data_dir,
            CRAWLCACHE_STORE__BACKEND="dynamodb",
            CRAWLCACHE_DYNAMODB__ENDPOINT=ENDPOINT or "",
            CRAWLCACHE_DYNAMODB__REGION="us-east-1",
            CRAWLCACHE_DYNAMODB__CREATE_TABLES="true",
            CRAWLCACHE_DYNAMODB__TABLE_PREFIX=prefix,
            CRAWLCACHE_DYNAMODB__RESULTS_LAYOUT=layout,
        )
        self.headers = {"Accept-Encoding": "identity"}
        if namespace is not None:
            self.headers["Authorization"] = f"Bearer {token(data_dir, namespace)}"
        self.service.start()
        self.prefix = prefix
        self.table = connect().Table(f"{prefix}crawl4ai-results")

    @property
    def target(self) -> str:
        """Where one result is."""
        return f"{self.service.url}/v1/result"

    def write(self, item: dict[str, Any]) -> None:
        """Writes an item as other programs do."""
        self.table.put_item(Item=item)

    def item(self, key: str) -> dict[str, Any] | None:
        """The item under a partition key, tombstone or not."""
        return self.table.get_item(Key={"url": key}, ConsistentRead=True).get("Item")

    def get(self, url: str, **params: str) -> requests.Response:
        """Reads past every copy: others write to this table."""
        headers = {**self.headers, "Cache-Control": "no-cache"}
        return requests.get(self.target, params={"url": url, **params}, headers=headers, timeout=30)

    def put(self, document: dict[str, Any] | bytes, url: str = URL, **params: str) -> requests.Response:
        """Stores a document."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        stored = requests.put(self.target, params={"url": url, **params}, data=body, headers=headers, timeout=30)
        assert stored.status_code in (200, 201), stored.text
        return stored

    def packed_instead(self) -> dict[str, float]:
        """How many documents the plain layout could not hold, by reason."""
        text = requests.get(f"{self.service.url}/metrics", timeout=30).text
        name = "crawlcache_dynamodb_packed_instead_total"
        return {
            line.split('reason="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(f"{name}{{")
        }

    def end(self) -> None:
        """Stops the service and removes its tables."""
        if self.service.process is not None and self.service.process.poll() is None:
            self.service.stop()
        for table in connect().tables.all():
            if table.name.startswith(self.prefix):
                table.delete()


def connect() -> Any:
    """boto3, as the fleet uses it."""
    return boto3.resource(
        "dynamodb",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="dummy",
        aws_secret_access_key="dummy",
    )


def token(data_dir: Path, namespace: str) -> str:
    """A token for a namespace, made as an operator would."""
    return subprocess.run(
        [str(BINARY), "token", "create", "--name", namespace, "--namespace", namespace],
        env={**os.environ, "CRAWLCACHE_SERVER__DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def run(data_dir: Path, layout: str, namespace: str | None = None) -> Iterator[Fleet]:
    """A service that writes that layout, until the test is over."""
    fleet = Fleet(data_dir, layout, namespace)
    try:
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def packed(tmp_path: Path, dynamodb_is_there: None) -> Iterator[Fleet]:
    """A service with the default layout."""
    yield from run(tmp_path / "data", "packed")


@pytest.fixture
def plain(tmp_path: Path, dynamodb_is_there: None) -> Iterator[Fleet]:
    """A service that writes for other readers."""
    yield from run(tmp_path / "data", "plain")


@pytest.fixture
def tenant(tmp_path: Path, dynamodb_is_there: None) -> Iterator[Fleet]:
    """A service for the namespace `team-b`."""
    yield from run(tmp_path / "data", "packed", "team-b")


def naive_now(**ago: int) -> str:
    """The time in UTC without an offset, as older code wrote it."""
    return (datetime.now(timezone.utc) - timedelta(**ago)).replace(tzinfo=None).isoformat()


def instant(time_of_item: str) -> float:
    """Unix seconds of a time that the service wrote."""
    return datetime.strptime(time_of_item, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


def crawl_result(url: str = URL, **fields: Any) -> dict[str, Any]:
    """What older code put into the table for a page: no nulls, numbers as Decimal, empty maps."""
    return {
        "url": url,
        "success": True,
        "html": "<html><body><h1>Grüße</h1></body></html>",
        "cleaned_html": "<h1>Grüße</h1>",
        "markdown": {
            "raw_markdown": "# Grüße",
            "markdown_with_citations": "# Grüße",
            "references_markdown": "",
            "fit_markdown": "",
            "fit_html": "",
        },
        "extracted_content": "",
        "media": {},
        "links": {},
        "metadata": {},
        "response_headers": {},
        "downloaded_files": [],
        "screenshot": "",
        "status_code": 200,
        "error_message": "",
        "session_id": "",
        "created_at": naive_now(minutes=2),
        "updated_at": naive_now(minutes=1),
        "ttl": int(time.time()) + 30 * 86_400,
        **fields,
    }


def as_json(value: Any) -> Any:
    """What an item of boto3 is in JSON."""
    match value:
        case dict():
            return {name: as_json(member) for name, member in value.items()}
        case list() | tuple():
            return [as_json(member) for member in value]
        case set():
            return sorted(as_json(member) for member in value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes() | Binary():
            return base64.b64encode(bytes(value)).decode()
        case _:
            return value


def large_html(size: int, seed: int = 1) -> str:
    """A page that does not compress away: its words are random."""
    words = random.Random(seed)
    return "".join(f"<p>{words.getrandbits(64):016x}</p>" for _ in range(size // 23))


FOREIGN = {
    "as the guide has it": crawl_result(created_at="2025-01-15T10:30:00Z", updated_at="2025-01-15T10:30:00Z"),
    "a failure": crawl_result(success=False, status_code=0, html="", cleaned_html="", error_message="timed out"),
    "floats": crawl_result(
        metadata={"score": Decimal("0.87"), "size": Decimal("1234567.5"), "none": None, "big": Decimal(2**63)},
        media={"images": [{"src": "/a.png", "score": Decimal("3.25"), "width": 640}], "videos": [], "audios": []},
    ),
    "300 KB": crawl_result(html=large_html(300_000), screenshot="x" * 20_000),
    "other types": crawl_result(raw=Binary(b"\0\xff\x10"), tags={"b", "a"}, sizes={2, 1}),
    "nearly nothing": {"url": URL},
    "names of ours": crawl_result(version="2", etag="theirs", variant="none", expires_at="later", listed_at="never"),
    "no times": {name: value for name, value in crawl_result().items() if name not in ("created_at", "updated_at", "ttl")},
}


# Items that others wrote


@pytest.mark.parametrize("name", FOREIGN)
def test_items_of_older_code_are_read_field_for_field(packed: Fleet, name: str) -> None:
    item = FOREIGN[name]
    packed.write(item)
    answer = packed.get(URL)
    assert answer.status_code == 200, answer.text
    expected = as_json(item)
    assert answer.json() == expected
    assert answer.headers["ETag"] == packed.get(URL).headers["ETag"]
    if "html" in expected:
        some = packed.get(URL, fields="url,html,markdown,status_code")
        assert some.json() == {name: expected[name] for name in ("url", "html", "markdown", "status_code")}
        zstd = requests.get(
            packed.target,
            params={"url": URL},
            headers={"Accept-Encoding": "zstd"},
            stream=True,
            timeout=30,
        )
        assert zstd.headers["Content-Encoding"] == "zstd"
        assert json.loads(reader.text(zstd.raw.read(decode_content=False))) == expected
    if "ttl" in item:
        assert "ttl=25" in answer.headers["Cache-Status"], "30 days, a few seconds ago"


def test_items_of_others_are_no_listing_without_index_attributes(packed: Fleet) -> None:
    packed.write(crawl_result())
    packed.put(crawl_result("https://example.com/ours"), url="https://example.com/ours")
    deadline = time.monotonic() + 300
    while True:  # indexes follow
        listed = requests.get(f"{packed.service.url}/v1/results", timeout=30).json()["items"]
        if listed or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert [entry["url"] for entry in listed] == ["https://example.com/ours"]
    assert packed.get(URL).status_code == 200


def test_what_has_expired_is_no_answer_but_may_be_asked_for(packed: Fleet) -> None:
    # DynamoDB Local removes expired items within seconds, AWS within days.
    packed.write(crawl_result(ttl=int(time.time()) + 1))
    deadline = time.monotonic() + 300
    while (answer := packed.get(URL)).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status_code == 404
    assert answer.json()["reason"] in ("expired", "absent")


@pytest.mark.parametrize("layout", ["packed", "plain"])
def test_a_put_replaces_the_item_of_others(request: pytest.FixtureRequest, layout: str) -> None:
    fleet: Fleet = request.getfixturevalue(layout)
    item = crawl_result(html=large_html(50_000), unknown="theirs")
    fleet.write(item)
    before = fleet.get(URL)
    document = {"url": URL, "html": "<p>new</p>", "success": True, "metadata": {"ratio": 0.5}}
    fleet.put(document)
    after = fleet.get(URL)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert {name: after.json()[name] for name in document} == document
    assert "unknown" not in after.json()
    stored = fleet.item(URL)
    assert stored is not None
    assert "unknown" not in stored
    assert ("frame" in stored) == (layout == "packed")
    assert ("html" in stored) == (layout == "plain")
    # And back: older code writes once more.
    fleet.write(crawl_result(html="<p>old code</p>"))
    assert fleet.get(URL).json()["html"] == "<p>old code</p>"


def test_a_conditional_put_sees_the_item_of_others(packed: Fleet) -> None:
    packed.write(crawl_result())
    params = {"url": URL}
    refused = requests.put(packed.target, params=params, json={"url": URL}, headers={"If-None-Match": "*"}, timeout=30)
    assert refused.status_code == 412
    etag = packed.get(URL).headers["ETag"]
    taken = requests.put(packed.target, params=params, json={"url": URL}, headers={"If-Match": etag}, timeout=30)
    assert taken.status_code == 200, taken.text


def test_a_deleted_item_of_others_stays_deleted(packed: Fleet) -> None:
    packed.write(crawl_result())
    assert requests.delete(packed.target, params={"url": URL}, timeout=30).status_code == 204
    assert packed.get(URL).json()["reason"] == "absent"
    stored = packed.item(URL)
    assert stored is not None
    assert stored["deleted"] is True
    assert set(stored) == {"url", "version", "deleted", "ttl"}
    assert reader.read_item(packed.table, URL) is None


# Items that the service writes


def documents() -> dict[str, dict[str, Any]]:
    """Documents as today's crawlers put them."""
    common = {"url": URL, "success": True, "status_code": 200, "metadata": {"title": "Grüße", "n": [1.0, 1e5, 2**70, None]}}
    return {
        "small": {**common, "html": "<p>text</p>", "markdown": {"raw_markdown": "text"}},
        "page": {**common, "html": large_html(60_000), "markdown": "# text\n" * 3000, "cleaned_html": "text " * 4000},
        "parts": {**common, "html": large_html(2_500_000), "markdown": "# text\n" * 3000, "pdf": large_html(400_000, 2)},
        "empty": {"url": URL},
    }


@pytest.mark.parametrize("name", documents())
def test_packed_items_are_read_by_an_independent_reader(packed: Fleet, name: str) -> None:
    document = documents()[name]
    stored = packed.put(document).json()
    result = reader.read_packed(packed.table, URL)
    assert result.document() == document
    assert result.item["etag"] == stored["etag"]
    assert ("parts" in result.item) == (name == "parts")
    assert ("frame" in result.item) == (name != "parts")
    for field in document:
        assert reader.value(result.frame, result.layout, field) == document[field]
    if "markdown" in document and len(document["markdown"]) > 1024:
        cut = reader.prefix(result.frame, result.layout, "markdown")
        head = ["url", "success", "status_code", "metadata", "markdown"]
        assert json.loads(reader.text(cut)) == {name: document[name] for name in head}
        assert len(cut) < len(result.frame) / 2
    assert packed.get(URL).json() == document

    item = result.item
    for attribute in ("created_at", "updated_at", "expires_at"):
        assert len(item[attribute]) == 24
        assert instant(item[attribute]) > 1_700_000_000
    assert item["ttl"] >= instant(item["expires_at"])
    assert item["version"] // 65_536 <= (time.time() + 1) * 1000
    assert item["listed_at"].startswith(item["updated_at"] + " ")
    if name != "empty":
        assert (item["success"], item["status_code"]) == (True, 200)


@pytest.mark.parametrize("layout", ["packed", "plain"])
def test_the_ten_lines_of_the_page_read_an_item(request: pytest.FixtureRequest, layout: str) -> None:
    fleet: Fleet = request.getfixturevalue(layout)
    page: dict[str, Any] = {}
    (lines,) = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs" / "dynamodb-items.md").read_text())
    exec(lines, page)  # noqa: S102: the page is ours
    assert page["read"](fleet.table, URL) is None
    document = {"url": URL, "success": True, "html": "<p>text</p>"}
    fleet.put(document)
    read = page["read"](fleet.table, URL)
    assert {name: read[name] for name in document} == document
    requests.delete(fleet.target, params={"url": URL}, timeout=30)
    assert page["read"](fleet.table, URL) is None


def test_parts_outlive_the_item_that_names_them(packed: Fleet) -> None:
    packed.put(documents()["parts"])
    item = packed.item(URL)
    assert item is not None
    assert item["parts"] > 1
    for number in range(int(item["parts"])):
        part = packed.item(f"part {item['frame_id']} {number}")
        assert part is not None
        assert set(part) == {"url", "frame", "ttl"}
        assert part["ttl"] >= item["parts_until"] >= item["ttl"]


@pytest.mark.parametrize(
    ("url", "variant"),
    [(URL, "mobile"), (URL, "é=1"), ("https://example.com/" + "x" * 3000, ""), ("https://example.com/" + "x" * 2020, "mobile")],
)
def test_other_keys_are_found_by_the_rule_of_the_page(packed: Fleet, url: str, variant: str) -> None:
    document = {"url": url, "html": f"<p>{variant}</p>"}
    packed.put(document, url=url, variant=variant)
    result = reader.read_packed(packed.table, reader.partition_key(url, "default", variant))
    assert result.document() == document
    assert (result.item["page_url"], result.item["namespace"], result.item["variant"]) == (url, "default", variant)
    assert packed.get(url, variant=variant).json() == document


@pytest.mark.parametrize(("variant", "key"), [("", f"{URL} team-b "), ("mobile", f"{URL} team-b mobile")])
def test_another_namespace_has_keys_of_its_own(tenant: Fleet, variant: str, key: str) -> None:
    document = {"url": URL, "html": "<p>team b</p>"}
    tenant.put(document, variant=variant)
    assert key == reader.partition_key(URL, "team-b", variant)
    result = reader.read_packed(tenant.table, key)
    assert result.document() == document
    assert result.item["namespace"] == "team-b"
    assert tenant.item(URL) is None
    # What the default namespace has under the url is nothing to this one.
    tenant.write(crawl_result())
    assert tenant.get(URL, variant=variant).json() == document
    assert tenant.get(URL, variant="another").status_code == 404


def test_others_may_write_under_the_keys_of_variants(packed: Fleet) -> None:
    item = crawl_result()
    parts = {"page_url": URL, "namespace": "default", "variant": "v1"}
    packed.write({**item, **parts, "url": reader.partition_key(URL, variant="v1")})
    assert packed.get(URL, variant="v1").json() == as_json(item)
    assert packed.get(URL).status_code == 404


# The plain layout


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the fields that an item keeps for itself."""
    return {name: value for name, value in document.items() if name not in ("created_at", "updated_at", "ttl")}


def test_plain_items_have_natural_attributes(plain: Fleet) -> None:
    document = {
        **as_json(crawl_result(metadata={"title": "Grüße", "score": 0.25, "none": None, "ok": False})),
        "head_fingerprint": None,
    }
    stored = plain.put(document).json()
    item = plain.item(URL)
    assert item is not None
    assert as_json({name: item[name] for name in without_times(document)}) == without_times(document)
    assert isinstance(item["metadata"]["score"], Decimal)
    assert item["markdown"]["raw_markdown"] == "# Grüße"
    assert item["etag"] == stored["etag"]
    assert abs(float(item["ttl"]) - instant(item["expires_at"])) <= 1
    assert "frame" not in item
    assert "layout" not in item
    answer = plain.get(URL)
    assert without_times(answer.json()) == without_times(document)
    assert answer.headers["ETag"] == f'"{stored["etag"]}"'
    assert answer.json()["ttl"] == item["ttl"]
    assert plain.packed_instead() == {"size": 0, "value": 0, "name": 0}


@pytest.mark.parametrize(
    ("reason", "document"),
    [
        ("size", {"url": URL, "html": large_html(500_000)}),
        ("value", {"url": URL, "metadata": {"score": 1.0}}),
        ("value", {"url": URL, "metadata": {"huge": 1e300, "empty name": {"": 1}}}),
        ("value", {"html": "<p>no url</p>"}),
        ("name", {"url": URL, "etag": "of the document", "frame": [1, 2]}),
    ],
)
def test_what_the_plain_layout_cannot_hold_is_packed_whole(
    plain: Fleet, reason: str, document: dict[str, Any]
) -> None:
    raw = json.dumps(document).encode()
    plain.put(raw)
    answer = plain.get(URL)
    assert answer.json() == document
    assert answer.headers["Content-Type"].startswith("application/json")
    assert reader.read_packed(plain.table, URL).document() == document
    assert plain.packed_instead() == {**dict.fromkeys(("size", "value", "name"), 0), reason: 1}
    # And a document that fits is plain again, with nothing left of the frame.
    plain.put({"url": URL, "html": "<p>small</p>"})
    item = plain.item(URL)
    assert item is not None
    assert item["html"] == "<p>small</p>"
    assert not {"frame", "layout", "parts", "frame_id", "frame_bytes"} & set(item)


def test_a_change_by_others_changes_the_etag(plain: Fleet) -> None:
    stored = plain.put({"url": URL, "html": "<p>ours</p>", "status_code": 200}).json()
    first = plain.get(URL)
    assert first.headers["ETag"] == f'"{stored["etag"]}"'
    plain.table.update_item(
        Key={"url": URL}, UpdateExpression="SET html = :html", ExpressionAttributeValues={":html": "<p>theirs</p>"}
    )
    second = plain.get(URL)
    assert second.json()["html"] == "<p>theirs</p>"
    assert second.headers["ETag"] != first.headers["ETag"]
    # Whoever still has the old one is told so.
    headers = {"If-Match": first.headers["ETag"]}
    refused = requests.put(plain.target, params={"url": URL}, json={"url": URL}, headers=headers, timeout=30)
    assert refused.status_code == 412, refused.text
    plain.put({"url": URL, "html": "<p>ours again</p>"})
    assert plain.get(URL).json()["html"] == "<p>ours again</p>"


def test_refreshing_keeps_the_etag_of_a_plain_item(plain: Fleet) -> None:
    plain.put({"url": URL, "html": "<p>text</p>", "head_fingerprint": "f1", "ttl": 1_768_473_000})
    before = plain.get(URL)
    changed = requests.patch(
        plain.target,
        params={"url": URL, "ttl": "5000"},
        data="{}",
        headers={"Content-Type": "application/merge-patch+json"},
        timeout=30,
    )
    assert changed.status_code == 200, changed.text
    after = plain.get(URL)
    assert after.headers["ETag"] == before.headers["ETag"]
    assert without_times(after.json()) == without_times(before.json())
    assert after.json() == before.json(), "the times of the item are not those of the document"
