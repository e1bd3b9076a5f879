"""Routing: which channels get an alert, or which rule suppresses it. Decided from the alert and the time alone."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trio_alerts.errors import SettingsError
from trio_alerts.event import AlertEvent
from trio_alerts.routing.proof import Proof, prove
from trio_alerts.routing.route import Route, read_route
from trio_alerts.settings.settings import RouteSettings, Settings


@dataclass(frozen=True, slots=True)
class Deliver:
    """The alert goes to these channels."""

    channels: tuple[str, ...]


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
        self._decisions = tuple(
            (route, Deliver(route.channels) if route.channels else Suppress(route.name)) for route in self._routes
        )

    def decide(self, event: AlertEvent, now: dt.datetime) -> Decision:
        """Say where an alert goes at a time. Looks at each route at most once."""
        channels: tuple[str, ...] = ()
        for route, decision in self._decisions:
            if not route.matches(event, now):
                continue
            if not (channels or route.continues):
                return decision
            channels += tuple(name for name in route.channels if name not in channels)
            if not route.continues:
                break
        return Deliver(channels or self._channels)  # the proof says that there are some; should it err, all are told

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


def _read_all(routes: Sequence[RouteSettings], channels: tuple[str, ...]) -> tuple[Route, ...]:
    problems: list[str] = []
    compiled = []
    for number, route in enumerate(routes, 1):
        of_this: list[str] = []
        compiled.append(read_route(route, channels, of_this))
        problems += [f"route {route.name!r} (number {number}): {problem}" for problem in of_this]
    names = Counter(route.name for route in routes)
    problems += [f"two routes are named {name!r}" for name, count in names.items() if count > 1]
    used = {name for route in routes for name in route.channels}
    problems += [
        f"channel {name!r} is used by no route: name it in a route or remove it"
        for name in channels
        if name not in used
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(compiled)
