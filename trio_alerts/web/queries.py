"""Filters in the URL of a page: read, shown in the form again, and turned into links."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from trio_alerts.errors import SettingsError
from trio_alerts.operations.cursors import read_cursor
from trio_alerts.operations.filters import FILTERS, Filter, record_filter
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record import Record
from trio_alerts.text import did_you_mean

BY_NAME = {one.name: one for one in FILTERS}
PAGING = "after"


@dataclass(frozen=True)
class Query:
    """What was asked for: `given` has the texts by the filters' names, `behind` the last record of the page before."""

    given: dict[str, list[str]]
    wanted: RecordFilter
    behind: Record | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is left out."""
        return bool(self.given)

    def has_unusual(self, usual: Collection[str]) -> bool:
        """Tell whether anything was given but these filters, and those that have choices."""
        return any(name not in usual and not BY_NAME[name].choices for name in self.given)

    def texts(self, name: str) -> Sequence[str]:
        """Return what was given for a filter."""
        return self.given.get(name, ())

    def link(self, **changed: str) -> str:
        """Return the address of the same page with some filters changed, from its beginning; empty: without it."""
        pairs = [(name, text) for name, texts in self.given.items() if name not in changed for text in texts]
        pairs += [(name, text) for name, text in changed.items() if text]
        return f"/?{urlencode(pairs)}" if pairs else "/"


def read_query(parameters: QueryParams) -> Query:
    """Read the filters; a field of the form that was left empty narrows nothing.

    Raises:
        SettingsError: There is no such filter, or a value or the cursor makes no sense.
    """
    given: dict[str, list[str]] = {}
    values: dict[str, object] = {}
    for parameter, text in parameters.multi_items():
        name = parameter.replace("_", "-")
        if name == PAGING or not text.strip():
            continue
        if name not in BY_NAME:
            raise SettingsError(f"there is no filter {name!r}{did_you_mean(name, BY_NAME)}")
        given.setdefault(name, []).append(text.strip())
    for name, texts in given.items():
        values[BY_NAME[name].field] = _values(BY_NAME[name], texts)
    return Query(given, record_filter(values), _behind(parameters.get(PAGING, "")))


def _behind(cursor: str) -> Record | None:
    try:
        return read_cursor(cursor) if cursor else None
    except ValueError as fault:
        raise SettingsError(f"{PAGING}: {fault}") from None


def _values(one: Filter, texts: list[str]) -> object:
    try:
        values = [one.read(text) for text in texts]
    except ValueError as fault:
        raise SettingsError(f"{one.name}: {fault}") from None
    return values if one.repeats else values[-1]
