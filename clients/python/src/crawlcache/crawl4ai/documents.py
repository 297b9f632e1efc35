"""Crawl4AI's results as documents of the service, and back, without loss.

A document has Crawl4AI's own field names. What JSON cannot say is written in a way that can be undone: `pdf` is always
base64, and every other such value is named in the member `_crawl4ai` by its JSON pointer. Fields that the installed
Crawl4AI does not know are kept beside the result and written again.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from crawl4ai.models import CrawlResult

CODEC = "_crawl4ai"
_REST = "_crawlcache_rest"
_TEXT = (str,)
# Of a document, above which it is worked on in a thread.
LARGE_BYTES = 512 * 1024
T = TypeVar("T")


def document(result: Any) -> dict[str, Any]:
    """The document of a `CrawlResult`, or of the container that `arun` returns. Fields that are None are left out.

    It shares lists and dictionaries with the result.
    """
    result = unwrapped(result)
    values = dict((getattr(result, "__pydantic_private__", None) or {}).get(_REST) or {})
    for name in type(result).model_fields:
        value = result.__dict__.get(name)
        # `fit_html` is hidden by a property, which pydantic takes for the default of the field.
        if value is not None and not isinstance(value, property):
            values[name] = value
    if result._markdown is not None:
        markdown = result._markdown
        values["markdown"] = markdown.model_dump() if hasattr(markdown, "model_dump") else markdown
    if isinstance(values.get("pdf"), (bytes, bytearray)):
        values["pdf"] = base64.b64encode(values["pdf"]).decode("ascii")
    if hasattr(values.get("dispatch_result"), "model_dump"):
        values["dispatch_result"] = values["dispatch_result"].model_dump()
    encoded: dict[str, str] = {}
    made = {name: _written(value, f"/{_pointer(name)}", encoded) for name, value in values.items()}
    if encoded:
        made[CODEC] = {"encoded": encoded}
    return made


def crawl_result(document: dict[str, Any]) -> CrawlResult:
    """The `CrawlResult` of a document: of this package, the importer, or anybody who uses Crawl4AI's field names."""
    from crawl4ai.models import CrawlResult, DispatchResult, MarkdownGenerationResult
    from crawl4ai.ssl_certificate import SSLCertificate

    encoded = (document.get(CODEC) or {}).get("encoded") or {}
    values = {name: value for name, value in document.items() if name != CODEC}
    for pointer, kind in sorted(encoded.items(), key=lambda entry: -entry[0].count("/")):
        _restore(values, pointer, kind)
    known = type_fields(CrawlResult)
    rest = {name: values.pop(name) for name in list(values) if name not in known and name != "markdown"}
    markdown = values.pop("markdown", None)
    if isinstance(markdown, str):
        markdown = {"raw_markdown": markdown}
    if isinstance(markdown, dict):
        markdown = MarkdownGenerationResult(
            **{"raw_markdown": "", "markdown_with_citations": "", "references_markdown": "", **markdown}
        )
    if isinstance(values.get("pdf"), str):
        values["pdf"] = base64.b64decode(values["pdf"])
    if isinstance(values.get("ssl_certificate"), dict):
        values["ssl_certificate"] = SSLCertificate(values["ssl_certificate"])
    if isinstance(values.get("dispatch_result"), dict):
        values["dispatch_result"] = DispatchResult(**values["dispatch_result"])
    # Always passed: left out, the property that hides the field becomes its value, and no dump works.
    values.setdefault("fit_html", None)
    values.setdefault("html", "")
    values.setdefault("url", "")
    values.setdefault("success", bool(values["html"]))
    # An explicit None would replace the empty containers that Crawl4AI promises.
    for name in ("media", "links", "tables"):
        if values.get(name, ()) is None:
            del values[name]
    result = CrawlResult(**values, markdown=markdown)
    if rest:
        result.__pydantic_private__[_REST] = rest
    return result


def hit_result(hit: Any) -> CrawlResult:
    """The `CrawlResult` of a hit of `Client` or `AsyncClient`, with the moment at which it was stored."""
    result = crawl_result(hit.document)
    if "cached_at" in type(result).model_fields:
        result.cached_at = time.time() - float(getattr(hit, "age", 0) or 0)
    return result


def page(hit: Any, url: str) -> CrawlResult | None:
    """The result of a hit, by the url that was asked for; None if there is no page in it, as Crawl4AI sees it."""
    html = hit.document.get("html")
    if (html is None or html == "") and not hit.document.get("downloaded_files"):
        return None
    result = hit_result(hit)
    result.url = url
    return result


