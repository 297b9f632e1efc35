"""Every field of a result goes into a document and comes back, and what is read back works like a fetched result."""

from __future__ import annotations

import copy
import datetime
import json
import math
import pickle
from typing import Any

import pytest
from crawl4ai.models import CrawlResult, DispatchResult, MarkdownGenerationResult
from crawl4ai.ssl_certificate import SSLCertificate

import crawlcache.crawl4ai as drop_in
from crawlcache import Hit, Key
from crawlcache.crawl4ai import documents

FIELDS = set(CrawlResult.model_fields)
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)


def everything() -> dict[str, Any]:
    """A value for every field that any version has."""
    return {
        "url": "https://example.com/ä?b=1#c",
        "html": "<html>\r\n\u2028 ä 𝄞 \x00</html>",
        "fit_html": "<b>fit</b>",
        "success": True,
        "cleaned_html": "",
        "media": {"images": [{"src": "a.png", "score": 3, "desc": None, "width": 1.5}], "videos": [], "audios": []},
        "links": {"internal": [{"href": "/a", "text": "A"}], "external": []},
        "downloaded_files": ["/tmp/a.pdf"],
        "js_execution_result": {"success": True, "results": [1, 1.0, None, {"deep": [True]}, math.inf, 2**70]},
        "screenshot": "iVBORw0KGgo=",
        "pdf": b"%PDF-1.4\x00\xff\xfe",
        "mhtml": "From: <Saved by Blink>\r\n",
        "extracted_content": '[{"a": 1}]',
        "metadata": {
            "title": "T",
            "when": MOMENT,
            1: "number as name",
            "raw": b"\x00\xff",
            "pair": (1, 2),
            "a/b~c": b"x",
        },
        "error_message": "",
        "session_id": "s",
        "response_headers": {"Content-Type": "text/html", "ETag": '"x"'},
        "status_code": 200,
        "ssl_certificate": SSLCertificate(
            {"subject": {b"CN": b"example.com"}, "not_after": b"20300101000000Z", "raw_cert": b"QUJD"}
        ),
        "dispatch_result": DispatchResult(
            task_id="t", memory_usage=1.5, peak_memory=2.0, start_time=MOMENT, end_time=3.25, error_message=""
        ),
        "redirected_url": "https://example.com/b",
        "redirected_status_code": 301,
        "network_requests": [
            {"event_type": "request", "timestamp": 1.25, "headers": {"a": "b"}, "post_data": "lone \ud800 half"}
        ],
        "console_messages": [{"type": "log", "text": "hi", "location": "x"}],
        "tables": [{"headers": ["a"], "rows": [["1"]], "caption": "", "summary": ""}],
        "head_fingerprint": "0123456789abcdef",
        "cached_at": 1767323045.25,
        "cache_status": "miss",
        "crawl_stats": {"attempts": 1, "proxies_used": [{"proxy": None, "blocked": False}]},
    }


MARKDOWN = {
    "raw_markdown": "# Raw",
    "markdown_with_citations": "# Cited[1]",
    "references_markdown": "[1]: x",
    "fit_markdown": "fit",
    "fit_html": "<p>fit</p>",
}


def whole() -> CrawlResult:
    values = {name: value for name, value in everything().items() if name in FIELDS}
    return CrawlResult(**values, markdown=MarkdownGenerationResult(**MARKDOWN))


