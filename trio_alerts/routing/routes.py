"""Routing: which channels get an alert, or which rule suppresses it. Decided from the alert and the time alone."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trio_alerts.errors import SettingsError
from trio_alerts.event import AlertEvent
from trio_alerts.routing.proof import Proof, prove
from trio_alerts.routing.route import Fallback, Route, read_route
from trio_alerts.settings.settings import RouteSettings, Settings


@dataclass(frozen=True, slots=True)
class Deliver:
    """The alert goes to these channels, and to a fallback if none of its primaries accepts it in time."""

    channels: tuple[str, ...]
    fallbacks: tuple[Fallback, ...] = ()


@dataclass(frozen=True, slots=True)
class Suppress:
    """The alert is recorded as `suppressed` by this rule, and sent nowhere."""

    rule: str


Decision = Deliver | Suppress


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one route says of an alert: `why_not` is empty if it takes part in the decision."""

    route: Route
    why_not: str


class Routing:
    """The configured routes, asked in order: the first that matches decides, and those before it that `continue`.

    Without any, every channel gets every alert.

    Args:
        proof: What is known about all alerts that there can be.
        warnings: What is allowed but not wise.

    Raises:
        SettingsError: A route is wrong or never reached, an alert would lead nowhere, or a channel is used by no route.
            One problem a line.
    """

    def __init__(self, settings: Settings) -> None:
        self._channels = tuple(channel.name for channel in settings.channels)
        if settings.routes:
            self._routes = _read_all(settings.routes, self._channels)
            self.proof = prove(self._routes, dt.datetime.now(dt.UTC))
        else:
            self._routes, self.proof = (Route("all", (), (), self._channels, continues=False),), Proof()
        if self.proof.problems:
            raise SettingsError("\n".join(self.proof.problems))
        self.warnings = (*self.proof.warnings, *_late_fallbacks(self._routes, settings))
        self._decisions = tuple(
            (route, Deliver(route.channels, route.fallbacks) if route.channels else Suppress(route.name))
            for route in self._routes
        )

    def decide(self, event: AlertEvent, now: dt.datetime) -> Decision:
        """Say where an alert goes at a time. Looks at each route at most once."""
        taken: list[Route] = []
        for route, decision in self._decisions:
            if not route.matches(event, now):
                continue
            if not (taken or route.continues):
                return decision
            taken.append(route)
            if not route.continues:
                break
        # The proof says that there is one; should it err, all are told.
        return _together(taken) if taken else Deliver(self._channels)

    def verdicts(self, event: AlertEvent, now: dt.datetime) -> Iterator[Verdict]:
        """Say of each route whether it has a part in the decision, and if not, why."""
        decided_by = ""
        for route in self._routes:
            if decided_by:
                yield Verdict(route, f"not asked: {decided_by!r} has decided")
                continue
            yield Verdict(route, "; ".join(route.mismatches(event, now)))
            if not route.continues and route.matches(event, now):
                decided_by = route.name


def _together(routes: Sequence[Route]) -> Deliver:
    """Return where an alert goes that several routes take.

    A channel is the fallback of those routes alone that name it, and of none if the alert goes there anyway. For the
    primaries of two routes it stands by until any of them accepts, and for the shorter of both times.
    """
    channels = tuple(dict.fromkeys(name for route in routes for name in route.channels))
    fallbacks: dict[str, Fallback] = {}
    for one in (fallback for route in routes for fallback in route.fallbacks if fallback.channel not in channels):
        other = fallbacks.setdefault(one.channel, one)
        primaries = tuple(dict.fromkeys((*other.primaries, *one.primaries)))
        fallbacks[one.channel] = Fallback(one.channel, primaries, min(other.after_s, one.after_s))
    return Deliver(channels, tuple(fallbacks.values()))


def _late_fallbacks(routes: Sequence[Route], settings: Settings) -> Iterator[str]:
    attempt_s = settings.connect_timeout_s + settings.send_timeout_s
    for route in routes:
        if any(fallback.after_s < attempt_s for fallback in route.fallbacks):
            yield (
                f"route {route.name!r}: its fallback can be late: fallback_after_s ({route.fallbacks[0].after_s:g}) is "
                f"shorter than an attempt, which ends first (connect_timeout_s + send_timeout_s: {attempt_s:g} s)"
            )


def _read_all(routes: Sequence[RouteSettings], channels: tuple[str, ...]) -> tuple[Route, ...]:
    problems: list[str] = []
    compiled = []
    for number, route in enumerate(routes, 1):
        of_this: list[str] = []
        compiled.append(read_route(route, channels, of_this))
        problems += [f"route {route.name!r} (number {number}): {problem}" for problem in of_this]
    names = Counter(route.name for route in routes)
    problems += [f"two routes are named {name!r}" for name, count in names.items() if count > 1]
    used = {name for route in routes for name in (*route.channels, *route.fallback)}
    problems += [
        f"channel {name!r} is used by no route: name it in a route or remove it"
        for name in channels
        if name not in used
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(compiled)
