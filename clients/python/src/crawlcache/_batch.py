"""Batches: what goes into one request, and what each line of its answer means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import _calls as calls
from . import _errors as errors
from ._codec import document_bytes, dumps, loads_object
from ._types import Hit, Item, Key, Lease, Miss, Names, Quality, Rejected, Stored, Validators, key_of
from ._wire import NDJSON, Answer, Call, Request, body_of, problem_error

#: The most keys or lines that one request takes.
MOST = 1000

#: A request is sent once its lines have that many bytes.
BODY_BYTES = 4 << 20

Outcome = Hit | Miss | Rejected
Line = bytes | str | Mapping[str, Any]
Puttable = Item | tuple[Any, Any] | Mapping[str, Any]


class BatchGet:
    """One request of a batch of reads; what has been answered is not asked for again."""

    def __init__(
        self,
        keys: list[Key],
        start: int,
        *,
        fields: Names | None = None,
        require: Names | None = None,
        max_age: float | None = None,
        stale: float | None = None,
        quality: Quality | None = None,
        consistent: bool = False,
    ) -> None:
        self._keys = keys
        self._start = start
        self._answered = 0
        self._base = 0
        self._options = calls.given(
            fields=calls.name_list(fields),
            require=calls.name_list(require),
            max_age=None if max_age is None else math.floor(max_age),
            stale=calls.seconds(stale),
            quality=quality,
        )
        self._headers = {"Accept-Encoding": "zstd"}
        if consistent:
            self._headers["Cache-Control"] = "no-cache"

    @property
    def done(self) -> bool:
        """Whether every key is answered."""
        return self._answered >= len(self._keys)

    def request(self) -> Request:
        """Asks for what is not answered yet."""
        self._base = self._answered
        rest = self._keys[self._base :]
        request = calls.post("/v1/results/batch-get", {"keys": calls.json_keys(rest), **self._options})
        request.headers.update(self._headers)
        return request

    def outcome(self, line: bytes) -> Outcome:
        """What a line says about its key."""
        # The document comes last, and inside strings quotes are escaped: the first of these begins it.
        head, found, document = line.partition(b',"document":')
        said = loads_object(head + b"}" if found else line)
        if self.done or said.get("index") != self._answered - self._base:
            if "index" not in said and "code" in said:
                raise problem_error(int(said.get("status", 500)), said)
            raise errors.InvalidAnswer(200, "invalid_answer", "the lines are not in the order of the keys")
        key, index = self._keys[self._answered], self._start + self._answered
        self._answered += 1
        if found:
            return Hit(
                key,
                document.rstrip()[:-1],
                etag=said["etag"],
                age=said["age"],
                ttl=said["ttl"],
                quality=said.get("quality", "good"),
                index=index,
            )
        if said.get("code") == "result_not_found":
            return calls.miss_of(said, key, index=index)
        return Rejected(key, index, problem_error(int(said.get("status", 500)), said))

    def end(self) -> None:
        """Says that the answer has ended."""
        if not self.done:
            raise errors.InvalidAnswer(200, "invalid_answer", "the answer ended before every key was answered")


class BatchPut:
    """Collects items into requests, and tells what became of each."""

    def __init__(self, *, ttl: float | None = None, body_bytes: int = BODY_BYTES) -> None:
        self._ttl = calls.seconds(ttl)
        self._body_bytes = body_bytes
        self._index = 0
        self._lines: list[_Line] = []
        self._bytes = 0

    def add(self, item: Puttable) -> Iterator[Part]:
        """Takes an item; gives a request that is full."""
        line = self._line(item)
        if self._lines and (len(self._lines) >= MOST or self._bytes + len(line.text) > self._body_bytes):
            yield from self.rest()
        self._lines.append(line)
        self._bytes += len(line.text)

    def rest(self) -> Iterator[Part]:
        """The request of what is left."""
        if self._lines:
            yield Part(self._lines)
        self._lines, self._bytes = [], 0

    def _line(self, item: Puttable) -> _Line:
        item = _item(item)
        key = key_of(item.key)
        ttl = self._ttl if item.ttl is None else calls.seconds(item.ttl)
        head = calls.given(
            url=key.url,
            variant=key.variant or None,
            ttl=ttl,
            lease=None if item.lease is None else calls.lease_token(item.lease),
            validators=calls.given(**item.validators._asdict()) if item.validators else None,
        )
        document = document_bytes(item.document)
        # Line breaks are white space between tokens: inside strings they are escaped.
        if b"\n" in document or b"\r" in document:
            document = document.replace(b"\n", b" ").replace(b"\r", b" ")
        text = b'%s,"document":%s}\n' % (dumps(head)[:-1], document)
        line = _Line(key, self._index, text, item.lease if isinstance(item.lease, Lease) else None)
        self._index += 1
        return line


def _item(item: Puttable) -> Item:
    if isinstance(item, Item):
        return item
    if isinstance(item, tuple):
        return Item(*item)
    known = {"url", "variant", "document", "ttl", "lease", "validators"}
    if isinstance(item, Mapping) and "url" in item and "document" in item and known.issuperset(item):
        validators = item.get("validators")
        if isinstance(validators, Mapping):
            validators = Validators(**validators)
        return Item(
            (item["url"], item.get("variant", "")), item["document"], item.get("ttl"), item.get("lease"), validators
        )
    raise errors.InvalidRequest(
        0, "invalid_item", "an item is an Item, (key, document), or a mapping with url and document"
    )


class _Line:
    __slots__ = ("index", "key", "lease", "text")

    def __init__(self, key: Key, index: int, text: bytes, lease: Lease | None) -> None:
        self.key = key
        self.index = index
        self.text = text
        self.lease = lease


class Part:
    """One request of a batch of writes."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines

    def call(self) -> Call[list[Stored | Rejected]]:
        """The request and its meaning."""
        body = b"".join(line.text for line in self._lines)
        request = Request("POST", "/v1/results/batch-put", {"Accept-Encoding": "zstd"})
        return Call(request.with_body(body, NDJSON), self._judge)

    def halves(self) -> tuple[Part, Part] | None:
        """The same in two requests; ``None`` when it is one line."""
        middle = len(self._lines) // 2
        return (Part(self._lines[:middle]), Part(self._lines[middle:])) if middle else None

    def refused(self, error: errors.ServiceError) -> list[Stored | Rejected]:
        """The outcome when the request as a whole is refused for what it holds."""
        return [Rejected(line.key, line.index, error) for line in self._lines]

    def _judge(self, answer: Answer) -> list[Stored | Rejected]:
        if answer.status >= 300:
            calls.nothing(answer)
        outcomes: list[Stored | Rejected] = []
        for text in body_of(answer).splitlines():
            said = loads_object(text)
            status = int(said.get("status", 500))
            if said.get("line") != len(outcomes) + 1:
                if "line" in said or len(outcomes) >= len(self._lines):
                    raise errors.InvalidAnswer(200, "invalid_answer", "the outcomes are not in the order of the lines")
                # About the body as a whole: what follows was not read.
                rest = Part(self._lines[len(outcomes) :])
                return outcomes + rest.refused(problem_error(status, said))
            line = self._lines[len(outcomes)]
            if status >= 300:
                outcomes.append(Rejected(line.key, line.index, problem_error(status, said)))
                continue
            if line.lease is not None:
                line.lease.stored = True
            outcomes.append(calls.stored_of(said, line.key, line.index))
        if len(outcomes) != len(self._lines):
            raise errors.InvalidAnswer(200, "invalid_answer", "the answer ended before every line was answered")
        return outcomes


