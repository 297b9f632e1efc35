"""Reads the same documents from requests-cache on SQLite and through crawlcache's Python client. Runs in .cache/bench-python.

    python_caches_worker.py SERVICE DATABASE CLIENT PAGES      CLIENT is the folder of the client's package
"""

from __future__ import annotations

import sys
from typing import Any

from closed_loop import STRIDE, expect, run_threads, serve

SERVICE, DATABASE, CLIENT, PAGES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
# In the place of this directory, some of whose modules have names of packages.
sys.path[0] = CLIENT

import requests  # noqa: E402
import requests_cache  # noqa: E402

import crawlcache  # noqa: E402

PAGE = "https://bench.example/page/"
session = requests_cache.CachedSession(DATABASE, backend="sqlite", expire_after=requests_cache.NEVER_EXPIRE)
# As many connections as there are threads, and a body as most sites would send it to be stored.
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
session.headers["Accept-Encoding"] = "gzip"
client = crawlcache.Client(SERVICE, max_connections=64)


def number_of(number: int) -> int:
    return number * STRIDE % PAGES


def cached(number: int) -> Any:
    """The document out of requests-cache, which has kept what the service answered."""
    response = session.get(f"{SERVICE}/v1/result", params={"url": f"{PAGE}{number_of(number)}"})
    expect(response.from_cache, "requests-cache asks the service")
    return response.json()


def served(number: int) -> Any:
    """The document through the client."""
    return client.get(f"{PAGE}{number_of(number)}").document


def fill() -> object:
    """Stores every document in requests-cache, and compares all of both."""
    for number in range(PAGES):
        response = session.get(f"{SERVICE}/v1/result", params={"url": f"{PAGE}{number}"})
        expect(response.status_code == 200 and not response.from_cache, "a page of requests-cache")
    for number in range(PAGES):
        expect(cached(number) == served(number), "both have the same document")
    return {"pages": PAGES}


serve({
    "fill": fill,
    "requests-cache": lambda seconds, at_once: run_threads(cached, seconds, at_once),
    "client": lambda seconds, at_once: run_threads(served, seconds, at_once),
})
