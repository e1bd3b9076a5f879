"""One route: which alerts it matches, when, and where they go."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from trio_alerts.event import AlertEvent
from trio_alerts.routing.matchers import Matcher, exact_matcher, field_value, parse_matcher
from trio_alerts.routing.windows import Window, parse_window
from trio_alerts.settings.settings import RouteSettings
from trio_alerts.text import did_you_mean, one_line

FALLBACK_AFTER_S = 300.0  # of a route that does not say; three retries come before, by the default schedule

T = TypeVar("T")
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Fallback:
    """A channel that stands by for others, its primaries, until they have had their time to accept the alert."""

    channel: str
    primaries: tuple[str, ...]
    after_s: float


@dataclass(frozen=True, slots=True)
class Route:
    """A route, ready to be asked.

    Args:
        name: As it is configured.
        matchers: All of them must match.
        windows: One of them must be open, if there are any.
        channels: Where an alert goes; none: this route suppresses it.
        continues: The routes after it are asked as well.
        fallbacks: What stands by for these channels.
    """

    name: str
    matchers: tuple[Matcher, ...]
    windows: tuple[Window, ...]
    channels: tuple[str, ...]
    continues: bool
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def reached(self) -> tuple[str, ...]:
        """Every channel that an alert may reach by it."""
        return (*self.channels, *(fallback.channel for fallback in self.fallbacks))

    def matches(self, event: AlertEvent, now: dt.datetime) -> bool:
        """Say whether it matches an alert at a time."""
        for matcher in self.matchers:  # twice as fast as `all`, and every alert comes by here
            if not matcher.matches(event):
                return False
        return not self.windows or self.is_active(now)

    def is_active(self, now: dt.datetime) -> bool:
        """Say whether it has no windows, or one of them is open."""
        return not self.windows or any(window.is_open(now) for window in self.windows)

    def mismatches(self, event: AlertEvent, now: dt.datetime) -> Iterator[str]:
        """Yield each reason for which it does not match."""
        for matcher in self.matchers:
            if not matcher.matches(event):
                yield f"{matcher.text}: {_has(event, matcher.field)}"
        if not self.is_active(now):
            clocks = {window.zone.key: now.astimezone(window.zone) for window in self.windows}
            yield "not active at " + ", ".join(f"{clock:%a %H:%M} in {place}" for place, clock in clocks.items())


def read_route(settings: RouteSettings, channels: tuple[str, ...], problems: list[str]) -> Route:
    """Compile a route; whatever is wrong with it is added to the problems."""
    problems += _contradictions(settings, channels)
    matchers = [
        *_read(problems, "match", settings.match.items(), lambda item: exact_matcher(*item)),
        *_read(problems, "matchers", settings.matchers, parse_matcher),
    ]
    windows = _read(problems, "active", settings.active, parse_window)
    after_s = FALLBACK_AFTER_S if settings.fallback_after_s is None else settings.fallback_after_s
    return Route(
        settings.name,
        tuple(matchers),
        tuple(windows),
        settings.channels,
        settings.continues,
        tuple(Fallback(name, settings.channels, after_s) for name in settings.fallback),
    )


def _read(problems: list[str], key: str, written: Iterable[T], read: Callable[[T], Part]) -> Iterator[Part]:
    for one in written:
        try:
            yield read(one)
        except ValueError as error:
            problems.append(f"{key}: {error}")


def _contradictions(settings: RouteSettings, channels: tuple[str, ...]) -> Iterator[str]:
    if settings.suppress and settings.channels:
        yield "it names channels and says suppress = true; keep one of them"
    if settings.suppress and settings.continues:
        yield "it says suppress = true and continue = true; what is suppressed goes nowhere else"
    if not settings.suppress and not settings.channels:
        yield "it leads nowhere: it needs channels, or suppress = true"
    if settings.suppress and settings.fallback:
        yield "it says suppress = true and names a fallback; what is suppressed goes nowhere"
    if settings.fallback_after_s is not None and not settings.fallback:
        yield "fallback_after_s does nothing without a fallback"
    for name in settings.fallback:
        if name in settings.channels:
            yield f"channel {name!r} is its own fallback; keep it in one of channels and fallback"
    for name in (*settings.channels, *settings.fallback):
        if name not in channels:
            yield f"there is no channel {name!r}{did_you_mean(name, channels, repr)}"


def _has(event: AlertEvent, field: str) -> str:
    value = field_value(event, field)
    if value is None:
        return "the alert has none"
    return f"the alert has {one_line(value if isinstance(value, str) else ', '.join(value))}"
