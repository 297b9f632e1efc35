"""Sessions of crawlers and browsers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _session_calls as calls
from ._calls import name_list
from ._session_calls import Session
from ._types import Names, Time

if TYPE_CHECKING:
    from ._sync import Client


class Sessions:
    """``client.sessions``: small JSON documents with states, history and expiry.

    A session is a plain dictionary; its ``version`` is what ``if_match`` takes.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, session: Mapping[str, Any]) -> Session:
        """Creates a session; ``Conflict`` when there is one of its id."""
        return self._client._run(calls.create(session))

    def get(
        self,
        session_id: str,
        *,
        fields: Names | None = None,
        include_expired: bool = False,
        include_secrets: bool = False,
    ) -> Session | None:
        """Reads a session; ``None`` when there is none or it has expired."""
        return self._client._run(
            calls.get(session_id, fields=fields, include_expired=include_expired, include_secrets=include_secrets)
        )

    def put(
        self, session_id: str, session: Mapping[str, Any], *, if_match: str | None = None, if_absent: bool = False
    ) -> Session:
        """Creates or replaces a session."""
        return self._client._run(calls.put(session_id, session, if_match=if_match, if_absent=if_absent))

    def patch(self, session_id: str, changes: Mapping[str, Any], *, if_match: str | None = None) -> Session:
        """Changes fields of a session (a JSON merge patch)."""
        return self._client._run(calls.patch(session_id, changes, if_match=if_match))

    def delete(self, session_id: str, *, if_match: str | None = None) -> None:
        """Deletes a session; it is no error when there is none."""
        self._client._run(calls.delete(session_id, if_match=if_match))

    def status(
        self,
        session_id: str,
        status: str,
        *,
        expected_status: str | None = None,
        reason: str | None = None,
        source: str | None = None,
        if_match: str | None = None,
    ) -> Session:
        """Moves a session to another status."""
        return self._client._run(
            calls.status(
                session_id, status, expected_status=expected_status, reason=reason, source=source, if_match=if_match
            )
        )

    def touch(self, session_id: str, *, ttl_seconds: int | None = None) -> Session:
        """Gives a sign of life."""
        return self._client._run(calls.touch(session_id, ttl_seconds=ttl_seconds))

    def append(
        self, session_id: str, event_type: str, detail: Mapping[str, Any] | None = None, *, source: str | None = None
    ) -> dict[str, Any]:
        """Appends an event to a session's history."""
        return self._client._run(calls.append(session_id, event_type, detail, source))

    def events(
        self, session_id: str, *, after: int | None = None, page_size: int | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """A session's history, oldest first."""
        place: object = after
        while True:
            page = self._client._run(calls.events(session_id, place, page_size))
            yield from page["items"]
            place = page.get("next_after")
            if place is None:
                return

    def list(
        self,
        *,
        project_id: str | None = None,
        status: str | None = None,
        created_after: Time | None = None,
        created_before: Time | None = None,
        expires_after: Time | None = None,
        expires_before: Time | None = None,
        order: str | None = None,
        include_expired: bool = False,
        page_size: int | None = None,
    ) -> Generator[Session, None, None]:
        """The sessions of a project, or those in a status."""
        asked = calls.filters(
            project_id=project_id,
            status=status,
            created_after=created_after,
            created_before=created_before,
            expires_after=expires_after,
            expires_before=expires_before,
            order=order,
            include_expired=include_expired,
            limit=page_size,
        )
        yield from self._client._pages("/v1/sessions", asked)

    def batch_get(self, ids: Iterable[str], *, fields: Names | None = None) -> dict[str, Session]:
        """Those of these sessions that are there, by id."""
        wanted = None if fields is None else ",".join(name_list(fields) or ()) + ",id"
        found: dict[str, Session] = {}
        for call in calls.batches(ids, fields=wanted):
            answer = self._client._run(call)
            found.update((item["id"], item) for item in answer["items"])
        return found
