"""Which silence keeps an alert from being sent. Pure: the caller reads the silences and knows the time."""

import datetime as dt
import math
from collections.abc import Iterable, Iterator

from trio_alerts.event import AlertEvent
from trio_alerts.ports.silences import Silence, SilenceList
from trio_alerts.routing.matchers import Matcher, parse_matcher

STALE_AFTER_S = 2.0  # what could not be checked for so long may have been ended: noise is better than silence

Parsed = tuple[Silence, tuple[Matcher, ...]]


class SilenceCache:
    """The silences as a process last saw them; without one, an alert costs one look at an empty list.

    Attributes:
        version: Of what it holds; None before the first check.
        active: Those that were active at the last check, parsed.
    """

    def __init__(self) -> None:
        self.version: str | None = None
        self.active: tuple[Parsed, ...] = ()
        self._known: tuple[Parsed, ...] = ()
        self._checked_at_s = -math.inf

    def check(self, found: SilenceList | None, now: dt.datetime, asked_at_s: float) -> list[str]:
        """Take over what was read, and leave out what is over.

        Args:
            found: None if the version is still `version`.
            now: The server's time.
            asked_at_s: When it was asked for, on the monotonic clock.

        Returns:
            What is wrong with those that cannot be understood, a line each: they silence nothing.
        """
        problems: list[str] = []
        if found is not None:
            self.version = found.version
            self._known = tuple(_parsed(found, problems))
        self.active = tuple(one for one in self._known if one[0].is_active(now))
        self._checked_at_s = asked_at_s
        return problems

    def matching(self, event: AlertEvent, now: dt.datetime, now_s: float) -> Silence | None:
        """Return the first silence that matches an alert, now; `now_s` is the monotonic time."""
        if now_s - self._checked_at_s > STALE_AFTER_S:
            return None
        for silence, matchers in self.active:
            if silence.is_active(now) and all_match(matchers, event):
                return silence
        return None


def all_match(matchers: Iterable[Matcher], event: AlertEvent) -> bool:
    """Say whether all matchers hold for an alert."""
    return all(matcher.matches(event) for matcher in matchers)


def _parsed(found: SilenceList, problems: list[str]) -> Iterator[Parsed]:
    for silence in found.silences:
        try:
            yield silence, tuple(map(parse_matcher, silence.matchers))
        except ValueError as fault:  # a newer version wrote it, perhaps
            problems.append(f"silence {silence.id} silences nothing: {fault}")
