"""The rules and the dashboard of `deploy/`, by Prometheus's own tools, and by a Prometheus that scrapes the program."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.conftest import MakeSite
from tests.real.test_monitoring import Monitor
from tests.support.alerting import PROMETHEUS, filled_in, panels, rule_groups, rules
from tests.support.obtain import obtain
from tests.support.program import Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.support.servers.prometheus import PrometheusServer, program

# Nothing of this kind has happened in the short life of the system that is looked at.
EMPTY = {"Late: critical and high alerts that took longer than a minute"}


def promtool(*argv: str, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    """Run it on the files of a folder."""
    tool = obtain(lambda: program("promtool"))
    return subprocess.run([tool, *argv], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "argv",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "rules.yml"),
        ("test", "rules", "rules.test.yml", "objective.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_has_nothing_to_complain_about(argv: tuple[str, ...]) -> None:
    """The example is valid, so are the rules, and each alert fires when it should and stays silent when it should."""
    done = promtool(*argv)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_an_alert_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """With every alert's expression false, the tests of the rules miss every alert."""
    broken = rule_groups()
    for group in broken["groups"]:
        group["rules"] = [one | {"expr": "vector(1) < 0"} for one in group["rules"] if "alert" in one]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(broken))
    for name in ("rules.test.yml", "objective.test.yml"):
        (tmp_path / name).write_text((PROMETHEUS / name).read_text())
    done = promtool("test", "rules", "rules.test.yml", "objective.test.yml", folder=tmp_path)
    assert 1 == done.returncode
    missed = [line for line in (done.stdout + done.stderr).splitlines() if "exp:" in line and "nil" not in line]
    assert not [name for name in rules("alert") if not any(name in line for line in missed)]


@pytest.fixture
def impatient(make_site: MakeSite) -> Iterator[tuple[Site, PrometheusServer]]:
    """Give a program that serves metrics, and a Prometheus that scrapes it each second, with rules that do not wait."""
    site = make_site(Site, processes="2", canary_every_s="10")
    monitor = Monitor(site)
    found = rule_groups()
    for group in found["groups"]:
        for one in group["rules"]:
            one.pop("for", None)
    example: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    example["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    example["scrape_configs"][0] |= {"scrape_timeout": "1s"}
    del example["scrape_configs"][0]["dns_sd_configs"]
    example["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{monitor.port}"]}]
    with site.running() as parent, obtain(lambda: PrometheusServer(example, {"rules.yml": found})) as prometheus:
        wait_until(monitor.is_ready, "ready", site)
        yield site, prometheus
        assert 0 == stop(parent), site.log()


def test_a_receiver_that_fails_makes_an_alert_fire(
    impatient: tuple[Site, PrometheusServer], receiver: ReceiverServer
) -> None:
    """Nothing fires while all is well, and each panel shows something; then the breaker opens, and that alert fires."""
    site, prometheus = impatient
    for number in range(20):
        site.emit(alert_id=f"well-{number}")
    wait_until(lambda: receiver.totals().accepted == 20, "delivered", site)
    wait_until(lambda: empty_panels(prometheus) <= EMPTY, "every panel shows something", site)
    wait_until(lambda: not prometheus.alerts(), "nothing fires", site)

    receiver.set_scripts({"*": Script([Step(503)])})
    for number in range(20):
        site.emit(alert_id=f"ill-{number}")
    wait_until(lambda: "TrioAlertsBreakerOpen" in firing(prometheus), f"it fires: {firing(prometheus)}", site)
    alert = firing(prometheus)["TrioAlertsBreakerOpen"]
    assert {"severity": "critical", "job": "trio-alerts", "channel": "webhook"}.items() <= alert["labels"].items()
    assert "Channel webhook takes nothing." == alert["annotations"]["summary"]
    assert "trio-alerts channels test webhook" in alert["annotations"]["description"]


def firing(prometheus: PrometheusServer) -> dict[str, dict[str, Any]]:
    """Return the alerts that fire, by name."""
    return {one["labels"]["alertname"]: one for one in prometheus.alerts() if one["state"] == "firing"}


def empty_panels(prometheus: PrometheusServer) -> set[str]:
    """Return the panels that have a query which finds nothing."""
    return {
        panel["title"]
        for panel in panels()
        for target in panel["targets"]
        if not prometheus.query(filled_in(target["expr"], "10s"))
    }
