"""Filters for records as people give them: one list of names, for the options of commands, pages and the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES
from trio_alerts.ports.store import RecordFilter
from trio_alerts.text import did_you_mean, words
from trio_alerts.times import moment


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that a shell passed on as they were, half a character of somebody's JSON
        raise ValueError(f"{text!r} is not UTF-8") from None
    return text


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
    read: Callable[[str], object] = _text
    choices: tuple[str, ...] = ()
    repeats: bool = True
    placeholder: str = ""

    @property
    def field(self) -> str:
        """The name of its field in `RecordFilter`."""
        return self.name.replace("-", "_")


def _one_of(name: str, choices: tuple[str, ...]) -> Filter:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text

    return Filter(name, ", ".join(choices), read, choices=choices)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = _text(text).partition("=")
    if not (key and equals):
        raise ValueError(f"{text!r} is not KEY=VALUE, as in team=risk")
    return key, value


def _title(text: str) -> str:
    if not words(_text(text)):
        raise ValueError(f"there is no word in {text!r}")
    return text


FILTERS = (
    Filter("view", "records of this view"),
    Filter("scope", "records of this scope"),
    _one_of("severity", SEVERITIES),
    _one_of("state", get_args(StoredState)),
    Filter("rule-id", "records of this rule"),
    Filter("alert-id", "records of this alert, by its producer's ID"),
    Filter("tx", "records of this transaction, its hash in any case", placeholder="HASH"),
    Filter("address", "records with this address or contract, in any case"),
    Filter(
        "label", "records with this label; another key narrows, another value widens", _label, placeholder="KEY=VALUE"
    ),
    Filter("title", "records with all these words in the title, in any order and case", _title, placeholder="WORDS"),
    Filter("fingerprint", "records of this fingerprint"),
    Filter("channel", "records that go or went through this channel, whatever came of it"),
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
