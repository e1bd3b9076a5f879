"""The SQLite file: its connections, locks and transactions. Blocking code; `store.py` puts it on threads."""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from loguru import logger

from trio_alerts.backends.sqlite import pruning, schema
from trio_alerts.backends.sqlite.rows import RowWrite, lenient_text, put, ready_to_write
from trio_alerts.errors import SchemaError
from trio_alerts.ports.store import Conflict, Stored

OLDEST_SQLITE = (3, 32, 0)  # of May 2020: the first that takes 32,766 parameters and knows iif()
CHECKPOINT_PAGES = 8192  # 32 MiB of log, which a restart reads in 0.1 s; the store has it copied long before
LOCK_POLL_S = 0.001  # SQLite's own waiting backs off to 100 ms, and so a busy peer could starve us
_PROGRESS_STEPS = 100_000  # about 1 ms of work between two looks at the deadline

T = TypeVar("T")


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
        with self._reading() as reader, schema.snapshot(reader):
            schema.refuse_foreign(reader, self.path)  # before the first byte is changed
        self._patiently(lambda: writer.execute("PRAGMA journal_mode = WAL").fetchone())
        with self._transaction() as connection:
            schema.refuse_foreign(connection, self.path)  # a peer may have created it since
            if 0 < (version := schema.user_version(connection)) < schema.SCHEMA_VERSION:
                logger.warning(
                    "upgrading {path} from schema {from_schema} to {to_schema}, which takes about 5 s a GB",
                    path=self.path,
                    from_schema=version,
                    to_schema=schema.SCHEMA_VERSION,
                )
            schema.create(connection)
        self.guard()

    def inspect(self) -> list[str]:
        """Tell what `prepare` would create; changes nothing.

        Raises:
            SchemaError: See `prepare`.
        """
        if self.path.exists():
            with self._reading() as connection, schema.snapshot(connection):
                schema.refuse_foreign(connection, self.path)
                ours = schema.user_version(connection)
                older = f"would upgrade {self.path} from schema {ours}: stop all processes of the older version first"
                missing = schema.missing_indices(connection)
            if ours:
                self.guard(missing)
                lines = [f"would add the index {name} to {self.path}" for name in missing]
                return [older, *lines] if ours < schema.SCHEMA_VERSION else lines
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
        with self._reading() as connection, schema.snapshot(connection):
            schema.check(connection, self.path, to_be_added)

    def deployment(self) -> str | None:
        """Return the identity of the deployment that the file belongs to, if it has one."""
        if not self.path.exists():
            return None
        with self._reading() as connection, schema.snapshot(connection):
            schema.refuse_foreign(connection, self.path)
            return schema.owner(connection)

    def keep_deployment(self, identity: str) -> str:
        """Keep an identity, unless there is one; return the one that is kept."""
        if (kept := self.deployment()) is not None:
            return kept
        with self._transaction() as connection:
            schema.set_owner(connection, identity, replace=False)
            return schema.owner(connection) or identity

    def replace_deployment(self, identity: str) -> None:
        """Write another identity over the one that is kept."""
        with self._transaction() as connection:
            schema.set_owner(connection, identity, replace=True)

    def write(self, writes: Sequence[RowWrite]) -> list[Stored | Conflict]:
        """Do conditional writes, as if one after the other in their order, in one durable transaction."""
        if not self._still_ours():
            raise FileNotFoundError("the file was moved or replaced while it was open")
        writer = self._writing("rw")
        if self._patiently(lambda: put(writer, writes)):
            return [write.stored for write in writes]
        with self._transaction() as connection:
            return [write.stored if put(connection, [write]) else Conflict() for write in writes]

    def remove(self, record_id: str) -> None:
        """Remove a record, if it is there."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM records WHERE id = ?", (record_id,))

    def raise_pruned_before(self, stream: str, before: str) -> None:
        """Keep up to which entry records may be gone."""
        with self._transaction() as connection:
            pruning.raise_before(connection, stream, before)

    def prune(self, stream: str, versions: Sequence[tuple[str, int]]) -> int:
        """Delete records that are still of these versions, and count them, in one durable transaction."""
        with self._transaction() as connection:
            return pruning.prune(connection, stream, versions)

    def make_shorter(self) -> None:
        """Give some of what is free in the file back, if that is much, and the file was made so that it can be."""
        writer = self._writing("rw")
        self._patiently(lambda: pruning.make_shorter(writer))

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that ends by the time-out."""
        with self._reading() as connection:
            return query(connection)

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
            writer = self._connect(mode)
            try:
                ready_to_write(writer)  # it reads the schema, and so may have to wait
                writer.execute("PRAGMA busy_timeout = 0")  # `_patiently` waits instead
            except sqlite3.Error:
                writer.close()
                raise
            self._writer = writer
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
            connection.text_factory = lenient_text
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

    def _patiently(self, action: Callable[[], T]) -> T:
        """Repeat what another process's lock keeps us from, until the time is up."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return action()
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)


def copy_log(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, as far as no reader needs the older state; nobody waits for it."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
