"""Documents to measure with: crawl results of real pages, by size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import pages  # noqa: E402


class Bodies:
    """Folders of documents, each made when it is first asked for."""

    def __init__(self, make_corpus: Path, scratch: Path) -> None:
        self.make_corpus = make_corpus
        self.scratch = scratch
        self.pages = real_pages()

    def described(self) -> str:
        """Where the pages come from."""
        return "made up" if self.pages is None else "real"

    def stored(self, size: int, count: int = 16) -> Path:
        """Documents that take about so many bytes once they are stored."""
        return self.made(f"stored-{size}-{count}", "--bytes", str(size), "--stored", "--count", str(count))

    def of_json(self, size: int, count: int = 64) -> Path:
        """Documents of about so many bytes of JSON."""
        return self.made(f"json-{size}-{count}", "--bytes", str(size), "--count", str(count))

    def whole(self, count: int = 256) -> Path:
        """One page a document: the sizes are those of a real corpus."""
        return self.made(f"whole-{count}", "--whole", "--count", str(count))

    def made(self, name: str, *options: str) -> Path:
        """Documents by the options of examples/make_corpus."""
        folder = self.scratch / name
        if not folder.exists():
            environment = dict(os.environ)
            if self.pages is not None:
                environment["BENCH_PAGES"] = str(self.pages)
            subprocess.run([self.make_corpus, folder, *options], env=environment, check=True)
        return folder


def real_pages() -> Path | None:
    """A folder of HTML pages: BENCH_PAGES, or the documentation package that the tests fetch. None if there is neither."""
    if named := os.environ.get("BENCH_PAGES"):
        return Path(named)
    try:
        return pages.fetch()
    except (AssertionError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: no real pages ({error}): made-up ones take their place", file=sys.stderr)
        return None
