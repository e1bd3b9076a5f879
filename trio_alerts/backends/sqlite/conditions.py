"""Which rows a filter means, in SQL. Blocking code.

What machines filter by has a column. What only people look for has neither column nor index: each would add a tenth to
every write. Instead LIKE, which is quick and minds no case, goes through the rows that the columns leave and finds the
documents that may match; only these are read.
"""

import datetime as dt
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence

import msgspec

from trio_alerts.ports.store import STATES_BESIDE_A_DOUBT, RecordFilter
from trio_alerts.record_ids import CANARIES
from trio_alerts.text import words

NEEDLE_CHARACTERS = 200  # enough to tell documents apart; LIKE takes 50,000 bytes
COLUMNS = ("view", "scope", "severity", "state", "rule_id", "alert_id")

IN_DOUBT = f"""(state = 'in_doubt' OR state IN ({", ".join(f"'{state}'" for state in STATES_BESIDE_A_DOUBT)})
    AND json_valid(document) AND json_type(document, '$.delivery.in_doubt_channels') IS NOT NULL)"""

# A range of the primary key, which no index of states has: what is in it is looked up apart, and is little.
CANARY = f"(records.id >= '{CANARIES}' AND records.id < '{CANARIES[:-1]}}}')"

Value = str | int | bytes


def condition(
    connection: sqlite3.Connection, wanted: RecordFilter, *, by_state: bool = True
) -> tuple[str, list[Value]]:
    """Return what follows WHERE in a statement on this connection, with its values; the names in it are ours.

    Args:
        connection: Gets a function that the statement calls.
        wanted: The filter.
        by_state: The index of the states may be used; else a statement goes by another one.
    """
    terms = ["true" if wanted.canaries else f"NOT {CANARY}"]
    values: list[Value] = []
    for column in COLUMNS:
        alternatives: Sequence[str] = getattr(wanted, column)
        if alternatives:
            name = f"+{column}" if column == "state" and not by_state else column  # with "+" it is no indexed column
            term = f"{name} IN ({', '.join('?' * len(alternatives))})"
            terms.append(f"({term} OR {IN_DOUBT})" if column == "state" and "in_doubt" in alternatives else term)
            values += alternatives
    for term, time in (("occurred_us >= ?", wanted.since), ("occurred_us < ?", wanted.until)):
        if time is not None:
            terms.append(term)
            values.append(microseconds(time))
    if needles := list(_needles(wanted)):
        for alternatives in needles:
            terms.append(f"({' OR '.join(['document LIKE ?'] * len(alternatives))})")
            values += [f"%{needle}%" for needle in alternatives]
        terms.append("document_matches(CAST(document AS BLOB))")  # text that is no UTF-8 would be a fault
        connection.create_function("document_matches", 1, _matcher(wanted))
    return " AND ".join(terms), values


def microseconds(moment: dt.datetime) -> int:
    """Return a time as columns hold it: since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def _needles(wanted: RecordFilter) -> Iterator[list[str]]:
    """Yield, for each thing that is looked for in documents, what each of its alternatives has in common with them."""
    for texts in (wanted.suppressed_by, wanted.tx, wanted.address, wanted.channel, wanted.fingerprint):
        if texts:
            yield [_whole(text) for text in texts]
    for values in _by_key(wanted.label).values():
        yield [_whole(value) for value in values]
    if wanted.title:
        yield [max(map(_part, words(text)), key=len, default="") for text in wanted.title]


def _whole(text: str) -> str:
    """Return how a text ends in JSON, whoever rendered it, or a part of it."""
    plain = _PLAIN.fullmatch(text)
    return f'{text}"'[-NEEDLE_CHARACTERS:] if plain else _part(text)


def _part(text: str) -> str:
    """Return the longest part of a text that stands in JSON as it is; in LIKE, `_` only widens."""
    return max(_PLAIN.findall(text), key=len, default="")[:NEEDLE_CHARACTERS]


_PLAIN = re.compile(r'[^\x00-\x1f"%/\\\x7f-\U0010ffff]+')


def _by_key(labels: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {key: [value for one, value in labels if one == key] for key, _ in labels}


# --- documents -------------------------------------------------------------------------------------------------------


class _Channel(msgspec.Struct):
    name: str | None = None


class _Delivery(msgspec.Struct):
    suppressed_by: str | None = None
    channels: list[_Channel] = []


class _Document(msgspec.Struct):
    tx_hash: str = ""
    addresses: list[str] = []
    contract: str = ""
    labels: dict[str, str] = {}
    fingerprint: str = ""
    title: str = ""
    delivery: _Delivery = msgspec.field(default_factory=_Delivery)


_DECODER = msgspec.json.Decoder(_Document)


def _matcher(wanted: RecordFilter) -> Callable[[bytes], bool]:
    """Return what tells whether a document is wanted; one that cannot be read is not."""
    checks = tuple(_checks(wanted))

    def matches(raw: bytes) -> bool:
        try:
            document = _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
            return False
        return all(check(document) for check in checks)

    return matches


def _checks(wanted: RecordFilter) -> Iterator[Callable[[_Document], bool]]:
    if by := frozenset(wanted.suppressed_by):
        yield lambda document: document.delivery.suppressed_by in by
    if names := frozenset(wanted.channel):
        yield lambda document: any(channel.name in names for channel in document.delivery.channels)
    if fingerprints := frozenset(wanted.fingerprint):
        yield lambda document: document.fingerprint in fingerprints
    if hashes := {text.lower() for text in wanted.tx}:
        yield lambda document: document.tx_hash.lower() in hashes
    if addresses := {text.lower() for text in wanted.address}:
        yield (
            lambda document: (
                document.contract.lower() in addresses or any(one.lower() in addresses for one in document.addresses)
            )
        )
    if labels := _by_key(wanted.label):
        yield lambda document: all(document.labels.get(key) in values for key, values in labels.items())
    if titles := [set(words(text)) for text in wanted.title]:
        yield lambda document: any(_has_words(document.title, title) for title in titles)


def _has_words(title: str, wanted: set[str]) -> bool:
    lower = title.lower()  # a word that is no part of the text need not be looked for among its words
    return bool(wanted) and all(word in lower for word in wanted) and wanted.issubset(words(title))
