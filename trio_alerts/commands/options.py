"""Options that several commands share, and how their values are read."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from trio_alerts.operations.filters import FILTERS, record_filter
from trio_alerts.ports.store import RecordFilter

T = TypeVar("T")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the filter options."""
    for one in FILTERS:
        parser.add_argument(
            f"--{one.name}",
            action="append" if one.repeats else "store",
            default=[] if one.repeats else None,
            type=value_of(one.read),
            metavar=one.placeholder or one.field.upper(),
            help=one.about,
        )


def add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Add an option without a value."""
    parser.add_argument(name, action="store_true", default=False, help=text)


def chosen_records(arguments: argparse.Namespace) -> RecordFilter:
    """Return the filter that the options describe; `RecordFilter()` if none was given."""
    return record_filter(vars(arguments))


def value_of(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return what reads the value of an option, and says what is wrong with it as `read` does."""

    def check(text: str) -> T:
        try:
            return read(text)
        except ValueError as fault:
            raise argparse.ArgumentTypeError(str(fault)) from None

    return check
