"""`stats --fail-over`: figures that are too high, for probes."""

import argparse
import math
from collections.abc import Iterator, Mapping

from trio_alerts.errors import AlertError, OverThreshold, StartError
from trio_alerts.operations.stats import Stats

COUNTED_STATES = ("delivered", "failed", "suppressed", "retrying", "waiting", "unknown")
# What `--fail-over` calls a figure, and its name in the JSON, which is accepted as well.
FIGURES = {
    "lag": "not_read",
    **{name: name for name in ("pending", "in_flight", *COUNTED_STATES, "in_doubt", "quarantined", "dropped")},
    "lost": "lost_upstream",
    "overdue": "overdue",
    "oldest": "oldest_undelivered_s",
    "repeated": "repeated_alert_ids",
}


def thresholds(text: str) -> dict[str, float]:
    """Read `NAME=NUMBER,…`: the highest value that each figure may have.

    Raises:
        ArgumentTypeError: A name is unknown, or a number is none.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        name = next((short for short, long in FIGURES.items() if long == name), name)
        if name not in FIGURES:
            raise argparse.ArgumentTypeError(f"there is no figure {name!r}; there are: {', '.join(FIGURES)}")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not 0 <= limit < math.inf:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} must be {name}= and a number of at least 0")
        limits[name] = limit
    return limits


def exceeded(stats: Stats, limits: Mapping[str, float]) -> Iterator[AlertError]:
    """Find what is over its limit, or unknown: one error for each."""
    for name, limit in limits.items():
        value = _figure(stats, name)
        if value is None:
            yield StartError(f"{name} is unknown and cannot be compared with {limit:g}")
        elif value > limit:
            yield OverThreshold(f"{name} is {_exact(value)}: {_exact(value - limit)} over {limit:g}")


def _figure(stats: Stats, name: str) -> float | None:
    if name in COUNTED_STATES:
        return None if stats.states is None else stats.states.get(name, 0)
    value: float | None = getattr(stats, FIGURES[name])
    return 0.0 if name == "oldest" and value is None and not stats.missing else value  # nothing waits


def _exact(value: float) -> str:
    return f"{value:.3f}".rstrip("0").removesuffix(".")