def good(result: Any) -> bool:
    """Whether a result is worth keeping: Crawl4AI's own verdict, an error status, nothing in it.

    `status_code` is that of the first answer; what the redirects led to is `redirected_status_code`.
    """
    if not result.success:
        return False
    for status in (result.status_code, getattr(result, "redirected_status_code", None)):
        if isinstance(status, int) and status >= 400:
            return False
    return bool(result.html) or bool(result.downloaded_files)


def size(result: Any) -> int:
    """About how many bytes a result takes: the texts in it, and a guess at each entry of its lists."""
    result = unwrapped(result)
    bytes_ = 0
    for value in result.__dict__.values():
        if isinstance(value, (str, bytes)):
            bytes_ += len(value)
        elif isinstance(value, (list, dict)):
            bytes_ += 500 * len(value)
    return bytes_


async def worked(size: int, work: Callable[[], T]) -> T:
    """Does work on a document, a large one in a thread, so that other crawls go on meanwhile."""
    return await asyncio.to_thread(work) if size > LARGE_BYTES else work()


def unwrapped(result: Any) -> Any:
    """The bare `CrawlResult`: of a container, the first one."""
    if hasattr(type(result), "model_fields"):
        return result
    return result[0]


def type_fields(kind: Any) -> frozenset[str]:
    """The names of a model's fields."""
    return frozenset(kind.model_fields)


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _plain(text: str) -> bool:
    """Whether a text can be written as UTF-8: a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_json(value: Any) -> bool:
    """Whether JSON holds a value as it is, which is nearly always so: quicker to find out than to make a copy."""
    kind = type(value)
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or not (name.isascii() or _plain(name)):
                return False
            if type(item) is str:
                if not (item.isascii() or _plain(item)):
                    return False
            elif not _is_json(item):
                return False
        return True
    if kind is list:
        return all(map(_is_json, value))
    if kind is str:
        return _plain(value)
    return value is None or kind is bool or kind is int or (kind is float and math.isfinite(value))


def _written(value: Any, pointer: str, encoded: dict[str, str]) -> Any:
    """A value as JSON has it; what had to change on the way is noted in `encoded`."""
    if _is_json(value):
        return value
    kind = type(value)
    if kind is str:
        encoded[pointer] = "utf-16"
        return base64.b64encode(value.encode("utf-16-le", "surrogatepass")).decode("ascii")
    if kind is float:
        encoded[pointer] = "float"
        return repr(value)
    if isinstance(value, dict):
        if all(type(name) is str and _plain(name) for name in value):
            return {name: _written(item, f"{pointer}/{_pointer(name)}", encoded) for name, item in value.items()}
        encoded[pointer] = "items"
        return [
            [_written(name, f"{pointer}/{n}/0", encoded), _written(item, f"{pointer}/{n}/1", encoded)]
            for n, (name, item) in enumerate(value.items())
        ]
    if isinstance(value, (list, tuple, set, frozenset)):
        if not isinstance(value, list):
            encoded[pointer] = (
                "tuple" if isinstance(value, tuple) else "frozenset" if isinstance(value, frozenset) else "set"
            )
        return [_written(item, f"{pointer}/{n}", encoded) for n, item in enumerate(value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        encoded[pointer] = "bytes"
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, datetime.datetime):
        encoded[pointer] = "datetime"
        return value.isoformat()
    if isinstance(value, _TEXT):
        return _written(str(value), pointer, encoded)
    if isinstance(value, (int, float)):
        return _written((int if isinstance(value, int) else float)(value), pointer, encoded)
    if hasattr(value, "model_dump"):
        return _written(value.model_dump(), pointer, encoded)
    raise TypeError(f"a result with a {kind.__module__}.{kind.__qualname__} at {pointer} cannot be stored")


_READERS: dict[str, Callable[[Any], Any]] = {
    "utf-16": lambda text: base64.b64decode(text).decode("utf-16-le", "surrogatepass"),
    "float": float,
    "items": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": base64.b64decode,
    "datetime": datetime.datetime.fromisoformat,
}


def _restore(values: dict[str, Any], pointer: str, kind: str) -> None:
    """Undoes one encoding. The containers on the way are replaced by copies, so that the document stays as it is."""
    names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
    read = _READERS.get(kind)
    if read is None:
        return
    place: Any = values
    for name in names[:-1]:
        step: Any = int(name) if isinstance(place, list) else name
        place[step] = list(place[step]) if isinstance(place[step], list) else dict(place[step])
        place = place[step]
    last: Any = int(names[-1]) if isinstance(place, list) else names[-1]
    place[last] = read(place[last])
