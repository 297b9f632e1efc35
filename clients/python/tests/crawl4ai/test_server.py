"""The ways to install without a line of code: an import and a variable, and gunicorn's configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import crawlcache.crawl4ai as drop_in

SOURCES = Path(__file__).parents[2] / "src"
APPLICATION = """
import json, os
from urllib.parse import parse_qs

from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy
import crawl4ai.async_webcrawler as module

# As the Docker server does.
_arun = AsyncWebCrawler.arun
async def capped(self, *arguments, **keywords):
    return await _arun(self, *arguments, **keywords)
AsyncWebCrawler.arun = capped

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    url = parse_qs(scope["query_string"].decode())["url"][0]
    strategy, browser = AsyncHTTPCrawlerStrategy(), BrowserConfig(verbose=False)
    async with AsyncWebCrawler(crawler_strategy=strategy, config=browser) as crawler:
        result = await crawler.arun(url, config=CrawlerRunConfig(cache_mode=CacheMode.ENABLED, verbose=False))
    cache = type(module.async_db_manager).__name__
    body = json.dumps({"success": result.success, "pid": os.getpid(), "cache": cache}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    import crawl4ai

    paths = [str(SOURCES), str(Path(crawl4ai.__file__).parents[1]), str(tmp_path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "CRAWL4_AI_BASE_DIRECTORY": str(tmp_path),
        "HOME": str(tmp_path),
        **variables,
    }


@pytest.mark.parametrize(
    "option", ["-c python:crawlcache.crawl4ai.gunicorn", pytest.param(None, marks=pytest.mark.once)]
)
def test_gunicorn_with_uvicorn_workers(site: Any, service: Any, tmp_path: Path, option: str | None) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    variables = {"CRAWLCACHE_URL": service.url}
    if option:
        variables["GUNICORN_CMD_ARGS"] = option
    log = tmp_path / "gunicorn.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--bind",
                "127.0.0.1:0",
                "--workers",
                "2",
                "--worker-class",
                "uvicorn.workers.UvicornWorker",
                "--timeout",
                "60",
                "application:app",
            ],
            env=environment(tmp_path, **variables),
            stdout=output,
            stderr=output,
        )
    try:
        address = _address(server, log)
        query = urllib.parse.urlencode({"url": f"{site.url}/page/gunicorn"})
        answers = [json.load(urllib.request.urlopen(f"{address}/?{query}", timeout=300)) for _ in range(6)]
    finally:
        server.terminate()
        server.wait(300)
    assert all(answer["success"] for answer in answers)
    if option:
        assert {answer["cache"] for answer in answers} == {"ServiceCache"}
        assert site.fetches["/page/gunicorn"] == 1
        assert not list(tmp_path.rglob("crawl4ai.db*"))
    else:
        assert {answer["cache"] for answer in answers} == {"AsyncDatabaseManager"}


def _address(server: subprocess.Popen[Any], log: Path) -> str:
    import re

    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        text = log.read_text()
        assert server.poll() is None, text
        if (found := re.search(r"Listening at: (http://\S+)", text)) and "Application startup complete" in text:
            return found.group(1)
        time.sleep(0.05)
    raise AssertionError(log.read_text())


AFTER = "import crawl4ai\nimport crawlcache.crawl4ai.auto"
BEFORE = "import crawlcache.crawl4ai.auto\nimport crawl4ai"


@pytest.mark.parametrize(
    ("order", "address", "expected"),
    [
        (AFTER, "http://127.0.0.1:9", "ServiceCache True"),
        (BEFORE, "http://127.0.0.1:9", "ServiceCache True"),
        pytest.param(BEFORE, "", "AsyncDatabaseManager True", marks=pytest.mark.once),
        pytest.param(BEFORE, "http://127.0.0.1:9?nonsense", "AsyncDatabaseManager True", marks=pytest.mark.once),
    ],
)
def test_a_variable_and_one_import(tmp_path: Path, order: str, address: str, expected: str) -> None:
    program = f"""{order}
import crawl4ai.async_webcrawler as used, crawl4ai.async_database as defined
print(type(used.async_db_manager).__name__, used.async_db_manager is defined.async_db_manager)"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path, CRAWLCACHE_URL=address),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == expected
    assert not list(tmp_path.rglob("crawl4ai.db*"))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLCACHE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CRAWLCACHE_TTL", "60")
    monkeypatch.setenv("CRAWLCACHE_STALE", "0.5")
    monkeypatch.setenv("CRAWLCACHE_LEASE", "7")
    monkeypatch.setenv("CRAWLCACHE_TOKEN", "cc_x")
    settings = drop_in.install().settings
    assert (settings.ttl, settings.stale, settings.lease, settings.token) == (60, 0.5, 7, "cc_x")
    assert drop_in.install(ttl=5).settings.ttl == 5
    monkeypatch.setenv("CRAWLCACHE_TTL", "soon")
    with pytest.raises(ValueError, match="CRAWLCACHE_TTL"):
        drop_in.install()
    monkeypatch.delenv("CRAWLCACHE_TTL")
    monkeypatch.delenv("CRAWLCACHE_URL")
    with pytest.raises(ValueError, match="CRAWLCACHE_URL"):
        drop_in.install()
    drop_in.uninstall()


def test_versions_that_are_not_supported_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawl4ai.__version__.__version__", "0.4.248")
    with pytest.raises(drop_in.UnsupportedCrawl4AI, match=r"0\.4\.248 is not supported: 0\.7\.0 is the oldest"):
        drop_in.install("http://127.0.0.1:9")
    monkeypatch.setattr("crawl4ai.__version__.__version__", "1.2.3")
    monkeypatch.delattr("crawl4ai.async_webcrawler.async_db_manager")
    with pytest.raises(drop_in.UnsupportedCrawl4AI, match=r"1\.2\.3 has no async_db_manager"):
        drop_in.install("http://127.0.0.1:9")


def test_metrics_are_there_for_prometheus() -> None:
    from prometheus_client import REGISTRY, generate_latest

    drop_in.install("http://127.0.0.1:9")
    text = generate_latest(REGISTRY).decode()
    assert 'crawlcache_crawl4ai_lookups_total{result="hit_fallback"}' in text
    assert 'crawlcache_crawl4ai_leases_total{result="won"}' in text
    drop_in.uninstall()
    assert "crawlcache_crawl4ai" not in generate_latest(REGISTRY).decode()
