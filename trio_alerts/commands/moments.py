"""Moments as people give them on the command line."""

import argparse
import datetime as dt
import re

import msgspec

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def moment(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """Return the moment that a text means: RFC 3339, or so long ago, such as `30m`, `1h`, `7d`.

    Raises:
        argparse.ArgumentTypeError: It is neither, or lies before the year 1.
    """
    ago = re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII)
    try:
        if ago:
            return (now or dt.datetime.now(dt.UTC)) - dt.timedelta(seconds=int(ago[1]) * _UNITS_S[ago[2]])
        given: dt.datetime = msgspec.convert(text, dt.datetime)
        if given.tzinfo is not None:
            return given.astimezone(dt.UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is no moment; write RFC 3339 with a zone, as in 2026-11-16T08:00:00Z, or 30m, 1h, 7d ago"
    )
