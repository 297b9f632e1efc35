"""For the time in which the service is away: a bounded memory of documents, and the pause before the next try."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple


class Kept(NamedTuple):
    """A document as JSON, and until when it may be used."""

    raw: bytes
    stored_at: float
    until: float


class FallbackHit:
    """What was found here, as far as a run looks at a hit."""

    validators = None
    lease = None
    etag = None

    def __init__(self, document: dict[str, Any], age: float) -> None:
        self.document = document
        self.age = age


class Fallback:
    """The documents last read and written, at most `bytes` of them; the one not used for the longest goes first."""

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def keep(self, url: str, variant: str, raw: bytes, *, ttl: float | None = None, age: float = 0.0) -> None:
        """Keeps a document; one that would take more than a quarter of the space is not worth the others."""
        if len(raw) * 4 > self._size:
            return
        now = self._clock()
        until = now + (self._seconds if ttl is None else min(self._seconds, ttl))
        with self._lock:
            self._forget((url, variant))
            self._kept[url, variant] = Kept(raw, now - age, until)
            self._used += len(raw)
            while self._used > self._size:
                _, oldest = self._kept.popitem(last=False)
                self._used -= len(oldest.raw)

    def find(self, url: str, variant: str) -> tuple[bytes, float] | None:
        """A document that may still be used, and its age in seconds."""
        now = self._clock()
        with self._lock:
            kept = self._kept.get((url, variant))
            if kept is None:
                return None
            if kept.until <= now:
                self._forget((url, variant))
                return None
            self._kept.move_to_end((url, variant))
            return kept.raw, now - kept.stored_at

    def forget(self, url: str, variant: str) -> None:
        """Drops a document that turned out to be outdated."""
        with self._lock:
            self._forget((url, variant))

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._used = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def used(self) -> int:
        """Bytes of the documents kept."""
        return self._used

    def _forget(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._used -= len(kept.raw)


class Breaker:
    """Keeps a dead service from slowing a crawl: after a failure nobody asks for a while, then one tries for all."""

    #: One slow answer says little: large documents take long. So many in a row do.
    SLOW = 3

    def __init__(self, first: float = 0.5, longest: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._longest = longest
        self._slow = 0
        self._clock = clock
        self._pause = 0.0
        self._until = 0.0

    @property
    def closed(self) -> bool:
        """Whether the service is believed to be there."""
        return self._pause == 0.0

    def admits(self) -> bool:
        """Whether the service may be asked now. During a failure, one caller a pause is told so."""
        if self._pause == 0.0:
            return True
        now = self._clock()
        if now < self._until:
            return False
        # This caller is the one that tries; the next one waits for as long again.
        self._until = now + self._pause
        return True

    def succeeded(self) -> None:
        self._pause = 0.0
        self._slow = 0

    def failed(self, *, slow: bool = False) -> bool:
        """Notes a failure; of calls that were only too `slow`, the first ones are let pass. True if it opens."""
        now = self._clock()
        opens = self._pause == 0.0
        if slow and opens:
            self._slow += 1
            if self._slow < self.SLOW:
                return False
        if not opens and now < self._until - self._pause * 0.99:
            # One of the calls that were under way when it opened.
            return False
        self._pause = self._first if opens else min(self._pause * 2, self._longest)
        self._until = now + self._pause
        return opens
