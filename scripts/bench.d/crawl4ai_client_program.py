"""Drives Crawl4AI's own cache and the drop-in in turn, through the coroutines that Crawl4AI calls. Runs in its environment.

    crawl4ai_client_program.py DIRECTORY SERVICE CORPUS PAGES ROUNDS       the measurements on standard output, as JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Awaitable, Callable

DIRECTORY, SERVICE, CORPUS, PAGES, ROUNDS = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
os.environ["HOME"] = os.environ["CRAWL4_AI_BASE_DIRECTORY"] = str(DIRECTORY)
# In the place of this directory, which has a crawl4ai.py of its own.
sys.path[0] = str(Path(__file__).resolve().parents[2] / "clients" / "python" / "src")

import aiohttp  # noqa: E402
from crawl4ai import CacheMode, CrawlerRunConfig  # noqa: E402
from crawl4ai.async_database import AsyncDatabaseManager  # noqa: E402
from crawl4ai.models import CrawlResult, MarkdownGenerationResult  # noqa: E402

import crawlcache  # noqa: E402
import crawlcache.crawl4ai as drop_in  # noqa: E402
from crawlcache._codec import dumps  # noqa: E402
from crawlcache.crawl4ai import runs  # noqa: E402

DOCUMENTS = [json.loads(path.read_text()) for path in sorted(CORPUS.iterdir())]
# Of a stored document, as JSON: what the targets speak of.
BYTES = 150_000
Call = Callable[[int], Awaitable[Any]]


def result(number: int, edition: str) -> CrawlResult:
    """A page of the corpus as Crawl4AI would have made it; each content is another one, as on the web."""
    made = page(number, edition)
    # As long as it is to be once it is stored: with more of its own text, or with less of it.
    for _ in range(10):
        missing = BYTES - len(dumps(drop_in.document(made)))
        if abs(missing) <= BYTES // 1000:
            return made
        if missing > 0:
            made.html += (made.html * (missing // len(made.html) + 1))[:missing]
        else:
            made.html = made.html[:missing] or made.html[:1]
    raise RuntimeError(f"page {number} cannot be made {BYTES} bytes long")


def page(number: int, edition: str) -> CrawlResult:
    document = DOCUMENTS[number % len(DOCUMENTS)]
    markdown = document["markdown"]
    raw = markdown["raw_markdown"] if isinstance(markdown, dict) else markdown
    return CrawlResult(
        url=f"https://bench.example/{edition}/{number}", success=True, status_code=200, fit_html=None,
        html=f"{document['html']}<!-- {edition} {number} -->",
        cleaned_html=f"{document.get('cleaned_html') or document['html']}<!-- {edition} {number} -->",
        markdown=MarkdownGenerationResult(raw_markdown=f"{raw}\n{edition} {number}", markdown_with_citations="", references_markdown=""),
        **{name: document[name] for name in ("media", "links", "metadata") if isinstance(document.get(name), dict)},
    )


async def timed(call: Call, count: int, tasks: int) -> dict[str, float]:
    """Calls with the numbers below `count`, from so many tasks at once."""
    numbers = iter(range(count))
    seconds: list[float] = []

    async def work() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await call(number)
            seconds.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    elapsed = time.perf_counter() - begun
    seconds.sort()
    return {"per_second": count / elapsed, "p50_ms": seconds[count // 2] * 1e3, "p99_ms": seconds[min(count - 1, count * 99 // 100)] * 1e3}


class Own:
    """Crawl4AI's own manager."""

    def __init__(self) -> None:
        self.manager = AsyncDatabaseManager()

    async def write(self, made: CrawlResult) -> None:
        await self.manager.acache_url(made)

    async def read(self, url: str) -> Any:
        return await self.manager.aget_cached_url(url)


class DropIn:
    """The drop-in, in a run as `arun` begins it."""

    def __init__(self) -> None:
        self.cache = drop_in.install(SERVICE)
        self.config = CrawlerRunConfig(cache_mode=CacheMode.ENABLED)

    async def _in_a_run(self, url: str, call: Callable[[], Awaitable[Any]]) -> Any:
        run = self.cache.begin(url, self.config, None, {})
        token = runs.current.set(run)
        try:
            return await call()
        finally:
            runs.current.reset(token)
            await self.cache.end(run, None)

    async def write(self, made: CrawlResult) -> None:
        await self._in_a_run(made.url, lambda: self.cache.acache_url(made))

    async def read(self, url: str) -> Any:
        return await self._in_a_run(url, lambda: self.cache.aget_cached_url(url))


async def measure(manager: Any, edition: str) -> dict[str, dict[str, float]]:
    made = [result(number, edition) for number in range(PAGES)]
    half = PAGES // 2

    async def read(number: int) -> None:
        found = await manager.read(made[number % PAGES].url)
        if found is None or found.html != made[number % PAGES].html:
            raise RuntimeError(f"{type(manager).__name__} does not have {made[number % PAGES].url}")

    return {
        "write_1": await timed(lambda number: manager.write(made[number]), half, 1),
        "write_32": await timed(lambda number: manager.write(made[half + number]), half, 32),
        "read_1": await timed(read, PAGES, 1),
        "read_32": await timed(read, PAGES * 2, 32),
    }


async def overhead(edition: str) -> dict[str, float]:
    """A hit through the drop-in against the bare HTTP call whose body is only received, in turn; milliseconds, medians."""
    cache = DropIn()
    made = result(0, edition)
    await cache.write(made)
    url = made.url
    found: dict[str, list[float]] = {"http": [], "client": [], "drop_in": []}
    async with aiohttp.ClientSession(auto_decompress=False) as session, crawlcache.AsyncClient(SERVICE) as client:

        async def bare() -> None:
            async with session.get(f"{SERVICE}/v1/result", params={"url": url, "quality": "good"}, headers={"Accept-Encoding": "zstd"}) as answer:
                await answer.read()

        async def plain() -> None:
            (await client.get(url)).document  # noqa: B018 - decoded when it is asked for

        hit = await client.get(url)
        if not hit or (await cache.read(url)).html != made.html:
            raise RuntimeError(f"{url} is not there")
        calls = [("http", bare), ("client", plain), ("drop_in", lambda: cache.read(url))]
        for number in range(300):
            for name, call in calls if number % 2 else reversed(calls):
                begun = time.perf_counter()
                await call()
                found[name].append((time.perf_counter() - begun) * 1e3)
    return {"bytes": len(hit.raw), **{name: sorted(values)[len(values) // 2] for name, values in found.items()}}


async def main() -> None:
    rounds = []
    for number in range(ROUNDS):
        # Who comes second finds the machine warm: each does in turn.
        order = [("own", Own), ("drop_in", DropIn)]
        rounds.append({name: await measure(kind(), f"round-{number}") for name, kind in (order if number % 2 else order[::-1])})
    said = {"rounds": rounds, "overhead": await overhead("overhead")}
    said["own_bytes"] = sum(file.stat().st_blocks * 512 for file in DIRECTORY.rglob("*") if file.is_file())
    said["metrics"] = drop_in.metrics()
    await drop_in.installed().cleanup()
    print(json.dumps(said))


asyncio.run(main())
