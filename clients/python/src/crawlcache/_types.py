"""What goes in and what comes out: keys, answers, leases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from ._codec import loads_object
from ._errors import InvalidRequest, ServiceError

#: Which results are an answer: the good one or else the failed one, only the good one, only the failed one.
Quality = Literal["best", "good", "failed"]
Document = Mapping[str, Any] | bytes | str
Names = str | Iterable[str]
Time = datetime | str | int | float


class Key(NamedTuple):
    """What a result is stored under."""

    url: str
    variant: str = ""


KeyLike = str | tuple[str, str] | Key


def key_of(key: KeyLike) -> Key:
    """The key that a url, a pair or a key stands for."""
    if isinstance(key, str):
        return Key(key)
    if isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key):
        return Key(*key)
    raise InvalidRequest(0, "invalid_key", f"a key is a url, (url, variant) or Key, not {key!r}")


class Validators(NamedTuple):
    """What the origin can be asked with whether a page has changed."""

    etag: str | None = None
    last_modified: str | None = None
    head_fingerprint: str | None = None


def instant(text: str | None) -> datetime | None:
    """An RFC 3339 time; ``None`` for what is none."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1] in "Zz" else text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


class Lease:
    """The right to fetch one page, until ``expires_at``.

    Give it to ``put`` and ``patch``, so that a write of a holder that was too late is refused.
    """

    __slots__ = ("expires_at", "key", "lost", "seconds", "stored", "token")

    def __init__(self, token: str, key: Key, expires_at: datetime | None, seconds: int) -> None:
        self.token = token
        self.key = key
        self.expires_at = expires_at
        self.seconds = seconds
        #: A renewal was refused: somebody else may be fetching by now.
        self.lost = False
        #: A write under this lease was stored, which ended it.
        self.stored = False

    def __repr__(self) -> str:
        state = "stored" if self.stored else "lost" if self.lost else f"until {self.expires_at}"
        return f"<Lease {self.key.url!r} {state}>"


