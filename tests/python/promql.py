"""Which series an expression of PromQL reads, and whether a service emits them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import promql_parser as promql

# What Prometheus adds to every series that it scrapes.
TARGET_LABELS = {"job", "instance"}

# What Grafana puts in before Prometheus sees the expression.
GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "6h"}
VARIABLE = re.compile(r"^\$\{?\w+\}?$")

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = dict[str, str]


def series(exposition: str) -> dict[str, list[Labels]]:
    """The series of a scrape by name, those of histograms under the names that are queried."""
    found: dict[str, list[Labels]] = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, f"no sample: {line}"
            found.setdefault(match[1], []).append(dict(LABEL.findall(match[2] or "")))
    return found


def parsed(expression: str) -> promql.Expr:
    """The expression, with the macros of Grafana put in."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return promql.parse(expression)


def children(node: promql.Expr) -> list[promql.Expr]:
    """What a node is made of."""
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.Call():
            return list(node.args)
        case promql.AggregateExpr():
            return [node.expr] + ([node.param] if node.param is not None else [])
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return [node.expr]
        case promql.MatrixSelector():
            return [node.vector_selector]
    return []


def nodes(node: promql.Expr) -> Iterator[promql.Expr]:
    """A node and all below it."""
    yield node
    for child in children(node):
        yield from nodes(child)


def selectors(expression: str | promql.Expr) -> list[promql.VectorSelector]:
    """Everything that an expression reads."""
    tree = parsed(expression) if isinstance(expression, str) else expression
    return [node for node in nodes(tree) if isinstance(node, promql.VectorSelector)]


def names(expression: str) -> set[str]:
    """The names of what an expression reads."""
    return {selector.name for selector in selectors(expression)}


@dataclass
class Emitted:
    """What there is to be read."""

    series: dict[str, list[Labels]]
    # Families whose label values come with use: only their labels are known.
    open_labels: dict[str, set[str]] = field(default_factory=dict)
    # What rules record: each name with its labels.
    recorded: dict[str, set[str]] = field(default_factory=dict)

    def labels_of(self, name: str) -> set[str] | None:
        """The labels of a series; nothing if there is no such series."""
        own: set[str] = set()
        if name in self.series:
            own = own.union(*self.series[name])
        elif name in self.open_labels:
            own = self.open_labels[name]
        elif name in self.recorded:
            return self.recorded[name]
        elif name != "up":
            return None
        return own | TARGET_LABELS

    def complaints(self, expression: str) -> list[str]:
        """What is wrong with what an expression reads; nothing if all of it is emitted."""
        tree = parsed(expression)
        found = [each for selector in selectors(tree) for each in self.about(selector)]
        for node in nodes(tree):
            if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
                read = [self.labels_of(selector.name) or set() for selector in selectors(node.expr)]
                found += [f"no series below has the label {label}: {node}" for label in node.modifier.labels if not any(label in one for one in read)]
        return found

    def about(self, selector: promql.VectorSelector) -> list[str]:
        """What is wrong with one selector."""
        known = self.labels_of(selector.name)
        if known is None:
            return [f"{selector.name} is not emitted"]
        matchers = [one for one in selector.matchers.matchers if not VARIABLE.match(one.value)]
        found = [f"{selector.name} has no label {one.name}" for one in matchers if one.name not in known]
        own = [one for one in matchers if one.name in known - TARGET_LABELS]
        if found or selector.name not in self.series:
            return found
        emitted = self.series[selector.name]
        for one in own:
            values = {labels.get(one.name, "") for labels in emitted}
            is_pattern = one.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
            for part in one.value.split("|") if is_pattern else [one.value]:
                if not any(re.fullmatch(part, value) if is_pattern else part == value for value in values):
                    found.append(f'{selector.name} never has {one.name}="{part}"')
        if not found and not any(all(holds(one, labels) for one in own) for labels in emitted):
            found.append(f"no series at once is {selector}")
        return found


def holds(matcher: promql.Matcher, labels: Labels) -> bool:
    """Whether a series is one of those that a matcher lets through."""
    value = labels.get(matcher.name, "")
    match matcher.op:
        case promql.MatchOp.Equal:
            return value == matcher.value
        case promql.MatchOp.NotEqual:
            return value != matcher.value
        case promql.MatchOp.Re:
            return re.fullmatch(matcher.value, value) is not None
    return re.fullmatch(matcher.value, value) is None
