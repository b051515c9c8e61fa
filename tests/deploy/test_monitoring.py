"""Alerts and dashboard ask for figures that the service has, in PromQL that Prometheus can read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import promql_parser
import pytest

from app.main import create_app
from app.metrics import Metrics
from app.placement_records import QueueFigures
from app.schemas import State
from app.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "placewright.json").read_text())
ON = {
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True, "runbook": "https://docs.example.org/operations.md"},
        "dashboard": {"enabled": True},
    }
}
OF_PROMETHEUS = {"up": {"namespace", "service", "endpoint"}}
OF_THE_CLUSTER = {"namespace", "service", "pod", "endpoint"}


@pytest.fixture(scope="module")
def figures():
    """Name of each series that the service exposes, with its labels."""
    metrics = Metrics(lambda: QueueFigures(dict.fromkeys(State, 1), slots=1, oldest_s=1.0))
    metrics.requests.labels("GET", "/", 200).observe(1)
    metrics.solves.labels("succeeded").observe(1)
    series = dict(OF_PROMETHEUS)
    for line in metrics.expose().decode().splitlines():
        if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line):
            series.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return series


@pytest.fixture(scope="module")
def rules(render):
    [rule] = [thing for thing in render(ON) if thing["kind"] == "PrometheusRule"]
    [group] = rule["spec"]["groups"]
    return group["rules"]


def selectors(expression):
    """Every selector of a PromQL expression; a ValueError when it is none."""
    found = []

    class Visitor:
        def visit(self, node):
            if isinstance(node, promql_parser.VectorSelector):
                found.append(node)

    def walk(node):
        Visitor().visit(node)
        for name in ("expr", "lhs", "rhs", "vector_selector"):
            if hasattr(node, name):
                walk(getattr(node, name))
        for argument in getattr(node, "args", []):
            walk(argument)

    walk(promql_parser.parse(expression))
    return found


def check(expression, figures):
    named = selectors(expression)
    assert named, expression
    for selector in named:
        assert selector.name in figures, expression
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= figures[selector.name] | OF_THE_CLUSTER, expression
        for matcher in selector.matchers.matchers:
            if matcher.name == "route":
                assert matcher.value in ROUTES
            if matcher.name == "state":
                assert set(matcher.value.split("|")) <= {state.value for state in State}


ROUTES = set(create_app(Settings()).openapi()["paths"])


def test_alerts_ask_for_what_there_is(rules, figures):
    assert len(rules) >= 5
    for rule in rules:
        check(rule["expr"], figures)


def test_the_check_finds_what_there_is_not(figures):
    for wrong in ("placewright_slot", 'placewright_slots{color="red"}', 'placewright_placements{state="done"}'):
        with pytest.raises(AssertionError):
            check(wrong, figures)
    with pytest.raises(ValueError, match="parenthesis"):
        check("sum(placewright_slots", figures)


def test_every_alert_says_what_to_do(rules):
    guide = (ROOT / "docs" / "operations.md").read_text()
    sections = re.findall(r"^### (Placewright\w+)$", guide, re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules]
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        anchor = rule["annotations"]["runbook_url"].partition("#")[2]
        assert anchor == rule["alert"].lower()
        assert rule["annotations"]["summary"].endswith(".")


def test_the_dashboard_asks_for_what_there_is(figures):
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            check(target["expr"].replace("$namespace", "any"), figures)


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_figure_is_looked_at(rules, figures):
    """What nobody looks at need not be counted."""
    looked_at = {s.name for rule in rules for s in selectors(rule["expr"])} | {
        s.name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for s in selectors(target["expr"].replace("$namespace", "any"))
    }
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in figures}
    assert families == {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in looked_at}


def test_the_chart_carries_the_dashboard(render):
    [config] = [t for t in render(ON) if t["kind"] == "ConfigMap"]
    assert json.loads(config["data"]["placewright.json"]) == DASHBOARD
