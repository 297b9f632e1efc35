"""One function an operation on results: the request, and what its answer means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from . import _errors as errors
from ._codec import document_bytes, dumps, loads_object
from ._types import (
    Document,
    Hit,
    Key,
    KeyLike,
    Lease,
    Miss,
    Names,
    NotModified,
    Quality,
    State,
    Stored,
    Time,
    Validators,
    instant,
    key_of,
)
from ._wire import Answer, Call, Request, body_of, error_of, problem_of, retry_after

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

#: The most keys that one look-up takes.
LOOKUP_KEYS = 10_000


def target(path: str, parameters: Mapping[str, object]) -> str:
    """A path with its query; parameters that are ``None`` are left out."""
    try:
        pairs = [f"{name}={quote(_text(value), safe='/:')}" for name, value in parameters.items() if value is not None]
    except UnicodeEncodeError as error:
        raise errors.InvalidRequest(0, "invalid_parameter", f"a parameter is not Unicode text: {error}") from error
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def names(value: Names | None) -> str | None:
    """Names of fields as the service takes them in a query."""
    if value is None or isinstance(value, str):
        return value
    return ",".join(value)


def name_list(value: Names | None) -> list[str] | None:
    """Names of fields as the service takes them in JSON."""
    if value is None:
        return None
    return value.split(",") if isinstance(value, str) else list(value)


def seconds(value: float | None) -> int | None:
    """Whole seconds; a fraction is rounded up."""
    return None if value is None else math.ceil(value)


def moment(value: Time | None) -> str | None:
    """A time as RFC 3339 or Unix seconds. A ``datetime`` without zone is local time, as everywhere in Python."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    return None if value is None else str(value)


def given(**members: object) -> dict[str, Any]:
    """The members that are not ``None``."""
    return {name: value for name, value in members.items() if value is not None}


def bare(etag: str) -> str:
    """The hash of the content out of an ``ETag`` header, without the mark of the coding."""
    return etag.removeprefix("W/").strip('"').partition("-")[0]


def quoted(etag: str) -> str:
    """A hash, several separated by commas, or ``*``, as a precondition names them."""
    if not (etag.isascii() and etag.isprintable()):
        raise errors.InvalidRequest(0, "invalid_header", "an etag is printable ASCII")
    if etag == "*" or '"' in etag:
        return etag
    return ", ".join(f'"{part.strip()}"' for part in etag.split(","))


def object_of(answer: Answer) -> dict[str, Any]:
    """The JSON object that a successful answer carries."""
    if answer.status >= 300:
        raise error_of(answer)
    return loads_object(body_of(answer))


def nothing(answer: Answer) -> None:
    """A successful answer that says nothing."""
    if answer.status >= 300:
        raise error_of(answer)


def lease_token(lease: Lease | str) -> str:
    """The token of a lease."""
    token = lease.token if isinstance(lease, Lease) else lease
    if not (token.isascii() and token.isalnum()):
        raise errors.InvalidRequest(0, "invalid_lease", "the token of a lease is hexadecimal digits")
    return token


# Results.


def get(
    url: str,
    *,
    variant: str = "",
    fields: Names | None = None,
    require: Names | None = None,
    max_age: float | None = None,
    stale: float | None = None,
    quality: Quality | None = None,
    lease: float | None = None,
    wait: float | None = None,
    etag: str | None = None,
    consistent: bool = False,
) -> Call[Hit | Miss | NotModified]:
    """Reads a result, and takes the lease of one that is missing."""
    key = Key(url, variant)
    headers = {"Accept-Encoding": "zstd"}
    if etag is not None:
        headers["If-None-Match"] = quoted(etag)
    if consistent:
        headers["Cache-Control"] = "no-cache"
    lease_seconds = seconds(lease)
    parameters = {
        "url": url,
        "variant": variant or None,
        "fields": names(fields),
        "require": names(require),
        "max_age": None if max_age is None else math.floor(max_age),
        "stale": seconds(stale),
        "quality": quality,
        "lease": lease_seconds,
        "wait": seconds(wait),
    }
    # Once a lease may have been granted, asking again would find it held by nobody that knows of it.
    request = Request(
        "GET", target("/v1/result", parameters), headers, repeatable=lease is None, waits=float(wait or 0)
    )
    return Call(request, lambda answer: _read(answer, key, lease_seconds or 0))


