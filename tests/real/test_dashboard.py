"""The dashboard and the rules, judged by Grafana's own types and Prometheus's own parser, from the Go module proxy.

Grafana's `dashboard-linter` is not among the judges: it is built on code under the AGPL. What it looks at is tested
here and in `tests/unit/test_alerting.py`.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.alerting import DASHBOARD, dashboard, filled_in, queries, rules
from tests.support.judges import built
from tests.unit.web.test_metrics import LAYOUT, REDIS, STORE, metrics
from trio_alerts.meter.cells import own_cells

pytestmark = pytest.mark.registry

TARGET = {"job", "instance", "namespace"}  # what Prometheus adds to all that it scrapes
COUNTED = {"rate", "increase"}


@pytest.fixture(scope="module")
def judges() -> Path:
    return built("monitoring")


def judged(judge: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([judge], input=text, capture_output=True, text=True, check=False)


def parsed(judges: Path, expressions: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each expression asks for."""
    done = judged(judges / "promql", json.dumps(expressions))
    assert 0 == done.returncode, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def exported() -> dict[str, dict[str, set[str]]]:
    """Return the labels, and their values, of what `/metrics` shows, rules record, and Prometheus itself adds."""
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    found["ALERTS"] = {"alertname": set(rules("alert")), "alertstate": {"firing"}}
    found |= {name: {} for name in rules("record")}
    cells = own_cells(LAYOUT)
    cells[LAYOUT.started_s] = 1
    page = metrics(cells, canary_every_s=60.0).render("", REDIS, STORE, {"AlertStream": 1.0})[0].decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def faults(expressions: Iterable[dict[str, Any]]) -> list[str]:
    """Return what asks for something that is not there."""
    known, found = exported(), []
    for one in expressions:
        found += [one["error"]] if one["error"] else []
        labels = set[str]().union(*(known.get(selector["name"], {}) for selector in one["selectors"]))
        found += [f"label {label}" for label in set(one["labels"]) - labels - TARGET]
        for selector in one["selectors"]:
            name = selector["name"]
            if name not in known:
                found.append(f"metric {name}")
                continue
            found += [f"label {label} of {name}" for label in selector["matchers"].keys() - known[name] - TARGET]
            for label, matcher in selector["matchers"].items():
                values = re.sub(r"^[=!]~?", "", matcher).split("|")
                found += [
                    f"{name} with {label}={value}"
                    for value in values
                    if label in known[name] and not any(re.match(value, there) for there in known[name][label])
                ]
            if name.endswith(("_total", "_bucket", "_count")) and selector["function"] not in COUNTED:
                found.append(f"{name} is a counter: rate or increase")
    return found


def test_grafana_takes_the_dashboard(judges: Path) -> None:
    """No field is unknown to its types, none is missing, none is of another type."""
    done = judged(judges / "dashboard", DASHBOARD.read_text())
    assert (0, "") == (done.returncode, done.stderr)


def test_every_query_asks_for_what_is_exported(judges: Path) -> None:
    """Metrics, labels and their values; and only of the deployments and members that were chosen."""
    expressions = parsed(judges, [query for _, query in queries()])
    assert [] == faults(expressions)
    for one in expressions:
        for selector in one["selectors"]:
            assert {"job": "=~.+", "instance": "=~.+"}.items() <= selector["matchers"].items()
    variables = [one["definition"] for one in dashboard()["templating"]["list"][1:]]
    asked = [re.sub(r"label_values\((.+), \w+\)", r"\1", one) for one in variables]
    annotations = [one["expr"] for one in dashboard()["annotations"]["list"]]
    assert [] == faults(parsed(judges, [filled_in(one) for one in (*asked, *annotations)]))


def test_every_rule_asks_for_what_is_exported(judges: Path) -> None:
    """So do the alerts, and what is recorded for them."""
    all_rules = [one["expr"] for kind in ("alert", "record") for one in rules(kind).values()]
    assert [] == faults(parsed(judges, all_rules))


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(rate(", "parse error"),
        ("trio_alerts_wating", "metric trio_alerts_wating"),
        ('trio_alerts_waiting{chanel="pager"}', "label chanel of trio_alerts_waiting"),
        ('trio_alerts_records{state="faild"}', "trio_alerts_records with state=faild"),
        ("max by (chanel) (trio_alerts_waiting)", "label chanel"),
        ("trio_alerts_attempts_total > 0", "is a counter"),
    ],
)
def test_the_parser_can_say_no(judges: Path, expression: str, fault: str) -> None:
    """A query that is wrong is noticed, or the tests above would prove nothing."""
    (found,) = faults(parsed(judges, [expression]))
    assert fault in found


def test_grafana_can_say_no(judges: Path) -> None:
    """So is a field that no panel has."""
    done = judged(judges / "dashboard", DASHBOARD.read_text().replace('"showLegend"', '"showLegnd"'))
    assert 1 == done.returncode
    assert "unexpected field 'showLegnd'" in done.stderr
