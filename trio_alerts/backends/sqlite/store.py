"""The embedded store: an `AlertStore` in one SQLite file, for the demo, small installations and tests.

Writes of many tasks share a transaction, and so one fsync (group commit). A transaction runs in a thread and is
never abandoned: a caller that is cancelled, or times out, stops waiting for it; it still ends as a whole.

A call into a thread by anyio takes 11 µs of CPU more than one by trio (80 and 69 µs), but it serves a whole batch: with
512 workers there are 24 calls for 12,000 writes, and no difference can be measured (52 and 51 µs an alert).
"""

import datetime as dt
import math
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import trio
from anyio import CapacityLimiter, to_thread

from trio_alerts.backends.background import running
from trio_alerts.backends.sqlite import pruning, rows
from trio_alerts.backends.sqlite.database import SqliteDatabase, copy_log
from trio_alerts.backends.sqlite.rows import RowWrite, write_of
from trio_alerts.batcher import Batcher
from trio_alerts.errors import SchemaError, StartError, Unavailable
from trio_alerts.ports.store import Conflict, Counts, Due, Pruned, RecordFilter, Stored, Vitals
from trio_alerts.record import Record

MAX_BATCH_ITEMS = 1024  # about 20 ms of work: what a lone write may have to wait for
MAX_BATCH_BYTES = 8 * 1024 * 1024
READERS = 4  # a long search leaves room for reads by ID
LONG_LOG_PAGES = 4096  # half of what makes a write copy the log
PAGES_OF_A_BATCH = 6  # besides one for each of its records: a batch of 30 writes takes 41 pages of the log
LATE_S = 1.0  # how late a busy machine may be with what the work itself says when its time is up
# A transaction gives up the interpreter lock a few times, and beside a busy loop each way back takes up to this long.
# With Python's own 5 ms, 512 workers do 7 % fewer alerts/s.
SWITCH_INTERVAL_S = 0.0001
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # a full disk, a lock, a moved file are outages

T = TypeVar("T")


@asynccontextmanager
async def open_sqlite_store(path: str | Path, timeout_s: float = 10.0) -> AsyncIterator["SqliteStore"]:
    """Open the store for as long as the block runs; nothing is created before `prepare`.

    Args:
        path: The database file; its directory must exist.
        timeout_s: The bound of every method's waiting.

    Raises:
        StartError: The file cannot be used; the message names it and the reason. What the block raises comes out
            as it is, not in an exception group.

    Cancellation: the transaction under way is waited for, up to `timeout_s`, before the file is closed.
    """
    store = SqliteStore(SqliteDatabase(Path(path), timeout_s))
    switch_interval_s = sys.getswitchinterval()
    try:
        await store.open()
        sys.setswitchinterval(min(switch_interval_s, SWITCH_INTERVAL_S))
        async with running(store.writes.run, store.keep_log_short):
            yield store
    finally:
        sys.setswitchinterval(switch_interval_s)
        with trio.move_on_after(timeout_s, shield=True):
            await store.close()


