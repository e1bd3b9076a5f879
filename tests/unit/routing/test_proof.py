"""The proof beside a naive router that looks at every alert of a small world at every hour of two weeks."""

import datetime as dt
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.routing.test_globs import naive
from trio_alerts.errors import SettingsError
from trio_alerts.event import SEVERITIES, AlertEvent
from trio_alerts.routing import proof
from trio_alerts.routing.routes import Deliver, Routing, Suppress
from trio_alerts.settings.settings import ChannelSettings, RouteSettings, Settings

CHANNELS = ("page", "chat", "mail")
START = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
TIMES = [START + dt.timedelta(hours=hour) for hour in range(14 * 24)]
VIEWS = ["".join(text) for length in (1, 2, 3, 4) for text in itertools.product("abx", repeat=length)]
LABELS = [None, "", "a", "b", "x", "xx"]
ADDRESSES = [None, ["xx"], ["a"], ["b"], ["x"], ["a", "b"], ["a", "x"], ["b", "x"], ["a", "b", "x"]]
WORLD: Mapping[str, Sequence[object]] = {
    "view": VIEWS,
    "labels.t": LABELS,
    "addresses": ADDRESSES,
    "severity": SEVERITIES,
}
HOURS = [("00:00", "24:00"), ("08:00", "18:00"), ("18:00", "08:00"), ("12:00", "20:00")]

Alert = Mapping[str, object]


@dataclass(frozen=True)
class Condition:
    """A matcher as the naive router reads it."""

    field: str
    negated: bool
    patterns: tuple[str, ...]

    def written(self) -> str:
        return f"{self.field} {'not in' if self.negated else 'in'} [{', '.join(map(repr, self.patterns))}]".replace(
            "'", '"'
        )

    def holds(self, alert: Alert) -> bool:
        value = alert[self.field]
        values: list[str] = value if isinstance(value, list) else [str(value or "")]
        return any(naive(pattern, one) for pattern in self.patterns for one in values) != self.negated


@dataclass(frozen=True)
class Window:
    """A window in UTC as the naive router reads it."""

    days: tuple[int, ...]
    hours: tuple[str, str]

    def written(self) -> Mapping[str, object]:
        names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        return {"days": [names[day] for day in self.days], "from": self.hours[0], "to": self.hours[1]}

    def is_open(self, time: dt.datetime) -> bool:
        start, end = (int(hour[:2]) for hour in self.hours)
        if start < end:
            return time.weekday() in self.days and start <= time.hour < end
        begun = time if time.hour >= start else time - dt.timedelta(days=1)
        return begun.weekday() in self.days and not end <= time.hour < start


@dataclass(frozen=True)
class Rule:
    """A route as the naive router reads it."""

    conditions: tuple[Condition, ...]
    windows: tuple[Window, ...]
    channels: tuple[str, ...]
    continues: bool
    fallback: tuple[str, ...] = ()
    after_s: float = 300.0

    @property
    def fallbacks(self) -> dict[str, tuple[set[str], float]]:
        """By channel, for whom it stands by and for how long these have."""
        if not self.channels:
            return {}
        return {name: (set(self.channels), self.after_s) for name in self.fallback if name not in self.channels}

    def settings(self, number: int) -> RouteSettings:
        return RouteSettings(
            name=f"r{number}",
            matchers=tuple(condition.written() for condition in self.conditions),
            active=tuple(window.written() for window in self.windows),
            channels=self.channels,
            continues=self.continues and bool(self.channels),
            suppress=not self.channels,
            fallback=tuple(self.fallbacks),
            fallback_after_s=self.after_s if self.fallbacks else None,
        )


def texts(field: str, pattern: st.SearchStrategy[str]) -> st.SearchStrategy[Condition]:
    return st.builds(Condition, st.just(field), st.booleans(), st.lists(pattern, min_size=1, max_size=2).map(tuple))


CONDITIONS = st.one_of(
    texts("view", st.text("ab*?", min_size=1, max_size=3)),
    texts("labels.t", st.sampled_from(["", "a", "b", "*", "?"])),
    texts("addresses", st.sampled_from(["a", "b", "?"])),
    texts("severity", st.sampled_from(SEVERITIES)),
)
WINDOWS = st.builds(Window, st.sampled_from([(0, 1, 2, 3, 4), (5, 6), tuple(range(7)), (6,)]), st.sampled_from(HOURS))
RULES = st.builds(
    Rule,
    st.lists(CONDITIONS, max_size=3).map(tuple),
    st.one_of(st.just(()), st.lists(WINDOWS, min_size=1, max_size=2).map(tuple)),
    st.sampled_from([(), ("page",), ("chat",), ("page", "chat")]),
    st.booleans(),
    st.sampled_from([(), ("mail",), ("chat",), ("chat", "mail")]),
    st.sampled_from([10.0, 20.0]),
)


