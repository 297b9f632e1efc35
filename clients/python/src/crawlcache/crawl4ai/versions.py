"""Which versions of Crawl4AI the drop-in knows."""

from __future__ import annotations

import re
from typing import Any

OLDEST = (0, 7, 0)
NEWEST_TESTED = (0, 9, 5)


class UnsupportedCrawl4AI(RuntimeError):
    """Crawl4AI is missing, too old, or built in a way that the drop-in does not know."""


def installed() -> tuple[int, ...]:
    """The version of Crawl4AI in this process."""
    try:
        from crawl4ai.__version__ import __version__ as version
    except ImportError as error:
        raise UnsupportedCrawl4AI("crawl4ai is not installed here: pip install crawl4ai") from error
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def webcrawler() -> Any:
    """The module of Crawl4AI that holds its cache, after a look at whether it is as expected."""
    version = installed()
    text = ".".join(map(str, version))
    if version < OLDEST:
        raise UnsupportedCrawl4AI(
            f"crawl4ai {text} is not supported: {'.'.join(map(str, OLDEST))} is the oldest that is"
        )
    import crawl4ai.async_webcrawler as module

    missing = [name for name in ("async_db_manager", "AsyncWebCrawler", "CacheContext") if not hasattr(module, name)]
    if not missing and not hasattr(module.AsyncWebCrawler, "arun"):
        missing = ["AsyncWebCrawler.arun"]
    if missing:
        raise UnsupportedCrawl4AI(
            f"crawl4ai {text} has no {', '.join(missing)} where {'.'.join(map(str, NEWEST_TESTED))} has it: "
            "this version of crawlcache cannot replace its cache"
        )
    return module