def key_chunks(keys: Iterable[Any]) -> Iterator[list[Key]]:
    """Keys in the portions of one request."""
    chunk: list[Key] = []
    for key in keys:
        chunk.append(key_of(key))
        if len(chunk) == MOST:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class Import:
    """Collects exported lines into requests, and adds up their reports."""

    def __init__(self, *, restore: bool = False, body_bytes: int = BODY_BYTES) -> None:
        self._target = calls.target("/v1/results/import", {"restore": "true"} if restore else {})
        self._body_bytes = body_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._before = 0
        #: The sum of all reports; ``line`` counts through all of them.
        self.report: dict[str, Any] = {"lines": 0, "failed": 0, "errors": [], "complete": True}

    def add(self, line: Line) -> Iterator[Call[dict[str, Any]]]:
        """Takes a line; gives a request that is full."""
        text = document_bytes(line).strip(b"\r\n")
        self._lines.append(text)
        self._bytes += len(text) + 1
        if self._bytes >= self._body_bytes:
            yield from self.rest()

    def rest(self) -> Iterator[Call[dict[str, Any]]]:
        """The request of what is left."""
        if self._lines:
            request = Request("POST", self._target)
            yield Call(request.with_body(b"\n".join(self._lines) + b"\n", NDJSON), calls.object_of)
            self._before += len(self._lines)
        self._lines, self._bytes = [], 0

    def count(self, report: dict[str, Any]) -> None:
        """Adds the report of the request that was given last. To be called before the next is asked for."""
        for name, value in report.items():
            if isinstance(value, bool):
                self.report[name] = self.report.get(name, True) and value
            elif isinstance(value, int):
                self.report[name] = self.report.get(name, 0) + value
        for error in report.get("errors") or ():
            if isinstance(error, dict) and "line" in error:
                error = {**error, "line": error["line"] + self._before}
            if len(self.report["errors"]) < 100:
                self.report["errors"].append(error)


def export_request(parameters: Mapping[str, object]) -> Request:
    """An export."""
    return Request("GET", calls.target("/v1/results/export", parameters), {"Accept-Encoding": "zstd"})
