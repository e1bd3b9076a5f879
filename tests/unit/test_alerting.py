"""The alerts and the dashboard that are delivered: complete, explained, and laid out as people read them."""

import re
import shlex
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.support.alerting import PROMETHEUS, dashboard, panels, rules
from trio_alerts.commands.arguments import parse_arguments

GUIDE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
RUNBOOK = "https://github.com/trio-alerts/trio-alerts/blob/main/docs/monitoring.md#"
SECTIONS = re.findall(r"^### (TrioAlerts\w+)\n(.*?)(?=^###? |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
ALERTS = rules("alert")
UNITS = {"s", "short", "ops", "percentunit", "none"}


def test_every_alert_has_a_section_in_the_guide_and_the_reverse() -> None:
    """Whoever is paged finds what it means, what to look at and what to do; no section is about an alert of old."""
    assert sorted(ALERTS) == sorted(name for name, _ in SECTIONS)
    assert set(ALERTS) == set(re.findall(r"TrioAlerts\w+", GUIDE))
    for name, text in SECTIONS:
        for word in ("means", "look", "do"):
            assert f"**{word}" in text.lower(), name


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^\$ trio-alerts ([^|\n]+)", GUIDE, re.MULTILINE))))
def test_what_the_guide_tells_to_call_can_be_called(line: str) -> None:
    """Commands and options are those that there are: at night nobody looks for the right ones."""
    parse_arguments(shlex.split(line, comments=True))


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do_and_where_more_is_said(name: str) -> None:
    """A summary of a line, a description that names the deployment or the member, a severity, a link to its section."""
    alert = ALERTS[name]
    said = alert["annotations"]
    assert {"summary", "description", "runbook_url"} == said.keys()
    assert RUNBOOK + name.lower() == said["runbook_url"]
    assert 60 >= len(re.sub(r"{{.*?}}", "a-name", said["summary"]))
    assert re.search(r"\$labels\.(job|instance)", said["description"])
    assert {"severity"} == alert["labels"].keys()
    assert alert["labels"]["severity"] in ("critical", "warning")


def test_every_alert_has_a_unit_test() -> None:
    """Each one is expected to fire somewhere; `promtool` runs these tests, and each says what must be silent."""
    expected = "".join((PROMETHEUS / name).read_text() for name in ("rules.test.yml", "objective.test.yml"))
    assert set(ALERTS) == set(re.findall(r"\balertname[=:] ?\"?(TrioAlerts\w+)", expected))


def test_the_dashboard_leaves_a_choice_of_everything() -> None:
    """Data source, deployment and member are variables; nobody edits it in the browser and loses that."""
    found = dashboard()
    assert ["datasource", "job", "instance"] == [one["name"] for one in found["templating"]["list"]]
    assert not found["editable"]
    for one in found["templating"]["list"][1:]:
        assert (True, True, ".+") == (one["multi"], one["includeAll"], one["allValue"])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    """A title, a description, a unit, the data source that was chosen; every line has a name, and a range that fits."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for target in (panel, *panel["targets"]):
        assert {"type": "prometheus", "uid": "${datasource}"} == target["datasource"]
        # In a range that is fixed, there are too few samples where Prometheus scrapes seldom.
        assert {"$__rate_interval", "$__range"} >= set(re.findall(r"\[(.+?)\]", target.get("expr", "")))
    names = [target["legendFormat"] for target in panel["targets"]]
    assert len(names) == len(set(names))


def test_panels_lie_beside_each_other() -> None:
    """None covers another one, nor leaves the grid, and each has an ID of its own."""
    places = [one["gridPos"] for one in dashboard()["panels"]]
    assert all(one["x"] + one["w"] <= 24 for one in places)
    for one, two in combinations(places, 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert beside or below, (one, two)
    numbers = [one["id"] for one in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))
