"""Writes the figures of a run into the page about benchmarks, so that none is copied by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from table import TITLES
from targets import verdicts, word

# What each chart shows to who cannot see it, in the order of the page.
CHARTS = {
    "targets": "How many times better than its bound each measure is",
    "peers": "Requests a second of a hit in memory, by size, beside others that return the same bytes",
    "latency": "Median, p99 and p99.9 of each work under full load",
    "curves-latency": "The median answer of each work with ten thousand to a million results",
    "curves-cpu": "The CPU time of each work with ten thousand to a million results",
    "soak": "Latency, memory and file descriptors over a long time under load",
}
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"


def write(page: Path, results: dict[str, Any]) -> None:
    """Replaces what is between the markers."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"bench: {page.name} lacks the markers of the figures")
    page.write_text(f"{before}{BEGIN}{figures(results, page.parent)}{END}{after}")


def figures(results: dict[str, Any], folder: Path) -> str:
    """The text between the markers, with those charts that are there."""
    parts = ["", f"Measured under these conditions: {listed(results['conditions'])}.", ""]
    for other in results.get("other runs", []):
        groups = ", ".join(f"`{group}`" for group in other["groups"])
        parts += [f"In a run of their own: {groups} ({listed(other['conditions'])}).", ""]
    for name, shown in CHARTS.items():
        if (folder / "bench" / f"{name}.svg").exists():
            parts += [f"![{shown}](bench/{name}.svg)", ""]
    parts += ["### Targets", ""]
    parts += table(["work", "target", "verdict", "measured (target)"], [
        [target.work, target.bound, f"**{word(found)}**", "<br>".join(f"{part.label}: {part.measured}" for part in found)]
        for target, found in verdicts(results["rows"])
    ])
    for group, rows in itertools.groupby(results["rows"], key=lambda row: row["group"]):
        seconds = results["durations"].get(group)
        parts += ["", f"### `{group}`" + (f" ({seconds:.0f} s)" if seconds is not None else ""), ""]
        parts += table(TITLES, [row["cells"] for row in rows])
    return "\n".join([*parts, "", ""])


def listed(conditions: dict[str, str]) -> str:
    return " · ".join(f"{name} {value}" for name, value in conditions.items() if value)


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, without the columns that are empty."""
    kept = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    line = lambda cells: "| " + " | ".join(cells[place].replace("|", "\\|") for place in kept) + " |"  # noqa: E731
    return [line(titles), "|" + "---|" * len(kept), *(line(row) for row in rows)]
