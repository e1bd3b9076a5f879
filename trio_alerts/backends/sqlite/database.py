"""The SQLite file: its schema, statements and transactions. Blocking code; `sqlite_store.py` puts it on threads.

Python's sqlite3 gives up the interpreter lock at every step of every statement, and beside a busy event loop each way
back can cost milliseconds. So a batch of any size takes a handful of statements, each for up to `ROWS_PER_STATEMENT`
rows and with its condition in it. Their counts tell whether all were met; if not, the batch is undone and done again
row by row, which shows whose were not.
"""

import datetime as dt
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from trio_alerts.backends.stored_records import due_record, readable_records
from trio_alerts.errors import RefusedContent, SchemaError
from trio_alerts.exact_json import Timestamp
from trio_alerts.ports.store import Conflict, Counts, Due, RecordFilter, Stored, Vitals
from trio_alerts.record import Record, unreadable
from trio_alerts.record_ids import entry_order

APPLICATION_ID = 0x7A1E7257  # marks the file as ours; any other number is somebody else's database
SCHEMA_VERSION = 1
# A record's place among others, as `entry_order` computes it. Its ID is two numbers of up to 64 bits with a dash
# between them, behind a stream's name and a bar if there are several.
_ENTRY_ID = "substr(id, length(rtrim(id, '0123456789-')) + 1)"
_DASH = f"instr({_ENTRY_ID}, '-')"
ENTRY_ORDER = (
    f"substr('{'0' * 20}' || substr({_ENTRY_ID}, 1, {_DASH} - 1), -20) || '-' || "
    f"substr('{'0' * 20}' || substr({_ENTRY_ID}, {_DASH} + 1), -20)"
)
SCHEMA = {
    "records": """CREATE TABLE records (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    next_attempt_us INTEGER,
    lease_until_us INTEGER,
    view TEXT,
    scope TEXT,
    severity TEXT,
    rule_id TEXT,
    alert_id TEXT,
    occurred_us INTEGER,
    document TEXT NOT NULL
)""",
    "records_by_state": "CREATE INDEX records_by_state ON records (state, next_attempt_us)",
    "records_waiting": """CREATE INDEX records_waiting ON records (id, state, next_attempt_us, lease_until_us)
    WHERE state IN ('retrying', 'sending')""",
    "records_by_entry": f"CREATE INDEX records_by_entry ON records ({ENTRY_ORDER})",
}  # no index on what only people filter by: each would add a tenth to every write, and a search reads newest first
LARGEST_VERSION = 2**62  # a million years of microseconds: only somebody else writes a larger one
# Whose file it is: one row at most. Made when there is something to keep in it, also in a file of an older release.
DEPLOYMENT = """CREATE TABLE IF NOT EXISTS deployment (
    row INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
    identity TEXT NOT NULL
)"""
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024  # a payload has 256 KiB at most; SQLite itself takes 1 GB
ROWS_PER_STATEMENT = 64  # with 12 parameters a row: below the 999 that every SQLite takes
OLDEST_SQLITE = (3, 33, 0)  # of August 2020: the first that knows UPDATE FROM
CHECKPOINT_PAGES = 8192  # 32 MiB of log: a hot page is copied back once for many commits, a restart reads it in 0.1 s
LOCK_POLL_S = 0.001  # SQLite's own waiting backs off to 100 ms, and so a busy peer could starve us
OVERDUE_S = 60
_PROGRESS_STEPS = 100_000  # about 1 ms of work between two looks at the deadline


@dataclass(frozen=True, slots=True)
class Write:
    """One conditional write.

    Args:
        expected: The version to replace; None to create.
        row: The values of all columns.
        stored: The answer, if the record is as expected.
        size: In characters.
    """

    expected: int | None
    row: tuple[str | int | None, ...]
    stored: Stored
    size: int


def write_of(record: Record, expected: int | None) -> Write:
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
    return Write(expected, row, Stored(record, (version, 1)), len(document))


