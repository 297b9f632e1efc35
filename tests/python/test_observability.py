"""The alerts go off when they should, and every series that a rule or a panel uses is emitted by the real binary.

A rule about a series that does not exist never fires, and a panel of it shows nothing: both look like health.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from conftest import ROOT, Service
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql import TARGET_LABELS, Emitted, names, parsed, series

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES = PROMETHEUS / "crawlcache.rules.yml"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))

# Families of which some or all label values come with use: their labels are those of the catalogue.
ONLY_IN_USE = {
    "crawlcache_shadow_differences_total",
    "crawlcache_dynamodb_capacity_units_total",
    "crawlcache_backend_clock_ahead_seconds",
    "crawlcache_backend_clock_uncertainty_seconds",
}

# Families that no panel shows, and why.
NOT_SHOWN: dict[str, str] = {}


# --- the rules -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool() -> Path:
    """The promtool that scripts/fetch-promtool fetches, or the one that TEST_PROMTOOL names."""
    program = Path(os.environ.get("TEST_PROMTOOL", ROOT / ".cache" / "promtool" / "promtool"))
    if not program.exists():
        if os.environ.get("TEST_REQUIRE_ALL"):
            pytest.fail(f"TEST_REQUIRE_ALL is set, but {program} is not there: run scripts/fetch-promtool")
        pytest.skip("THE ALERTS ARE NOT TESTED: there is no promtool; run scripts/fetch-promtool")
    return program


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool."""
    return subprocess.run(command, capture_output=True, text=True, cwd=PROMETHEUS, timeout=300, check=False)


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for rule in rules() if "alert" in rule]


def test_rules_have_no_findings(promtool: Path) -> None:
    done = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_configuration_is_one(promtool: Path) -> None:
    done = run(promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = [each["job_name"] for each in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]]
    named = {name for rule in rules() for name in re.findall(r'job="(\w+)"', rule["expr"])}
    assert named == set(jobs)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_go_off_when_they_should(promtool: Path, path: Path) -> None:
    done = run(promtool, "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_threshold_is_noticed(promtool: Path, tmp_path: Path) -> None:
    """The unit tests can fail: with a rule that fires always, and with one that never does."""
    (tmp_path / "tests").mkdir()
    unit = tmp_path / "tests" / "migration.yml"
    unit.write_text((PROMETHEUS / "tests" / "migration.yml").read_text())
    right = "expr: crawlcache_outbox_oldest_seconds > 300"
    for wrong in ("expr: crawlcache_outbox_oldest_seconds >= 0", "expr: crawlcache_outbox_oldest_seconds > 300000"):
        text = RULES.read_text()
        assert right in text
        (tmp_path / RULES.name).write_text(text.replace(right, wrong))
        done = run(promtool, "test", "rules", unit)
        assert done.returncode != 0, wrong
        assert "CrawlcacheOutboxOld" in done.stdout + done.stderr


def test_each_alert_is_tested_both_ways() -> None:
    cases: dict[str, set[bool]] = {}
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                cases.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert cases == {alert["alert"]: {True, False} for alert in alerts()}


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for alert in alerts():
        name = alert["alert"]
        assert name.startswith("Crawlcache"), name
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        notes = alert["annotations"]
        assert notes["summary"] and notes["description"], name
        document, _, anchor = notes["runbook_url"].partition("#")
        assert anchor == name.lower(), name
        assert anchor in anchors(ROOT / document), f"{document} has no section about {name}"


def test_the_runbooks_are_about_alerts_that_exist() -> None:
    about = {anchor for anchor in anchors(ROOT / "docs" / "runbooks.md") if anchor.startswith("crawlcache")}
    assert about == {alert["alert"].lower() for alert in alerts()}


# --- the dashboard -------------------------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    return json.loads((GRAFANA / "crawlcache.json").read_text())


def panels() -> list[dict[str, Any]]:
    """Its panels, rows aside."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_expressions() -> list[tuple[str, str]]:
    """What panels and annotations ask, each with a name for messages."""
    asked = [(f"panel {panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]]
    return asked + [(f"annotation {each['name']}", each["expr"]) for each in dashboard()["annotations"]["list"]]


def test_the_dashboard_is_what_its_source_says() -> None:
    done = subprocess.run([sys.executable, GRAFANA / "dashboard.py", "--print"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (GRAFANA / "crawlcache.json").read_text(), "run python3 deploy/grafana/dashboard.py"


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What is in one document and not, or otherwise, in another."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after or value is not None:
                yield from lost(value, after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, value in enumerate(before):
            yield from lost(value, after[index], f"{path}[{index}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def through_the_schema(document: dict[str, Any]) -> list[str]:
    """What Grafana's own model of a dashboard does not keep: a key that it does not know is lost."""
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    # These two belong to the data source, not to the dashboard: Grafana hands them on.
    plugin = re.compile(r"\.annotations\.list\[\d+\]\.(titleFormat|textFormat):")
    return [each for each in lost(document, kept) if not plugin.match(each)]


def test_grafana_knows_every_key_of_the_dashboard() -> None:
    assert through_the_schema(dashboard()) == []


def test_a_misspelled_key_is_noticed() -> None:
    wrong = dashboard()
    wrong["panels"][1]["gridPoss"] = wrong["panels"][1].pop("gridPos")
    wrong["templating"]["list"][1]["includeAl"] = True
    assert len(through_the_schema(wrong)) == 2


def test_panels_are_complete_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]


