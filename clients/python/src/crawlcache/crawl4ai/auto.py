"""Installs the drop-in when it is imported, if `CRAWLCACHE_URL` is set: for programs that only change an import.

Never keeps a program from starting: what is wrong is logged, and Crawl4AI goes on with its own cache.
"""

from __future__ import annotations

import logging
import os

from . import install


def install_from_environment() -> bool:
    """Installs the drop-in as the environment says; whether it is installed."""
    if not os.environ.get("CRAWLCACHE_URL"):
        logging.getLogger("crawlcache.crawl4ai").warning("CRAWLCACHE_URL is not set: Crawl4AI keeps its own cache")
        return False
    try:
        install()
    except Exception as error:
        logging.getLogger("crawlcache.crawl4ai").error("Crawl4AI keeps its own cache: %s", error)
        return False
    return True


install_from_environment()
