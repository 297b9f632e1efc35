"""Makes a result out of a cached page with other options, as Crawl4AI does after it has fetched one."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from .documents import CODEC, type_fields
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
# In the names of headers and of parameters of urls whose value is somebody's key to a site; `:authority` is none.
SECRET = r"token|key(?!w)|secret|csrf|xsrf|auth(?!ority)|cookie|passw|credential|signature|session|jwt"
SECRET_NAME = re.compile(SECRET, re.IGNORECASE)
URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
USERINFO = re.compile(r"(?<=://)[^/?#]*@")
PARAMETER = re.compile(rf"([?&;#][^=&;#?]*(?:{SECRET})[^=&;#?]*=)[^&;#]+", re.IGNORECASE)
HIDDEN = "[hidden]"
# Of an entry of a log: what the page has said, in which nothing is looked for.
BODY = "body"


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
    for log in ("network_requests", "console_messages"):
        entries = document.get(log)
        if isinstance(entries, list):
            document[log] = [_without_credentials(entry) for entry in entries]
            _read_as_written(document, log)
    if isinstance(document.get("error_message"), str):
        document["error_message"] = _clean(document["error_message"])
    stats = document.get("crawl_stats")
    if isinstance(stats, dict) and isinstance(stats.get("proxies_used"), list):
        used = [
            {**entry, "proxy": _without_password(entry.get("proxy"))} if isinstance(entry, dict) else entry
            for entry in stats["proxies_used"]
        ]
        document["crawl_stats"] = {**stats, "proxies_used": used}


def _without_credentials(entry: Any) -> Any:
    """An entry of a log without what was posted, and without the keys in its headers and urls."""
    if not isinstance(entry, dict):
        return entry
    made = {name: _clean(value) if isinstance(value, str) and name != BODY else value for name, value in entry.items()}
    if made.get("post_data"):
        made["post_data"] = HIDDEN
    for place in ("headers", "request_headers"):
        headers = made.get(place)
        if isinstance(headers, dict):
            made[place] = {
                name: HIDDEN if SECRET_NAME.search(str(name)) else _clean(value) if isinstance(value, str) else value
                for name, value in headers.items()
            }
    return made


def _read_as_written(document: dict[str, Any], log: str) -> None:
    """Lets nobody decode what is hidden now."""
    codec = document.get(CODEC)
    if not isinstance(codec, dict):
        return
    kept = {
        pointer: kind for pointer, kind in codec["encoded"].items() if not _is_hidden(document, log, pointer.split("/"))
    }
    document[CODEC] = {**codec, "encoded": kept}


def _is_hidden(document: dict[str, Any], log: str, names: list[str]) -> bool:
    """Whether the value at a pointer, or one around it, has been replaced."""
    place: Any = document
    if names[1] != log:
        return False
    for name in names[1:]:
        if place == HIDDEN:
            return True
        name = name.replace("~1", "/").replace("~0", "~")
        place = place[int(name)] if isinstance(place, list) else place[name]
    return bool(place == HIDDEN)


def _clean(text: str) -> str:
    """A text whose urls have no user, no password, and no value of a parameter that is a key."""
    return URL.sub(lambda found: PARAMETER.sub(rf"\1{HIDDEN}", USERINFO.sub(f"{HIDDEN}@", found[0])), text)


def _without_password(server: Any) -> Any:
    if isinstance(server, str) and "@" in server:
        scheme, slashes, rest = server.rpartition("://")
        return f"{scheme}{slashes}{HIDDEN}@{rest.rpartition('@')[2]}"
    return server
