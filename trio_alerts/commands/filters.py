"""The options by which commands choose records."""

import argparse
from collections.abc import Callable, Sequence
from typing import cast, get_args

from trio_alerts.commands.moments import moment
from trio_alerts.delivery import State
from trio_alerts.event import SEVERITIES
from trio_alerts.ports.store import RecordFilter
from trio_alerts.text import did_you_mean


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the filter options."""
    states = get_args(State)
    for name, check, text in (
        ("view", str, "records of this view"),
        ("scope", str, "records of this scope"),
        ("severity", _one_of(SEVERITIES), ", ".join(SEVERITIES)),
        ("state", _one_of(states), ", ".join(states)),
        ("rule-id", str, "records of this rule"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], type=check, metavar=name.upper().replace("-", "_"), help=text
        )
    parser.add_argument("--since", default=None, type=moment, metavar="TIME", help="what occurred then or later")
    parser.add_argument("--until", default=None, type=moment, metavar="TIME", help="what occurred before then")


def record_filter(arguments: argparse.Namespace) -> RecordFilter:
    """Return what the options ask for; `RecordFilter()` if none was given."""
    return RecordFilter(
        view=tuple(arguments.view),
        scope=tuple(arguments.scope),
        severity=tuple(arguments.severity),
        state=cast("Sequence[State]", tuple(arguments.state)),
        rule_id=tuple(arguments.rule_id),
        since=arguments.since,
        until=arguments.until,
    )


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return check