class Hit:
    """A result. The document is decoded when it is first asked for."""

    __slots__ = (
        "_document",
        "age",
        "etag",
        "index",
        "key",
        "last_modified",
        "lease",
        "quality",
        "raw",
        "source",
        "ttl",
        "validators",
    )

    def __init__(
        self,
        key: Key,
        raw: bytes,
        *,
        etag: str,
        age: int,
        ttl: int,
        source: str = "",
        quality: str = "good",
        validators: Validators = Validators(),  # noqa: B008 - immutable
        lease: Lease | None = None,
        last_modified: str | None = None,
        index: int = 0,
    ) -> None:
        self.key = key
        #: The JSON text, byte for byte.
        self.raw = raw
        self.etag = etag
        #: Seconds since it was stored or confirmed.
        self.age = age
        #: Seconds for which it is fresh still; negative once it has expired.
        self.ttl = ttl
        #: ``memory``, ``sqlite``, ``dynamodb``, ``stale``, ``queued`` or ``fallback``; empty where it is not said.
        self.source = source
        #: ``good`` or ``failed``.
        self.quality = quality
        self.validators = validators
        #: Granted with a stale answer: this caller is the one to fetch the page anew.
        self.lease = lease
        self.last_modified = last_modified
        #: Its place among the keys of a batch.
        self.index = index
        self._document: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The document."""
        if self._document is None:
            self._document = loads_object(self.raw)
        return self._document

    @property
    def stale(self) -> bool:
        """Whether it has expired and is an answer only thanks to ``stale=``."""
        return self.source == "stale" or self.ttl < 0

    @property
    def updated_at(self) -> datetime | None:
        """When it was stored or confirmed, to the second."""
        try:
            return parsedate_to_datetime(self.last_modified) if self.last_modified else None
        except ValueError:
            return None

    @property
    def url(self) -> str:
        """The url of the key."""
        return self.key.url

    @property
    def variant(self) -> str:
        """The variant of the key."""
        return self.key.variant

    def __bool__(self) -> Literal[True]:
        return True

    def __repr__(self) -> str:
        return f"<Hit {self.key.url!r} age={self.age} ttl={self.ttl} {self.quality} {len(self.raw)} bytes>"


@dataclass(frozen=True)
class NotModified:
    """The caller's ``etag`` is that of the stored result; truthy, as a hit is."""

    key: Key
    etag: str
    age: int
    ttl: int
    source: str = ""
    validators: Validators = field(default_factory=Validators)
    lease: Lease | None = None

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True)
class Miss:
    """No acceptable result; falsy.

    ``reason`` is ``absent``, ``expired``, ``too_old``, ``field_missing``, ``variant``, ``damaged``, ``failed``, or
    ``unknown`` where a store that may have it could not be asked.
    """

    key: Key
    reason: str
    problem: dict[str, Any] = field(default_factory=dict, repr=False)
    #: Won: this caller is the one to fetch the page.
    lease: Lease | None = None
    #: Another holds the lease until then.
    held_until: datetime | None = None
    #: Seconds after which to ask again.
    retry_after: float | None = None
    #: Its place among the keys of a batch.
    index: int = 0

    @property
    def failed(self) -> bool:
        """Whether there is only a failed result while a good one was asked for."""
        return self.reason == "failed"

    @property
    def failure(self) -> dict[str, Any]:
        """What is known of that failed result: ``why``, ``status_code``, ``age``, ``ttl``."""
        failure = self.problem.get("failed")
        return failure if isinstance(failure, dict) else {}

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True)
class Rejected:
    """One key or item of a batch that the service refused; falsy."""

    key: Key
    index: int
    error: ServiceError

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True)
class Stored:
    """What a write stored."""

    key: Key
    #: ``created``, ``replaced``, ``refreshed``, ``superseded`` or ``queued``.
    outcome: str
    etag: str
    expires_at: datetime | None
    raw_bytes: int
    stored_bytes: int
    #: ``good`` or ``failed``.
    quality: str = "good"
    #: Why it counts as failed: ``success``, ``status`` or ``blocked``.
    why: str | None = None
    #: Whence its time to live: ``request``, ``learned`` or ``default``; ``None`` where it is not said.
    ttl_source: str | None = None
    #: Its place among the items of a batch.
    index: int = 0


@dataclass(frozen=True)
class State:
    """What is known of a key: ``fresh``, ``stale``, ``absent``, ``leased``, ``invalid`` or ``unknown``.

    ``unknown`` is no reason to fetch the page: the store that may have it (reason ``result``), or that knows whether
    another fetches it (``lease``), could not be asked just now.
    """

    key: Key
    state: str
    reason: str | None = None
    age: int | None = None
    ttl: int | None = None
    etag: str | None = None
    #: Everything that the service said.
    answer: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def fresh(self) -> bool:
        """Whether there is an acceptable result."""
        return self.state == "fresh"

    @property
    def known(self) -> bool:
        """Whether the service could tell."""
        return self.state != "unknown"


@dataclass(frozen=True)
class Won:
    """The lease is this caller's; truthy."""

    lease: Lease
    state: Literal["won"] = "won"

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True)
class Held:
    """Another holds the lease; falsy."""

    key: Key
    expires_at: datetime | None = None
    retry_after: float | None = None
    problem: dict[str, Any] = field(default_factory=dict, repr=False)
    lease: None = None
    state: Literal["held"] = "held"

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True)
class Tried:
    """The page has just been tried, and what came is no answer: move on, and come back later; falsy."""

    key: Key
    retry_after: float | None = None
    problem: dict[str, Any] = field(default_factory=dict, repr=False)
    lease: None = None
    state: Literal["failed"] = "failed"

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True)
class Fresh:
    """There is an acceptable result: nothing to fetch; falsy."""

    key: Key
    etag: str = ""
    age: int = 0
    ttl: int = 0
    lease: None = None
    state: Literal["fresh"] = "fresh"

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True)
class Item:
    """One line of ``batch_put``."""

    key: KeyLike
    document: Document
    ttl: int | None = None
    lease: Lease | str | None = None
    validators: Validators | None = None
