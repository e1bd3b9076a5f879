"""Records as rows: how they are written, read, searched and counted, each on a given connection. Blocking code.

Python's sqlite3 gives up the interpreter lock at every step of every statement, and beside a busy event loop each way
back can cost milliseconds. So a batch of any size is one statement, which is a transaction by itself: an INSERT into a
view of the connection, whose triggers do each write on its condition. The first that is not met undoes the batch; then
it is done again write by write, which shows whose were not.
"""

import datetime as dt
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec

from trio_alerts.backends.readable import due_record, readable_records
from trio_alerts.backends.sqlite.conditions import CANARY, IN_DOUBT, condition, microseconds
from trio_alerts.backends.sqlite.schema import ENTRY_ORDER, snapshot
from trio_alerts.errors import RefusedContent
from trio_alerts.exact_json import Timestamp
from trio_alerts.ports.store import Counts, Due, RecordFilter, Stored, Vitals
from trio_alerts.record import Record, unreadable
from trio_alerts.record_ids import entry_order

MAX_DOCUMENT_BYTES = 32 * 1024 * 1024  # a payload has 256 KiB at most; SQLite itself takes 1 GB
LARGEST_VERSION = 2**62  # a million years of microseconds: this program never writes a larger one
OVERDUE_S = 60
FEW = 2_000  # rows; to sort them takes 20 ms

