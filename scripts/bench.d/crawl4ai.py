"""Rows for Crawl4AI: its own cache, read by its own manager and by `import-crawl4ai`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import start_service
from table import AtLeast, Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from crawl4ai_cache import Crawl4AI  # noqa: E402

PAGES = 2000
LEAST = 10.0


def fill(cache: Crawl4AI, corpus: Path) -> list[str]:
    """Stores pages of the corpus with Crawl4AI's own manager: each content is another one, as on the web."""
    results = [json.loads(path.read_text()) for path in sorted(corpus.iterdir())]
    documents = []
    for number in range(PAGES):
        result = results[number % len(results)]
        markdown = result["markdown"]
        raw = markdown["raw_markdown"] if isinstance(markdown, dict) else markdown
        documents.append({
            "url": f"https://bench.example/page/{number}",
            "success": True,
            "html": f"{result['html']}<!-- {number} -->",
            "cleaned_html": f"{result.get('cleaned_html') or result['html']}<!-- {number} -->",
            "markdown": {"raw_markdown": f"{raw}\n{number}"},
            **{name: result[name] for name in ("media", "links", "metadata") if isinstance(result.get(name), dict)},
        })
    cache.fill(documents)
    return [document["url"] for document in documents]


def imported(program: Path, cache: Crawl4AI, *arguments: str) -> dict[str, Any]:
    command = [str(program), "import-crawl4ai", str(cache.cache), "--json", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows(bench: Any) -> list[Row]:
    """Reading with nothing but reading, and the whole way into a service, against Crawl4AI's manager."""
    cache = Crawl4AI(bench.scratch / "crawl4ai")
    urls = fill(cache, bench.corpus)
    names = cache.directory / "urls.json"
    names.write_text(json.dumps(urls))
    ratios: dict[str, list[float]] = {"read": [], "import": []}
    rates: dict[str, list[float]] = {"manager": [], "read": [], "import": []}
    for number in range(bench.options.rounds):
        read = json.loads(cache.run("read", str(names)).splitlines()[-1])
        if read["found"] != PAGES:
            raise RuntimeError(f"Crawl4AI finds {read['found']} of {PAGES} pages")
        dry = imported(bench.service, cache, "--dry-run")
        service, _ = start_service(bench.service, bench.scratch / f"crawl4ai-{number}")
        with service as running:
            stored = imported(bench.service, cache, "--url", f"http://{running.address}")
        if (dry["readable"], stored["created"]) != (PAGES, PAGES):
            raise RuntimeError(f"not every page is there: {dry} {stored}")
        rates["manager"].append(PAGES / read["seconds"])
        for name, summary in (("read", dry), ("import", stored)):
            rates[name].append(PAGES / summary["seconds"])
            ratios[name].append(read["seconds"] / summary["seconds"])
    spread = {name: f"{sorted(values)[len(values) // 2]:,.0f} pages/s" for name, values in rates.items()}
    size = f"{dry['bytes'] / PAGES / 1000:.0f} kB a page"
    return [
        AtLeast(f"read Crawl4AI's cache, {size}", ratios["read"], LEAST, f"{spread['read']} to {spread['manager']} of its manager"),
        AtLeast("import it into a service", ratios["import"], 1.0, f"{spread['import']} to {spread['manager']} of reading it"),
    ]