def _read(answer: Answer, key: Key, lease_seconds: int) -> Hit | Miss | NotModified:
    status, headers, _ = answer
    if status == 404:
        return _missed(answer, key, lease_seconds)
    if status not in (200, 304):
        raise error_of(answer)
    etag = headers.get("ETag")
    if etag is None:
        raise errors.InvalidAnswer(status, "invalid_answer", "the answer has no ETag: it is not from crawlcache")
    ttl, source = _cache_status(headers.get("Cache-Status", ""))
    lease = None
    if token := headers.get("Crawlcache-Lease"):
        lease = Lease(token, key, instant(headers.get("Crawlcache-Lease-Expires")), lease_seconds)
    validators = Validators(
        headers.get("Crawlcache-Origin-Etag"),
        headers.get("Crawlcache-Origin-Last-Modified"),
        headers.get("Crawlcache-Head-Fingerprint"),
    )
    age = _whole(headers.get("Age"))
    if status == 304:
        return NotModified(key, bare(etag), age, ttl, source, validators, lease)
    return Hit(
        key,
        body_of(answer),
        etag=bare(etag),
        age=age,
        ttl=ttl,
        source=source,
        quality=headers.get("Crawlcache-Quality", "good"),
        validators=validators,
        lease=lease,
        last_modified=headers.get("Last-Modified"),
    )