def worlds(rules: Sequence[Rule]) -> list[tuple[Alert, dt.datetime, int]]:
    """Return every alert of the small world, each with the rules that match it as bits, one of each kind."""
    found: dict[int, tuple[Alert, dt.datetime, int]] = {}
    reached: dict[int, Alert] = {-1: {}}
    for field, values in WORLD.items():
        longer: dict[int, Alert] = {}
        for bits, alert in reached.items():
            for value in values:
                left = bits
                for number, rule in enumerate(rules):
                    if not all(one.holds({field: value}) for one in rule.conditions if one.field == field):
                        left &= ~(1 << number)
                longer.setdefault(left, {**alert, field: value})
        reached = longer
    for time in TIMES:
        opened = sum(
            1 << number
            for number, rule in enumerate(rules)
            if not rule.windows or any(window.is_open(time) for window in rule.windows)
        )
        for bits, alert in reached.items():
            found.setdefault(bits & opened, (alert, time, bits & opened))
    return list(found.values())


def event(alert: Alert) -> AlertEvent:
    required = {"rule_id": "r", "alert_id": "a", "scope": "s", "title": "t", "occurred_at": "2026-11-16T00:05:02Z"}
    fields = {name: alert[name] for name in ("view", "severity", "addresses")}
    labels = {} if alert["labels.t"] is None else {"t": alert["labels.t"]}
    return msgspec.convert({**required, **fields, "labels": labels}, AlertEvent)


def routing(routes: Sequence[RouteSettings]) -> Routing:
    """Return these routes, with the channels that they name."""
    names = dict.fromkeys(name for route in routes for name in (*route.channels, *route.fallback))
    return Routing(Settings(channels=tuple(ChannelSettings(name=name) for name in names), routes=tuple(routes)))


def naive_taken(rules: Sequence[Rule], bits: int) -> list[int]:
    taken = []
    for number, rule in enumerate(rules):
        if bits >> number & 1:
            taken.append(number)
            if not (rule.continues and rule.channels):
                break
    return taken


Decided = tuple[tuple[str, ...], dict[str, tuple[set[str], float]]] | str
"""Where an alert goes, and by fallback its primaries and their time; or which rule suppresses it."""


def naive_decision(rules: Sequence[Rule], bits: int) -> Decided:
    taken = [rules[number] for number in naive_taken(rules, bits)]
    channels = tuple(dict.fromkeys(name for rule in taken for name in rule.channels))
    fallbacks: dict[str, tuple[set[str], float]] = {}
    for name in set(CHANNELS) - set(channels):
        naming = [rule.fallbacks[name] for rule in taken if name in rule.fallbacks]
        if naming:
            fallbacks[name] = set().union(*(names for names, _ in naming)), min(after_s for _, after_s in naming)
    return (channels, fallbacks) if channels else f"r{naive_taken(rules, bits)[-1]}"


def decided(decision: Deliver | Suppress) -> Decided:
    if isinstance(decision, Suppress):
        return decision.rule
    return decision.channels, {one.channel: (set(one.primaries), one.after_s) for one in decision.fallbacks}


SPARE = RouteSettings(name="spare", matchers=("view = never-seen",), channels=CHANNELS)  # so that no channel is unused
REST = Rule((), (), ("chat",), continues=False)


@settings(max_examples=100, deadline=None)
@given(rules=st.lists(RULES, min_size=1, max_size=4))
def test_proof_and_decisions_are_those_of_a_naive_router(rules: list[Rule]) -> None:
    """For any routes: the same hole, the same dead routes; once these are put right, the same decision on any alert."""
    taken = {bits: naive_taken(rules, bits) for _, _, bits in worlds(rules)}
    hole = 0 in taken
    dead = set(range(len(rules))) - {number for some in taken.values() for number in some}
    problems = ""
    try:
        routing([SPARE, *(rule.settings(number) for number, rule in enumerate(rules))])
    except SettingsError as error:
        problems = str(error)

    assert hole == ("an alert that no route matches would lead nowhere" in problems)
    assert dead == set(map(int, re.findall(r"^route 'r(\d+)' .* it is never reached", problems, re.MULTILINE)))
    assert hole + len(dead) == len(problems.splitlines())

    whole = [rule for number, rule in enumerate(rules) if number not in dead] + [REST] * hole
    routes = routing([SPARE, *(rule.settings(number) for number, rule in enumerate(whole))])
    for alert, time, bits in worlds(whole):
        assert naive_decision(whole, bits) == decided(routes.decide(event(alert), time))


PAGE = RouteSettings(name="page", matchers=("severity >= high",), channels=CHANNELS)
DAY = {"days": ["mon-fri"], "from": "08:00", "to": "18:00", "tz": "Europe/Zurich"}
NIGHT = ({**DAY, "from": "18:00", "to": "08:00", "days": ["mon-sun"]}, {**DAY, "days": ["sat-sun"]})


