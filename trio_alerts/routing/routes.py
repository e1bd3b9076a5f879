"""Routing: which channels get an alert, or which rule suppresses it. Decided from the alert alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from trio_alerts.errors import SettingsError
from trio_alerts.event import SEVERITIES, AlertEvent
from trio_alerts.settings.settings import RouteSettings, Settings
from trio_alerts.text import did_you_mean

STATUSES = ("firing", "resolved", "retracted")  # an alert that does not say is firing

# The exact-match fields of an alert that a route may ask for; `labels.NAME` comes on top.
MATCH_FIELDS = (
    *("view", "scope", "alert_id", "rule_id", "rule_version", "severity", "status", "source", "type", "schema_version"),
    *("fingerprint", "group_key", "supersedes", "chain_id", "network", "finality", "addresses", "contract", "protocol"),
)
# Stored in lower case, so compared in lower case: an address means the same in both spellings.
_CASELESS_FIELDS = frozenset({"addresses", "contract"})
_LABEL = "labels."


@dataclass(frozen=True, slots=True)
class Deliver:
    """The alert goes to these channels."""

    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suppress:
    """The alert is recorded as `suppressed` by this rule, and sent nowhere."""

    rule: str


Decision = Deliver | Suppress


class Routing:
    """The configured routes, tried in order: the first that matches decides. Without any, every channel gets all.

    Raises:
        SettingsError: A route leads nowhere, can never match or is never reached, or a channel is used by none. One
            problem a line.
    """

    def __init__(self, settings: Settings) -> None:
        channels = tuple(channel.name for channel in settings.channels)
        problems = list(_problems(settings.routes, channels)) if settings.routes else []
        if problems:
            raise SettingsError("\n".join(problems))
        self._rules = tuple(
            (_wanted(route), Suppress(route.name) if route.suppress else Deliver(route.channels))
            for route in settings.routes or (RouteSettings(name="all", channels=channels),)
        )

    def decide(self, alert: AlertEvent) -> Decision:
        """Say where an alert goes. Looks at each route at most once."""
        for wanted, decision in self._rules[:-1]:
            if all(_accepts(alert, field, values) for field, values in wanted):
                return decision
        return self._rules[-1][1]  # it catches all


def _accepts(alert: AlertEvent, field: str, values: frozenset[str]) -> bool:
    value: object
    if field.startswith(_LABEL):
        value = (alert.labels or {}).get(field.removeprefix(_LABEL))
    else:
        value = getattr(alert, field)
        if field == "status" and value is None:
            value = "firing"
    # `addresses` is a list: one of them is enough.
    for one in value if isinstance(value, list | tuple) else (value,):
        text = str(one).lower() if field in _CASELESS_FIELDS else str(one)
        if one is not None and text in values:
            return True
    return False


def _wanted(route: RouteSettings) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(
        (field, frozenset(spelling for value in values for spelling in _spelled_out(field, value)))
        for field, values in route.match.items()
    )


def _spelled_out(field: str, value: str) -> tuple[str, ...]:
    """Give the values that a value of `match` stands for: `">=high"` for high and critical.

    Raises:
        ValueError: No alert can have such a value.
    """
    if field == "severity":
        at_least = value.startswith(">=")
        lowest = SEVERITIES.index(value.removeprefix(">=").strip())
        return SEVERITIES[lowest:] if at_least else (SEVERITIES[lowest],)
    if field == "status":
        return (STATUSES[STATUSES.index(value)],)
    return (value.lower(),) if field in _CASELESS_FIELDS else (value,)


def _problems(routes: tuple[RouteSettings, ...], channels: tuple[str, ...]) -> Iterator[str]:
    for number, route in enumerate(routes, 1):
        place = f"route {route.name!r} (number {number})"
        yield from (f"{place}: {problem}" for problem in _problems_of(route, channels))
        if not route.match and number < len(routes):
            yield f"{place}: it matches every alert, so no route after it is ever reached; make it the last"
    if routes[-1].match:
        yield (
            f"route {routes[-1].name!r} is the last, and alerts that it does not match would lead nowhere: "
            "add a route without `match`, with channels or with suppress = true"
        )
    for name, count in Counter(route.name for route in routes).items():
        if count > 1:
            yield f"two routes are named {name!r}"
    used = {name for route in routes for name in route.channels}
    for name in channels:
        if name not in used:
            yield f"channel {name!r} is used by no route: name it in a route or remove it"


def _problems_of(route: RouteSettings, channels: tuple[str, ...]) -> Iterator[str]:
    if route.suppress and route.channels:
        yield "it names channels and says suppress = true; keep one of them"
    if not route.suppress and not route.channels:
        yield "it leads nowhere: it needs channels, or suppress = true"
    for name in route.channels:
        if name not in channels:
            yield f"there is no channel {name!r}{did_you_mean(name, channels, repr)}"
    for field, values in route.match.items():
        if not (field in MATCH_FIELDS or (field.startswith(_LABEL) and field != _LABEL)):
            yield f"match cannot ask for {field!r}{did_you_mean(field, (*MATCH_FIELDS, _LABEL), repr)}"
            continue
        for value in values:
            try:
                _spelled_out(field, value)
            except ValueError:
                yield f"no alert has the {field} {value!r}"
