"""One function an operation on leases."""

from __future__ import annotations

import math
from datetime import datetime
from urllib.parse import quote

from . import _errors as errors
from ._calls import bare, given, lease_token, name_list, nothing, object_of, post, seconds, target
from ._types import Fresh, Held, Key, KeyLike, Lease, Names, Quality, Tried, Won, instant, key_of
from ._wire import Answer, Call, Request, problem_of, retry_after


def acquire(
    key: KeyLike,
    *,
    variant: str = "",
    seconds_held: float = 30,
    wait: float = 0,
    max_age: float | None = None,
    stale: float | None = None,
    require: Names | None = None,
    quality: Quality | None = None,
) -> Call[Won | Held | Fresh | Tried]:
    """Asks for the right to fetch a page."""
    wanted = key_of(key)
    if variant:
        wanted = Key(wanted.url, variant)
    asked = given(
        url=wanted.url,
        variant=wanted.variant or None,
        seconds=seconds(seconds_held),
        wait=seconds(wait),
        max_age=None if max_age is None else math.floor(max_age),
        stale=seconds(stale),
        require=name_list(require),
        quality=quality,
    )
    return Call(
        post("/v1/leases", asked, repeatable=False, waits=float(wait)), lambda answer: _acquired(answer, wanted)
    )


def _acquired(answer: Answer, key: Key) -> Won | Held | Fresh | Tried:
    if answer.status == 409:
        problem = problem_of(answer)
        if problem.get("code") == "lease_held":
            return Held(key, instant(problem.get("expires_at")), retry_after(answer.headers), problem)
    if answer.status == 404:
        problem = problem_of(answer)
        if (problem.get("lease") or {}).get("state") == "failed":
            return Tried(key, retry_after(answer.headers), problem)
    said = object_of(answer)
    if said.get("state") == "won":
        expires_at = instant(said.get("expires_at"))
        return Won(Lease(str(said.get("token")), key, expires_at, int(said.get("seconds", 0))))
    if said.get("state") == "fresh":
        etag = str(said.get("etag", ""))
        return Fresh(key, bare(etag), int(said.get("age", 0)), int(said.get("ttl", 0)))
    raise errors.InvalidAnswer(answer.status, "invalid_answer", "the state of the lease is none that is known")


def renew(lease: Lease | str, *, seconds_held: float | None = None) -> Call[datetime | None]:
    """Keeps a lease for longer, counted from now."""
    held = seconds(seconds_held)
    if held is None and isinstance(lease, Lease) and lease.seconds:
        held = lease.seconds

    def judge(answer: Answer) -> datetime | None:
        try:
            said = object_of(answer)
        except errors.LeaseLost:
            if isinstance(lease, Lease):
                lease.lost = True
            raise
        expires_at = instant(said.get("expires_at"))
        if isinstance(lease, Lease):
            lease.expires_at = expires_at
        return expires_at

    path = f"/v1/leases/{quote(lease_token(lease), safe='')}"
    return Call(Request("PUT", target(path, {"seconds": held})), judge)


def release(lease: Lease | str) -> Call[None]:
    """Gives a lease back."""
    return Call(Request("DELETE", f"/v1/leases/{quote(lease_token(lease), safe='')}"), nothing)
