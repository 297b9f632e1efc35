"""Rows of results: medians, spread, ratios, and whether the target is met."""

from __future__ import annotations

from dataclasses import dataclass, field
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
            f"{middle(self.ours, 'p50_ms'):.2f} / {middle(self.ours, 'p99_ms'):.2f}",
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "against": self.against,
            "ratio": self.ratio(),
            "target": self.target(),
            "met": self.met(),
            "ours": [sample.as_dict() for sample in self.ours],
            "reference": [sample.as_dict() for sample in self.reference],
        }


@dataclass
class AtLeast:
    """A factor that must not be below a bound."""

    name: str
    values: list[float]
    least: float
    detail: str

    def cells(self) -> list[str]:
        return [self.name, f"{median(self.values):.1f}×", self.detail, "", f"≥ {self.least:g}×", verdict(self.met()), "", ""]

    def met(self) -> bool:
        return median(self.values) >= self.least

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "values": self.values, "detail": self.detail, "least": self.least, "met": self.met()}


@dataclass
class Bound:
    """A measure that must not exceed a bound."""

    name: str
    unit: str
    values: list[float]
    most: float

    def cells(self) -> list[str]:
        spread = f"{min(self.values):.1f}–{max(self.values):.1f}" if len(self.values) > 1 else ""
        measured = f"{median(self.values):.1f} {self.unit} {spread}".strip()
        return [self.name, measured, "", "", f"≤ {self.most:g} {self.unit}", verdict(self.met()), "", ""]

    def met(self) -> bool:
        return median(self.values) <= self.most

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "unit": self.unit, "values": self.values, "most": self.most, "met": self.met()}


Row = Versus | Bound | AtLeast

TITLES = ["work", "measured (min–max)", "against (min–max)", "ratio", "target", "met", "CPU µs", "p50 / p99 ms"]


def middle(samples: list[Sample], measure: str) -> float:
    return median(getattr(sample, measure) for sample in samples)


def rate(samples: list[Sample]) -> str:
    rates = [sample.per_second for sample in samples]
    return f"{median(rates):,.0f}/s ({min(rates):,.0f}–{max(rates):,.0f})"


def verdict(met: bool | None) -> str:
    return {None: "", True: "yes", False: "NO"}[met]


def render(rows: list[Row]) -> str:
    """The table as text: CPU is ours / the reference's, for each request."""
    table = [TITLES, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
