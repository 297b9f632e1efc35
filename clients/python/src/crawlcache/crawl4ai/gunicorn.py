"""A configuration of gunicorn that installs the drop-in in every worker: for Crawl4AI's Docker server, as it is.

GUNICORN_CMD_ARGS="-c python:crawlcache.crawl4ai.gunicorn"
"""

from __future__ import annotations

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Called by gunicorn in each worker, once the application is loaded."""
    from .auto import install_from_environment

    if install_from_environment():
        worker.log.info("crawlcache is the cache of Crawl4AI in this worker")
    else:
        worker.log.error("crawlcache is not installed in this worker: see the log of crawlcache.crawl4ai")
