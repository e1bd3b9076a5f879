"""Deleting old records from an SQLite file, and counting them in the same transaction. Blocking code."""

import sqlite3
from collections.abc import Callable, Sequence

from trio_alerts.backends.sqlite.conditions import CANARY
from trio_alerts.backends.sqlite.schema import ENTRY_ORDER
from trio_alerts.errors import NewerRecord, RefusedContent
from trio_alerts.ports.store import Pruned
from trio_alerts.record import Record
from trio_alerts.record_ids import entry_order, order
from trio_alerts.retention import SETTLED

# Made when there is something to keep in it, also in a file of an older release.
_TABLE = """CREATE TABLE IF NOT EXISTS retention (
    stream TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    before TEXT NOT NULL
)"""
SPARE = 4  # of the file's pages one in so many may be free: new records take them, and need not make the file longer
VACUUMED_PAGES = 128  # a step: 0.5 MB, as much as its records had


def old(connection: sqlite3.Connection, stream: str, before: str, count: int, after: str) -> list[str]:
    """Return one page of a stream's records that may be settled, the oldest first."""
    states = ", ".join("?" * len(SETTLED))
    rows = connection.execute(
        f"""SELECT id FROM records INDEXED BY records_by_entry
        WHERE {ENTRY_ORDER} > ? AND {ENTRY_ORDER} < ? AND state IN ({states}) AND NOT {CANARY}
        AND json_extract(iif(json_valid(document), document, '{{}}'), '$.stream') = ?
        ORDER BY {ENTRY_ORDER} LIMIT ?""",  # noqa: S608
        (entry_order(after) if after else "", entry_order(before), *sorted(SETTLED), stream, count),
    ).fetchall()
    return [record_id for (record_id,) in rows if isinstance(record_id, str)]


def raise_before(connection: sqlite3.Connection, stream: str, before: str) -> None:
    """Keep up to which entry records may be gone; in a transaction."""
    connection.execute(_TABLE)
    there = pruned(connection).get(stream, Pruned(0, before))
    highest = max(there.before, before, key=order)  # it never falls, however clocks are set
    connection.execute("INSERT OR REPLACE INTO retention VALUES (?, ?, ?)", (stream, there.count, highest))


def may_go(
    connection: sqlite3.Connection, record_ids: Sequence[str], settled: Callable[[Record], bool]
) -> list[tuple[str, int]]:
    """Return those of these records that are settled, with their versions."""
    places = ", ".join("?" * len(record_ids))
    found = connection.execute(
        f"SELECT id, version, document FROM records WHERE id IN ({places})",  # noqa: S608
        record_ids,
    ).fetchall()
    return [(record_id, version) for record_id, version, document in found if _is_settled(record_id, document, settled)]


def prune(connection: sqlite3.Connection, stream: str, versions: Sequence[tuple[str, int]]) -> int:
    """Delete the records that are still of these versions, and count them; in a transaction."""
    ids, pairs = ", ".join(["?"] * len(versions)), ", ".join(["(?, ?)"] * len(versions))
    count = connection.execute(  # without the IDs by themselves it would go through all records
        f"DELETE FROM records WHERE id IN ({ids}) AND (id, version) IN (VALUES {pairs})",  # noqa: S608
        [*(record_id for record_id, _ in versions), *(value for version in versions for value in version)],
    ).rowcount
    connection.execute("UPDATE retention SET count = count + ? WHERE stream = ?", (count, stream))
    return count


def pruned(connection: sqlite3.Connection) -> dict[str, Pruned]:
    """Return what was deleted, by stream."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'retention'").fetchone() is None:
        return {}
    rows = connection.execute("SELECT stream, count, before FROM retention").fetchall()
    return {stream: Pruned(count, before) for stream, count, before in rows}


def make_shorter(connection: sqlite3.Connection) -> None:
    """Give a part of the file's free pages back, if they are many; only a file with `auto_vacuum` can.

    We make none such: it costs 2.5 µs an alert, 7 % of the store's part.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if (spare := free - pages // SPARE) > 0:
        # It gives back one page a step, and without columns `execute` makes one step only.
        connection.executescript(f"PRAGMA incremental_vacuum({min(spare, VACUUMED_PAGES)})")


def _is_settled(record_id: str, document: str | bytes, settled: Callable[[Record], bool]) -> bool:
    try:
        return settled(Record.from_json(record_id, document))
    except (NewerRecord, RefusedContent):
        return False
