"""Drives the cache of the real Crawl4AI. Runs in the environment of requirements-crawl4ai.txt, as a program of its own.

    crawl4ai_program.py DIRECTORY fill FILE         stores the results of a JSON file with Crawl4AI's own manager
    crawl4ai_program.py DIRECTORY upgrade           what the next version of Crawl4AI does to a cache when it starts
    crawl4ai_program.py DIRECTORY write-on FIRST    stores pages until it is stopped; a line for each on standard output
    crawl4ai_program.py DIRECTORY read FILE         reads the urls of a JSON file; the seconds on standard output
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

DIRECTORY = Path(sys.argv[1])
# Its migration looks below the home directory, whatever the other variable says.
os.environ["HOME"] = os.environ["CRAWL4_AI_BASE_DIRECTORY"] = str(DIRECTORY)

from crawl4ai.async_database import AsyncDatabaseManager  # noqa: E402
from crawl4ai.models import CrawlResult, MarkdownGenerationResult  # noqa: E402


def result_of(document: dict[str, Any]) -> CrawlResult:
    """The result that Crawl4AI would have made of a page."""
    fields = {name: value for name, value in document.items() if name != "markdown"}
    markdown = {"markdown_with_citations": "", "references_markdown": "", **document["markdown"]}
    return CrawlResult(**fields, markdown=MarkdownGenerationResult(**markdown))


async def fill(manager: AsyncDatabaseManager, file: str) -> None:
    for document in json.loads(Path(file).read_text()):
        await manager.acache_url(result_of(document))


async def upgrade(manager: AsyncDatabaseManager) -> None:
    manager.version_manager.version_file.write_text("0.0.1")
    await manager.initialize()


async def write_on(manager: AsyncDatabaseManager, first: str) -> None:
    for number in itertools.count(int(first)):
        html = f"<html><body>page {number} {'text ' * (number % 500)}</body></html>"
        document = {"url": f"https://live.example/{number}", "html": html, "success": True, "markdown": {"raw_markdown": f"# {number}"}}
        await manager.acache_url(result_of(document))
        print(document["url"], flush=True)


async def read(manager: AsyncDatabaseManager, file: str) -> None:
    urls = json.loads(Path(file).read_text())
    await manager.aget_cached_url(urls[0])
    begun = time.perf_counter()
    found = 0
    for url in urls:
        result = await manager.aget_cached_url(url)
        found += result is not None and bool(result.html)
    print(json.dumps({"seconds": time.perf_counter() - begun, "found": found}))


if __name__ == "__main__":
    work = {"fill": fill, "upgrade": upgrade, "write-on": write_on, "read": read}[sys.argv[2]]
    asyncio.run(work(AsyncDatabaseManager(), *sys.argv[3:]))
