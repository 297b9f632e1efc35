"""JSON and zstd: bytes to values and back, without loss."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any

# The two are one API: the standard library's since 3.14, and its backport, which urllib3 and aiohttp use for zstd, too.
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    import orjson
except ImportError:  # pragma: no cover - depends on what is installed
    orjson = None  # type: ignore[assignment]

from ._errors import InvalidAnswer, InvalidRequest

#: What reads JSON, for people.
JSON_READER = "json" if orjson is None else "orjson"

#: Bodies below this size are sent as they are.
COMPRESS_BYTES = 1024

#: The service compresses anew what it stores; on the way the fastest level is best.
LEVEL = 1

# Integers beyond 64 bits become floats in orjson. A run of 19 digits may be one; json reads those documents.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG_RUN = b"0" * 19

_compressors = threading.local()

ZstdError = zstd.ZstdError


def loads(raw: bytes) -> Any:
    """Reads JSON; integers of any size stay integers."""
    if orjson is not None and _LONG_RUN not in raw.translate(_DIGITS):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass  # Lone surrogates and deep nesting, which json reads; what neither reads is refused below.
    try:
        # Decoded here: json itself would let halves of surrogates through, and take UTF-16.
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(0, "invalid_answer", f"what came is not JSON: {error}") from error


def loads_object(raw: bytes) -> dict[str, Any]:
    """Reads a JSON object."""
    value = loads(raw)
    if not isinstance(value, dict):
        raise InvalidAnswer(0, "invalid_answer", f"what came is not a JSON object but {type(value).__name__}")
    return value


def dumps(value: Any) -> bytes:
    """Writes JSON on one line. What JSON cannot say (NaN, keys or values of other types) is refused, not changed."""
    # Not orjson: it would turn NaN into null.
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(0, "invalid_document", f"this cannot be written as JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:  # Lone surrogates, which only escapes can say.
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def document_bytes(document: Mapping[str, Any] | bytes | str) -> bytes:
    """A document as JSON text; text that is JSON already goes as it is, digit for digit."""
    if isinstance(document, (bytes, bytearray, memoryview)):
        return bytes(document)
    if isinstance(document, str):
        return document.encode()
    if isinstance(document, Mapping):
        return dumps(document if isinstance(document, dict) else dict(document))
    kind = type(document).__name__
    raise InvalidRequest(0, "invalid_document", f"a document is a mapping or JSON text, not {kind}")


def compress(raw: bytes) -> bytes:
    """One zstd frame; the compressor is kept for the thread."""
    compressor: zstd.ZstdCompressor | None = getattr(_compressors, "kept", None)
    if compressor is None:
        compressor = _compressors.kept = zstd.ZstdCompressor(level=LEVEL)
    return compressor.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(body: bytes) -> bytes:
    """All frames of a body, which need not say how large they are."""
    try:
        return zstd.decompress(body)
    except zstd.ZstdError as error:
        raise InvalidAnswer(0, "invalid_answer", f"the zstd body is broken: {error}") from error


class LineReader:
    """Cuts a body that arrives in pieces into lines, undoing its content coding."""

    def __init__(self, coding: str | None) -> None:
        if coding not in (None, "", "identity", "zstd"):
            raise InvalidAnswer(0, "invalid_answer", f"the content coding {coding!r} was not asked for")
        self._frame = zstd.ZstdDecompressor() if coding == "zstd" else None
        self._rest: list[bytes] = []

    def feed(self, piece: bytes) -> Iterable[bytes]:
        """The lines that are complete with this piece."""
        for text in (piece,) if self._frame is None else self._decode(piece):
            first, *others = text.split(b"\n")
            self._rest.append(first)
            for following in others:
                line = b"".join(self._rest)
                self._rest = [following]
                if line:
                    yield line

    def end(self) -> Iterable[bytes]:
        """The last line, if no line break ends it."""
        if self._frame is not None and not self._frame.eof:
            raise InvalidAnswer(0, "invalid_answer", "the zstd body is cut")
        line = b"".join(self._rest)
        self._rest = []
        return (line,) if line else ()

    def _decode(self, piece: bytes) -> Iterable[bytes]:
        try:
            while piece:
                assert self._frame is not None
                if self._frame.eof:
                    self._frame = zstd.ZstdDecompressor()
                yield self._frame.decompress(piece)
                piece = self._frame.unused_data if self._frame.eof else b""
        except zstd.ZstdError as error:
            raise InvalidAnswer(0, "invalid_answer", f"the zstd body is broken: {error}") from error