def over_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a document on its way: the service takes no NaN and no lone surrogates."""
    return json.loads(json.dumps(document, allow_nan=False, ensure_ascii=False).encode())


def test_all_fields_come_back() -> None:
    assert set(everything()) >= FIELDS, "a new field of Crawl4AI that this test does not know"
    result = whole()
    back = drop_in.crawl_result(over_the_wire(drop_in.document(result)))
    for name in FIELDS:
        assert back.__dict__[name] == result.__dict__[name], name
        assert type(back.__dict__[name]) is type(result.__dict__[name]), name
    assert back.markdown._markdown_result == result.markdown._markdown_result
    assert type(back.ssl_certificate) is SSLCertificate
    assert back.model_dump() == result.model_dump()
    assert pickle.loads(pickle.dumps(back)).model_dump() == result.model_dump()
    # And once more, the other way around.
    document = drop_in.document(result)
    assert drop_in.document(drop_in.crawl_result(over_the_wire(document))) == document


@pytest.mark.parametrize("name", sorted(set(everything()) - {"url", "html", "success"}))
def test_each_field_alone(name: str) -> None:
    if name not in FIELDS:
        pytest.skip("this version has no such field")
    result = CrawlResult(
        url="u", html="h", success=True, fit_html=None, **({name: everything()[name]} if name != "fit_html" else {})
    )
    back = drop_in.crawl_result(over_the_wire(drop_in.document(result)))
    assert back.__dict__ == result.__dict__


@pytest.mark.skipif(
    "redirected_status_code" not in CrawlResult.model_fields, reason="this Crawl4AI does not say how redirects end"
)
@pytest.mark.parametrize(
    ("status", "redirected", "expected"),
    [
        (200, None, True),
        (302, 200, True),
        (302, None, True),
        (None, None, True),
        (302, 429, False),
        (301, 503, False),
        (404, 404, False),
        (404, 200, False),
        (None, 500, False),
    ],
)
def test_either_end_of_redirects_can_make_a_result_a_failed_one(
    status: int | None, redirected: int | None, expected: bool
) -> None:
    result = CrawlResult(
        url="https://a/", html="<p>x</p>", success=True, status_code=status, redirected_status_code=redirected
    )
    assert documents.good(result) is expected


def test_a_minimal_document_works_like_a_result() -> None:
    result = drop_in.crawl_result({"url": "u", "html": "<p>x</p>", "success": True})
    assert json.loads(result.model_dump_json())["html"] == "<p>x</p>"
    assert result.markdown is None
    assert result.links == CrawlResult(url="u", html="", success=True).links
    assert result.model_dump(mode="json")["fit_html"] is None


def test_a_pdf_that_is_not_text_can_be_read_and_dumped_in_python_mode() -> None:
    result = drop_in.crawl_result(drop_in.document(whole()))
    assert result.model_dump()["pdf"] == b"%PDF-1.4\x00\xff\xfe"


def test_documents_of_others() -> None:
    """Plain markdown as text, as the importer and curl write it; nulls where Crawl4AI wants containers."""
    result = drop_in.crawl_result(
        {"url": "u", "html": "h", "success": True, "markdown": "# text", "media": None, "tables": None}
    )
    assert result.markdown == "# text"
    assert result.markdown.fit_markdown is None
    assert result.media == CrawlResult(url="u", html="", success=True).media
    assert result.tables == []


def test_fields_of_a_newer_version_survive() -> None:
    document = {"url": "u", "html": "h", "success": True, "from_the_future": {"a": [1]}, "another": None}
    result = pickle.loads(pickle.dumps(drop_in.crawl_result(document)))
    again = drop_in.document(result)
    assert again["from_the_future"] == {"a": [1]}
    assert result.model_dump_json()
    assert "from_the_future" not in result.model_dump()


def test_the_document_is_not_shared_with_the_result() -> None:
    document = over_the_wire(drop_in.document(whole()))
    before = copy.deepcopy(document)
    result = drop_in.crawl_result(document)
    result.media["images"].clear()
    result.metadata["title"] = "other"
    assert document == before


def test_a_hit_of_the_client_becomes_a_result() -> None:
    hit = Hit(Key("u"), json.dumps(drop_in.document(whole())).encode(), etag="e", age=60, ttl=100)
    result = drop_in.hit_result(hit)
    assert result.screenshot == "iVBORw0KGgo="
    if "cached_at" in FIELDS:
        assert abs(result.cached_at - (datetime.datetime.now().timestamp() - 60)) < 5


def test_what_cannot_be_stored_is_said() -> None:
    result = CrawlResult(url="u", html="h", success=True, fit_html=None, metadata={"thing": object()})
    with pytest.raises(TypeError, match="/metadata/thing"):
        drop_in.document(result)