def _whole(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _cache_status(text: str) -> tuple[int, str]:
    """``ttl`` and ``detail`` of this cache in a ``Cache-Status`` header (RFC 9211), which others may have added to."""
    ttl, source = 0, ""
    for member in text.split(","):
        cache, *parameters = (part.strip() for part in member.split(";"))
        if cache != "crawlcache":
            continue
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "ttl":
                ttl = _whole(value)
            elif name == "detail":
                source = value
    return ttl, source


def _missed(answer: Answer, key: Key, lease_seconds: int) -> Miss:
    problem = problem_of(answer)
    if problem.get("code") != "result_not_found":
        raise error_of(answer)
    return miss_of(problem, key, lease_seconds=lease_seconds, after=retry_after(answer.headers))


def miss_of(
    problem: dict[str, Any], key: Key, *, lease_seconds: int = 0, after: float | None = None, index: int = 0
) -> Miss:
    """A miss out of its problem document."""
    said = problem.get("lease")
    lease, held_until = None, None
    if isinstance(said, dict):
        expires_at = instant(said.get("expires_at"))
        if said.get("state") == "won":
            lease = Lease(str(said.get("token")), key, expires_at, int(said.get("seconds", lease_seconds)))
        elif said.get("state") == "held":
            held_until = expires_at
    return Miss(key, str(problem.get("reason", "absent")), problem, lease, held_until, after, index)


def put(
    url: str,
    document: Document,
    *,
    variant: str = "",
    ttl: float | None = None,
    lease: Lease | str | None = None,
    if_match: str | None = None,
    if_absent: bool = False,
    origin_etag: str | None = None,
    origin_last_modified: str | None = None,
    head_fingerprint: str | None = None,
    updated_at: Time | None = None,
) -> Call[Stored]:
    """Stores a result."""
    headers = _conditions(if_match, if_absent, lease)
    parameters = {
        "url": url,
        "variant": variant or None,
        "ttl": seconds(ttl),
        "origin_etag": origin_etag,
        "origin_last_modified": origin_last_modified,
        "head_fingerprint": head_fingerprint,
        "updated_at": moment(updated_at),
    }
    request = Request("PUT", target("/v1/result", parameters), headers)
    return Call(request.with_body(document_bytes(document), JSON), _stored_by(Key(url, variant), lease))


def patch(
    url: str,
    changes: Document | None = None,
    *,
    variant: str = "",
    confirmed: bool = False,
    ttl: float | None = None,
    lease: Lease | str | None = None,
    if_match: str | None = None,
    origin_etag: str | None = None,
    origin_last_modified: str | None = None,
    head_fingerprint: str | None = None,
) -> Call[Stored]:
    """Changes fields of a result, or what is known about it."""
    headers = _conditions(if_match, False, lease)
    parameters = {
        "url": url,
        "variant": variant or None,
        "ttl": seconds(ttl),
        "confirmed": True if confirmed else None,
        "origin_etag": origin_etag,
        "origin_last_modified": origin_last_modified,
        "head_fingerprint": head_fingerprint,
    }
    request = Request("PATCH", target("/v1/result", parameters), headers, repeatable=if_match is not None)
    body = b"{}" if changes is None else document_bytes(changes)
    return Call(request.with_body(body, MERGE_PATCH), _stored_by(Key(url, variant), lease))


def delete(url: str, *, variant: str = "", if_match: str | None = None) -> Call[None]:
    """Deletes a result."""
    parameters = {"url": url, "variant": variant or None}
    return Call(Request("DELETE", target("/v1/result", parameters), _conditions(if_match, False, None)), nothing)


def _conditions(if_match: str | None, if_absent: bool, lease: Lease | str | None) -> dict[str, str]:
    headers = {}
    if if_match is not None:
        headers["If-Match"] = quoted(if_match)
    if if_absent:
        headers["If-None-Match"] = "*"
    if lease is not None:
        headers["Crawlcache-Lease"] = lease_token(lease)
    return headers


def _stored_by(key: Key, lease: Lease | str | None) -> Any:
    def judge(answer: Answer) -> Stored:
        stored = stored_of(object_of(answer), key)
        if isinstance(lease, Lease):
            lease.stored = True
        return stored

    return judge


def stored_of(said: Mapping[str, Any], key: Key, index: int = 0) -> Stored:
    """What was stored, out of what the service says."""
    return Stored(
        Key(said.get("url", key.url), said.get("variant", key.variant)),
        str(said.get("outcome", "")),
        str(said.get("etag", "")),
        instant(said.get("expires_at")),
        int(said.get("raw_bytes", 0)),
        int(said.get("stored_bytes", 0)),
        str(said.get("quality", "good")),
        said.get("why"),
        said.get("ttl_source"),
        index,
    )


# Many results.


def json_keys(keys: Iterable[Key]) -> list[str | dict[str, str]]:
    """Keys as the service takes them in JSON."""
    return [key.url if not key.variant else {"url": key.url, "variant": key.variant} for key in keys]


def post(path: str, value: object, *, repeatable: bool = True, waits: float = 0.0) -> Request:
    """A POST of JSON."""
    return Request("POST", path, {}, repeatable=repeatable, waits=waits).with_body(dumps(value), JSON)


def lookups(
    keys: Iterable[KeyLike],
    *,
    max_age: float | None = None,
    stale: float | None = None,
    require: Names | None = None,
    quality: Quality | None = None,
) -> list[Call[list[State]]]:
    """The states of many keys, in requests of what one may hold."""
    options = given(
        max_age=None if max_age is None else math.floor(max_age),
        stale=seconds(stale),
        require=name_list(require),
        quality=quality,
    )
    all_keys = [key_of(key) for key in keys]

    def call(part: list[Key]) -> Call[list[State]]:
        return Call(
            post("/v1/results/lookup", {"keys": json_keys(part), **options}), lambda answer: _states(answer, part)
        )

    return [call(all_keys[start : start + LOOKUP_KEYS]) for start in range(0, len(all_keys), LOOKUP_KEYS)]


def _states(answer: Answer, keys: list[Key]) -> list[State]:
    results = object_of(answer).get("results")
    if not isinstance(results, list) or len(results) != len(keys):
        raise errors.InvalidAnswer(answer.status, "invalid_answer", "the look-up does not answer every key")
    return [
        State(
            key,
            said.get("state", ""),
            said.get("reason"),
            said.get("age"),
            said.get("ttl"),
            said.get("etag"),
            said,
        )
        for key, said in zip(keys, results, strict=True)
    ]


def filters(
    *,
    host: str | None = None,
    prefix: str | None = None,
    url: str | None = None,
    since: Time | None = None,
    until: Time | None = None,
    status: int | None = None,
    expired: bool = False,
) -> dict[str, object]:
    """Which results a listing or an export is of."""
    return given(
        host=host,
        prefix=prefix,
        url=url,
        since=moment(since),
        until=moment(until),
        status=status,
        expired=True if expired else None,
    )


def page(path: str, parameters: Mapping[str, object], cursor: object) -> Call[dict[str, Any]]:
    """One page of a listing."""
    headers = {"Accept-Encoding": "zstd"}
    return Call(Request("GET", target(path, {**parameters, "cursor": cursor}), headers), object_of)


def purge(
    *,
    host: str | None = None,
    prefix: str | None = None,
    url: str | None = None,
    older_than: float | None = None,
    dry_run: bool = False,
) -> Call[dict[str, Any]]:
    """Deletes by host, prefix, url or age."""
    asked = given(host=host, prefix=prefix, url=url, older_than=seconds(older_than), dry_run=dry_run or None)
    return Call(post("/v1/results/purge", asked), object_of)


# The service.


def stats() -> Call[dict[str, Any]]:
    """What is stored and how it is used."""
    return Call(Request("GET", "/v1/stats"), object_of)


def health() -> Call[dict[str, Any]]:
    """The health of each backend, also when it is bad."""

    def judge(answer: Answer) -> dict[str, Any]:
        problem = problem_of(answer) if answer.status == 503 else {}
        return problem if "backends" in problem else object_of(answer)

    return Call(Request("GET", "/health"), judge)


def ready() -> Call[bool]:
    """Whether requests can be served."""

    def judge(answer: Answer) -> bool:
        if answer.status not in (200, 503):
            raise error_of(answer)
        return answer.status == 200

    return Call(Request("GET", "/readyz"), judge)


def host(name: str) -> Call[dict[str, Any]]:
    """What has been learned about how often the pages of a host change."""
    return Call(Request("GET", f"/v1/hosts/{quote(name, safe='')}"), object_of)
