"""A process of a fleet: many crawlers that crawl the same pages. Its work comes as JSON on standard input, a line.

It says `ready` when it could begin, begins with the next line, and says at its end what came of it, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]

from crawling import config, http_crawler

import crawlcache.crawl4ai as drop_in


async def crawler(work: dict[str, Any], number: int, begin: asyncio.Event) -> list[str]:
    """Crawls every page in an order of its own; what failed."""
    run = config(**work.get("config", {}))
    urls = list(work["urls"])
    random.Random(work["process"] * 1000 + number).shuffle(urls)
    urls = urls[: work.get("each", len(urls))]
    failures = []
    async with http_crawler() as one:
        await begin.wait()
        for _ in range(work.get("rounds", 1)):
            for url in urls:
                result = await one.arun(url, config=run)
                if not result.success or "first part" not in str(result.markdown):
                    failures.append(f"{url}: {result.error_message}")
                await asyncio.sleep(work.get("pause", 0))
    return failures


async def main(work: dict[str, Any]) -> None:
    cache = drop_in.install(work["service"], **work.get("install", {}))
    begin = asyncio.Event()
    tasks = [asyncio.create_task(crawler(work, number, begin)) for number in range(work["crawlers"])]
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    begin.set()
    done = await asyncio.gather(*tasks)
    await cache.cleanup()
    failures = [failure for each in done for failure in each]
    base = Path(tempfile.gettempdir())
    print(
        json.dumps(
            {"failures": failures[:5], "failed": len(failures), "metrics": drop_in.metrics(), "base": str(base)}
        ),
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
