"""Nothing that is secret reaches the service: every byte that was sent is looked at."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from backports import zstd
from crawl4ai.async_configs import LLMConfig
from crawl4ai.extraction_strategy import LLMExtractionStrategy
from crawl4ai.models import CrawlResult
from crawling import config, crawl

import crawlcache.crawl4ai as drop_in
from crawlcache.crawl4ai.derive import without_secrets
from crawlcache.crawl4ai.runs import Run

SECRETS = [
    "hunter2-header",
    "sk-llm-token-123",
    "cookie-value-77",
    "proxy-pass-9",
    "request-cookie-5",
    "session-id-3",
    "csrf-value-6",
    "posted-password-8",
    "url-password-2",
    "url-token-4",
    "referer-key-7",
    "set-cookie-1",
    "console-token-9",
]


def clear(sent: bytes) -> bytes:
    """What was sent, with the compressed bodies in clear beside it."""
    frames = [match.start() for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), sent)]
    decoded = [sent]
    for start in frames:
        decoder = zstd.ZstdDecompressor()
        decoded.append(decoder.decompress(sent[start:]))
    return b"\n".join(decoded)


def test_no_secret_is_sent(site: Any, relay: Any, monkeypatch: Any) -> None:
    # Not a word to the model: the extraction is another's, the configuration is the real one.
    monkeypatch.setattr(LLMExtractionStrategy, "arun", None, raising=False)
    monkeypatch.delattr(LLMExtractionStrategy, "arun", raising=False)
    monkeypatch.setattr(LLMExtractionStrategy, "run", lambda self, url, sections, *rest, **more: [{"index": 0}])
    drop_in.install(relay.url, cache_sessions=True)
    run = config(
        session_id="session-id-3",
        extraction_strategy=LLMExtractionStrategy(
            llm_config=LLMConfig(provider="openai/o1", api_token="sk-llm-token-123"), instruction="x"
        ),
    )

    async def work(crawler: Any) -> None:
        result = await crawler.arun(f"{site.url}/page/secret", config=run)
        assert result.success, result.error_message
        # What only a browser would report.
        url = f"{site.url}/page/logged"
        logged = CrawlResult(
            url=url,
            html="<p>words</p>",
            success=True,
            status_code=200,
            fit_html=None,
            network_requests=[
                {
                    "event_type": "request",
                    "url": "https://me:url-password-2@x.example/login?next=/home&access_token=url-token-4&page=2",
                    "headers": {
                        "Cookie": "request-cookie-5",
                        "Accept": "text/html",
                        "X-CSRF-Token": "csrf-value-6",
                        "Referer": "https://x.example/?api_key=referer-key-7",
                    },
                    "post_data": "user=me&password=posted-password-8",
                },
                {"event_type": "response", "headers": {"set-cookie": "sid=set-cookie-1"}, "body": {"text": "{}"}},
            ],
            console_messages=[{"type": "log", "text": "got https://x.example/?jwt=console-token-9 there"}],
        )
        if "crawl_stats" in CrawlResult.model_fields:
            logged.crawl_stats = {"proxies_used": [{"proxy": "http://me:proxy-pass-9@proxy:1", "blocked": False}]}
        cache = drop_in.installed()
        assert cache is not None
        token = drop_in.runs.current.set(cache.begin(url, run, crawler, {}))
        await cache.acache_url(logged)
        drop_in.runs.current.reset(token)
        # The result that its owner has in hand is untouched.
        assert logged.network_requests[0]["headers"]["Cookie"] == "request-cookie-5"

    crawl(work, headers={"Authorization": "hunter2-header", "Cookie": "sid=cookie-value-77"})
    drop_in.uninstall()
    sent = clear(bytes(relay.sent))
    assert b"PUT /v1/result" in sent
    assert b"first part" in sent
    assert b"[hidden]" in sent
    assert b"text/html" in sent
    for secret in SECRETS:
        assert secret.encode() not in sent, secret
    # The site itself was given them.
    assert any(headers.get("Authorization") == "hunter2-header" for _, _, headers in site.requests)


def test_a_password_in_a_url_is_not_sent(site: Any, relay: Any) -> None:
    drop_in.install(relay.url)

    async def work(crawler: Any) -> None:
        await crawler.arun(site.url.replace("http://", "http://me:in-the-url@") + "/page/userinfo", config=config())

    crawl(work)
    drop_in.uninstall()
    assert b"in-the-url" not in bytes(relay.sent)


def test_documents_keep_what_is_no_secret() -> None:
    document = {
        "network_requests": [
            {"headers": {"authorization": "a", "accept": "b", ":authority": "c", 1: 2}, "post_data": None},
            {"event_type": "x", "url": "https://h/a@b?keyword=shoes&q=#top", "timestamp": 1.5},
            {"post_data": "a=b", "body": "https://u:p@h/", "url": "https://u:p@h/?a=1;Key=k&b=2#id_token=x&c"},
            "odd",
        ],
        "error_message": "Proxy http://u:p@h:1 does not answer, http://h:1/?sid=1 does",
        "crawl_stats": {
            "attempts": 1,
            "proxies_used": [{"proxy": None}, {"proxy": "socks5://u:p@h:1"}, {"proxy": "http://h:1"}],
        },
    }
    without_secrets(document)
    assert document == {
        "network_requests": [
            {"headers": {"authorization": "[hidden]", "accept": "b", ":authority": "c", 1: 2}, "post_data": None},
            {"event_type": "x", "url": "https://h/a@b?keyword=shoes&q=#top", "timestamp": 1.5},
            {
                "post_data": "[hidden]",
                "body": "https://u:p@h/",
                "url": "https://[hidden]@h/?a=1;Key=[hidden]&b=2#id_token=[hidden]&c",
            },
            "odd",
        ],
        "error_message": "Proxy http://[hidden]@h:1 does not answer, http://h:1/?sid=1 does",
        "crawl_stats": {
            "attempts": 1,
            "proxies_used": [{"proxy": None}, {"proxy": "socks5://[hidden]@h:1"}, {"proxy": "http://h:1"}],
        },
    }


def test_what_is_hidden_is_not_decoded() -> None:
    from test_documents import whole

    result = whole()
    result.network_requests = [
        {"post_data": b"\xff", "headers": {"a/b": b"\xfe", "x-key": b"\xfd"}},
        {"post_data": [b"\xfc"], "when": float("inf")},
    ]
    document = drop_in.document(result)
    without_secrets(document)
    assert drop_in.crawl_result(document).network_requests == [
        {"post_data": "[hidden]", "headers": {"a/b": b"\xfe", "x-key": "[hidden]"}},
        {"post_data": "[hidden]", "when": float("inf")},
    ]


def test_a_result_with_everything_goes_through_the_service(site: Any, cache: Any) -> None:
    """The whole result of `test_documents`, over the real service and back; secrets of logs are its only loss."""
    from test_documents import FIELDS, whole

    result = whole()
    result.url = f"{site.url}/page/everything"
    result.session_id = result.dispatch_result = None

    async def work(crawler: Any) -> Any:
        run: Run = cache.begin(result.url, config(), crawler, {})
        token = drop_in.runs.current.set(run)
        try:
            await cache.acache_url(result)
            return await cache.aget_cached_url(result.url)
        finally:
            drop_in.runs.current.reset(token)

    back = crawl(work)
    result.network_requests[0]["post_data"] = "[hidden]"
    for name in FIELDS - {"cached_at"}:
        assert back.__dict__[name] == result.__dict__[name], name
    assert asyncio.iscoroutinefunction(cache.aget_cached_url)
