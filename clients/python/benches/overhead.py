"""What a hit costs beyond the bare HTTP call that reads the same body with the same library.

    python benches/overhead.py http://127.0.0.1:8080

Stores one page of about 150 KB at that service, reads it both ways in turns, and prints medians in microseconds. The
bare call asks for zstd and decodes nothing; the client's gives the document as a dictionary.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import urllib3
from yarl import URL

from crawlcache import AsyncClient, Client, Hit
from crawlcache import _codec as codec

PAGE = "https://example.com/page"
TARGET = f"/v1/result?url={PAGE}"
HEADERS = {"Accept-Encoding": "zstd", "User-Agent": "bare"}
ROUNDS = 1500
WARM_UP = 100


def page() -> dict[str, Any]:
    """A page as a crawler stores it: html, cleaned html, markdown in several forms, links."""
    dice = random.Random(5)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 10))) for _ in range(2500)]
    text = [" ".join(dice.choices(words, k=40)) for _ in range(170)]
    links = [
        {"href": f"https://example.com/{word}/{n}", "text": word, "title": ""} for n, word in enumerate(words[:60])
    ]
    html = "\n".join(
        f'<div class="row {word}" id="r{n}">\n\t<p>{line} \u2014 <a href="/{word}/{n}">{word}</a></p>\n</div>'
        for n, (word, line) in enumerate(zip(words, text, strict=False))
    )
    markdown = "\n\n".join(f"{line} \u2014 [{word}](/{word})" for word, line in zip(words, text, strict=False))
    return {
        "url": PAGE,
        "success": True,
        "status_code": 200,
        "html": html,
        "cleaned_html": html[:25_000],
        "markdown": {"raw_markdown": markdown, "fit_markdown": markdown[:10_000]},
        "links": {"internal": links, "external": []},
        "metadata": {"title": "A page", "depth": 1, "score": 0.25},
        "response_headers": {"content-type": "text/html", "etag": '"abc"'},
    }


def report(name: str, bare: list[float], client: list[float]) -> float:
    """Prints the medians; gives the difference in microseconds."""
    plain, ours = (statistics.median(times) * 1e6 for times in (bare, client))
    print(
        f"{name:<34} bare {plain:7.0f} us   client {ours:7.0f} us   more {ours - plain:6.0f} us   {ours / plain:.2f} x"
    )
    return ours - plain


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


async def timed_async(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that a coroutine takes."""
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


def threads(url: str) -> list[float]:
    """The client for threads beside urllib3."""
    pool = urllib3.connection_from_url(url, maxsize=1, block=True)

    def bare() -> bytes:
        return pool.urlopen("GET", TARGET, headers=HEADERS, retries=False, decode_content=False).data

    with Client(url) as client:

        def raw() -> bytes:
            hit = client.get(PAGE)
            assert isinstance(hit, Hit)
            return hit.raw

        def document() -> object:
            hit = client.get(PAGE)
            assert isinstance(hit, Hit)
            return hit.document

        work: list[Callable[[], object]] = [bare, raw, document]
        times: dict[Callable[[], object], list[float]] = {each: [] for each in work}
        for _ in range(ROUNDS + WARM_UP):
            # In another order each time: what follows on much work finds cold caches.
            random.shuffle(work)
            for each in work:
                times[each].append(timed(each))
    bares, raws, documents = (times[each][WARM_UP:] for each in (bare, raw, document))
    return [report("Client: .raw", bares, raws), report("Client: .document", bares, documents)]


async def tasks(url: str) -> list[float]:
    """The client for asyncio beside aiohttp."""
    async with aiohttp.ClientSession(auto_decompress=False) as session, AsyncClient(url) as client:

        async def bare() -> bytes:
            async with session.get(URL(url + TARGET, encoded=True), headers=HEADERS) as response:
                return await response.read()

        async def raw() -> bytes:
            hit = await client.get(PAGE)
            assert isinstance(hit, Hit)
            return hit.raw

        async def document() -> object:
            hit = await client.get(PAGE)
            assert isinstance(hit, Hit)
            return hit.document

        work: list[Callable[[], Awaitable[object]]] = [bare, raw, document]
        times: dict[Callable[[], Awaitable[object]], list[float]] = {each: [] for each in work}
        for _ in range(ROUNDS + WARM_UP):
            random.shuffle(work)
            for each in work:
                times[each].append(await timed_async(each))
    bares, raws, documents = (times[each][WARM_UP:] for each in (bare, raw, document))
    return [report("AsyncClient: .raw", bares, raws), report("AsyncClient: .document", bares, documents)]


def main() -> int:
    """Runs all and says whether a hit costs less than a millisecond more."""
    url = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    with Client(url) as client:
        stored = client.put(PAGE, page(), ttl=3600)
    print(f"document {stored.raw_bytes} bytes, stored {stored.stored_bytes}; json by {codec.JSON_READER}")
    more = threads(url) + asyncio.run(tasks(url))
    with Client(url) as client:
        client.delete(PAGE)
    good = max(more) < 1000
    print("under 1 ms more: " + ("yes" if good else "NO"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