def test_no_data_source_is_taken_for_granted() -> None:
    text = (GRAFANA / "crawlcache.json").read_text()
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"${datasource}"}
    variables = {each["name"] for each in dashboard()["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"} == variables
    for name, expression in panel_expressions():
        assert 'job=~"$job"' in expression and 'instance=~"$instance"' in expression, name


# --- what is emitted -----------------------------------------------------------------------------------------------


def catalogue() -> dict[str, tuple[str, set[str]]]:
    """The families in src/metrics.rs: for each its kind and its labels."""
    text = (ROOT / "src" / "metrics.rs").read_text()
    found = re.findall(r'^    \w+: (\w+)\("(\w+)"(?:, \[([^\]]*)\])?', text, re.MULTILINE)
    families = {f"crawlcache_{name}": (kind, set(re.findall(r"\w+", labels))) for kind, name, labels in found}
    assert len(families) == len(re.findall(r"^    /// .*\n    \w+: \w+\(", text, re.MULTILINE)), "a family was overlooked"
    return families


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a service over both stores says that nobody has used yet, while DynamoDB cannot be reached."""
    service = Service(
        tmp_path_factory.mktemp("observed") / "data",
        CRAWLCACHE_STORE__BACKEND="routed",
        CRAWLCACHE_DYNAMODB__ENDPOINT=f"http://127.0.0.1:{closed_port()}",
        CRAWLCACHE_DYNAMODB__MAX_RETRIES="0",
    )
    service.start()
    try:
        answer = requests.get(f"{service.url}/metrics", timeout=30)
        assert answer.status_code == 200, answer.text
    finally:
        service.stop()
    return answer.text


@pytest.fixture(scope="module")
def emitted(scraped: str) -> Emitted:
    """The series of that."""
    open_labels = {name: labels for name, (_, labels) in catalogue().items() if name in ONLY_IN_USE}
    recorded = {rule["record"]: recorded_labels(rule["expr"]) for rule in rules() if "record" in rule}
    return Emitted(series(scraped), open_labels, recorded)


def recorded_labels(expression: str) -> set[str]:
    """The labels of what a rule records: those of its innermost sums, `le` aside, which quantiles take away."""
    return set(re.findall(r"\w+", ",".join(re.findall(r"by \(([^)]*)\)", expression)))) - {"le"}


def test_every_family_of_the_catalogue_is_emitted(emitted: Emitted) -> None:
    for name, (kind, labels) in catalogue().items():
        if name not in ONLY_IN_USE:
            sample = f"{name}_count" if kind.startswith("Histogram") else name
            assert emitted.labels_of(sample) == labels | TARGET_LABELS, name


def test_each_backend_says_for_itself_whether_it_is_up(scraped: str) -> None:
    """CrawlcacheBackendDown fires on every 0: a gauge that nobody sets would fire for ever."""
    states = dict(re.findall(r'^crawlcache_backend_up\{backend="(\w+)"\} (\d)$', scraped, re.MULTILINE))
    assert states == {"sqlite": "1", "dynamodb": "0"}


def test_no_label_is_one_that_prometheus_would_rename(emitted: Emitted) -> None:
    for name, every in emitted.series.items():
        for labels in every:
            assert not labels.keys() & TARGET_LABELS, f"{name} has a label that a target has, too"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_series_of_a_rule_is_emitted(emitted: Emitted, rule: dict[str, Any]) -> None:
    assert emitted.complaints(rule["expr"]) == []
    notes = " ".join(rule.get("annotations", {}).values())
    read = set().union(*(emitted.labels_of(name) or set() for name in names(rule["expr"])))
    for label in re.findall(r"\$labels\.(\w+)", notes):
        assert label in read, f"the text names {label}, which nothing has"


def test_every_series_of_a_panel_is_emitted(emitted: Emitted) -> None:
    complaints = [f"{name}: {each}" for name, expression in panel_expressions() for each in emitted.complaints(expression)]
    assert complaints == []
    for panel in panels():
        for target in panel["targets"]:
            read = set().union(*(emitted.labels_of(name) or set() for name in names(target["expr"])))
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in read, f"the legend of {panel['title']} names {label}, which nothing has"


def test_the_variables_of_the_dashboard_ask_for_what_there_is(emitted: Emitted) -> None:
    queries = [each["query"]["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    assert len(queries) == 2
    for query in queries:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert asked, query
        assert emitted.complaints(asked[1]) == []
        assert asked[2] in TARGET_LABELS


def test_every_family_is_shown() -> None:
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for _, expression in panel_expressions() for name in names(expression)}
    families = catalogue().keys()
    assert families - shown == NOT_SHOWN.keys()
    assert {name for name in shown if not name.startswith("process_")} <= families


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(crawlcache_made_up_total[5m]) > 0", "crawlcache_made_up_total is not emitted"),
        ('crawlcache_outbox_rows{state="lost"} > 0', 'never has state="lost"'),
        ('crawlcache_outbox_rows{state=~"queued|lost"} > 0', 'never has state="lost"'),
        ('crawlcache_outbox_rows{state!="lost"} > 0', 'never has state="lost"'),
        ('crawlcache_outbox_rows{phase="queued"} > 0', "has no label phase"),
        ('crawlcache_shadow_differences_total{fields="html"}', "has no label fields"),
        ("sum by (backend) (crawlcache_outbox_rows)", "no series below has the label backend"),
        ('crawlcache_removed_entries_total{reason="size"} unless on (job) crawlcache_nothing', "crawlcache_nothing is not emitted"),
        ("avg_over_time(job:crawlcache_nothing:rate5m[1d:5m] offset 1h)", "job:crawlcache_nothing:rate5m is not emitted"),
        ('crawlcache_http_request_duration_seconds_count{route="/livez",status="201"}', "no series at once is"),
    ],
)
def test_a_series_that_does_not_exist_is_noticed(emitted: Emitted, expression: str, complaint: str) -> None:
    assert any(complaint in each for each in emitted.complaints(expression)), emitted.complaints(expression)


def test_what_is_no_promql_is_noticed() -> None:
    with pytest.raises(ValueError):
        parsed("sum by (job (crawlcache_outbox_rows)")
