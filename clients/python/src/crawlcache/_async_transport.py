"""Carries out calls over aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from . import _calls as calls
from . import _errors as errors
from ._address import Address, policy
from ._codec import LineReader
from ._wire import Answer, Call, Request, Tries, error_of

T = TypeVar("T")

#: Bodies above this size are worked on in a thread, so that other tasks go on meanwhile.
LARGE_BYTES = 512 << 10

#: Idle connections are closed after so many seconds, before the service does it.
KEEP_SECONDS = 20.0


_ByLoop = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]]

# What a forked process got from its parent and must not end.
_INHERITED: list[_ByLoop] = []


class AsyncTransport:
    """Connections to one service, of each event loop that uses it."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        timeout: float,
        connect_timeout: float,
        retries: int,
        max_connections: int,
    ) -> None:
        self._address = Address(url, token)
        self._policy = policy(timeout, connect_timeout, retries, max_connections)
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._by_loop: _ByLoop = weakref.WeakKeyDictionary()

    @property
    def url(self) -> str:
        """The url of the service."""
        return self._address.url

    async def aclose(self) -> None:
        """Closes the connections of all loops. A call after that opens new ones."""
        with self._lock:
            kept = list(self._by_loop.items())
            self._by_loop = weakref.WeakKeyDictionary()
        here = asyncio.get_running_loop()
        for loop, (session, keeper) in kept:
            if loop is here:
                await keeper.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(keeper.aclose(), loop)
            else:
                _abandon(session)

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            # After a fork the connections are the parent's: they are left alone, and so may the lock be held.
            _INHERITED.append(self._by_loop)
            self._lock = threading.Lock()
            self._by_loop = weakref.WeakKeyDictionary()
            self._pid = os.getpid()
        kept = self._by_loop.get(loop)
        if kept is not None and not kept[0].closed:
            return kept[0]
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEP_SECONDS),
            headers=self._address.headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        # aiohttp would repeat any GET on a broken connection by itself, also one that takes a lease.
        session._retry_connection = False
        keeper = _keep(session)
        # Runs to the `yield`, which makes the loop know of it.
        with contextlib.suppress(StopIteration):
            keeper.asend(None).send(None)
        with self._lock:
            for other in [other for other in self._by_loop if other.is_closed()]:
                _abandon(self._by_loop.pop(other)[0])
            self._by_loop[loop] = (session, keeper)
        return session

    def _request(self, request: Request, timeout: aiohttp.ClientTimeout) -> Any:
        body: Any = request.body
        if body is not None and len(body) > LARGE_BYTES:
            body = io.BytesIO(body)  # Written in pieces, between which other tasks run.
        return self._session().request(
            request.method,
            URL(self._address.url + request.target, encoded=True),
            headers=request.headers,
            data=body,
            timeout=timeout,
            allow_redirects=False,
        )

    async def _run(self, call: Call[T]) -> T:
        tries = Tries(self._policy, call.request)
        while True:
            try:
                limit = aiohttp.ClientTimeout(total=tries.remaining(), sock_connect=self._policy.connect_timeout)
                with _translated():
                    async with self._request(call.request, limit) as response:
                        answer = Answer(response.status, response.headers, await response.read())
                if len(answer.body) > LARGE_BYTES:
                    return await asyncio.to_thread(call.judge, answer)
                return call.judge(answer)
            except errors.Unavailable as error:
                pause = tries.pause_after(error)
            except errors.ServiceError as error:
                raise tries.marked(error) from error.__cause__
            await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def _lines(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        limit = aiohttp.ClientTimeout(
            total=None, sock_connect=self._policy.connect_timeout, sock_read=self._policy.timeout
        )
        with _translated():
            response = await self._request(request, limit)
        try:
            if response.status != 200:
                with _translated():
                    raise error_of(Answer(response.status, response.headers, await response.read()))
            reading = _read_lines(response)
            try:
                yield reading
            finally:
                await reading.aclose()
        finally:
            # Closed, not released: what was not read would otherwise have to be.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _pages(self, path: str, parameters: dict[str, object]) -> AsyncGenerator[dict[str, Any], None]:
        cursor: object = None
        while True:
            page = await self._run(calls.page(path, parameters, cursor))
            for item in page["items"]:
                yield item
            cursor = page.get("next_cursor")
            if cursor is None:
                return


async def _read_lines(response: aiohttp.ClientResponse) -> Any:
    reader = LineReader(response.headers.get("Content-Encoding"))
    pieces = response.content.iter_any()
    while True:
        with _translated():
            piece = await anext(pieces, None)
        if piece is None:
            break
        for line in reader.feed(piece):
            yield line
    for line in reader.end():
        yield line


class _translated(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a statement
    """Turns the errors of aiohttp into those of this package. A class, because it is on the path of every hit."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, errors.CrawlcacheError):
            return
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            message = str(error) or type(error).__name__
            raise errors.Unavailable(0, "connection_failed", message, maybe_processed=False) from error
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            raise errors.Timeout(0, "timeout", "the service did not answer in time") from error
        if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientResponseError)):
            raise errors.InvalidAnswer(0, "invalid_answer", f"the answer is cut or broken: {error}") from error
        if isinstance(error, (aiohttp.ClientError, OSError)):
            message = f"the connection broke: {error or type(error).__name__}"
            raise errors.Unavailable(0, "connection_broken", message) from error


async def _keep(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Closes a session when the loop ends, or nobody holds the client any more: loops close their generators."""
    try:
        yield
    finally:
        await session.close()


def _abandon(session: aiohttp.ClientSession) -> None:
    """Closes the connections of a loop that no longer runs."""
    connector: Any = session.connector
    if connector is not None:
        with contextlib.suppress(Exception):
            connector._close_immediately()
        session._connector = None
