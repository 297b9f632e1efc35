"""Requests, answers, and when a failed try is worth another: HTTP without input or output."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar

from . import _errors as errors
from ._codec import COMPRESS_BYTES, compress, decompress, loads
from ._version import __version__

T = TypeVar("T")

NDJSON = "application/x-ndjson"

USER_AGENT = f"crawlcache-python/{__version__}"

#: The first pause is at most that long, in seconds; each further one twice as long.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: With these codes the service says that it has not begun.
_NOT_BEGUN = frozenset({"overloaded", "throttled"})

_BY_CODE: dict[str, type[errors.ServiceError]] = {
    "lease_lost": errors.LeaseLost,
    "lease_outdated": errors.LeaseOutdated,
}

_BY_STATUS: dict[int, type[errors.ServiceError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    507: errors.StorageFull,
}


class Answer(NamedTuple):
    """What came back; the names of headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Request:
    """What to send."""

    method: str
    #: Path and query, percent-encoded.
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: Whether it may be sent again when it may have been carried out already.
    repeatable: bool = True
    #: Seconds that the service may hold the request back on purpose.
    waits: float = 0.0

    def with_body(self, raw: bytes, content_type: str) -> Request:
        """The same with a body, compressed where that is worth it. The service takes lines only as they are."""
        self.headers["Content-Type"] = content_type
        if content_type != NDJSON and len(raw) > COMPRESS_BYTES:
            raw = compress(raw)
            self.headers["Content-Encoding"] = "zstd"
        self.body = raw
        return self


@dataclass
class Call(Generic[T]):
    """A request, and what its answer means."""

    request: Request
    judge: Callable[[Answer], T]


@dataclass(frozen=True)
class Policy:
    """How long, and how often."""

    timeout: float = 30.0
    connect_timeout: float = 2.0
    retries: int = 3


class Tries:
    """The tries of one call: how much time there is, and whether and when to go on after a failure."""

    def __init__(self, policy: Policy, request: Request, *, stream: bool = False) -> None:
        self._policy = policy
        self._request = request
        self._count = 0
        self._ambiguous = False
        # A stream lasts as long as its reader likes: only each wait for the service is bounded.
        self._deadline = None if stream else time.monotonic() + policy.timeout + request.waits

    def remaining(self) -> float:
        """Seconds that this try may take."""
        if self._deadline is None:
            return self._policy.timeout
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise errors.Timeout(0, "timeout", f"no answer within {self._policy.timeout} s")
        return remaining

    def progressed(self) -> None:
        """Something arrived: what fails later is a new failure."""
        self._count = 0

    def pause_after(self, error: errors.Unavailable) -> float:
        """Seconds to wait before the next try; raises the error when there is to be none."""
        self._ambiguous |= error.maybe_processed
        error.repeated = self._count > 0
        ambiguous = error.maybe_processed and not self._request.repeatable
        if error.lasting or ambiguous or self._count >= self._policy.retries:
            raise error
        pause = random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._count))
        if error.retry_after is not None:
            # A little later than asked, so that not all come back at the same instant.
            pause += error.retry_after
        if self._deadline is not None and time.monotonic() + pause >= self._deadline:
            raise error
        if self._deadline is None and pause > self._policy.timeout:
            raise error
        self._count += 1
        return pause

    def marked(self, error: errors.ServiceError) -> errors.ServiceError:
        """A final error that knows whether an earlier try may have been carried out."""
        error.repeated = self._ambiguous
        return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a ``Retry-After`` header, which is a number or a date (RFC 9110 section 10.2.3)."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def body_of(answer: Answer) -> bytes:
    """The body with its content coding undone."""
    coding = answer.headers.get("Content-Encoding")
    if coding is None or coding == "identity":
        return answer.body
    if coding == "zstd":
        return decompress(answer.body)
    raise errors.InvalidAnswer(answer.status, "invalid_answer", f"the content coding {coding!r} was not asked for")


def problem_of(answer: Answer) -> dict[str, Any]:
    """The problem document of an answer; empty where somebody else answered, such as a proxy."""
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    try:
        problem = loads(body_of(answer))
    except errors.InvalidAnswer:
        return {}
    return problem if isinstance(problem, dict) else {}


def error_of(answer: Answer) -> errors.ServiceError:
    """What an unsuccessful answer means."""
    return problem_error(answer.status, problem_of(answer), answer.headers)


def problem_error(
    status: int, problem: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> errors.ServiceError:
    """The error of a problem document, which may be a line of a batch."""
    code = str(problem.get("code") or f"http_{status}")
    detail = str(problem.get("detail") or problem.get("title") or f"the answer has status {status}")
    if not problem and status < 400:
        return errors.InvalidAnswer(status, "invalid_answer", f"status {status} was not expected")
    # 502 of the service itself is about its configuration: trying again changes nothing.
    if status in (408, 429, 503, 504) or (status == 502 and not problem):
        begun = (status == 503 and code not in _NOT_BEGUN) or status in (502, 504)
        after = retry_after(headers or {})
        return errors.Unavailable(status, code, detail, problem, maybe_processed=begun, retry_after=after)
    if status == 502:
        return errors.Unavailable(status, code, detail, problem, lasting=True)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.InvalidRequest if 400 <= status < 500 else errors.ServiceError
    return kind(status, code, detail, problem)
