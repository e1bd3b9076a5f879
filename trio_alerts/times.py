"""Times, durations and counts as people write them: RFC 3339, how long ago, how long, how many."""

import datetime as dt
import re
from collections.abc import Callable

import msgspec

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_RFC_3339 = "RFC 3339 with a zone (2026-11-16T08:00:00Z)"


def moment(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """Return the time that a text means: RFC 3339, or how long ago, as in `30m`, `1h`, `7d`.

    Raises:
        ValueError: It is neither, or lies before the year 1.
    """
    try:
        found = _moment(text) if (ago := _duration(text)) is None else (now or dt.datetime.now(dt.UTC)) - ago
    except OverflowError:
        found = None
    if found is None:
        raise ValueError(f"{text!r} is not a date or time; use {_RFC_3339}, or how long ago (30m, 1h, 7d)")
    return found


def point_in_time(text: str) -> dt.datetime:
    """Return the time that a text means: RFC 3339 with a zone.

    Raises:
        ValueError: It is something else.
    """
    found = _moment(text)
    if found is None:
        raise ValueError(f"{text!r} is not a date or time; use {_RFC_3339}")
    return found


def duration(text: str) -> dt.timedelta:
    """Return how long a text says: `30m`, `2h`, `7d`.

    Raises:
        ValueError: It says nothing, or no time at all.
    """
    found = _duration(text)
    if not found:
        raise ValueError(f"{text!r} is not a duration; use a number and a unit, as in 30m, 2h, 7d")
    return found


def count(most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to `most`.

    Raises:
        ValueError: (What is returned) It is something else.
    """
    bounds = "of at least 1" if most is None else f"from 1 to {most:,}"

    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
        if number < 1 or (most is not None and number > most):
            raise ValueError(f"must be a whole number {bounds}, not {text!r:.50}")
        return number

    return read


def _moment(text: str) -> dt.datetime | None:
    try:
        given: dt.datetime = msgspec.convert(text, dt.datetime)
        return None if given.tzinfo is None else given.astimezone(dt.UTC)
    except (msgspec.ValidationError, OverflowError):
        return None


def _duration(text: str) -> dt.timedelta | None:
    parts = re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII)
    try:
        return parts and dt.timedelta(seconds=int(parts[1]) * _UNITS_S[parts[2]])
    except OverflowError:  # longer than 2.7 million years
        return None
