"""The example configurations: accepted without a warning, and the example alerts go where their comments say."""

import datetime as dt
from pathlib import Path

import pytest

from tests.support.examples import CONFIGS, FOLDER, placed
from trio_alerts.channels.registry import channel_settings
from trio_alerts.event import AlertEvent, parse_event
from trio_alerts.routing.routes import Deliver, Routing
from trio_alerts.settings.settings import Settings, require_channels, warnings_about
from trio_alerts.settings.sources import load_settings

BY_NAME = {path.stem: path for path in CONFIGS}
EVENTS = [parse_event(line) for line in (FOLDER / "alerts.jsonl").read_bytes().splitlines()]
DAY, NIGHT = (dt.datetime(2026, 11, 26, hour, tzinfo=dt.UTC) for hour in (10, 2))  # a Thursday
SPECIAL = {"drill", "staging", "sandwiches", "Tokyo, critical", "bridges, critical", "Lumen", "production down", "rest"}


def settings_of(name: str, folder: Path) -> Settings:
    return load_settings({}, {}, placed(BY_NAME[name], folder), channel_settings)


def test_there_are_three() -> None:
    """One for each size, and no other that nobody looks at."""
    assert {"small", "medium", "large"} == BY_NAME.keys()


@pytest.mark.parametrize(("name", "channels", "routes"), [("small", 1, 0), ("medium", 3, 6), ("large", 20, 60)])
def test_an_example_has_nothing_wrong(name: str, channels: int, routes: int, tmp_path: Path) -> None:
    """It can be read, is proven to lead every alert somewhere, and is no example of what one is warned of."""
    settings = settings_of(name, tmp_path)
    require_channels(settings)

    assert (channels, routes) == (len(settings.channels), len(settings.routes))
    assert () == Routing(settings).warnings
    assert [] == [warning for warning in warnings_about(settings) if "open files" not in warning]  # of this machine


@pytest.mark.parametrize("name", BY_NAME)
def test_no_secret_is_in_an_example(name: str) -> None:
    """Whoever copies one keeps them in files: each key that is a secret names one."""
    text = BY_NAME[name].read_text("utf-8")
    for line in text.splitlines():
        key, _, value = line.partition(" = ")
        if key.endswith(("token", "key", "secret", "smtp_url", "webhook_url")):
            pytest.fail(f"{line}: a secret belongs into a file")
        assert "hooks." not in value.partition("#")[0]


def test_office_hours_and_severity_decide(tmp_path: Path) -> None:
    """Medium: the desk by day, the pager by night, both when it is critical; mail or the pager stands by."""
    routing = Routing(settings_of("medium", tmp_path))
    severities: dict[str, AlertEvent] = {event.severity: event for event in EVENTS}

    def where(severity: str, now: dt.datetime) -> tuple[tuple[str, ...], list[tuple[str, float]]]:
        decision = routing.decide(severities[severity], now)
        assert isinstance(decision, Deliver)
        return decision.channels, [(one.channel, one.after_s) for one in decision.fallbacks]

    assert (("desk",), [("pager", 300.0)]) == where("high", DAY)
    assert (("pager",), [("mail", 300.0)]) == where("high", NIGHT)
    assert (("pager", "desk"), [("mail", 120.0)]) == where("critical", NIGHT)
    assert (("desk",), [("mail", 3600.0)]) == where("medium", NIGHT)


def test_a_week_of_alerts_takes_nearly_every_route_of_the_large_one(tmp_path: Path) -> None:
    """No route is there for show: but for what this week had none of, each has a part in a decision."""
    routing = Routing(settings_of("large", tmp_path))
    taken = {
        verdict.route.name
        for event in EVENTS
        for now in (DAY, NIGHT)
        for verdict in routing.verdicts(event, now)
        if not verdict.why_not
    }
    assert {verdict.route.name for verdict in routing.verdicts(EVENTS[0], DAY)} - taken == SPECIAL
