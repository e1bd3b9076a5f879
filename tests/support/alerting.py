"""The rules, the dashboard and the configuration in `deploy/`, as tests read them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"


def rule_groups() -> dict[str, Any]:
    """Return the file of rules."""
    found: dict[str, Any] = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return found


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules of a kind, `alert` or `record`, by their names."""
    return {one[kind]: one for group in rule_groups()["groups"] for one in group["rules"] if kind in one}


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Return what shows something: all panels but the rows' titles."""
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Yield each expression of the dashboard as it is sent once variables are filled in, and the panel it is of."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], filled_in(target["expr"])


def filled_in(expression: str, interval: str = "1m") -> str:
    """Return an expression with Grafana's variables filled in: everything is chosen."""
    for name, value in {"$__rate_interval": interval, "$__range": interval, "$job": ".+", "$instance": ".+"}.items():
        expression = expression.replace(name, value)
    return expression
