"""Filters for records as people give them: one list of names, for the options of commands, pages and the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES
from trio_alerts.ports.store import RecordFilter
from trio_alerts.text import did_you_mean
from trio_alerts.times import moment


@dataclass(frozen=True, slots=True)
class Filter:
    """One way to narrow down records.

    Args:
        name: Of the option, and of the parameter in a URL.
        about: What it finds.
        read: Reads a value; raises `ValueError` if it makes no sense.
        choices: All values that it may have; empty: any.
        repeats: It may be given more than once, for alternatives.
        placeholder: Stands for a value in `--help`; empty: the name.
    """

    name: str
    about: str
    read: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    repeats: bool = True
    placeholder: str = ""

    @property
    def field(self) -> str:
        """The name of its field in `RecordFilter`."""
        return self.name.replace("-", "_")


def _one_of(name: str, words: tuple[str, ...]) -> Filter:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return Filter(name, ", ".join(words), read, choices=words)


FILTERS = (
    Filter("view", "records of this view"),
    Filter("scope", "records of this scope"),
    _one_of("severity", SEVERITIES),
    _one_of("state", get_args(StoredState)),
    Filter("rule-id", "records of this rule"),
    Filter("suppressed-by", "records that this route or silence (silence:ID) suppressed"),
    Filter("since", "that occurred at this time or later", moment, repeats=False, placeholder="TIME"),
    Filter("until", "that occurred before this time", moment, repeats=False, placeholder="TIME"),
)


def record_filter(values: Mapping[str, Any]) -> RecordFilter:
    """Return the filter of values that were read, by field; what is missing or empty narrows nothing."""
    narrowed: dict[str, Any] = {
        one.field: tuple(values[one.field]) if one.repeats else values[one.field]
        for one in FILTERS
        if values.get(one.field)
    }
    return RecordFilter(**narrowed)