class SqliteDatabase:
    """One SQLite file: one connection that writes, and any number that read.

    Every method blocks; at most one thread writes at a time, and a reading connection belongs to one thread at a time.

    Args:
        path: The file.
        timeout_s: How long a method waits for other processes' locks, and how long a search may run.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._file: tuple[int, int] | None = None
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []

    def open(self) -> None:
        """Look whether the file, if there is one, is a database that we can open; creates and changes nothing."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise OSError(f"this Python has SQLite {sqlite3.sqlite_version}; {needed} or newer is needed")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the directory {self.path.parent} does not exist")
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise PermissionError("no permission to write there")
        if self.path.exists():
            with self._reading() as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def prepare(self) -> None:
        """Create what is missing, then compare.

        Raises:
            SchemaError: The file belongs to another program or to another version.
        """
        writer = self._writing("rwc")
        with self._reading() as reader, _snapshot(reader):
            self._refuse_foreign(reader)  # before the first byte is changed
        self._patiently(lambda: writer.execute("PRAGMA journal_mode = WAL").fetchone())
        with self._transaction() as connection:
            self._refuse_foreign(connection)  # a peer may have created it since
            new = not _user_version(connection)
            for name in SCHEMA if new else _missing_indices(connection):  # an older release knew fewer
                connection.execute(SCHEMA[name])
            if new:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.guard()

    def inspect(self) -> list[str]:
        """Tell what `prepare` would create; changes nothing.

        Raises:
            SchemaError: See `prepare`.
        """
        if self.path.exists():
            with self._reading() as connection, _snapshot(connection):
                self._refuse_foreign(connection)
                ours = _user_version(connection)
                missing = _missing_indices(connection)
            if ours:
                self.guard(missing)
                return [f"would add the index {name} to {self.path}" for name in missing]
        return [f"the database {self.path} would be created"]

    def guard(self, to_be_added: Collection[str] = ()) -> None:
        """Compare the file with what we need; changes nothing. What is `to_be_added` may be missing.

        Raises:
            SchemaError: It is missing, was replaced, or is not as we made it.
        """
        if not self.path.exists():
            raise SchemaError(f"{self.path}: there is no such database; `run` creates it")
        if not self._still_ours():
            raise SchemaError(f"{self.path}: the file was moved or replaced while it was open; restart")
        with self._reading() as connection, _snapshot(connection):
            self._refuse_foreign(connection)
            found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
            (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        for name, sql in SCHEMA.items():
            if found.get(name) != sql and name not in to_be_added:
                was = found.get(name, "missing")
                raise SchemaError(f"{self.path}: {name} is not as this program made it: it is {was}, must be {sql}")
        if journal != "wal":
            raise SchemaError(f"{self.path}: journal_mode is {journal}, must be wal: PRAGMA journal_mode = WAL")

    def deployment(self) -> str | None:
        """Return the identity of the deployment that the file belongs to, if it has one."""
        if not self.path.exists():
            return None
        with self._reading() as connection, _snapshot(connection):
            self._refuse_foreign(connection)
            return _owner(connection)

    def keep_deployment(self, identity: str) -> str:
        """Keep an identity, unless there is one; return the one that is kept."""
        if (kept := self.deployment()) is not None:
            return kept
        with self._transaction() as connection:
            connection.execute(DEPLOYMENT)
            connection.execute("INSERT INTO deployment VALUES (1, ?) ON CONFLICT DO NOTHING", (identity,))
            return _owner(connection) or identity

    def replace_deployment(self, identity: str) -> None:
        """Write another identity over the one that is kept."""
        with self._transaction() as connection:
            connection.execute(DEPLOYMENT)
            connection.execute("INSERT OR REPLACE INTO deployment VALUES (1, ?)", (identity,))

    def write(self, writes: Sequence[Write]) -> list[Stored | Conflict]:
        """Do conditional writes, as if one after the other in their order, in one durable transaction."""
        if not self._still_ours():
            raise FileNotFoundError("the file was moved or replaced while it was open")
        creates = [write for write in writes if write.expected is None]
        replaces = [write for write in writes if write.expected is not None]
        with suppress(_ConflictedError), self._transaction() as connection:
            for chunk in (*_in_chunks(creates), *_in_chunks(replaces)):
                if _put(connection, chunk) < len(chunk):
                    raise _ConflictedError
            return [write.stored for write in writes]
        with self._transaction() as connection:
            return [write.stored if _put(connection, [write]) else Conflict() for write in writes]

    def get(self, record_id: str) -> Stored | None:
        """Read one record."""
        with self._reading() as connection:
            row = connection.execute("SELECT document, version FROM records WHERE id = ?", (record_id,)).fetchone()
        if row is None:
            return None
        document, version = row
        if not isinstance(version, int) or not 0 <= version < LARGEST_VERSION:
            raise unreadable(record_id, "its version is not a number that one can be added to")
        return Stored(Record.from_json(record_id, document), (version, 1))

    def due(self, now: dt.datetime, count: int, after: str) -> list[Due]:
        """Return one page of what waits for an attempt."""
        with self._reading() as connection:
            rows = connection.execute(
                """SELECT id, document FROM records INDEXED BY records_waiting
                WHERE state IN ('retrying', 'sending') AND id > :after AND
                ((state = 'retrying' AND next_attempt_us <= :now) OR (state = 'sending' AND lease_until_us <= :now))
                ORDER BY id LIMIT :count""",
                {"after": after, "now": _microseconds(now), "count": count},
            ).fetchall()
        # What is no text comes last, and has no entry.
        return [due_record(record_id, document, now) for record_id, document in rows if _is_id(record_id)]

    def search(self, wanted: RecordFilter, count: int, after: str) -> list[Record]:
        """Return one page of matching records, the newest entry first; `after` is the last ID of the page before."""
        records: list[Record] = []
        position: tuple[str, str | bytes] | None = (entry_order(after), after) if after else None
        while len(records) < count:
            size = count - len(records)
            rows = self._page(wanted, size, position)
            records += readable_records((one, document if _is_id(one) else b"") for one, document, _ in rows)
            if len(rows) < size:
                break
            position = rows[-1][2], rows[-1][0]
        return records

    def count(self, wanted: RecordFilter) -> int:
        """Count the matching records."""
        where, values = _conditions(wanted)
        with self._reading() as connection:
            (found,) = connection.execute(f"SELECT count(*) FROM records WHERE {where}", values).fetchone()  # noqa: S608
        return int(found)

    def _page(
        self, wanted: RecordFilter, count: int, position: tuple[str, str | bytes] | None
    ) -> list[tuple[str, str, str]]:
        where, values = _conditions(wanted)
        if position:
            # As it came out of the file: the ID of a row that somebody else wrote may be no UTF-8, or a blob.
            order, last = position
            place = "CAST(? AS TEXT)"
            where += f" AND {ENTRY_ORDER} <= {place} AND ({ENTRY_ORDER} < {place} OR id < "
            where += f"{place})" if isinstance(last, str) else "?)"
            values += [_raw(order), _raw(order), _raw(last)]
        with self._reading() as connection:
            return connection.execute(
                f"SELECT id, document, {ENTRY_ORDER} FROM records WHERE {where} "  # noqa: S608
                f"ORDER BY {ENTRY_ORDER} DESC, id DESC LIMIT ?",
                (*values, count),
            ).fetchall()

    def counts(self, now: dt.datetime) -> Counts:
        """Count the records by state, and the overdue retries."""
        late = _microseconds(now - dt.timedelta(seconds=OVERDUE_S))
        with self._reading() as connection, _snapshot(connection):
            by_state = connection.execute("SELECT state, count(*) FROM records GROUP BY state").fetchall()
            (overdue,) = connection.execute(
                "SELECT count(*) FROM records WHERE state = 'retrying' AND next_attempt_us < ?", (late,)
            ).fetchone()
        counted: Counter[str] = Counter()
        for state, count in by_state:
            counted[state if isinstance(state, str) else repr(state)] += count
        return Counts(counted, overdue)

    def waiting(self) -> dict[str, int]:
        """Count the records that wait for a retry, by the channel that it goes through."""
        with self._reading() as connection, _snapshot(connection):
            return dict(
                connection.execute(
                    """SELECT json_extract(channel.value, '$.name') AS name, count(*)
                    FROM records, json_each(iif(json_valid(document), document, '{}'), '$.delivery.channels') AS channel
                    WHERE records.state = 'retrying' AND channel.type = 'object'
                    AND json_extract(channel.value, '$.state') = 'retrying' AND typeof(name) = 'text'
                    GROUP BY name"""
                ).fetchall()
            )

    def vitals(self) -> Vitals:
        """Look for the oldest record that waits, and count repeated `alert_id`s."""
        with self._reading() as connection, _snapshot(connection):
            oldest_first = connection.execute(
                """SELECT json_extract(document, '$.delivery.first_at') AS first_at FROM records
                WHERE state IN ('sending', 'retrying', 'in_doubt') AND json_valid(document)
                AND typeof(first_at) = 'text' AND julianday(first_at) IS NOT NULL ORDER BY julianday(first_at)"""
            )
            oldest = next(filter(None, (_moment(first_at) for (first_at,) in oldest_first)), None)
            (repeated,) = connection.execute(
                "SELECT count(alert_id) - count(DISTINCT alert_id) FROM records"
            ).fetchone()
        return Vitals(oldest, repeated)

    def close(self) -> None:
        """Close all connections; the last process copies the log back into the file and removes it."""
        for connection in (*self._readers, *([self._writer] if self._writer else [])):
            connection.close()
        self._readers.clear()
        self._writer = None

    def _connect(self, mode: str) -> sqlite3.Connection:
        if mode == "rwc":
            # SQLite would take the rights from the umask; it gives the log beside the file those of the file. A file
            # that is there is not opened: closing it would drop the locks of all connections that this process has to
            # it, and the next process to close would take the log for nobody's and remove it, with what we write there.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self.timeout_s,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
        )
        self._file = self._file or _identity(self.path)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _writing(self, mode: str) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect(mode)
            self._writer.execute("PRAGMA busy_timeout = 0")  # `_patiently` waits instead
        return self._writer

    def _still_ours(self) -> bool:
        """Tell whether the path still leads to the file that is open: writes to a removed one would be lost."""
        return self._file is not None and _identity(self.path) == self._file

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose statements end by the deadline."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect("rw")
            connection.text_factory = _text
        deadline = time.monotonic() + self.timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
        try:
            yield connection
        except sqlite3.OperationalError as fault:
            if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise TimeoutError(f"a search took longer than {self.timeout_s:g} s") from None
            raise
        finally:
            self._readers.append(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; commit at the end, undo everything at an exception."""
        writer = self._writing("rw")
        self._patiently(lambda: writer.execute("BEGIN IMMEDIATE"))
        try:
            yield writer
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:  # SQLite itself has undone it after some faults of the disk
                writer.execute("ROLLBACK")
            raise

    def _patiently(self, action: Callable[[], object]) -> None:
        """Repeat what another process's lock keeps us from, until the time is up."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                action()
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)
            else:
                return

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        """Look whose database this is; in a transaction, or a peer that creates it just now looks like a stranger."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        version = _user_version(connection)
        if (application or version or tables) and application != APPLICATION_ID:
            raise SchemaError(f"{self.path}: this database belongs to another program; choose another path")
        if version > SCHEMA_VERSION:
            raise SchemaError(
                f"{self.path}: made by a newer version of this program (schema {version}, this one knows"
                f" {SCHEMA_VERSION}); upgrade, or choose another path"
            )


def _conditions(wanted: RecordFilter) -> tuple[str, list[str | int | bytes]]:
    """Return what follows WHERE, with its values; the names in it are ours."""
    terms = ["true"]
    values: list[str | int | bytes] = []
    for column in ("view", "scope", "severity", "state", "rule_id", "alert_id"):
        alternatives: Sequence[str] = getattr(wanted, column)
        if alternatives:
            terms.append(f"{column} IN ({', '.join('?' * len(alternatives))})")
            values += alternatives
    for term, moment in (("occurred_us >= ?", wanted.since), ("occurred_us < ?", wanted.until)):
        if (value := _microseconds(moment)) is not None:
            terms.append(term)
            values.append(value)
    return " AND ".join(terms), values


class _ConflictedError(Exception):
    """Not every write of a batch met what it expected."""


class _Keys(msgspec.Struct, frozen=True):
    """What filters look at. All may be missing: the record of a quarantined entry has no alert."""

    view: str | None = None
    scope: str | None = None
    severity: str | None = None
    rule_id: str | None = None
    alert_id: str | None = None
    occurred_at: Timestamp | None = None


_KEYS = msgspec.json.Decoder(_Keys)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


_FIXED = ("id", "version", "state", "next_attempt_us", "lease_until_us")
_COLUMNS = (*_FIXED, "view", "scope", "severity", "rule_id", "alert_id", "occurred_us", "document")


def _text(raw: bytes) -> str:
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


def _moment(text: str) -> dt.datetime | None:
    try:
        return msgspec.convert(text, Timestamp)
    except msgspec.ValidationError:
        return None


def _microseconds(moment: dt.datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several reads see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _in_chunks(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """Cut writes of one kind into powers of two, so that a few prepared statements serve every number of them."""
    start = 0
    while start < len(writes):
        size = min(ROWS_PER_STATEMENT, 1 << (len(writes) - start).bit_length() - 1)
        yield writes[start : start + size]
        start += size


def _put(connection: sqlite3.Connection, writes: Sequence[Write]) -> int:
    """Do writes of one kind in one statement; return how many of them met what they expected."""
    statement = (_insert if writes[0].expected is None else _update)(len(writes))
    return connection.execute(statement, [value for write in writes for value in write.row]).rowcount


@cache
def _insert(rows: int) -> str:
    return f"INSERT INTO records VALUES {_values(rows)} ON CONFLICT (id) DO NOTHING"  # noqa: S608


@cache
def _update(rows: int) -> str:
    changes = ", ".join(f"{column} = new.column{number}" for number, column in enumerate(_COLUMNS[1:], 2))
    return f"""UPDATE records SET {changes} FROM (VALUES {_values(rows)}) AS new
        WHERE records.id = new.column1 AND records.version = new.column2 - 1"""  # noqa: S608


def _values(rows: int) -> str:
    return ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * rows)


def _missing_indices(connection: sqlite3.Connection) -> list[str]:
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return [name for name, sql in SCHEMA.items() if sql.startswith("CREATE INDEX") and name not in present]


def _owner(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deployment'").fetchone() is None:
        return None
    row = connection.execute("SELECT identity FROM deployment").fetchone()
    return None if row is None else str(row[0])


def _user_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