class SqliteStore:
    """An `AlertStore`; made by `open_sqlite_store`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._writing = CapacityLimiter(1)
        self._reading = CapacityLimiter(READERS)
        self._log_pages = 0
        self._log_is_long = trio.Event()
        self.writes = Batcher[RowWrite, Stored | Conflict](
            self._flush,
            max_items=MAX_BATCH_ITEMS,
            max_bytes=MAX_BATCH_BYTES,
            size_of=lambda write: write.size,
            patience_s=database.timeout_s,
        )

    def __repr__(self) -> str:
        """Tell the live state."""
        return f"<SqliteStore {self._database.path}: {self.writes!r}, {self._reading.borrowed_tokens} reading>"

    async def open(self) -> None:
        """Look whether the file can be used, if it exists."""
        await self._starting(self._database.open)

    async def prepare(self) -> None:
        await self._starting(self._database.prepare, math.inf)  # an upgrade takes as long as it takes

    async def inspect(self) -> list[str]:
        return await self._starting(self._database.inspect)

    async def deployment(self) -> str | None:
        return await self._run(self._database.deployment, self._reading)

    async def keep_deployment(self, identity: str) -> str:
        return await self._run(lambda: self._database.keep_deployment(identity), self._writing)

    async def replace_deployment(self, identity: str) -> None:
        await self._run(lambda: self._database.replace_deployment(identity), self._writing)

    async def guard(self) -> None:
        await self._run(self._database.guard, self._reading)

    async def keep_log_short(self) -> None:
        """Have the log copied into the file whenever it has grown by much, while others write on, until cancelled.

        Else a write that fills it copies all of it, 30 to 60 ms, and others wait behind it.

        Raises:
            SchemaError: The file is damaged.
        """
        while True:
            await self._log_is_long.wait()
            self._log_is_long, self._log_pages = trio.Event(), 0
            with suppress(Unavailable):  # whoever writes next meets what keeps the log from being copied
                await self._read(copy_log)

    async def create(self, record: Record) -> Stored | Conflict:
        return await self.writes.submit(write_of(record, None))

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        return await self.writes.submit(write_of(record, version[0]), held=True)

    async def remove(self, record_id: str) -> None:
        await self._run(lambda: self._database.remove(record_id), self._writing)

    async def get(self, record_id: str) -> Stored | None:
        return await self._read(lambda connection: rows.get(connection, record_id))

    async def due(self, now: dt.datetime, count: int, after: Due | None = None, *, ahead_s: float = 0.0) -> list[Due]:
        until = now + dt.timedelta(seconds=ahead_s)
        return await self._read(lambda connection: rows.due(connection, now, until, count, after))

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        return await self._read(lambda connection: rows.search(connection, wanted, count, after))

    async def count(self, wanted: RecordFilter, stop_at: int | None = None) -> int:
        return await self._read(lambda connection: rows.count(connection, wanted, stop_at))

    async def counts(self, now: dt.datetime) -> Counts:
        return await self._read(lambda connection: rows.counts(connection, now))

    async def waiting(self) -> Mapping[str, int]:
        return await self._read(rows.waiting)

    async def vitals(self) -> Vitals:
        return await self._read(rows.vitals)

    async def old(self, stream: str, before: str, count: int, after: str = "") -> list[str]:
        return await self._read(lambda connection: pruning.old(connection, stream, before, count, after))

    async def raise_pruned_before(self, stream: str, before: str) -> None:
        await self._run(lambda: self._database.raise_pruned_before(stream, before), self._writing)

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        if not record_ids:
            return 0
        versions = await self._read(lambda connection: pruning.may_go(connection, record_ids, settled))
        if not versions:
            return 0
        await reach("before_prune")
        count = await self._run(lambda: self._database.prune(stream, versions), self._writing)
        self._log_grew(count)
        await reach("after_prune")
        await self._run(self._database.make_shorter, self._writing)  # apart, so that other writes need not wait for it
        return count

    async def pruned(self) -> Mapping[str, Pruned]:
        return await self._read(pruning.pruned)

    async def close(self) -> None:
        """Wait for the threads that were not waited for, and close the file."""
        for limiter in (self._writing, self._reading):
            for _ in range(math.ceil(limiter.total_tokens)):
                await limiter.acquire_on_behalf_of(object())
        await to_thread.run_sync(self._database.close)

    async def _flush(self, writes: Sequence[RowWrite]) -> list[Stored | Conflict]:
        results = await self._run(lambda: self._database.write(writes), self._writing)
        self._log_grew(len(writes) + PAGES_OF_A_BATCH)
        return results

    def _log_grew(self, pages: int) -> None:
        self._log_pages += pages
        if self._log_pages > LONG_LOG_PAGES:
            self._log_is_long.set()

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(lambda: self._database.read(query), self._reading)

    async def _starting(self, work: Callable[[], T], within_s: float | None = None) -> T:
        try:
            return await self._run(work, self._writing, within_s)
        except Unavailable as fault:
            raise StartError(str(fault)) from None

    async def _run(self, work: Callable[[], T], limiter: CapacityLimiter, within_s: float | None = None) -> T:
        """Run blocking work in a thread, and wait for it no longer than the time-out, or `within_s`.

        The thread itself is never stopped: a transaction ends as a whole, a search by its own deadline, and the
        limiter admits no other before.
        """
        path, timeout_s = self._database.path, self._database.timeout_s
        try:
            # The work gives up by itself after `timeout_s`, with a better reason.
            with trio.fail_after(within_s or timeout_s + max(timeout_s / 2, LATE_S)):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
        except trio.TooSlowError:
            raise Unavailable(f"SQLite store {path}: no answer within {timeout_s:g} s") from None
        except (sqlite3.Error, OSError) as fault:
            if getattr(fault, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
                raise SchemaError(
                    f"SQLite store {path}: the file is damaged ({fault}), and waiting does not help. Stop every "
                    f"process and keep a copy of {path}*; then restore a backup, or save what can be read: "
                    f"sqlite3 {path} .recover | sqlite3 {path}.recovered"
                ) from None
            raise Unavailable(f"SQLite store {path}: {fault}") from None
