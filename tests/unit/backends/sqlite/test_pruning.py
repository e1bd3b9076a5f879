"""Old records leave an SQLite file: in one transaction with their count, and their room is used again or given back."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.contracts.retention import BEFORE, STREAM
from tests.contracts.store import delivered, record
from trio_alerts.backends.sqlite import database as database_module
from trio_alerts.backends.sqlite import pruning, store
from trio_alerts.backends.sqlite.database import SqliteDatabase
from trio_alerts.backends.sqlite.rows import write_of
from trio_alerts.backends.sqlite.store import SqliteStore

RECORDS = 2_000
LARGE = "x" * 2_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    """A prepared file that keeps count of one stream."""
    database = SqliteDatabase(path, timeout_s=5)
    database.prepare()
    database.raise_pruned_before(STREAM, BEFORE)
    yield database
    database.close()


def fill(database: SqliteDatabase, first: int = 0) -> list[str]:
    records = [delivered(record(number, description=LARGE)) for number in range(first, first + RECORDS)]
    database.write([write_of(one, None) for one in records])
    return [one.id for one in records]


def prune(database: SqliteDatabase, record_ids: list[str]) -> int:
    steps = [record_ids[start : start + 100] for start in range(0, len(record_ids), 100)]
    count = 0
    for step in steps:
        versions = database.read(partial(pruning.may_go, record_ids=step, settled=lambda _: True))
        count += database.prune(STREAM, versions)
        database.make_shorter()
    return count


def pages(database: SqliteDatabase) -> int:
    (count,) = database.read(lambda connection: connection.execute("PRAGMA page_count").fetchone())
    return int(count)


def count_without_log(path: Path) -> int:
    """Count the records that are in the file itself."""
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    connection = sqlite3.connect(copy)
    (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
    connection.close()
    return int(count)


def test_a_file_gets_shorter(database: SqliteDatabase, path: Path) -> None:
    """One with `auto_vacuum`: with most records gone, most of its pages go, in steps; some stay for new records."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("VACUUM")
    connection.close()
    database.guard()
    ids = fill(database)
    full = pages(database)
    assert RECORDS == prune(database, ids)
    left = pages(database)
    (free,) = database.read(lambda connection: connection.execute("PRAGMA freelist_count").fetchone())
    assert left < full / 2
    assert 0 < free


def test_new_records_take_the_room_of_deleted_ones(database: SqliteDatabase) -> None:
    """A file whose records go as fast as they come does not grow, and without `auto_vacuum` stays as it is."""
    ids = fill(database)
    full = pages(database)
    prune(database, ids)
    assert full == pages(database)
    ids = fill(database, 9 * RECORDS)
    for number in range(1, 4):
        prune(database, ids)
        ids = fill(database, number * RECORDS)
    assert pages(database) <= full * 1.1


def test_what_is_deleted_and_what_is_counted_are_one_transaction(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full when it is counted, nothing is deleted."""
    ids = fill(database)[:10]

    def fails(connection: sqlite3.Connection, *arguments: object) -> int:
        real(connection, *arguments)  # type: ignore[arg-type]
        raise sqlite3.OperationalError("database or disk is full")

    real = pruning.prune
    monkeypatch.setattr(pruning, "prune", fails)
    with pytest.raises(sqlite3.OperationalError):
        prune(database, ids)
    monkeypatch.undo()
    assert 0 == database.read(pruning.pruned)[STREAM].count
    assert 10 == prune(database, ids)
    assert 10 == database.read(pruning.pruned)[STREAM].count


async def test_what_is_pruned_does_not_wait_in_the_log(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied into the file after some steps; else the write after many would wait for all of them."""
    monkeypatch.setattr(store, "LONG_LOG_PAGES", RECORDS / 2 - 1)

    async def reach(_: str) -> None:
        await trio.lowlevel.checkpoint()

    ids = fill(database)
    async with log_copied(tested := SqliteStore(database), monkeypatch):
        for step in range(2):
            taken = ids[step * RECORDS // 4 : (step + 1) * RECORDS // 4]
            assert RECORDS // 4 == await tested.prune(STREAM, taken, lambda _: True, reach)
    assert RECORDS / 2 == count_without_log(path)


async def test_what_is_written_does_not_wait_in_the_log(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied into the file when the log is half as long as what makes a write copy it."""
    monkeypatch.setattr(store, "LONG_LOG_PAGES", 100)
    tested = SqliteStore(database)
    async with log_copied(tested, monkeypatch), trio.open_nursery() as nursery:
        nursery.start_soon(tested.writes.run)
        for number in range(15):
            await tested.create(delivered(record(number, description=LARGE)))
        nursery.cancel_scope.cancel()
    assert 15 == count_without_log(path)


@asynccontextmanager
async def log_copied(tested: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Run the task that copies the log, and leave when it has done so once."""
    copied = trio.Event()

    def copy_log(connection: sqlite3.Connection) -> None:
        database_module.copy_log(connection)
        trio.from_thread.run_sync(copied.set)

    monkeypatch.setattr(store, "copy_log", copy_log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tested.keep_log_short)
        yield
        with trio.fail_after(10):
            await copied.wait()
        nursery.cancel_scope.cancel()


def test_old_records_are_found_by_an_index(database: SqliteDatabase) -> None:
    """However many records there are, a page of the oldest is read from where it begins."""
    fill(database)
    statements: list[str] = []
    database.read(lambda connection: connection.set_trace_callback(statements.append))
    database.read(lambda connection: pruning.old(connection, STREAM, BEFORE, 10, record(7).id))
    (statement,) = [one for one in statements if "SELECT id FROM records" in one]
    plan = database.read(lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall())
    assert ["SEARCH records USING INDEX records_by_entry (<expr>>? AND <expr><?)"] == [row[3] for row in plan]


def test_they_are_deleted_by_their_ids(database: SqliteDatabase) -> None:
    """A step looks at its records, not at all that there are."""
    statements: list[str] = []
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.set_trace_callback(statements.append)
    pruning.prune(connection, STREAM, [(record(1).id, 1), (record(2).id, 1)])
    (statement,) = [one for one in statements if one.startswith("DELETE")]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()]
    connection.close()
    assert "SEARCH records USING INDEX sqlite_autoindex_records_1 (id=?)" == plan[0]
