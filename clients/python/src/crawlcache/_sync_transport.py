"""Carries out calls over urllib3."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
)
from urllib3.exceptions import (
    TimeoutError as PoolTimeoutError,
)

from . import _calls as calls
from . import _errors as errors
from ._address import Address, policy
from ._codec import LineReader
from ._wire import Answer, Call, Request, Tries, error_of

T = TypeVar("T")

#: How much of a body is read at a time.
PIECE_BYTES = 256 << 10


class Transport:
    """Connections to one service, for any number of threads."""

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
        self._pid = os.getpid()
        self._kept = self._open()

    @property
    def url(self) -> str:
        """The url of the service."""
        return self._address.url

    def close(self) -> None:
        """Closes the connections. A call after that opens new ones."""
        kept, self._kept = self._kept, self._open()
        kept.close()

    def _open(self) -> urllib3.HTTPConnectionPool:
        return urllib3.connection_from_url(
            self._address.origin, maxsize=self._max_connections, block=True, headers=self._address.headers
        )

    def _pool(self) -> urllib3.HTTPConnectionPool:
        if self._pid != os.getpid():
            # After a fork the connections are the parent's: they are left alone.
            self._kept = self._open()
            self._pid = os.getpid()
        return self._kept

    def _send(self, request: Request, limit: float) -> urllib3.BaseHTTPResponse:
        return self._pool().urlopen(
            request.method,
            self._address.prefix + request.target,
            body=request.body,
            headers={**self._address.headers, **request.headers},
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=min(self._policy.connect_timeout, limit), read=limit),
            pool_timeout=limit,  # type: ignore[arg-type]  # a float is as good
            preload_content=False,
            decode_content=False,
        )

    def _run(self, call: Call[T]) -> T:
        tries = Tries(self._policy, call.request)
        while True:
            try:
                with _translated():
                    response = self._send(call.request, tries.remaining())
                    answer = Answer(response.status, response.headers, _read(response, tries))
                return call.judge(answer)
            except errors.Unavailable as error:
                pause = tries.pause_after(error)
            except errors.ServiceError as error:
                raise tries.marked(error) from error.__cause__
            time.sleep(pause)

    @contextlib.contextmanager
    def _lines(self, request: Request) -> Iterator[Iterator[bytes]]:
        with _translated():
            response = self._send(request, self._policy.timeout)
        try:
            if response.status != 200:
                with _translated():
                    raise error_of(Answer(response.status, response.headers, response.read()))
            yield _read_lines(response)
        except BaseException:
            # Closed, not released: what was not read would otherwise have to be.
            response.close()
            raise
        finally:
            response.release_conn()

    def _pages(self, path: str, parameters: dict[str, object]) -> Generator[dict[str, Any], None, None]:
        cursor: object = None
        while True:
            page = self._run(calls.page(path, parameters, cursor))
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return


def _read(response: urllib3.BaseHTTPResponse, tries: Tries) -> bytes:
    """The body, within the time of the call: each wait for a piece is bounded by the read timeout."""
    try:
        pieces = []
        while piece := response.read1(PIECE_BYTES):
            pieces.append(piece)
            tries.remaining()
    except BaseException:
        response.close()
        raise
    finally:
        # Also what is closed has a place among those that may be open.
        response.release_conn()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_lines(response: urllib3.BaseHTTPResponse) -> Generator[bytes, None, None]:
    reader = LineReader(response.headers.get("Content-Encoding"))
    while True:
        with _translated():
            piece = response.read1(PIECE_BYTES)
        if not piece:
            break
        yield from reader.feed(piece)
    yield from reader.end()


class _translated(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a statement
    """Turns the errors of urllib3 into those of this package. A class, because it is on the path of every hit."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, errors.CrawlcacheError):
            return
        if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            raise errors.Unavailable(0, "connection_failed", str(error), maybe_processed=False) from error
        if isinstance(error, EmptyPoolError):
            message = "no connection became free in time"
            raise errors.Timeout(0, "timeout", message, maybe_processed=False) from error
        if isinstance(error, (PoolTimeoutError, TimeoutError)):
            raise errors.Timeout(0, "timeout", "the service did not answer in time") from error
        if isinstance(error, (HTTPError, OSError)):
            kind_of = errors.Unavailable if isinstance(error, (ProtocolError, OSError)) else errors.InvalidAnswer
            message = f"the connection broke: {error or type(error).__name__}"
            raise kind_of(0, "connection_broken", message) from error
