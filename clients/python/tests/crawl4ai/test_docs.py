"""The programs in docs/crawl4ai.md are run, and print what the page says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[4] / "docs" / "crawl4ai.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)

# What the reader has and this test has not: a browser of Crawl4AI's own.
OVER_HTTP = """
import crawl4ai as _crawl4ai
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy as _Strategy
_init = _crawl4ai.AsyncWebCrawler.__init__
def _over_http(self, crawler_strategy=None, config=None, **more):
    config = config or _crawl4ai.BrowserConfig(verbose=False)
    _init(self, crawler_strategy=crawler_strategy or _Strategy(), config=config, **more)
_crawl4ai.AsyncWebCrawler.__init__ = _over_http
"""


@pytest.mark.once
@pytest.mark.parametrize(("program", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example(site: Any, service: Any, tmp_path: Path, program: str, output: str) -> None:
    program = program.replace("http://127.0.0.1:8080", service.url).replace("https://site.example", site.url)
    done = subprocess.run(
        [sys.executable, "-c", OVER_HTTP + program],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(PAGE.parents[1] / "clients" / "python" / "src"),
            "HOME": str(tmp_path),
            "CRAWL4_AI_BASE_DIRECTORY": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


def test_every_program_says_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```python") >= 4
    assert "/md" in PAGE.read_text()


def test_every_count_is_described() -> None:
    from crawlcache.crawl4ai.counters import SERIES

    rows = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    for series, (_, results) in SERIES.items():
        assert [result for result in results if f"`{result}`" not in rows[series]] == []
