from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailreeve_policyd.metrics_catalogue import FAMILIES, Kind
from mailreeve_policyd.metrics_text import format_metrics
from tests.policyd.metrics_read import Exposition

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "contrib" / "grafana" / "mailreeve.json"
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "metrics.md"

OURS = re.compile(r"\bmailreeve_\w+")
SELECTOR = re.compile(r"\b(mailreeve_\w+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)(?:=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")
ADDED = {"instance", "job", "le"}  # by Prometheus, and by histograms


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> Iterator[dict[str, Any]]:
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    told = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [*told, *(rule["expr"] for rule in alerts())]


def labels_of(name: str) -> set[str]:
    family = FAMILIES.get(name) or FAMILIES[re.sub(r"_(bucket|sum|count)\Z", "", name)]
    return {*family.labels, *ADDED}


@pytest.mark.parametrize("expression", expressions())
def test_every_query_asks_what_is_told(expression: str) -> None:
    """Each metric exists, with the labels that are asked and grouped by; parentheses are closed."""
    known = Exposition(format_metrics({}).decode()).names()
    names = set(OURS.findall(expression))

    assert names <= known
    assert names or "up{" in expression
    for name, labels in SELECTOR.findall(expression):
        assert {label for label, _ in LABEL.findall(labels)} <= labels_of(name)
    for grouped in GROUPING.findall(expression):
        assert any(set(grouped.split(", ")) <= labels_of(name) for name in names)
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_counters_are_asked_for_their_rate() -> None:
    """A counter by itself says how long the daemon has been running."""
    for expression in expressions():
        for name in OURS.findall(expression):
            family = FAMILIES.get(name)
            if family and family.kind is Kind.COUNTER and "series_refused" not in name:
                assert re.search(rf"\b(rate|increase)\({name}\b", expression), expression


def test_every_metric_is_shown() -> None:
    """What nobody looks at need not be counted; how it is with processes may stand in an alert."""
    asked = set(OURS.findall(" ".join(expressions()) + DASHBOARD.read_text()))
    plain = {re.sub(r"_(bucket|sum|count)\Z", "", name) for name in asked}
    missing = {name for name, family in FAMILIES.items() if family.is_exposed} - plain

    assert missing <= {
        "mailreeve_start_time_seconds",
        "mailreeve_reloads_total",
        "mailreeve_workers_started_total",
    }


def test_grafana_can_load_the_dashboard() -> None:
    """Its model: a schema version, panels with ids of their own, a variable for the data source."""
    model = dashboard()
    ids = [panel["id"] for panel in panels()]
    variables = {one["name"]: one for one in model["templating"]["list"]}

    assert model["schemaVersion"] >= 36
    assert model["title"]
    assert model["uid"]
    assert "id" not in model  # Grafana gives its own
    assert len(set(ids)) == len(ids)
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for panel in panels():
        assert panel["title"]
        assert panel["type"] in {"row", "stat", "timeseries"}
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert [target["refId"] for target in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]
    used = set(re.findall(r"\$(?:\{)?(\w+)", DASHBOARD.read_text())) - {"__rate_interval"}
    assert used == set(variables)


def test_panels_do_not_lie_over_each_other() -> None:
    """On Grafana's grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_says_what_is_wrong() -> None:
    """A name of its own, how bad it is, a text; the labels of its text are those that its query keeps."""
    names = [rule["alert"] for rule in alerts()]

    assert len(set(names)) == len(names)
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        for grouped in GROUPING.findall(rule["expr"]):
            assert shown <= set(grouped.split(", "))
        if not GROUPING.search(rule["expr"]):
            (name,) = set(OURS.findall(rule["expr"])) or {""}
            assert shown <= (labels_of(name) if name else ADDED)


def test_the_page_tells_every_metric_and_alert() -> None:
    """With its labels; and none that there is not."""
    text = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(mailreeve_\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    exposed = {name: family for name, family in FAMILIES.items() if family.is_exposed}

    assert set(rows) == set(exposed)
    for name, family in exposed.items():
        assert tuple(re.findall(r"`(\w+)`", rows[name])) == family.labels, name
    assert {rule["alert"] for rule in alerts()} <= set(re.findall(r"`(Mailreeve\w+)`", text))
