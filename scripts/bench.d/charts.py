"""Draws charts of a run into a folder, as SVG that is the same for the same figures. Reads the results from stdin.

Needs matplotlib: scripts/bench runs it with an interpreter that has it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402
from targets import verdicts  # noqa: E402

INK, MUTED, GRID = "#24292f", "#6e7781", "#e4e7eb"
OURS, OTHER, MISSED = "#1f6feb", "#b6bec8", "#d1495b"
SHADES = ("#9ec5fe", "#4c8ef7", "#0b3d91")
OURS_NAME = "crawlcache"
OF_SIZE = re.compile(r"^memory hit, zstd, (\d+) KB stored")
SIZE = re.compile(r", [\d,]+ B( of JSON)?( on average)?$")
STYLE = {
    "svg.hashsalt": "crawlcache", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.5,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "xtick.color": MUTED, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0,
    "figure.facecolor": "white", "savefig.facecolor": "white", "legend.frameon": False, "legend.fontsize": 9.5,
}

Results = dict[str, Any]


def main() -> None:
    folder, results = Path(sys.argv[1]), json.load(sys.stdin)
    with pyplot.rc_context(STYLE):
        for name, draw in CHARTS.items():
            figure, path = draw(results), folder / f"{name}.svg"
            if figure is None:
                # What an older run had is not what this one found.
                path.unlink(missing_ok=True)
                continue
            # Without a date, so that the same figures make the same file.
            figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.15)
            pyplot.close(figure)
            print(f"bench: drew {path}", file=sys.stderr)


def titled(figure: Figure, title: str, explained: str) -> Figure:
    """The message in the first line, how to read it in the second; inches, so that they look alike above every chart."""
    height = figure.get_figheight()
    figure.text(0.0, 1 + 0.42 / height, title, fontsize=14, fontweight="bold", ha="left", va="bottom")
    figure.text(0.0, 1 + 0.16 / height, explained, fontsize=10, color=MUTED, ha="left", va="bottom")
    return figure


def targets(results: Results) -> Figure | None:
    """How far each target is met."""
    bars = [(target, part) for target, parts in verdicts(results["rows"]) for part in parts if part.met is not None]
    if not bars:
        return None
    figure, axes = pyplot.subplots(figsize=(9.5, 0.36 * len(bars) + 0.7), layout="constrained")
    shown = [min(max(part.margin, 0.125), 16.0) for _, part in bars]
    for place, ((_, part), value) in enumerate(zip(bars, shown)):
        axes.barh(place, value - 1, left=1, height=0.62, color=OURS if part.met else MISSED)
        axes.annotate(part.measured, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9,
                      color=MUTED if part.met else MISSED)
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(0.5, min(shown)) * 0.9, max(2.0, max(shown)) * 1.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.axvline(1, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(bars)), [part.label for _, part in bars])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    met = sum(part.met is True for _, part in bars)
    return titled(figure, f"{met} of {len(bars)} measured bounds are met",
                  "Bars: how many times better than the bound, of several rows the worst; left of the line it is missed.")


def peers(results: Results) -> Figure | None:
    """Requests a second of everyone, by size of the body."""
    sizes: dict[int, dict[str, list[float]]] = {}
    for row in results["rows"]:
        found = OF_SIZE.match(row["name"])
        if row["group"] != "peers" or row["kind"] != "versus" or not found:
            continue
        of_size = sizes.setdefault(int(found.group(1)), {})
        of_size[OURS_NAME] = rates(row["ours"])
        of_size[row["against"]] = rates(row["reference"])
    if not sizes:
        return None
    names = sorted({name for of_size in sizes.values() for name in of_size},
                   key=lambda name: -max(median(of_size[name]) for of_size in sizes.values() if name in of_size))
    figure, panels = pyplot.subplots(
        1, len(sizes), figsize=(9.5, 0.36 * len(names) + 0.9), sharey=True, squeeze=False, layout="constrained")
    for axes, (size, of_size) in zip(panels[0], sorted(sizes.items())):
        for place, name in enumerate(names):
            if name not in of_size:
                continue
            values = of_size[name]
            axes.barh(place, median(values), height=0.66, color=OURS if name == OURS_NAME else OTHER)
            axes.plot([min(values), max(values)], [place, place], color=INK, linewidth=1)
            axes.annotate(f"{median(values) / 1000:.1f}k", (max(values), place), xytext=(4, 0), textcoords="offset points",
                          va="center", fontsize=8.5, color=INK if name == OURS_NAME else MUTED)
        axes.set_title(f"{size} KB", fontsize=10.5, loc="left", color=MUTED)
        axes.set_xlim(0, max(max(values) for values in of_size.values()) * 1.25)
        axes.xaxis.set_major_locator(pyplot.MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k"))
        axes.grid(axis="y", visible=False)
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    for label in panels[0][0].get_yticklabels():
        if label.get_text() == OURS_NAME:
            label.set(color=OURS, fontweight="bold")
    return titled(figure, "A hit in memory, beside others that return the same bytes",
                  "Requests a second, more is better; the line is the spread over rounds. The generator takes its share of the cores.")


def latency(results: Results) -> Figure | None:
    """Percentiles of each work of the service itself."""
    rows = [row for row in results["rows"] if row["group"] in OWN and row["kind"] in ("versus", "alone")]
    if not rows:
        return None
    figure, axes = pyplot.subplots(figsize=(8.5, 0.27 * len(rows) + 0.9), layout="constrained")
    names = (("p50_ms", "median"), ("p99_ms", "p99"), ("p999_ms", "p99.9"))
    for place, row in enumerate(rows):
        values = [max(median(sample[name] for sample in row["ours"]), 0.001) for name, _ in names]
        axes.plot([values[0], values[-1]], [place, place], color=OTHER, linewidth=1.6, zorder=1)
        for value, shade, (_, label) in zip(values, SHADES, names):
            axes.scatter(value, place, s=34, color=shade, zorder=2, label=label if place == 0 else None)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), [short(row["name"]) for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, handletextpad=0.2)
    return titled(figure, "How long an answer takes",
                  "Each client sends its next request at once, so this is latency under full load; the scale is logarithmic.")


def curves(measure: str, title: str) -> Any:
    """Small charts of what an operation costs as the store grows."""
    def draw(results: Results) -> Figure | None:
        rows = [row for row in results["rows"] if row["kind"] == "curve" and row["unit"] == measure]
        return small(rows, title, curve, "entries") if rows else None
    return draw


def curve(axes: Any, row: dict[str, Any]) -> None:
    entries = [point["entries"] for point in row["points"]]
    values = [point["values"] for point in row["points"]]
    color = MISSED if row["met"] is False else OURS
    axes.fill_between(entries, [min(each) for each in values], [max(each) for each in values], color=color, alpha=0.15, linewidth=0)
    axes.plot(entries, [median(each) for each in values], color=color, marker="o", markersize=4, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xticks(entries, [amount(each) for each in entries])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, max(max(each) for each in values) * 1.3)
    bound = f" (≤ {row['most_ratio']:g}×)" if row["most_ratio"] is not None else ""
    axes.annotate(f"{row['ratio']:.2f}×{bound}", (1, 0.03), xycoords="axes fraction", ha="right", fontsize=9, color=color)


def soak(results: Results) -> Figure | None:
    """What is watched for a long time."""
    rows = [row for row in results["rows"] if row["kind"] == "series"]
    return small(rows, "A long time under load", series, "minutes") if rows else None


def series(axes: Any, row: dict[str, Any]) -> None:
    axes.plot([seconds / 60 for seconds, _ in row["points"]], [value for _, value in row["points"]], color=OURS, linewidth=1.4)
    axes.set_ylim(0, max(max(value for _, value in row["points"]) * 1.25, 1e-3))


def small(rows: list[dict[str, Any]], title: str, draw: Any, along: str) -> Figure:
    """One small chart a row, each with its own scale from zero."""
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(9.5, 1.95 * lines), squeeze=False, layout="constrained")
    units = sorted({row["unit"] for row in rows})
    for axes, row in zip(panels.flat, rows):
        draw(axes, row)
        named = row["name"].endswith(row["unit"])
        unit = f", {row['unit']}" if len(units) > 1 and not named else ""
        axes.set_title(f"{short(row['name'].partition(': ')[0])}{unit}", fontsize=9.5, loc="left", color=INK)
        axes.tick_params(labelsize=8.5, labelcolor=MUTED)
        axes.yaxis.set_major_locator(pyplot.MaxNLocator(3))
    for axes in panels.flat[len(rows):]:
        axes.set_visible(False)
    measured = f"In {units[0]}, over" if len(units) == 1 else "Over"
    return titled(figure, title, f"{measured} {along}; every scale begins at zero.")


def rates(samples: list[dict[str, float]]) -> list[float]:
    return [sample["per_second"] for sample in samples]


def short(name: str) -> str:
    """A name without the exact size."""
    return SIZE.sub("", name) if len(name) <= 56 else f"{name[:54]}…"


def amount(entries: int) -> str:
    return f"{entries // 1_000_000}M" if entries >= 1_000_000 else f"{entries // 1000}k" if entries >= 1000 else str(entries)


# The groups about the service alone, on its embedded store.
OWN = {"memory", "sqlite", "miss", "put", "mixed", "batch", "lookup", "list", "sessions"}
CHARTS = {
    "targets": targets,
    "peers": peers,
    "latency": latency,
    "curves-latency": curves("ms", "What the median answer takes as the store grows"),
    "curves-cpu": curves("µs", "What an operation costs in CPU time as the store grows"),
    "soak": soak,
}

if __name__ == "__main__":
    main()
