"""Options that several commands share, and how their values are read."""

import argparse
import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import cast, get_args

import msgspec

from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES
from trio_alerts.ports.store import RecordFilter
from trio_alerts.text import did_you_mean

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_RFC_3339 = "RFC 3339 with a zone (2026-11-16T08:00:00Z)"


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the filter options."""
    states = get_args(StoredState)
    for name, check, text in (
        ("view", str, "records of this view"),
        ("scope", str, "records of this scope"),
        ("severity", _one_of(SEVERITIES), ", ".join(SEVERITIES)),
        ("state", _one_of(states), ", ".join(states)),
        ("rule-id", str, "records of this rule"),
        ("suppressed-by", str, "records that this route or silence (silence:ID) suppressed"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], type=check, metavar=name.upper().replace("-", "_"), help=text
        )
    parser.add_argument(
        "--since", default=None, type=moment, metavar="TIME", help="that occurred at this time or later"
    )
    parser.add_argument("--until", default=None, type=moment, metavar="TIME", help="that occurred before this time")


def add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Add an option without a value."""
    parser.add_argument(name, action="store_true", default=False, help=text)


def record_filter(arguments: argparse.Namespace) -> RecordFilter:
    """Return the filter that the options describe; `RecordFilter()` if none was given."""
    return RecordFilter(
        view=tuple(arguments.view),
        scope=tuple(arguments.scope),
        severity=tuple(arguments.severity),
        state=cast("Sequence[StoredState]", tuple(arguments.state)),
        rule_id=tuple(arguments.rule_id),
        suppressed_by=tuple(arguments.suppressed_by),
        since=arguments.since,
        until=arguments.until,
    )


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return check


def moment(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """Return the time that a text means: RFC 3339, or how long ago, as in `30m`, `1h`, `7d`.

    Raises:
        argparse.ArgumentTypeError: It is neither, or lies before the year 1.
    """
    try:
        found = _moment(text) if (ago := _duration(text)) is None else (now or dt.datetime.now(dt.UTC)) - ago
    except OverflowError:
        found = None
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date or time; use {_RFC_3339}, or how long ago (30m, 1h, 7d)"
        )
    return found


def point_in_time(text: str) -> dt.datetime:
    """Return the time that a text means: RFC 3339 with a zone.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    found = _moment(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date or time; use {_RFC_3339}")
    return found


def duration(text: str) -> dt.timedelta:
    """Return how long a text says: `30m`, `2h`, `7d`.

    Raises:
        argparse.ArgumentTypeError: It says nothing, or no time at all.
    """
    found = _duration(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; use a number and a unit, as in 30m, 2h, 7d")
    return found


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


def count(most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to `most`.

    Raises:
        argparse.ArgumentTypeError: (What is returned) It is something else.
    """

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < 1 or (most is not None and int(text) > most):
            bounds = "of at least 1" if most is None else f"from 1 to {most:,}"
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, not {text!r}")
        return int(text)

    return read
