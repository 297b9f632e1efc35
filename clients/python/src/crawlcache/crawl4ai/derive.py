"""Makes a result out of a cached page with other options, as Crawl4AI does after it has fetched one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .documents import type_fields
from .runs import Run

# What a run that only differs in derived options fetches alike.
FETCHED = (
    "status_code",
    "redirected_url",
    "redirected_status_code",
    "response_headers",
    "downloaded_files",
    "js_execution_result",
    "mhtml",
    "ssl_certificate",
    "network_requests",
    "console_messages",
    "head_fingerprint",
    "crawl_stats",
    "cached_at",
)
# Headers whose value is somebody's key to a site.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"})
HIDDEN = "[hidden]"


async def derived_result(run: Run, cached: Any) -> Any:
    """The result that the run would have made of the cached page's html; None where there is nothing to make it of."""
    if not cached.html or cached.downloaded_files:
        return None
    redirected = cached.redirected_url
    keywords = {
        name: value
        for name, value in run.keywords.items()
        if name
        not in {
            "url",
            "html",
            "extracted_content",
            "config",
            "screenshot_data",
            "pdf_data",
            "verbose",
            "is_raw_html",
            "redirected_url",
            "original_scheme",
        }
    }
    result = await run.crawler.aprocess_html(
        url=run.url,
        html=cached.html,
        extracted_content=None,
        config=run.config,
        screenshot_data=cached.screenshot,
        pdf_data=cached.pdf,
        verbose=run.config.verbose,
        is_raw_html=False,
        redirected_url=redirected,
        original_scheme=urlsplit(run.url).scheme,
        **keywords,
    )
    known = type_fields(type(result))
    for name in FETCHED:
        if name in known:
            setattr(result, name, getattr(cached, name))
    if getattr(run.config, "prefetch", False):
        # Crawl4AI leaves these out of a page that it only looks for links.
        result.screenshot = result.pdf = None
    result.success = True
    return result


def without_secrets(document: dict[str, Any]) -> None:
    """Hides, in what is about to be stored, the credentials that a run logs: of its requests and its proxies."""
    requests = document.get("network_requests")
    if isinstance(requests, list):
        document["network_requests"] = [_without_headers(entry) for entry in requests]
    stats = document.get("crawl_stats")
    if isinstance(stats, dict) and isinstance(stats.get("proxies_used"), list):
        used = [
            {**entry, "proxy": _without_password(entry.get("proxy"))} if isinstance(entry, dict) else entry
            for entry in stats["proxies_used"]
        ]
        document["crawl_stats"] = {**stats, "proxies_used": used}


def _without_headers(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    made = dict(entry)
    for place in ("headers", "request_headers"):
        headers = made.get(place)
        if isinstance(headers, dict):
            made[place] = {
                name: HIDDEN if str(name).lower() in SECRET_HEADERS else value for name, value in headers.items()
            }
    return made


def _without_password(server: Any) -> Any:
    if isinstance(server, str) and "@" in server:
        scheme, slashes, rest = server.rpartition("://")
        return f"{scheme}{slashes}{HIDDEN}@{rest.rpartition('@')[2]}"
    return server
