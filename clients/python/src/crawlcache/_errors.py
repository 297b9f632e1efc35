"""What can go wrong, by what a caller does about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CrawlcacheError(Exception):
    """Everything that this package raises on purpose."""


class ServiceError(CrawlcacheError):
    """The service answered with an error, or with nothing that can be used.

    ``status`` is the HTTP status, 0 when there was no answer. ``code`` is stable and meant for programs, ``detail``
    is for people, ``problem`` is the whole problem document (RFC 9457).
    """

    def __init__(self, status: int, code: str, detail: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.problem: dict[str, Any] = dict(problem or {})
        #: Whether an earlier try of the same call got no answer and may have been carried out.
        self.repeated = False

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.status == 0 else f"{self.status} {self.code}: {self.detail}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.status, self.code, self.detail, self.problem), self.__dict__)


class Unavailable(ServiceError):
    """The service cannot be reached or is too busy; another time, or without a cache, it may work.

    ``maybe_processed`` says whether the request may have been carried out all the same.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        problem: Mapping[str, Any] | None = None,
        *,
        maybe_processed: bool = True,
        retry_after: float | None = None,
        lasting: bool = False,
    ) -> None:
        super().__init__(status, code, detail, problem)
        #: Whether another try is of no use before somebody has mended the service.
        self.lasting = lasting
        self.maybe_processed = maybe_processed
        #: Seconds that the service asks to wait.
        self.retry_after = retry_after


class Timeout(Unavailable, TimeoutError):
    """The call took longer than its timeout."""


class InvalidAnswer(Unavailable):
    """What came back is not what the service sends: cut, corrupt, or from somebody else."""


class InvalidRequest(ServiceError):
    """The request can never work as it is: a bad url, parameter, document or header."""


class Unauthorized(ServiceError):
    """A valid token is needed."""


class Forbidden(Unauthorized):
    """The token is valid, but its scope does not allow this."""


class NotFound(ServiceError):
    """There is no such session, entry to change, or route. (A result that is not there is a ``Miss``.)"""


class Conflict(ServiceError):
    """The state of the thing does not allow it now."""


class LeaseLost(Conflict):
    """The lease has run out, was released, or belongs to another by now: it cannot be renewed."""


class LeaseOutdated(Conflict):
    """A write came under a lease that is no longer the latest: nothing was stored."""


class PreconditionFailed(ServiceError):
    """``if_match`` or ``if_absent`` does not hold."""


class TooLarge(ServiceError):
    """The document or the body is larger than the service takes."""


class StorageFull(ServiceError):
    """The service has no space left for writes."""
