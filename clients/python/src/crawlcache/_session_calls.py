"""One function an operation on sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ._calls import JSON, MERGE_PATCH, given, moment, name_list, names, nothing, object_of, post, quoted, target
from ._codec import dumps
from ._types import Names, Time
from ._wire import Answer, Call, Request, error_of, problem_of

Session = dict[str, Any]

#: The most sessions that one request reads.
BATCH_IDS = 100


def _path(session_id: str, more: str = "") -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}{more}"


def _when(if_match: str | None, if_absent: bool = False) -> dict[str, str]:
    headers = {} if if_match is None else {"If-Match": quoted(if_match)}
    if if_absent:
        headers["If-None-Match"] = "*"
    return headers


def create(session: Mapping[str, Any]) -> Call[Session]:
    """Creates a session; not repeated once it may be there, as it would then be one that exists."""
    return Call(post("/v1/sessions", dict(session), repeatable=False), object_of)


def get(
    session_id: str,
    *,
    fields: Names | None = None,
    include_expired: bool = False,
    include_secrets: bool = False,
) -> Call[Session | None]:
    """Reads a session; ``None`` when there is none, or it has expired."""

    def judge(answer: Answer) -> Session | None:
        if answer.status == 404:
            if problem_of(answer).get("code") in ("session_not_found", "session_expired"):
                return None
            raise error_of(answer)
        return object_of(answer)

    parameters = given(
        fields=names(fields), include_expired=include_expired or None, include_secrets=include_secrets or None
    )
    return Call(Request("GET", target(_path(session_id), parameters), {"Accept-Encoding": "zstd"}), judge)


def put(
    session_id: str, session: Mapping[str, Any], *, if_match: str | None = None, if_absent: bool = False
) -> Call[Session]:
    """Creates or replaces a session."""
    request = Request("PUT", _path(session_id), _when(if_match, if_absent))
    return Call(request.with_body(dumps(dict(session)), JSON), object_of)


def patch(session_id: str, changes: Mapping[str, Any], *, if_match: str | None = None) -> Call[Session]:
    """Changes fields of a session."""
    request = Request("PATCH", _path(session_id), _when(if_match), repeatable=if_match is not None)
    return Call(request.with_body(dumps(dict(changes)), MERGE_PATCH), object_of)


def delete(session_id: str, *, if_match: str | None = None) -> Call[None]:
    """Deletes a session."""
    return Call(Request("DELETE", _path(session_id), _when(if_match)), nothing)


def status(
    session_id: str,
    new: str,
    *,
    expected_status: str | None = None,
    reason: str | None = None,
    source: str | None = None,
    if_match: str | None = None,
) -> Call[Session]:
    """Moves a session to another status."""
    asked = given(status=new, reason=reason, source=source, expected_status=expected_status)
    request = post(_path(session_id, "/status"), asked, repeatable=if_match is not None)
    request.headers.update(_when(if_match))
    return Call(request, object_of)


def touch(session_id: str, *, ttl_seconds: int | None = None) -> Call[Session]:
    """Gives a sign of life."""
    return Call(post(_path(session_id, "/touch"), given(ttl_seconds=ttl_seconds)), object_of)


def append(session_id: str, event_type: str, detail: Mapping[str, Any] | None, source: str | None) -> Call[Session]:
    """Appends an event to a session's history."""
    event = given(event_type=event_type, detail=None if detail is None else dict(detail), source=source)
    return Call(post(_path(session_id, "/events"), event, repeatable=False), object_of)


def events(session_id: str, after: object, limit: int | None) -> Call[dict[str, Any]]:
    """One page of a session's history."""
    return Call(Request("GET", target(_path(session_id, "/events"), {"after": after, "limit": limit})), object_of)


def filters(
    *,
    project_id: str | None = None,
    status: str | None = None,
    created_after: Time | None = None,
    created_before: Time | None = None,
    expires_after: Time | None = None,
    expires_before: Time | None = None,
    order: str | None = None,
    include_expired: bool = False,
    limit: int | None = None,
) -> dict[str, object]:
    """Which sessions a listing is of."""
    return given(
        project_id=project_id,
        status=status,
        created_after=moment(created_after),
        created_before=moment(created_before),
        expires_after=moment(expires_after),
        expires_before=moment(expires_before),
        order=order,
        include_expired=include_expired or None,
        limit=limit,
    )


def batches(ids: Iterable[str], *, fields: Names | None = None) -> list[Call[dict[str, Any]]]:
    """Reads many sessions."""
    wanted = list(ids)
    options = given(fields=name_list(fields))
    return [
        Call(post("/v1/sessions/batch-get", {"ids": wanted[start : start + BATCH_IDS], **options}), object_of)
        for start in range(0, len(wanted), BATCH_IDS)
    ]