Position = tuple[str, str | bytes]  # of a row among others: its place by `ENTRY_ORDER`, and its ID


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One conditional write, and its answer if the record has the expected version (None: does not exist yet)."""

    expected: int | None
    row: tuple[str | int | None, ...]
    stored: Stored
    size: int


def write_of(record: Record, expected: int | None) -> RowWrite:
    """Render a record into its columns.

    Raises:
        RefusedContent: No database could keep it, or answer filters on it.
    """
    try:
        document = record.to_json().decode()
        keys = _KEYS.decode(record.body)
        record.id.encode()
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise RefusedContent(f"record {record.id!r} cannot be stored: {fault}") from None
    if len(document) > MAX_DOCUMENT_BYTES:
        raise RefusedContent(
            f"record {record.id!r} has {len(document):,} characters; at most {MAX_DOCUMENT_BYTES:,} are stored"
        )
    delivery = record.delivery
    # A record that was removed by hand and made again starts higher than it ended, so no stale version fits it.
    version = time.time_ns() // 1000 if expected is None else expected + 1
    row = (
        record.id,
        version,
        delivery.state,
        _microseconds(delivery.next_attempt_at),
        _microseconds(delivery.lease_until),
        keys.view,
        keys.scope,
        keys.severity,
        keys.rule_id,
        keys.alert_id,
        _microseconds(keys.occurred_at),
        document,
    )
    return RowWrite(expected, row, Stored(record, (version, 1)), len(document))


def put(connection: sqlite3.Connection, writes: Sequence[RowWrite]) -> bool:
    """Do writes as if one after the other; return False, with none of them done, if one did not meet what it expected.

    Args:
        connection: It is `ready_to_write`.
        writes: At most 2,048: each has 13 parameters, and a statement takes 32,766.
    """
    size = _size(len(writes))
    values = [value for write in writes for value in (write.expected, *write.row)]
    values += [None] * ((size - len(writes)) * (len(_COLUMNS) + 1))
    try:
        # `execute` would also ask for the last row's ID, and for the interpreter lock once more.
        connection.executemany(_statement(size), [values])
    except sqlite3.IntegrityError as fault:
        if fault.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
            return False
        raise
    return True


def ready_to_write(connection: sqlite3.Connection) -> None:
    """Give a connection what `put` needs; nothing of it is in the file."""
    connection.execute("PRAGMA temp_store = MEMORY")  # else a batch would pass through a file on its way to the rows
    for sql in _WRITES:
        connection.execute(sql)


def _size(writes: int) -> int:
    """Return for how many rows the statement is made: a few prepared ones serve every number, with empty rows."""
    step = 1 << max(writes.bit_length() - 3, 0)
    return -(-writes // step) * step


@cache
def _statement(rows: int) -> str:
    return f"INSERT INTO writes VALUES {', '.join([f'(?, {_PLACES})'] * rows)}"  # noqa: S608


_FIXED = ("id", "version", "state", "next_attempt_us", "lease_until_us")
_COLUMNS = (*_FIXED, "view", "scope", "severity", "rule_id", "alert_id", "occurred_us", "document")
_PLACES = ", ".join("?" * len(_COLUMNS))
_REFUSE = "SELECT RAISE(ABORT, 'conflict') WHERE changes() = 0"
_WRITES = (
    "CREATE TEMP VIEW writes AS SELECT NULL AS expected, * FROM records",
    f"""CREATE TEMP TRIGGER creates INSTEAD OF INSERT ON writes WHEN new.expected IS NULL AND new.id IS NOT NULL BEGIN
        INSERT INTO records VALUES ({", ".join(f"new.{column}" for column in _COLUMNS)}) ON CONFLICT (id) DO NOTHING;
        {_REFUSE};
    END""",  # noqa: S608
    f"""CREATE TEMP TRIGGER replaces INSTEAD OF INSERT ON writes WHEN new.expected IS NOT NULL BEGIN
        UPDATE records SET {", ".join(f"{column} = new.{column}" for column in _COLUMNS[1:])}
        WHERE id = new.id AND version = new.expected;
        {_REFUSE};
    END""",  # noqa: S608
)


# --- reading ---------------------------------------------------------------------------------------------------------


def get(connection: sqlite3.Connection, record_id: str) -> Stored | None:
    """Read one record."""
    row = connection.execute("SELECT document, version FROM records WHERE id = ?", (record_id,)).fetchone()
    if row is None:
        return None
    document, version = row
    if not isinstance(version, int) or not 0 <= version < LARGEST_VERSION:
        raise unreadable(record_id, "its version is not a valid number")
    return Stored(Record.from_json(record_id, document), (version, 1))


def due(
    connection: sqlite3.Connection, now: dt.datetime, until: dt.datetime, count: int, after: Due | None = None
) -> list[Due]:
    """Return one page of what waits for an attempt that is due by `until`, or in a queue, however long."""
    rows = connection.execute(
        """SELECT id, document FROM records INDEXED BY records_due
        WHERE (next_attempt_us IS NOT NULL OR lease_until_us IS NOT NULL) AND id > :after AND
        (next_attempt_us <= :until OR (state = 'sending' AND lease_until_us <= :now) OR
        (state IN ('sending', 'retrying', 'waiting') AND instr(document, '"queues":[')))
        ORDER BY id LIMIT :count""",
        {"after": after.id if after else "", "now": _microseconds(now), "until": _microseconds(until), "count": count},
    ).fetchall()
    # What is no text comes last, and has no entry.
    return [due_record(record_id, document, now) for record_id, document in rows if _is_id(record_id)]


def search(
    connection: sqlite3.Connection, wanted: RecordFilter, count: int, after: Record | None = None
) -> list[Record]:
    """Return one page of matching records, the newest entry first; `after` is the last of the page before."""
    records: list[Record] = []
    position: Position | None = (entry_order(after.id), after.id) if after else None
    while len(records) < count:
        size = count - len(records)
        rows = _page(connection, wanted, size, position)
        records += readable_records((one, document if _is_id(one) else b"") for one, document, _ in rows)
        if len(rows) < size:
            break
        position = rows[-1][2], rows[-1][0]
    return records


def _page(
    connection: sqlite3.Connection, wanted: RecordFilter, count: int, position: Position | None
) -> list[tuple[str, str, str]]:
    where, values = condition(connection, wanted, by_state=_are_few(connection, wanted.state))
    if position:
        order, last = position
        if _is_id(last) and _is_id(order):  # compared as it is, or the index would be read from its beginning
            where += f" AND {ENTRY_ORDER} <= ? AND ({ENTRY_ORDER} < ? OR id < ?)"
            values += [order, order, last]
        else:  # as it came out of the file: the ID of a row that somebody else wrote may be no UTF-8, or a blob
            place = "CAST(? AS TEXT)"
            where += f" AND {ENTRY_ORDER} <= {place} AND ({ENTRY_ORDER} < {place} OR id < "
            where += f"{place})" if isinstance(last, str) else "?)"
            values += [_raw(order), _raw(order), _raw(last)]
    return connection.execute(
        f"SELECT id, document, {ENTRY_ORDER} FROM records WHERE {where} "  # noqa: S608
        f"ORDER BY {ENTRY_ORDER} DESC, id DESC LIMIT ?",
        (*values, count),
    ).fetchall()


def _are_few(connection: sqlite3.Connection, states: Sequence[str]) -> bool:
    """Tell whether so few records are in these states that all are sorted sooner than the newest are looked through."""
    places = ", ".join("?" * len(states))
    statement = f"SELECT count(*) FROM (SELECT 1 FROM records WHERE state IN ({places}) LIMIT ?)"  # noqa: S608
    (found,) = connection.execute(statement, (*states, FEW + 1)).fetchone()
    return bool(found <= FEW)


def count(connection: sqlite3.Connection, wanted: RecordFilter, stop_at: int | None = None) -> int:
    """Count the matching records, up to a number: of 100,000 it takes a second to count those that have a word."""
    where, values = condition(connection, wanted)
    limit = -1 if stop_at is None else stop_at
    counting = f"SELECT count(*) FROM (SELECT 1 FROM records WHERE {where} LIMIT ?)"  # noqa: S608
    (found,) = connection.execute(counting, (*values, limit)).fetchone()
    return int(found)


def counts(connection: sqlite3.Connection, now: dt.datetime) -> Counts:
    """Count the records by state, and the overdue retries."""
    late = _microseconds(now - dt.timedelta(seconds=OVERDUE_S))
    with snapshot(connection):
        by_state = connection.execute("SELECT state, count(*) FROM records GROUP BY state").fetchall()
        of_canaries = connection.execute(
            f"SELECT state, -count(*) FROM records WHERE {CANARY} GROUP BY state"  # noqa: S608
        ).fetchall()
        (overdue,) = connection.execute(
            f"SELECT count(*) FROM records WHERE state = 'retrying' AND next_attempt_us < ? AND NOT {CANARY}",  # noqa: S608
            (late,),
        ).fetchone()
        (in_doubt,) = connection.execute(
            f"SELECT count(*) FROM records WHERE {IN_DOUBT} AND NOT {CANARY}"  # noqa: S608
        ).fetchone()
    counted: Counter[str] = Counter()
    for state, count in (*by_state, *of_canaries):
        counted[state if isinstance(state, str) else repr(state)] += count
    return Counts(+counted, overdue, in_doubt)


def waiting(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the records that wait for a retry, by the channel that it goes through."""
    return dict(
        connection.execute(
            f"""SELECT json_extract(channel.value, '$.name') AS name, count(*)
            FROM records, json_each(iif(json_valid(document), document, '{{}}'), '$.delivery.channels') AS channel
            WHERE records.state = 'retrying' AND NOT {CANARY} AND channel.type = 'object'
            AND json_extract(channel.value, '$.state') = 'retrying' AND typeof(name) = 'text'
            GROUP BY name"""  # noqa: S608
        ).fetchall()
    )


