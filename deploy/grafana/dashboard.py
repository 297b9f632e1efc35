#!/usr/bin/env python3
"""Writes crawlcache.json, the dashboard: what is said here once is said there for each of some seventy panels.

    python3 deploy/grafana/dashboard.py            writes crawlcache.json beside this file
    python3 deploy/grafana/dashboard.py --print    prints it

A dashboard that was changed in Grafana is brought back by changing this file: a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("crawlcache.json")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# The instances that the variables choose.
CHOSEN = ('job=~"$job"', 'instance=~"$instance"')

Json = dict[str, Any]


def of(metric: str, *matchers: str) -> str:
    """A selector of the chosen instances."""
    return f"crawlcache_{metric}{{{','.join((*CHOSEN, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """How much a counter grows in a second."""
    return f"rate({of(metric, *matchers)}[$__rate_interval])"


def per(labels: str, expression: str) -> str:
    """The sum by labels; without any, over everything."""
    return f"sum by ({labels}) ({expression})" if labels else f"sum({expression})"


def over(aggregation: str, selector: str) -> str:
    """One number over the chosen instances."""
    return f"{aggregation}({selector})"


def share(part: str, whole: str) -> str:
    """One sum over another."""
    return f"{part} / {whole}"


def quantile(rank: float, metric: str, labels: str, *matchers: str) -> str:
    """A quantile of a histogram, by labels."""
    by = ", ".join(filter(None, (labels, "le")))
    return f"histogram_quantile({rank}, sum by ({by}) ({rate(metric + '_bucket', *matchers)}))"


def quantiles(metric: str, *matchers: str) -> list[tuple[str, str]]:
    """The quantiles by which latency is judged."""
    return [(quantile(rank, metric, "", *matchers), name) for rank, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p999"))]


HITS = 'result=~"hit_memory|hit_sqlite|hit_dynamodb|hit_failed|hit_outage|stale"'
READ = ('method="GET"', 'route="/v1/result"')
API = 'route=~"/v1/.*"'
ONE_ENTRY = 'operation=~"get|put|delete|session_get|session_put|session_delete"'
MISMATCH = 'result=~"different|only_sqlite|only_dynamodb"'


class Dashboard:
    """Panels in the order in which they are added, 24 columns wide."""

    def __init__(self) -> None:
        self.panels: list[Json] = []
        self.x = self.y = self.height = 0

    def place(self, width: int, height: int) -> Json:
        """The next free place."""
        if self.x + width > 24:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        position = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x, self.height = self.x + width, max(self.height, height)
        return position

    def row(self, title: str) -> None:
        """Begins a row."""
        self.x, self.y, self.height = 24, self.y + self.height, 0
        position = {"x": 0, "y": self.y, "w": 24, "h": 1}
        self.y += 1
        self.panels.append({"id": len(self.panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": position, "panels": []})

    def panel(
        self,
        kind: str,
        title: str,
        description: str,
        queries: list[tuple[str, str]],
        unit: str,
        *,
        steps: dict[float, str] | None = None,
        stacked: bool = False,
        mappings: dict[int, tuple[str, str]] | None = None,
        width: int = 8,
        height: int = 8,
        top: float | None = None,
        overrides: list[Json] | None = None,
    ) -> None:
        """Adds a panel; `steps` colours values from each number on, `mappings` names single values."""
        colours = [{"value": None, "color": "green" if steps else "blue"}] + [{"value": value, "color": colour} for value, colour in (steps or {}).items()]
        defaults: Json = {
            "unit": unit,
            "min": 0,
            "color": {"mode": "thresholds" if kind in ("stat", "gauge", "bargauge", "state-timeline") else "palette-classic"},
            "thresholds": {"mode": "absolute", "steps": colours},
        }
        if top is not None:
            defaults["max"] = top
        if mappings:
            options = {str(value): {"text": text, "color": colour, "index": index} for index, (value, (text, colour)) in enumerate(mappings.items())}
            defaults["mappings"] = [{"type": "value", "options": options}]
        is_instant = kind in ("stat", "gauge", "bargauge")
        options = {}
        match kind:
            case "timeseries":
                defaults["custom"] = {
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 25 if stacked else 8,
                    "showPoints": "never",
                    "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                    "thresholdsStyle": {"mode": "line" if steps else "off"},
                }
                options = {
                    "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "stat":
                reduce = {"values": False, "calcs": ["lastNotNull"], "fields": ""}
                options = {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "auto", "orientation": "auto"}
            case "gauge" | "bargauge":
                options = {"reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""}, "orientation": "horizontal"}
                if kind == "bargauge":
                    options |= {"displayMode": "basic", "valueMode": "color"}
            case "state-timeline":
                defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
                options = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}}
        targets = [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend, "instant": is_instant, "range": not is_instant}
            for index, (expression, legend) in enumerate(queries)
        ]
        self.panels.append(
            {
                "id": len(self.panels) + 1,
                "type": kind,
                "title": title,
                "description": description,
                "datasource": DATASOURCE,
                "gridPos": self.place(width, height),
                "targets": targets,
                "fieldConfig": {"defaults": defaults, "overrides": overrides or []},
                "options": options,
            }
        )

    def stat(self, title: str, description: str, expression: str, unit: str, **more: Any) -> None:
        """One number."""
        self.panel("stat", title, description, [(expression, more.pop("legend", ""))], unit, **({"width": 4, "height": 4} | more))

    def graph(self, title: str, description: str, queries: list[tuple[str, str]], unit: str, **more: Any) -> None:
        """Lines over time."""
        self.panel("timeseries", title, description, queries, unit, **more)


def dashed(name: str) -> list[Json]:
    """A line that is a limit rather than a measurement."""
    style = [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        {"id": "custom.fillOpacity", "value": 0},
        {"id": "custom.stacking", "value": {"mode": "none", "group": "limit"}},
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
    ]
    return [{"matcher": {"id": "byName", "options": name}, "properties": style}]


YES_NO = {0: ("no", "blue"), 1: ("yes", "orange")}
UP = {0: ("down", "red"), 1: ("up", "green")}
LATENCY_STEPS = {0.1: "red"}
BAD = {0.001: "orange", 0.01: "red"}


def overview(board: Dashboard) -> None:
    """Whether it does its work."""
    board.row("Overview")
    board.stat("Hit ratio", "Look-ups that found something that could be served, stale included.", share(per('', rate('lookups_total', HITS)), per('', rate('lookups_total'))), "percentunit")
    board.stat("Requests", "Requests to /v1 in a second.", per("", rate("http_request_duration_seconds_count", API)), "reqps")
    board.stat(
        "Errors",
        "Share of the requests to /v1 that are answered with 5xx.",
        share(per('', rate('http_request_duration_seconds_count', API, 'status=~"5.."')), per('', rate('http_request_duration_seconds_count', API))),
        "percentunit",
        steps=BAD,
    )
    board.stat("Slowest reads", "p99 of GET /v1/result.", quantile(0.99, "http_request_duration_seconds", "", *READ), "s", steps=LATENCY_STEPS)
    on_dynamodb = share(per('', rate('routed_operations_total', 'backend="dynamodb"')), per('', rate('routed_operations_total')))
    board.stat("On DynamoDB", "Share of the routed operations that DynamoDB answered. Nothing where one store has everything.", on_dynamodb, "percentunit")
    board.stat("Instances", "Instances by the version that they run.", f"count by (version) ({of('build_info')})", "short", legend="{{version}}")
    board.graph("Requests by status", "Requests to /v1 in a second.", [(per("status", rate("http_request_duration_seconds_count", API)), "{{status}}")], "reqps", stacked=True)
    board.graph("Time to answer a read", "GET /v1/result, to the head of the answer. The line is the limit of the alert.", quantiles("http_request_duration_seconds", *READ), "s", steps=LATENCY_STEPS)
    board.graph("Look-ups by result", "What look-ups came to, and why misses were misses.", [(per("result", rate("lookups_total")), "{{result}}")], "ops", stacked=True)
    board.graph("Hit ratio by operation", "Batches and frontier filters have another ratio than single reads.", [(share(per('op', rate('lookups_total', HITS)), per('op', rate('lookups_total'))), "{{op}}")], "percentunit", top=1)
    board.graph("Writes by result", "Writes of results; `queued` ones wait for DynamoDB, `superseded` ones were older than what is stored.", [(per("result", rate("writes_total")), "{{result}}")], "ops", stacked=True)
    ages = [(quantile(rank, "served_age_seconds", ""), name) for rank, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))]
    board.graph("Age of what was served", "How old the served results were.", ages, "s")


def migration(board: Dashboard) -> None:
    """Where traffic goes, and how far the move is."""
    board.row("Routing and migration")
    board.stat("DynamoDB owns", "Share of keys by the policy in force, a forced side considered.", over("max", of('routing_percent')), "percent", top=100)
    board.stat("Instances disagree", "How far the policies of the instances are apart; each keeps its own.", f"max({of('routing_percent')}) - min({of('routing_percent')})", "percent", steps={0.01: "red"})
    board.stat("Forced", "Whether a side owns everything whatever the percentage.", f"max by (side) ({of('routing_forced')})", "short", legend="{{side}}", mappings=YES_NO)
    board.stat("Dual write", "Whether the side that is not the owner gets every write, too.", over("min", of('routing_dual_write')), "short", mappings=YES_NO)
    board.stat("Parked", "Rows of the outbox that are not tried any more until somebody says so.", over("sum", of('outbox_rows', 'state="parked"')), "short", steps={1: "red"})
    mismatches = share(per('', rate('shadow_reads_total', MISMATCH)), per('', rate('shadow_reads_total', 'result!="error"')))
    board.stat("Mismatches", "Share of shadow reads that did not find the same on both sides.", mismatches, "percentunit", steps=BAD)
    routed = per("backend, reason", rate("routed_operations_total"))
    board.graph("Traffic by backend and reason", "Who answered, and why: `owner`, `other` (the owner did not have it), `queued`, `fallback` (the owner could not be reached), `refused`.", [(routed, "{{backend}} {{reason}}")], "ops", stacked=True)
    wanted = [(share_of("dynamodb"), "answered by DynamoDB"), (f"max({of('routing_percent')}) / 100", "owned by DynamoDB")]
    board.graph("Share on DynamoDB", "What is, and what the policy wants: apart for as long as keys move or fall back.", wanted, "percentunit", top=1, overrides=dashed("owned by DynamoDB"))
    board.graph("Operations that were not the owner's", "By operation and reason.", [(per("operation, reason", rate("routed_operations_total", 'reason!="owner"')), "{{operation}} {{reason}}")], "ops")
    states = {0: ("closed", "green"), 1: ("trial", "orange"), 2: ("open", "red")}
    board.panel("state-timeline", "Circuit breaker", "Whether an instance leaves a backend alone because it keeps failing.", [(of("circuit_state"), "{{backend}} {{instance}}")], "short", mappings=states)
    board.graph("Circuit breaker opened", "How often, in five minutes.", [(f"sum by (backend, instance) (increase({of('circuit_opened_total')}[5m]))", "{{backend}} {{instance}}")], "short")
    clock = [(of("backend_clock_ahead_seconds"), "{{backend}} ahead of {{instance}}"), (of("backend_clock_uncertainty_seconds"), "give or take, {{instance}}")]
    board.graph("Clock of a backend", "How far it is ahead of the instance's, and by how much that may be wrong.", clock, "s")
    believed = {0: ("believed", "green"), 1: ("in doubt", "red")}
    board.panel("state-timeline", "Clock of an instance", "In doubt after a jump of more than a day: what has expired by that alone is kept.", [(of("clock_doubted"), "{{instance}}")], "short", mappings=believed)
    rows = [(f"sum by (state) ({of('outbox_rows')})", "{{state}}"), (over("sum", of('outbox_limit_rows')), "limit")]
    board.graph("Outbox", "Rows that wait for DynamoDB, and those that are parked. At the limit writes are refused.", rows, "short", stacked=True, overrides=dashed("limit"))
    board.graph("Oldest row of the outbox", "How long a write has waited for DynamoDB.", [(of("outbox_oldest_seconds"), "{{instance}}")], "s", steps={300: "red"})
    board.graph("Delivered", "Rows of the outbox that the relay tried, by what came of them.", [(per("kind, outcome", rate("relayed_total")), "{{kind}} {{outcome}}")], "ops", stacked=True)
    board.graph("Time to deliver", "From a write to its delivery.", quantiles("relay_delay_seconds"), "s")
    board.graph("Copies to the owner", "Entries that a miss found on the other side.", [(per("to, outcome", rate("copies_total")), "to {{to}} {{outcome}}")], "ops")
    board.graph("Shadow reads", "Reads after which both sides were compared.", [(per("result", rate("shadow_reads_total")), "{{result}}")], "ops", stacked=True)
    board.graph("Differences by field", "In which fields shadow reads found a difference.", [(per("field", rate("shadow_differences_total")), "{{field}}")], "ops")
    progress = [(of("job_progress_ratio"), "{{work}} {{instance}}")]
    board.panel("bargauge", "Progress", "How far a migration or verification is; it keeps its place when it ends.", progress, "percentunit", top=1)
    board.panel("state-timeline", "Under way", "Whether a migration or a verification is.", [(of("job_running"), "{{work}} {{instance}}")], "short", mappings={0: ("no", "text"), 1: ("yes", "blue")})
    board.graph("Migrated", "What a migration met: `present` was there already, `failed` is in its report.", [(per("to, kind, outcome", rate("migrated_total")), "to {{to}} {{kind}} {{outcome}}")], "ops", stacked=True)
    board.graph("Verified", "What a verification found.", [(per("outcome", rate("verified_total")), "{{outcome}}")], "ops", stacked=True)
    board.graph("Repaired", "Differences that were mended, by the side that was.", [(per("to, outcome", rate("repaired_total")), "{{to}} {{outcome}}")], "ops")
    board.graph("Policy", "The number of the policy in force grows with each change.", [(of("routing_generation"), "{{instance}}")], "short")


def share_of(backend: str) -> str:
    """The share of routed operations that a backend answered."""
    match = f'backend="{backend}"'
    return share(per('', rate('routed_operations_total', match)), per('', rate('routed_operations_total')))


def backend(board: Dashboard, name: str) -> None:
    """What every backend has."""
    match = f'backend="{name}"'
    board.panel("state-timeline", "Serves", "Whether the check of the backend succeeds.", [(of("backend_up", match), "{{instance}}")], "short", mappings=UP)
    board.graph("Operations", "What is asked of it.", [(per("operation", rate("backend_operation_duration_seconds_count", match)), "{{operation}}")], "ops", stacked=True)
    board.graph("Slowest operations", "p99 by operation.", [(quantile(0.99, "backend_operation_duration_seconds", "operation", match), "{{operation}}")], "s", steps=LATENCY_STEPS)
    board.graph("Time for one entry", "Operations on single entries.", quantiles("backend_operation_duration_seconds", match, ONE_ENTRY), "s", steps=LATENCY_STEPS)
    failed = share(per('', rate('backend_operation_duration_seconds_count', match, 'outcome="error"')), per('', rate('backend_operation_duration_seconds_count', match)))
    board.graph("Failed", "Share of operations. A migration goes on up to 0.1 %.", [(failed, "failed")], "percentunit", steps={0.001: "red"})
    board.graph("Errors by reason", "`too_large`, `unsupported` and `cursor` are the client's, the others the backend's.", [(per("reason", rate("backend_errors_total", match)), "{{reason}}")], "ops", stacked=True)


def dynamodb(board: Dashboard) -> None:
    """The tables."""
    board.row("DynamoDB")
    backend(board, "dynamodb")
    board.graph("Capacity", "Units a second, which is what it costs.", [(per("table, operation, unit", rate("dynamodb_capacity_units_total")), "{{table}} {{operation}} {{unit}}")], "short", stacked=True)
    board.graph("Tried again", "Requests to AWS that were repeated.", [(per("service", rate("aws_retries_total")), "{{service}}")], "ops")
    board.graph("Left over by batches", "Keys that a batch request did not process and that were asked for again.", [(per("table", rate("dynamodb_unprocessed_keys_total")), "{{table}}")], "ops")
    board.graph("Packed instead", "Documents that the plain layout could not hold.", [(per("reason", rate("dynamodb_packed_instead_total")), "{{reason}}")], "ops")
    board.graph("Entries, as DynamoDB says", "It counts anew every six hours.", [(over("max", of('store_entries', 'backend="dynamodb"')), "results"), (over("max", of('store_sessions', 'backend="dynamodb"')), "sessions")], "short")


def local(board: Dashboard) -> None:
    """What is in the process and on its disk."""
    board.row("SQLite and memory")
    backend(board, "sqlite")
    match = 'backend="sqlite"'
    size = [(of("store_size_bytes", match), "{{instance}}"), (over("max", of("store_limit_bytes", match) + " > 0"), "limit")]
    board.graph("Database", "Bytes on the disk. At the limit the coldest results are evicted.", size, "bytes", overrides=dashed("limit"))
    board.graph("Results", "Bytes as stored and decoded: the difference is compression.", [(f"sum by (state) ({of('store_bytes', match)})", "{{state}}")], "bytes")
    board.graph("Entries", "Results and sessions held, expired ones that are not yet swept included.", [(over("sum", of('store_entries', match)), "results"), (over("sum", of('store_sessions', match)), "sessions")], "short")
    removed = [(per("reason", rate("removed_entries_total")), "results {{reason}}"), (per("reason", rate("removed_sessions_total")), "sessions {{reason}}")]
    board.graph("Removed", "By the service itself: expired, or cold when the store was full.", removed, "ops")
    board.graph("Memory", "Bytes of the memory tier, and of ready-made answers for clients that do not accept zstd.", [(f"sum by (kind) ({of('memory_bytes')})", "{{kind}}")], "bytes", stacked=True)
    board.graph("Entries in memory", "How many there are.", [(f"sum by (kind) ({of('memory_entries')})", "{{kind}}")], "short", stacked=True)


def process(name: str) -> str:
    """A metric of the process, on the chosen instances."""
    return f"process_{name}{{{','.join(CHOSEN)}}}"


def http(board: Dashboard) -> None:
    """Callers."""
    board.row("HTTP")
    board.graph("Requests by route", "All routes, probes included.", [(per("method, route", rate("http_request_duration_seconds_count")), "{{method}} {{route}}")], "reqps")
    board.graph("Slowest requests by route", "p99 to the head of the answer; an upload counts until it is received.", [(quantile(0.99, "http_request_duration_seconds", "route", API), "{{route}}")], "s")
    board.graph("Server errors by route", "Answers with 5xx.", [(per("route, status", rate("http_request_duration_seconds_count", 'status=~"5.."')), "{{route}} {{status}}")], "reqps")
    board.graph("In flight", "Requests being served, and open connections.", [(over("sum", of('http_requests_in_flight')), "requests"), (over("sum", of('http_connections')), "connections")], "short")
    board.graph("Turned away", "Because a limit was reached.", [(per("reason", rate("http_shed_total")), "{{reason}}")], "ops")
    board.graph("Without a valid token", "Refused requests, by what was wrong.", [(per("reason", rate("auth_failures_total")), "{{reason}}")], "ops")
    board.graph("CPU", "Cores that are busy.", [(f"rate({process('cpu_seconds_total')}[$__rate_interval])", "{{instance}}")], "short")
    board.graph("Resident memory", "Of the process, page cache aside.", [(process("resident_memory_bytes"), "{{instance}}")], "bytes")
    board.graph("File descriptors", "Open ones, of those that are allowed.", [(f"{process('open_fds')} / {process('max_fds')}", "{{instance}}")], "percentunit", steps={0.8: "red"})


def sessions(board: Dashboard) -> None:
    """Crawl sessions."""
    board.row("Sessions")
    board.graph("Operations", "By what was asked for.", [(per("op", rate("session_operations_total")), "{{op}}")], "ops", stacked=True)
    board.graph("Operations by result", "A `conflict` is a lost race, which the caller settles; `rejected` is a transition that is not allowed.", [(per("result", rate("session_operations_total")), "{{result}}")], "ops", stacked=True)
    board.graph("Sessions held", "By backend, expired ones that are not yet swept included.", [(f"max by (backend) ({of('store_sessions')})", "{{backend}}")], "short")


def leases(board: Dashboard) -> None:
    """Who fetches what, and what went wrong there."""
    board.row("Leases and failed results")
    board.graph("Leases", "What requests for a lease came to, and how leases ended; `outdated` is a write that came too late.", [(per("result", rate("leases_total")), "{{result}}")], "ops", stacked=True)
    board.graph("Waiting", "Requests that wait for a page that another fetches.", [(over("sum", of("lease_waiters")), "waiting")], "short")
    board.graph("Waiting time", "Of requests that waited for another's lease.", quantiles("lease_wait_seconds"), "s")
    board.graph("Failed results stored", "What says that it failed, has an error status, or a block marker.", [(per("why", rate("failed_results_total")), "{{why}}")], "ops", stacked=True)


def variable(name: str, label: str, query: str, **more: Any) -> Json:
    """A variable that a query fills."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        **more,
    }


def dashboard() -> Json:
    """Everything."""
    board = Dashboard()
    for part in (overview, migration, dynamodb, local, http, sessions, leases):
        part(board)
    change = f"changes({of('routing_generation')}[2m]) > 0"
    return {
        "title": "crawlcache",
        "description": "The HTTP cache for crawlers: what it serves, how its stores do, and how far a migration is.",
        "tags": ["crawlcache"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0, "current": {}},
                variable("job", "Job", "label_values(crawlcache_build_info, job)"),
                variable("instance", "Instance", 'label_values(crawlcache_build_info{job=~"$job"}, instance)'),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Routing changed",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "purple",
                    "expr": change,
                    "titleFormat": "Routing changed",
                    "textFormat": "on {{instance}}",
                }
            ]
        },
        "panels": board.panels,
    }


if __name__ == "__main__":
    text = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(text)
    else:
        TARGET.write_text(text)
