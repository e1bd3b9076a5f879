"""`stats --fail-over`: figures that are too high, for probes."""

import argparse
import math
from collections.abc import Iterator, Mapping

from trio_alerts.errors import AlertError, OverThreshold, StartError

COUNTED_STATES = ("delivered", "failed", "suppressed", "in_doubt", "retrying")
NAMES = (
    *("lag", "pending", "in_flight", *COUNTED_STATES, "quarantined", "dropped", "lost", "overdue", "oldest"),
    "repeated",
)
_AS_IN_JSON = {
    "not_read": "lag",
    "lost_upstream": "lost",
    "oldest_undelivered_s": "oldest",
    "repeated_alert_ids": "repeated",
}


def thresholds(text: str) -> dict[str, float]:
    """Read `NAME=NUMBER,…`: the highest value that each figure may have.

    Raises:
        ArgumentTypeError: A name is unknown, or a number is none.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        name = _AS_IN_JSON.get(name, name)
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no figure {name!r}; there are: {', '.join(NAMES)}")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not 0 <= limit < math.inf:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} must be {name}= and a number of at least 0")
        limits[name] = limit
    return limits


def exceeded(figures: Mapping[str, float | None], limits: Mapping[str, float]) -> Iterator[AlertError]:
    """Find what is over its limit, or unknown: one error for each."""
    for name, limit in limits.items():
        value = figures[name]
        if value is None:
            yield StartError(f"{name} is unknown and cannot be compared with {limit:g}")
        elif value > limit:
            yield OverThreshold(f"{name} is {_exact(value)}: {_exact(value - limit)} over {limit:g}")


def _exact(value: float) -> str:
    return f"{value:.3f}".rstrip("0").removesuffix(".")
