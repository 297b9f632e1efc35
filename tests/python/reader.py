"""Reads results straight from DynamoDB: made from docs/frame-format.md and docs/dynamodb-items.md, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import blake3
import zstandard

CLOSE = bytes.fromhex("0900007d")


@dataclass(frozen=True)
class Field:
    """One top-level field of a document."""

    name: str
    start: int  # of the member, in the text
    end: int
    blank: bool
    segment: int
    flush: int  # where its segment ends in the frame


class Layout:
    """Where each field lies."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        assert self._take(1) == b"\x01", "an unknown format"
        self.fields: list[Field] = []
        self.flushes: list[int] = []
        flush, end = 0, 0
        while self._at < len(data):
            count = self._number()
            flush += self._number()
            for _ in range(count):
                name = self._take(self._number()).decode()
                code = self._number()
                start = end + 1  # the opening brace or a comma
                end = start + (code >> 1)
                self.fields.append(Field(name, start, end, bool(code & 1), len(self.flushes), flush))
            self.flushes.append(flush)
        self.text_bytes = max(end, 1) + 1
        self.frame_bytes = flush + len(CLOSE)

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        assert len(taken) == count, "the layout ends too early"
        self._at += count
        return taken

    def _number(self) -> int:
        number, shift = 0, 0
        while True:
            (byte,) = self._take(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def field(self, name: str) -> Field:
        """The field of that name."""
        return next(field for field in self.fields if field.name == name)


def text(frame: bytes) -> bytes:
    """The text of a frame, which must be one whole zstd frame and nothing more."""
    decoder = zstandard.ZstdDecompressor().decompressobj()
    decoded = decoder.decompress(frame)
    assert decoder.eof and not decoder.unused_data, "not one whole frame"
    return decoded


def prefix(frame: bytes, layout: Layout, name: str) -> bytes:
    """A frame of its own that ends with the segment of that field."""
    return frame[: layout.field(name).flush] + CLOSE


def value(frame: bytes, layout: Layout, name: str) -> Any:
    """One field, decoded from the shortest prefix that has it."""
    field = layout.field(name)
    member = text(prefix(frame, layout, name))[field.start : field.end]
    ((found, decoded),) = json.loads(b"{" + member + b"}").items()
    assert found == name
    return decoded


def digest(data: bytes) -> str:
    """The hash of which etags, frame ids and key ids are made."""
    return blake3.blake3(data).hexdigest()[:32]


def partition_key(url: str, namespace: str = "default", variant: str = "") -> str:
    """The partition key of a result."""
    key = url if (namespace, variant) == ("default", "") else f"{url} {namespace} {variant}"
    if len(key.encode()) <= 2048:
        return key
    return "blake3 " + digest(b"\0".join(part.encode() for part in (namespace, url, variant)))


@dataclass(frozen=True)
class Packed:
    """A packed result: its item, its frame in one piece, and where the fields are."""

    item: dict[str, Any]
    frame: bytes
    layout: Layout

    def document(self) -> Any:
        """The whole document."""
        return json.loads(text(self.frame))


def read_item(table: Any, key: str) -> dict[str, Any] | None:
    """An item as it is now; none where there is none, or only a tombstone."""
    item = table.get_item(Key={"url": key}, ConsistentRead=True).get("Item")
    return None if item is None or ("deleted" in item and "version" in item) else item


def read_packed(table: Any, key: str) -> Packed:
    """A packed result from its item and its parts."""
    item = read_item(table, key)
    assert item is not None, f"nothing is stored under {key}"
    assert "layout" in item, "not packed"
    if "frame" in item:
        frame = bytes(item["frame"])
    else:
        assert "parts" in item, "the frame is in S3"
        parts = [
            table.get_item(Key={"url": f"part {item['frame_id']} {number}"}, ConsistentRead=True)["Item"]
            for number in range(int(item["parts"]))
        ]
        frame = b"".join(bytes(part["frame"]) for part in parts)
    assert digest(frame) == item["frame_id"], "another frame"
    said = [item["frame_id"], item["etag"], str(item.get("status_code", "")), str(item.get("success", "")).lower()]
    head = b"".join(field.encode() + b"\0" for field in said) + bytes(item["layout"])
    assert digest(head) == item["digest"], "what the item says of its frame is not what was written"
    layout = Layout(bytes(item["layout"]))
    assert len(frame) == item["frame_bytes"] == layout.frame_bytes
    assert digest(text(frame)[:-1]) == item["etag"]
    return Packed(item, frame, layout)
