"""The client for asyncio, over aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar, overload

from . import _batch as batch
from . import _calls as calls
from . import _errors as errors
from . import _lease_calls as leases
from ._async_sessions import AsyncSessions
from ._async_transport import LARGE_BYTES, AsyncTransport
from ._types import (
    Document,
    Fresh,
    Held,
    Hit,
    KeyLike,
    Lease,
    Miss,
    Names,
    NotModified,
    Quality,
    Rejected,
    State,
    Stored,
    Time,
    Tried,
    Won,
)
from ._wire import Call, Tries

V = TypeVar("V")

#: Requests of one look-up that are under way at once.
AT_ONCE = 4


class AsyncClient(AsyncTransport):
    """A client of one crawlcache service, for asyncio.

    It keeps connections for each event loop that uses it, and can be used from several. ``url`` and ``token`` default
    to the environment variables ``CRAWLCACHE_URL`` and ``CRAWLCACHE_TOKEN``. ``timeout`` is how many seconds a call
    may take with its retries; for streams it bounds each wait for the service instead.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 2.0,
        retries: int = 3,
        max_connections: int = 100,
    ) -> None:
        super().__init__(url, token, timeout, connect_timeout, retries, max_connections)
        #: Sessions of crawlers and browsers.
        self.sessions = AsyncSessions(self)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Results.

    @overload
    async def get(
        self,
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
        etag: None = None,
        consistent: bool = False,
    ) -> Hit | Miss: ...

    @overload
    async def get(
        self,
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
        etag: str | None,
        consistent: bool = False,
    ) -> Hit | Miss | NotModified: ...

    async def get(
        self,
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
    ) -> Hit | Miss | NotModified:
        """Reads a result.

        ``max_age`` and ``stale`` are seconds: the greatest age, and how long past expiry it is still acceptable.
        ``require`` names fields that must be there. With ``lease`` (seconds) the caller is granted the lease of what is
        missing or stale, unless another holds it, for whom ``wait`` waits up to so many seconds. ``NotModified`` comes
        only to a caller that gives its ``etag``.
        """
        call = calls.get(
            url,
            variant=variant,
            fields=fields,
            require=require,
            max_age=max_age,
            stale=stale,
            quality=quality,
            lease=lease,
            wait=wait,
            etag=etag,
            consistent=consistent,
        )
        return await self._run(call)

    async def put(
        self,
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
    ) -> Stored:
        """Stores a document: a mapping, or JSON text, which is stored digit for digit."""
        call = await _maybe_in_thread(
            _size(document),
            lambda: calls.put(
                url,
                document,
                variant=variant,
                ttl=ttl,
                lease=lease,
                if_match=if_match,
                if_absent=if_absent,
                origin_etag=origin_etag,
                origin_last_modified=origin_last_modified,
                head_fingerprint=head_fingerprint,
                updated_at=updated_at,
            ),
        )
        return await self._run(call)

    async def patch(
        self,
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
    ) -> Stored:
        """Changes fields (a JSON merge patch), or with ``confirmed`` says that the origin has answered 304."""
        call = calls.patch(
            url,
            changes,
            variant=variant,
            confirmed=confirmed,
            ttl=ttl,
            lease=lease,
            if_match=if_match,
            origin_etag=origin_etag,
            origin_last_modified=origin_last_modified,
            head_fingerprint=head_fingerprint,
        )
        return await self._run(call)

    async def delete(self, url: str, *, variant: str = "", if_match: str | None = None) -> None:
        """Deletes a result; it is no error when there is none."""
        await self._run(calls.delete(url, variant=variant, if_match=if_match))

    # Many results.

    async def lookup(
        self,
        keys: Iterable[KeyLike],
        *,
        max_age: float | None = None,
        stale: float | None = None,
        require: Names | None = None,
        quality: Quality | None = None,
    ) -> list[State]:
        """The state of any number of keys, in their order."""
        parts = calls.lookups(keys, max_age=max_age, stale=stale, require=require, quality=quality)
        turns = asyncio.Semaphore(AT_ONCE)

        async def run(part: Call[list[State]]) -> list[State]:
            async with turns:
                return await self._run(part)

        answers = await asyncio.gather(*map(run, parts))
        return [state for answer in answers for state in answer]

    async def batch_get(
        self,
        keys: Iterable[KeyLike] | AsyncIterable[KeyLike],
        *,
        fields: Names | None = None,
        require: Names | None = None,
        max_age: float | None = None,
        stale: float | None = None,
        quality: Quality | None = None,
        consistent: bool = False,
    ) -> AsyncGenerator[Hit | Miss | Rejected, None]:
        """Reads any number of results, one outcome a key and in their order, as they arrive."""
        start = 0
        async for chunk in _key_chunks(keys):
            part = batch.BatchGet(
                chunk,
                start,
                fields=fields,
                require=require,
                max_age=max_age,
                stale=stale,
                quality=quality,
                consistent=consistent,
            )
            start += len(chunk)
            tries: Tries | None = None
            while not part.done:
                request = part.request()
                tries = tries or Tries(self._policy, request, stream=True)
                try:
                    async with self._lines(request) as lines:
                        async for line in lines:
                            outcome = part.outcome(line)
                            tries.progressed()
                            yield outcome
                    part.end()
                except errors.Unavailable as error:
                    pause = tries.pause_after(error)
                    await asyncio.sleep(pause)

    async def batch_put(
        self,
        items: Iterable[batch.Puttable] | AsyncIterable[batch.Puttable],
        *,
        ttl: float | None = None,
        body_bytes: int = batch.BODY_BYTES,
    ) -> AsyncGenerator[Stored | Rejected, None]:
        """Stores any number of documents, one outcome an item and in their order.

        An item is an ``Item``, ``(key, document)``, or a mapping with ``url`` and ``document``. A request is sent once
        it holds 1,000 items or ``body_bytes`` bytes of JSON.
        """
        collected = batch.BatchPut(ttl=ttl, body_bytes=body_bytes)
        async for item in _each(items):
            for part in collected.add(item):
                for outcome in await self._store(part):
                    yield outcome
        for part in collected.rest():
            for outcome in await self._store(part):
                yield outcome

    async def _store(self, part: batch.Part) -> list[Stored | Rejected]:
        try:
            return await self._run(part.call())
        except errors.TooLarge as error:
            halves = part.halves()
            if halves is None:
                return part.refused(error)
        return await self._store(halves[0]) + await self._store(halves[1])

    async def list(
        self,
        *,
        host: str | None = None,
        prefix: str | None = None,
        url: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        status: int | None = None,
        expired: bool = False,
        page_size: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What is stored, newest first, without bodies."""
        asked = calls.filters(
            host=host, prefix=prefix, url=url, since=since, until=until, status=status, expired=expired
        )
        async for item in self._pages("/v1/results", {**asked, "limit": page_size}):
            yield item

    async def purge(
        self,
        *,
        host: str | None = None,
        prefix: str | None = None,
        url: str | None = None,
        older_than: float | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Deletes by host, prefix, url or age (seconds), and says how many."""
        return await self._run(calls.purge(host=host, prefix=prefix, url=url, older_than=older_than, dry_run=dry_run))

    async def export(
        self,
        *,
        host: str | None = None,
        prefix: str | None = None,
        url: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        status: int | None = None,
        expired: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """All results, one line of JSON each, as ``import_lines`` takes them. It cannot be resumed when it breaks."""
        asked = calls.filters(
            host=host, prefix=prefix, url=url, since=since, until=until, status=status, expired=expired
        )
        async with self._lines(batch.export_request(asked)) as lines:
            async for line in lines:
                yield line

    async def import_lines(
        self,
        lines: Iterable[batch.Line] | AsyncIterable[batch.Line],
        *,
        restore: bool = False,
        body_bytes: int = batch.BODY_BYTES,
    ) -> dict[str, Any]:
        """Stores exported lines with their times, and says what became of them.

        What was deleted since is counted as ``deleted``; ``restore`` stores it again.
        """
        collected = batch.Import(restore=restore, body_bytes=body_bytes)
        async for line in _each(lines):
            for call in collected.add(line):
                collected.count(await self._run(call))
        for call in collected.rest():
            collected.count(await self._run(call))
        return collected.report

    # Leases.

    async def acquire(
        self,
        key: KeyLike,
        *,
        variant: str = "",
        seconds: float = 30,
        wait: float = 0,
        max_age: float | None = None,
        stale: float | None = None,
        require: Names | None = None,
        quality: Quality | None = None,
    ) -> Won | Held | Fresh | Tried:
        """Asks for the right to fetch a page, and waits up to ``wait`` seconds for another who has it."""
        call = leases.acquire(
            key,
            variant=variant,
            seconds_held=seconds,
            wait=wait,
            max_age=max_age,
            stale=stale,
            require=require,
            quality=quality,
        )
        return await self._run(call)

    async def renew(self, lease: Lease | str, *, seconds: float | None = None) -> datetime | None:
        """Keeps a lease for ``seconds`` from now, as long as before when not given; says until when it is."""
        return await self._run(leases.renew(lease, seconds_held=seconds))

    async def release(self, lease: Lease | str) -> None:
        """Gives a lease back, so that another need not wait for its end."""
        await self._run(leases.release(lease))

    @contextlib.asynccontextmanager
    async def leased(
        self,
        key: KeyLike,
        *,
        variant: str = "",
        seconds: float = 30,
        wait: float = 0,
        max_age: float | None = None,
        stale: float | None = None,
        require: Names | None = None,
        quality: Quality | None = None,
    ) -> AsyncIterator[Won | Held | Fresh | Tried]:
        """``acquire`` for a block: what was won is renewed until its end, and released unless something was stored."""
        outcome = await self.acquire(
            key,
            variant=variant,
            seconds=seconds,
            wait=wait,
            max_age=max_age,
            stale=stale,
            require=require,
            quality=quality,
        )
        if isinstance(outcome, Won):
            async with self.holding(outcome.lease):
                yield outcome
        else:
            yield outcome

    @contextlib.asynccontextmanager
    async def holding(self, lease: Lease) -> AsyncIterator[Lease]:
        """Renews a lease that ``get`` or ``acquire`` has won until the block ends, then releases it unless something
        was stored under it."""
        renewals = asyncio.ensure_future(self._renew_on(lease))
        try:
            yield lease
        finally:
            renewals.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewals
            if not lease.stored and not lease.lost:
                with contextlib.suppress(errors.CrawlcacheError):
                    await self.release(lease)

    async def _renew_on(self, lease: Lease) -> None:
        while not lease.stored and not lease.lost:
            await asyncio.sleep(max(0.2, lease.seconds / 3))
            if lease.stored:
                return
            try:
                await self.renew(lease)
            except errors.Conflict:
                return
            except errors.ServiceError:
                continue  # The next one may come through, and the lease lasts for two more.

    # The service.

    async def stats(self) -> dict[str, Any]:
        """What is stored and how it is used; needs the scope ``admin``."""
        return await self._run(calls.stats())

    async def health(self) -> dict[str, Any]:
        """The health of each backend, also when it is bad."""
        return await self._run(calls.health())

    async def ready(self) -> bool:
        """Whether the service can serve requests; it is not asked twice."""
        return await self._run(calls.ready())

    async def host(self, name: str) -> dict[str, Any]:
        """What has been learned about how often the pages of a host change."""
        return await self._run(calls.host(name))


def _size(document: Document) -> int:
    """About how many bytes a document has, without writing it."""
    if isinstance(document, (bytes, str, bytearray, memoryview)):
        return len(document)
    if not isinstance(document, Mapping):
        return 0
    return sum(len(value) for value in document.values() if isinstance(value, (str, list, dict)))


async def _maybe_in_thread(size: int, work: Any) -> Any:
    return await asyncio.to_thread(work) if size > LARGE_BYTES else work()


async def _each(items: Iterable[V] | AsyncIterable[V]) -> AsyncGenerator[V, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _key_chunks(keys: Iterable[KeyLike] | AsyncIterable[KeyLike]) -> AsyncGenerator[list[Any], None]:
    if not isinstance(keys, AsyncIterable):
        for chunk in batch.key_chunks(keys):
            yield chunk
        return
    collected: list[Any] = []
    async for key in keys:
        collected.append(key)
        if len(collected) == batch.MOST:
            for chunk in batch.key_chunks(collected):
                yield chunk
            collected = []
    for chunk in batch.key_chunks(collected):
        yield chunk
