"""The targets of the design, and whether a run has met them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median
from typing import Any

Found = dict[str, Any]
"""A row as it is written to a file."""


@dataclass(frozen=True)
class Part:
    """What one bound is about: rows by name, and by what they are measured against."""

    label: str
    name: str
    against: str = ""

    def rows(self, rows: list[Found]) -> list[Found]:
        """Those that have it, and a bound."""
        return [row for row in rows if row.get("met") is not None and re.search(self.name, row["name"])
                and re.search(self.against, row.get("against") or "")]


@dataclass(frozen=True)
class Target:
    """A line of the design's table."""

    work: str
    bound: str
    parts: tuple[Part, ...]


HIT = r"^memory hit, zstd, (30 KB stored|\d+ B)"
TARGETS = (
    Target("memory hit, client accepts zstd, 20 to 30 KB stored",
           "≥ 0.85 of bare hyper; ahead of nginx proxy_cache and Varnish, twice webdis on Redis", (
               Part("hit / bare hyper", HIT, "^bare hyper"),
               Part("hit / nginx proxy_cache", HIT, "^nginx proxy_cache"),
               Part("hit / Varnish", HIT, "^Varnish"),
               Part("hit / webdis on Redis", HIT, "^webdis"),
           )),
    Target("memory hit, client without encodings, 150 KB document", "≥ 0.5 of bare hyper",
           (Part("identity hit / bare hyper", r"^memory hit, identity, 150 KB of JSON"),)),
    Target("SQLite hit, page cache warm", "≥ 0.7 of the memory hit, p99 < 3 ms",
           (Part("SQLite hit / memory hit", r"^SQLite hit, zstd, warm"),)),
    Target("put of a 150 KB document, durable", "≥ 0.7 of an in-process loop; ≥ 3 times Crawl4AI's own cache", (
        Part("put / loop", r"^durable put, .*of JSON"),
        Part("put / Crawl4AI", r"^put, 32 clients", "^Crawl4AI"),
    )),
    Target("get, 32 clients", "≥ 30 times Crawl4AI's own cache, p99 at most a tenth", (
        Part("get / Crawl4AI", r"^get of .*32 clients$", "^Crawl4AI"),
        Part("p99 of Crawl4AI's get / ours", r"^get of .*32 clients, p99$"),
    )),
    Target("bytes on disk per result", "≤ a fifth of Crawl4AI's own cache",
           (Part("Crawl4AI's disk / ours", r"bytes on disk"),)),
    Target("DynamoDB get and put", "≤ 5 % above the bare SDK call; ≥ 5 times fewer capacity units than the plain layout", (
        Part("DynamoDB get / bare SDK", r"^DynamoDB get", "^bare SDK"),
        Part("DynamoDB put / bare SDK", r"^DynamoDB put", "^bare SDK"),
        Part("plain units / packed", r"^units of"),
    )),
    Target("lookup of 10,000 keys", "< 50 ms", (Part("lookup", r"^lookup of 10.?000 keys over"),)),
    Target("one million entries", "get and list within 1.5 times ten thousand; sweeping does not double p99", (
        Part("get, a million / ten thousand", r"^SQLite hit, keys all over the store"),
        Part("list, a million / ten thousand", r"^list of"),
        Part("p99 while sweeping / before", r"sweep"),
    )),
    Target("start, idle memory", "ready within 100 ms, at most 30 MB resident", (
        Part("start", r"^start to ready, (new|known) directory"),
        Part("idle memory", r"^idle memory"),
    )),
)


@dataclass(frozen=True)
class Verdict:
    """What came of one part."""

    label: str
    met: bool | None
    """None where it was left out."""
    margin: float
    """How many times better than the bound: below 1 it is missed. Of several rows the worst."""
    measured: str


def verdict(part: Part, rows: list[Found]) -> Verdict:
    found = part.rows(rows)
    if not found:
        return Verdict(part.label, None, 1.0, "left out")
    worst = min(found, key=margin)
    return Verdict(part.label, all(row["met"] for row in found), margin(worst), measured(worst))


def margin(row: Found) -> float:
    """How many times better than its bound."""
    if row["kind"] == "versus":
        margins = [row["ratio"] / row["least_ratio"]]
        if row["most_p99_ms"] is not None:
            margins.append(row["most_p99_ms"] / p99(row))
        return min(margins)
    if row["kind"] == "at least":
        return median(row["values"]) / row["least"]
    if row["kind"] == "bound":
        return row["most"] / max(median(row["values"]), 1e-9)
    return row["most_ratio"] / row["ratio"]


def measured(row: Found) -> str:
    """The figure beside its bound."""
    if row["kind"] == "versus":
        tail = f", p99 {p99(row):.1f} ms" if row["most_p99_ms"] is not None else ""
        return f"{row['ratio']:.2f}{tail} ({row['target']})"
    if row["kind"] == "at least":
        return f"{median(row['values']):.3g} × (≥ {row['least']:g} ×)"
    if row["kind"] == "bound":
        return f"{median(row['values']):.3g} {row['unit']} (≤ {row['most']:g} {row['unit']})"
    return f"{row['ratio']:.2f} × (≤ {row['most_ratio']:g} ×)"


def p99(row: Found) -> float:
    return median(sample["p99_ms"] for sample in row["ours"])


def verdicts(rows: list[Found]) -> list[tuple[Target, list[Verdict]]]:
    """Every target, with its parts."""
    return [(target, [verdict(part, rows) for part in target.parts]) for target in TARGETS]


def word(parts: list[Verdict]) -> str:
    """A target in a word or two."""
    if any(part.met is False for part in parts):
        return "MISSED"
    known = [part for part in parts if part.met]
    if not known:
        return "left out"
    return "met" if len(known) == len(parts) else "met as far as measured"


def summary(rows: list[Found]) -> str:
    """The table of targets as text."""
    lines = []
    for target, parts in verdicts(rows):
        lines.append(f"{word(parts):>22}  {target.work}: {target.bound}")
        lines += [f"{'':24}{part.label}: {part.measured}" for part in parts]
    return "\n".join(lines)
