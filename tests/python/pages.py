"""A few hundred real pages: the HTML of a documentation package, as crawl results."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "sqlite3-doc"
CACHE = ROOT / ".cache" / "pages"


def fetch() -> Path:
    """A folder of HTML pages: the one named by TEST_PAGES, or Debian's documentation of SQLite."""
    if named := os.environ.get("TEST_PAGES"):
        return Path(named)
    done = CACHE / "complete"
    if not done.exists():
        apt = shutil.which("apt-get")
        assert apt, f"apt-get is needed to fetch {PACKAGE}; or name a folder of HTML pages with TEST_PAGES"
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        if subprocess.run([apt, "download", PACKAGE], cwd=CACHE, capture_output=True, check=False).returncode != 0:
            subprocess.run([apt, "update"], capture_output=True, check=True)
            subprocess.run([apt, "download", PACKAGE], cwd=CACHE, capture_output=True, check=True)
        package = next(CACHE.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE)], check=True)
        done.touch()
    return CACHE


def results(limit: int) -> list[dict[str, Any]]:
    """Up to `limit` pages of more than 2 KB as documents of the shape that crawlers store."""
    documents = []
    for path in sorted(fetch().rglob("*.html")):
        page = path.read_text(errors="replace")
        if len(page) < 2048:
            continue
        documents.append(document(f"https://docs.example/{path.relative_to(fetch())}", page))
        if len(documents) == limit:
            break
    assert len(documents) >= 300, f"only {len(documents)} pages were found"
    return documents


def document(url: str, page: str) -> dict[str, Any]:
    """One page as a crawl result."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", page)
    text = html.unescape(re.sub(r"<[^>]+>", " ", body))
    links = re.findall(r'href="([^"#]+)"', page)
    title = re.search(r"(?is)<title>(.*?)</title>", page)
    return {
        "url": url,
        "html": page,
        "success": True,
        "status_code": 200,
        "cleaned_html": re.sub(r"\s+", " ", body),
        "markdown": {"raw_markdown": re.sub(r"[ \t]+", " ", text), "fit_markdown": None},
        "links": {"internal": [{"href": link, "text": ""} for link in links], "external": []},
        "media": {"images": [], "videos": [], "audios": []},
        "metadata": {"title": title.group(1).strip() if title else None},
        "response_headers": {"Content-Type": "text/html", "Etag": f'"{len(page)}"'},
        "screenshot": None,
        "error_message": "",
    }
