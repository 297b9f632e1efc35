"""Rows of results: medians, spread, ratios, and whether the target is met."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Any

from load import Sample


@dataclass
class Versus:
    """Ours against a reference, in requests a second."""

    name: str
    against: str
    ours: list[Sample] = field(default_factory=list)
    reference: list[Sample] = field(default_factory=list)
    least_ratio: float | None = None
    most_p99_ms: float | None = None

    def ratio(self) -> float:
        return middle(self.ours, "per_second") / middle(self.reference, "per_second")

    def target(self) -> str:
        parts = [f"≥ {self.least_ratio:.2f}"] if self.least_ratio is not None else []
        if self.most_p99_ms is not None:
            parts.append(f"p99 < {self.most_p99_ms:g} ms")
        return ", ".join(parts)

    def met(self) -> bool | None:
        if self.least_ratio is None:
            return None
        fast = self.ratio() >= self.least_ratio
        return fast and (self.most_p99_ms is None or middle(self.ours, "p99_ms") < self.most_p99_ms)

    def cells(self) -> list[str]:
        return [
            self.name,
            rate(self.ours),
            f"{rate(self.reference)} {self.against}",
            f"{self.ratio():.2f}",
            self.target(),
            verdict(self.met()),
            f"{middle(self.ours, 'cpu_us'):.1f} / {middle(self.reference, 'cpu_us'):.1f}",
            percentiles(self.ours),
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": "versus",
            "name": self.name,
            "against": self.against,
            "ratio": self.ratio(),
            "least_ratio": self.least_ratio,
            "most_p99_ms": self.most_p99_ms,
            "target": self.target(),
            "met": self.met(),
            "ours": [sample.as_dict() for sample in self.ours],
            "reference": [sample.as_dict() for sample in self.reference],
        }


@dataclass
class Alone:
    """Ours without a reference."""

    name: str
    unit: str = ""
    """What is counted, if not requests."""
    ours: list[Sample] = field(default_factory=list)

    def met(self) -> bool | None:
        return None

    def cells(self) -> list[str]:
        return [self.name, f"{rate(self.ours)} {self.unit}".strip(), "", "", "", "",
                f"{middle(self.ours, 'cpu_us'):.1f}", percentiles(self.ours)]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "alone", "name": self.name, "unit": self.unit, "ours": [sample.as_dict() for sample in self.ours]}


@dataclass
class Figure:
    """A measure without a bound."""

    name: str
    unit: str
    values: list[float]
    detail: str = ""

    def met(self) -> bool | None:
        return None

    def cells(self) -> list[str]:
        return [self.name, f"{within(self.values)} {self.unit}", self.detail, "", "", "", "", ""]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "figure", "name": self.name, "unit": self.unit, "values": self.values, "detail": self.detail}


@dataclass
class AtLeast:
    """A factor that must not be below a bound."""

    name: str
    values: list[float]
    least: float
    detail: str
    against: str = ""

    def cells(self) -> list[str]:
        return [self.name, f"{within(self.values)} ×", self.detail, "", f"≥ {self.least:g}×", verdict(self.met()), "", ""]

    def met(self) -> bool:
        return median(self.values) >= self.least

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "at least", "name": self.name, "against": self.against, "values": self.values, "detail": self.detail, "least": self.least, "met": self.met()}


@dataclass
class Bound:
    """A measure that must not exceed a bound."""

    name: str
    unit: str
    values: list[float]
    most: float

    def cells(self) -> list[str]:
        target = f"≤ {self.most:g} {self.unit}" if self.most < inf else ""
        return [self.name, f"{within(self.values)} {self.unit}", "", "", target, verdict(self.met()), "", ""]

    def met(self) -> bool | None:
        if self.most == inf:
            return None
        return median(self.values) <= self.most

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "bound", "name": self.name, "unit": self.unit, "values": self.values,
                "most": self.most if self.most < inf else None, "met": self.met()}


@dataclass
class Curve:
    """What an operation costs as the store grows: (entries, one value a round), in order of entries."""

    name: str
    unit: str
    points: list[tuple[int, list[float]]] = field(default_factory=list)
    most_ratio: float | None = None
    """How many times the first point's median the last one's may be."""

    def ratio(self) -> float:
        return median(self.points[-1][1]) / median(self.points[0][1])

    def target(self) -> str:
        return f"≤ {self.most_ratio:g}×" if self.most_ratio is not None else ""

    def met(self) -> bool | None:
        return self.ratio() <= self.most_ratio if self.most_ratio is not None else None

    def cells(self) -> list[str]:
        (fewest, first), (most, last) = self.points[0], self.points[-1]
        measured = f"{within(last)} {self.unit} at {most:,}"
        return [self.name, measured, f"{within(first)} {self.unit} at {fewest:,}", f"{self.ratio():.2f}", self.target(),
                verdict(self.met()), "", ""]

    def as_dict(self) -> dict[str, Any]:
        points = [{"entries": entries, "values": values} for entries, values in self.points]
        return {"kind": "curve", "name": self.name, "unit": self.unit, "points": points, "ratio": self.ratio(),
                "most_ratio": self.most_ratio, "target": self.target(), "met": self.met()}


@dataclass
class LeftOut:
    """A row that could not be measured here, and why."""

    name: str
    why: str

    def met(self) -> bool | None:
        return None

    def cells(self) -> list[str]:
        return [self.name, "left out", self.why, "", "", "", "", ""]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "left out", "name": self.name, "why": self.why}


@dataclass
class During:
    """What something else under way does to a measure: (before, meanwhile), a pair a round."""

    name: str
    unit: str
    pairs: list[tuple[float, float]]
    most_ratio: float | None = None

    def ratio(self) -> float:
        return median(meanwhile / before for before, meanwhile in self.pairs)

    def target(self) -> str:
        return f"≤ {self.most_ratio:g}×" if self.most_ratio is not None else ""

    def met(self) -> bool | None:
        return self.ratio() <= self.most_ratio if self.most_ratio is not None else None

    def cells(self) -> list[str]:
        before, meanwhile = zip(*self.pairs)
        show = lambda values: f"{median(values):.2f} {self.unit} ({min(values):.2f}–{max(values):.2f})"  # noqa: E731
        return [self.name, show(meanwhile), f"{show(before)} before", f"{self.ratio():.2f}", self.target(),
                verdict(self.met()), "", ""]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "during", "name": self.name, "unit": self.unit, "pairs": self.pairs, "ratio": self.ratio(),
                "most_ratio": self.most_ratio, "target": self.target(), "met": self.met()}


@dataclass
class Series:
    """A measure over time: (seconds since the beginning, value)."""

    name: str
    unit: str
    points: list[tuple[float, float]]

    def cells(self) -> list[str]:
        values = [value for _, value in self.points]
        measured = f"{median(values):.4g} {self.unit} ({min(values):.4g}–{max(values):.4g})"
        return [self.name, measured, f"{values[-1]:.4g} {self.unit} at the end", "", "", "", "", ""]

    def met(self) -> None:
        return None

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "series", "name": self.name, "unit": self.unit, "points": self.points, "met": None}


Row = Versus | Alone | Figure | Bound | AtLeast | Curve | During | Series | LeftOut

TITLES = ["work", "measured (min–max)", "against (min–max)", "ratio", "target", "met", "CPU µs", "p50 / p99 / p99.9 ms"]


def middle(samples: list[Sample], measure: str) -> float:
    return median(getattr(sample, measure) for sample in samples)


def rate(samples: list[Sample]) -> str:
    rates = [sample.per_second for sample in samples]
    return f"{median(rates):,.0f}/s ({min(rates):,.0f}–{max(rates):,.0f})"


def within(values: list[float]) -> str:
    """The median and, of several, the spread."""
    spread = f" ({number(min(values))}–{number(max(values))})" if len(values) > 1 else ""
    return f"{number(median(values))}{spread}"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percentiles(samples: list[Sample]) -> str:
    return " / ".join(f"{middle(samples, name):.2f}" for name in ("p50_ms", "p99_ms", "p999_ms"))


def verdict(met: bool | None) -> str:
    return {None: "", True: "yes", False: "NO"}[met]


def render(rows: list[list[str]]) -> str:
    """Cells as a table of text: CPU is ours / the reference's, for each request."""
    table = [TITLES, *rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