def vitals(connection: sqlite3.Connection) -> Vitals:
    """Look for the oldest record that waits, and count repeated `alert_id`s."""
    with snapshot(connection):
        oldest_first = connection.execute(
            f"""SELECT json_extract(document, '$.delivery.first_at') AS first_at FROM records
            WHERE state IN ('sending', 'retrying', 'waiting', 'in_doubt') AND NOT {CANARY} AND json_valid(document)
            AND typeof(first_at) = 'text' AND julianday(first_at) IS NOT NULL ORDER BY julianday(first_at)"""  # noqa: S608
        )
        oldest = next(filter(None, (_moment(first_at) for (first_at,) in oldest_first)), None)
        (repeated,) = connection.execute("SELECT count(alert_id) - count(DISTINCT alert_id) FROM records").fetchone()
    return Vitals(oldest, repeated)


def lenient_text(raw: bytes) -> str:
    """Read a text that somebody may have written in another encoding: one such value is no fault of the database."""
    return raw.decode(errors="surrogateescape")


def _raw(value: str | bytes) -> bytes:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def _is_id(value: object) -> bool:
    """Tell whether the ID of a row can be anybody's: a blob, or text that is no UTF-8, belongs to no entry."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


# --- columns ---------------------------------------------------------------------------------------------------------


class _Keys(msgspec.Struct, frozen=True):
    """What filters look at. All may be missing: the record of a quarantined entry has no alert."""

    view: str | None = None
    scope: str | None = None
    severity: str | None = None
    rule_id: str | None = None
    alert_id: str | None = None
    occurred_at: Timestamp | None = None


_KEYS = msgspec.json.Decoder(_Keys)


def _moment(text: str) -> dt.datetime | None:
    try:
        return msgspec.convert(text, Timestamp)
    except msgspec.ValidationError:
        return None


def _microseconds(moment: dt.datetime | None) -> int | None:
    return None if moment is None else microseconds(moment)
