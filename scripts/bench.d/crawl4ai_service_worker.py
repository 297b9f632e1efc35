"""Crawl4AI's own cache through its own manager, in one process. Runs in the environment of requirements-crawl4ai.txt.

    crawl4ai_service_worker.py DIRECTORY DOCUMENTS      DOCUMENTS is a folder of crawl results as JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from closed_loop import STRIDE, answer, expect, requests, run_tasks

DIRECTORY = Path(sys.argv[1])
# Its migration looks below the home directory, whatever the other variable says.
os.environ["HOME"] = os.environ["CRAWL4_AI_BASE_DIRECTORY"] = str(DIRECTORY)
# Of this directory, which has a crawl4ai.py of its own.
del sys.path[0]

from crawl4ai.async_database import AsyncDatabaseManager  # noqa: E402
from crawl4ai.models import CrawlResult, MarkdownGenerationResult  # noqa: E402

DOCUMENTS = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[2]).iterdir())]
PAGE = "https://bench.example/page/"
manager = AsyncDatabaseManager()


def result(number: int, mark: str = "") -> CrawlResult:
    """A document as Crawl4AI would have made it; `mark` goes into each content, which is another one then, as on the web."""
    document = DOCUMENTS[number % len(DOCUMENTS)]
    kept = ("success", "status_code", "media", "links", "metadata", "response_headers")
    markdown = {name: value for name, value in document["markdown"].items() if isinstance(value, str)}
    markdown["raw_markdown"] += mark
    return CrawlResult(
        url=f"{PAGE}{number}", html=document["html"] + mark, cleaned_html=document["cleaned_html"] + mark,
        markdown=MarkdownGenerationResult(**{"markdown_with_citations": "", "references_markdown": "", **markdown}),
        **{name: document[name] for name in kept},
    )


async def get(number: int) -> None:
    number = number * STRIDE % len(DOCUMENTS)
    found = await manager.aget_cached_url(f"{PAGE}{number}")
    expect(found is not None and found.html == DOCUMENTS[number]["html"], f"page {number} of Crawl4AI's cache")


# Made beforehand, as the load generator's documents are: only the cache is measured.
READY: list[CrawlResult] = []


async def put(number: int) -> None:
    ready, mark = READY[number % len(READY)], f"<!-- {number} -->"
    own = {"url": f"{PAGE}{number}", "html": ready.html + mark, "cleaned_html": (ready.cleaned_html or "") + mark}
    await manager.acache_url(ready.model_copy(update=own))


async def puts(seconds: float, at_once: int, first: int) -> dict[str, float]:
    """Its manager logs what fails, and raises nothing: the rows are counted."""
    READY[:] = READY or [result(number) for number in range(len(DOCUMENTS))]
    before = stored()
    report = await run_tasks(put, seconds, at_once, first)
    expect(stored() - before == report["requests"], "not every put was stored by Crawl4AI's manager")
    return report


def stored() -> int:
    with sqlite3.connect(DIRECTORY / ".crawl4ai" / "crawl4ai.db") as database:
        return int(database.execute("SELECT count(*) FROM crawled_data").fetchone()[0])


async def fill() -> object:
    """Stores the documents as they are."""
    for number in range(len(DOCUMENTS)):
        await manager.acache_url(result(number))
    for number in range(len(DOCUMENTS)):
        await get(number)
    return {"pages": len(DOCUMENTS)}


async def serve() -> None:
    works: dict[str, Any] = {
        "fill": fill,
        "get": lambda seconds, at_once: run_tasks(get, seconds, at_once),
        "put": puts,
    }
    for request in requests():
        answer(await works[request.pop("work")](**request))


asyncio.run(serve())