@pytest.mark.parametrize(
    ("routes", "example"),
    [
        ([PAGE], "severity = info"),
        ([PAGE, RouteSettings(name="r", matchers=("severity <= low",), channels=("chat",))], "severity = medium"),
        (
            [PAGE, RouteSettings(name="r", matchers=("labels.team = *x",), channels=("chat",))],
            "severity = info, no labels.team",
        ),
        ([RouteSettings(name="r", matchers=('scope != "staging*"',), channels=CHANNELS)], "scope = staging"),
        ([RouteSettings(name="r", matchers=('labels.team != ""',), channels=CHANNELS)], "no labels.team"),
        ([RouteSettings(name="r", matchers=("view in [a, b]",), channels=CHANNELS)], "view = x"),
        ([RouteSettings(name="r", matchers=("chain_id not in [1, 2]",), channels=CHANNELS)], "chain_id = 1"),
        ([RouteSettings(name="r", matchers=('protocol != "a b"',), channels=CHANNELS)], 'protocol = "a b"'),
    ],
)
def test_a_hole_comes_with_an_alert_that_falls_into_it(routes: list[RouteSettings], example: str) -> None:
    """The example names only what matters, and routes that leave no hole are accepted."""
    with pytest.raises(SettingsError) as caught:
        routing(routes)

    assert f"such as: {example}; add a last route without conditions" in str(caught.value)


def test_windows_that_leave_hours_open_are_a_hole() -> None:
    """Office hours and the nights of the working week leave the weekend; with the weekend there is no hole."""
    day = RouteSettings(name="day", active=(DAY,), channels=("chat",))
    with pytest.raises(SettingsError, match=r"such as: on Saturday, \d{4}-\d\d-\d\d at 08:00 in Europe/Zurich;"):
        routing([day, RouteSettings(name="night", active=NIGHT[:1], channels=("page",))])

    routing([day, RouteSettings(name="night", active=NIGHT, channels=("page",))])


def test_an_alert_may_have_several_addresses() -> None:
    """A route that asks for two addresses at once can be reached, and takes nothing from one that asks for either."""
    both = RouteSettings(name="both", matchers=("addresses = a", "addresses = b"), channels=CHANNELS)
    neither = RouteSettings(name="neither", matchers=("addresses not in [a, b]",), channels=CHANNELS)
    first = RouteSettings(name="first", matchers=("addresses = a",), channels=CHANNELS)

    routing([both, first, RouteSettings(name="rest", channels=CHANNELS)])
    with pytest.raises(SettingsError, match="such as: addresses = b;"):
        routing([both, first, neither])


def test_a_window_that_is_always_another_s_is_dead() -> None:
    """A route for hours in which earlier routes take everything is named."""
    day = RouteSettings(name="day", active=(DAY,), channels=CHANNELS)
    noon = RouteSettings(name="noon", active=({**DAY, "from": "12:00", "to": "13:00"},), channels=("page",))
    with pytest.raises(SettingsError, match=r"route 'noon' \(number 2\): it is never reached: .* decided by 'day'"):
        routing([day, noon, RouteSettings(name="rest", channels=("chat",))])


def test_critical_alerts_that_depend_on_one_channel_are_a_warning() -> None:
    """Of several channels; one that is alone is known to be."""
    rest = RouteSettings(name="rest", channels=("chat",))
    page = RouteSettings(name="page", matchers=("severity = critical", "view = a"), channels=("page",))
    both = RouteSettings(name="page", matchers=("severity = critical",), channels=CHANNELS)

    assert (
        "critical alerts reach nobody while channel 'chat' fails, such as: view = x",
        "critical alerts reach nobody while channel 'page' fails, such as: view = a",
    ) == routing([page, rest]).proof.warnings
    assert () == routing([both, rest]).proof.warnings
    backed = [replace(page, fallback=("chat",)), replace(rest, fallback=("page",))]
    assert () == routing(backed).proof.warnings  # a fallback is somebody, too
    assert () == Routing(Settings(channels=(ChannelSettings(name="chat"),), routes=(rest,))).proof.warnings


def test_what_is_too_much_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many combinations: a last route for all makes it a warning, without one these routes are refused."""
    monkeypatch.setattr(proof, "MAX_CELLS", 100)
    many = [RouteSettings(name=f"r{n}", matchers=(f"labels.l{n} = a",), channels=CHANNELS) for n in range(8)]

    with pytest.raises(SettingsError, match="could not prove that every alert leads somewhere"):
        routing(many)
    (warning,) = routing([*many, RouteSettings(name="rest", channels=CHANNELS)]).proof.warnings
    assert warning.startswith("could not prove that every route can be reached: ")
