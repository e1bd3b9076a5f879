"""`route`: where alerts would go, and why."""

import json
import re
from pathlib import Path

import pytest

from tests.support.calling import Called, call

ROUTES = """
[[channels]]
name = "pager"
url = "https://pager.example/hunter2"
[[channels]]
name = "desk"
url = "https://desk.example/hunter2"

[[routes]]
name = "staging"
matchers = ['scope = "staging*"']
suppress = true
[[routes]]
name = "urgent"
matchers = ["severity >= high"]
channels = ["pager"]
continue = true
[[routes]]
name = "office"
active = [{ days = ["mon-fri"], from = "08:00", to = "18:00", tz = "Europe/Zurich" }]
channels = ["desk"]
[[routes]]
name = "rest"
channels = ["desk"]
"""
THURSDAY_NOON = "2026-11-26T12:00:00Z"


def alert(alert_id: str, **fields: str) -> bytes:
    event = {"rule_id": "r", "view": "v", "scope": "s", "severity": "low", "title": "t", "occurred_at": THURSDAY_NOON}
    return json.dumps({"alert_id": alert_id} | event | fields).encode() + b"\n"


ALERTS = alert("a-1") + alert("a-2", severity="critical") + alert("a-3", scope="staging-eu")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "alerts.toml"
    path.write_text(ROUTES, "utf-8")
    return str(path)


def routed(config: str, *options: str, stdin: bytes = ALERTS) -> Called:
    return call("route", "--config", config, "--at", THURSDAY_NOON, *options, "-", stdin=stdin)


def test_each_alert_has_a_line(config: str) -> None:
    """Its ID, its channels or that it is suppressed, and the routes that say so; nothing is connected to."""
    called = routed(config)

    assert (0, "") == (called.exit_code, called.err)
    assert [
        "a-1\tdesk\toffice",
        "a-2\tpager, desk\turgent, office",
        "a-3\tsuppressed\tstaging",
    ] == called.out.splitlines()


def test_every_verdict_is_explained(config: str) -> None:
    """Below each alert, each route says that it matches, why it does not, or who has decided before."""
    called = routed(config, "--explain", stdin=alert("a-1"))

    assert [
        "a-1\tdesk\toffice",
        '  staging  scope = "staging*": the alert has s',
        "  urgent   severity >= high: the alert has low",
        "  office   matches",
        "  rest     not asked: 'office' has decided",
    ] == called.out.splitlines()


def test_the_time_decides_too(config: str) -> None:
    """`--at` routes as at another time: on a Saturday nobody is in the office."""
    called = routed(config, "--explain", "--at", "2026-11-28T12:00:00Z", stdin=alert("a-1"))

    assert "  office   not active at Sat 13:00 in Europe/Zurich\n  rest     matches\n" in called.out


def test_json_says_the_same(config: str) -> None:
    """One object an alert."""
    lines = [json.loads(line) for line in routed(config, "--json").out.splitlines()]
    (explained,) = map(
        json.loads, routed(config, "--json", "--explain", stdin=alert("a-3", scope="staging")).out.splitlines()
    )

    assert {
        "alert_id": "a-2",
        "channels": ["pager", "desk"],
        "fallbacks": [],
        "suppressed_by": None,
        "routes": ["urgent", "office"],
    } == lines[1]
    assert ("staging", []) == (explained["suppressed_by"], explained["channels"])
    assert {"route": "staging", "why_not": None} == explained["verdicts"][0]


def test_fallbacks_are_shown(tmp_path: Path) -> None:
    """With the channels that they stand by for, and how long these have; in JSON each is an object."""
    path = tmp_path / "alerts.toml"
    fallback = 'channels = ["pager"]\nfallback = ["desk"]\nfallback_after_s = 90\n'
    path.write_text(ROUTES.partition("[[routes]]")[0] + "[[routes]]\n" + fallback, "utf-8")

    assert (
        "a-1\tpager; desk unless pager accepts it within 90 s\troute-1\n" == routed(str(path), stdin=alert("a-1")).out
    )
    document = json.loads(routed(str(path), "--json", stdin=alert("a-1")).out)
    assert (["pager"], [{"channel": "desk", "primaries": ["pager"], "after_s": 90.0}]) == (
        document["channels"],
        document["fallbacks"],
    )


def test_what_is_no_alert_is_listed(config: str) -> None:
    """The others are routed all the same; exit code 2."""
    called = routed(config, stdin=b"{}\n" + ALERTS)

    assert (2, 3) == (called.exit_code, len(called.out.splitlines()))
    assert "standard input: 1 of 4 alerts is not valid:" in called.err


def test_routes_that_run_would_refuse_are_refused(tmp_path: Path) -> None:
    """A hole has exit code 2 and an example; no secret is shown."""
    path = tmp_path / "alerts.toml"
    path.write_text(ROUTES.rpartition("[[routes]]")[0], "utf-8")
    called = routed(str(path))

    assert (2, "") == (called.exit_code, called.out)
    assert "would lead nowhere, such as: scope = x, severity = info, on " in called.err
    assert "hunter" not in called.err


def test_the_page_shows_what_is_true(tmp_path: Path) -> None:
    """The example of the page on routing is accepted, and its explanation is what the program says."""
    page = (Path(__file__).parents[3] / "docs" / "routing.md").read_text("utf-8")
    (routes, *_), (console, *_) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "console"))
    names = ("archive", "pager", "desk", "mail")
    channels = "".join(f'[[channels]]\nname = "{name}"\nurl = "https://h.example/"\n' for name in names)
    path = tmp_path / "alerts.toml"
    path.write_text(channels + routes, "utf-8")

    called = routed(str(path), "--explain", "--at", "2026-11-28T12:00:00Z", stdin=alert("a-1", scope="bridge:Halyard"))
    assert (0, "") == (called.exit_code, called.err)
    assert console.partition("\n")[2] == called.out
