"""The contract on SQLite, and what is SQLite's own: the file, other processes, durability, faults of the disk."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.contracts.retention import RetentionContract
from tests.contracts.store import (
    NOW,
    PATIENCE_S,
    StoreContract,
    TestedStore,
    as_async,
    delivered,
    record,
    retrying,
    sending,
)
from trio_alerts.backends.sqlite import database as sqlite_database
from trio_alerts.backends.sqlite import rows
from trio_alerts.backends.sqlite.database import SqliteDatabase
from trio_alerts.backends.sqlite.rows import write_of
from trio_alerts.backends.sqlite.schema import APPLICATION_ID, ENTRY_ORDER
from trio_alerts.backends.sqlite.store import SqliteStore, open_sqlite_store
from trio_alerts.delivery import Delivery
from trio_alerts.errors import NewerRecord, RefusedContent, SchemaError, StartError, Unavailable
from trio_alerts.pages import Pages
from trio_alerts.ports.store import Conflict, RecordFilter, Stored
from trio_alerts.record import Record
from trio_alerts.record_ids import entry_order


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts #1?.db"  # characters that mean something in a URI


@asynccontextmanager
async def prepared(path: Path, timeout_s: float = 10.0) -> AsyncIterator[SqliteStore]:
    async with open_sqlite_store(path, timeout_s=timeout_s) as store:
        await store.prepare()
        yield store


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    """What the store runs in threads, prepared."""
    database = SqliteDatabase(path, timeout_s=1)
    database.prepare()
    yield database
    database.close()


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Look into the file, or change it, as another program would."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def files(directory: Path) -> dict[str, bytes]:
    """Return what lies in the directory."""
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def newest(database: SqliteDatabase) -> list[Record]:
    """Return the first thousand records of a search for all."""
    return database.read(lambda connection: rows.search(connection, RecordFilter(), 1000))


class TestSqliteStore(StoreContract, RetentionContract):
    """The contract."""

    @pytest.fixture
    async def tested(self, path: Path) -> AsyncIterator[TestedStore]:
        def document(record_id: str) -> bytes:
            [(text,)] = ask(path, f"SELECT document FROM records WHERE id = '{record_id}'")
            return str(text).encode()

        def vanish(record_id: str) -> None:
            ask(path, f"DELETE FROM records WHERE id = '{record_id}'")

        async with prepared(path) as store:
            yield TestedStore(
                store,
                refresh=as_async(lambda: None),  # searches see everything at once
                document=as_async(document),
                vanish=as_async(vanish),
            )


async def test_records_outlive_the_process(path: Path) -> None:
    """What was stored is there after the file was closed and opened again, and preparing again changes nothing."""
    async with prepared(path) as store:
        created = await store.create(record())
    async with prepared(path) as store:
        await store.guard()

        assert created == await store.get(record().id)


async def test_a_commit_is_on_the_disk(path: Path) -> None:
    """The connection that writes waits for the disk at every commit, in a write-ahead log."""
    async with prepared(path) as store:
        writer = store._database._writer
        assert writer is not None

        assert (2,) == writer.execute("PRAGMA synchronous").fetchone()  # FULL
        assert ("wal",) == writer.execute("PRAGMA journal_mode").fetchone()


async def test_gathered_writes_share_a_transaction(path: Path) -> None:
    """512 workers need far fewer commits than writes."""
    async with prepared(path) as store:
        commits: list[int] = []
        write = store._database.write

        def counting(writes: list[rows.RowWrite]) -> list[Stored | Conflict]:
            commits.append(len(writes))
            return write(writes)

        store._database.write = counting  # type: ignore[method-assign,assignment]
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(512):
                    nursery.start_soon(store.create, record(number))

    assert 512 == sum(commits)
    assert len(commits) < 100


async def test_opening_creates_nothing(path: Path) -> None:
    """A look at a store that is not there leaves no file behind, and says what is missing."""
    async with open_sqlite_store(path) as store:
        with pytest.raises(SchemaError, match="no such database"):
            await store.guard()
        with pytest.raises(Unavailable):
            await store.create(record())
        with pytest.raises(Unavailable):
            await store.get(record().id)

    assert {} == files(path.parent)


async def test_what_the_block_raises_comes_out_bare(path: Path) -> None:
    """The store's own nursery puts no exception group around its user's exception."""

    async def fail() -> None:
        async with prepared(path):
            raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="the caller's own"):
        await fail()


def _no_database(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to have a header" * 100)


def _a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "reason", "exit_code"),
    [(_no_database, "the file is damaged.*not a database", 3), (_a_directory, "unable to open|disk I/O", 4)],
)
async def test_an_unusable_file_is_named_at_start(
    make: Callable[[Path], None], reason: str, exit_code: int, path: Path
) -> None:
    """What is no database stops the start with one error that names the path and the reason."""
    make(path)
    with pytest.raises((StartError, SchemaError), match=reason) as caught:
        async with open_sqlite_store(path):
            pytest.fail("it opened")

    assert str(path) in str(caught.value)
    assert exit_code == caught.value.exit_code


def _damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))


async def test_a_damaged_file_ends_the_process(path: Path) -> None:
    """It is found by whoever reads or writes first: no outage to wait for, and the message says what to do."""
    async with prepared(path) as store:
        for number in range(300):
            await store.create(record(number, delivered(record(number)).delivery))
    _damage(path)

    async with open_sqlite_store(path) as store:
        for ask in (
            lambda: store.get(record(150).id),
            lambda: store.search(RecordFilter(), 1000),
            lambda: store.create(record(500)),
        ):
            with pytest.raises(SchemaError, match=r"damaged.*malformed.*Stop every process.*recover") as caught:
                await ask()
    assert 3 == caught.value.exit_code


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
async def test_a_new_file_is_its_owner_s_alone(umask: int, path: Path) -> None:
    """The file, and what SQLite puts beside it: records hold what only operators may see."""
    before = os.umask(umask)
    try:
        async with prepared(path) as store:
            await store.create(record(1))
            modes = {file.name[len(path.name) :]: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert {"": 0o600, "-wal": 0o600, "-shm": 0o600} == modes


def _mode(path: Path, mode: int | None = None) -> int:
    if mode is not None:
        path.chmod(mode)
    return path.stat().st_mode & 0o777


async def test_an_existing_file_keeps_its_mode(path: Path) -> None:
    """Who shares it with a group had a reason."""
    sqlite3.connect(path).close()
    _mode(path, 0o660)
    async with prepared(path):
        pass

    assert 0o660 == _mode(path)


BROKEN = {
    "document = '{'": "unreadable",
    "document = x'ff'": "unreadable",
    "document = 5": "unreadable",
    "document = CAST(x'7b22c3287d' AS TEXT)": "unreadable",
    "document = json_set(document, '$.delivery.channels', json('[]'))": "unreadable",
    "document = json_set(document, '$.delivery.next_attempt_at', '2026-11-23T12:00:00')": "unreadable",
    "document = json_set(document, '$.delivery.first_at', '2026-11-23T12:00:00')": "unreadable",
    "document = json_set(document, '$.delivery.first_at', 7)": "unreadable",
    "document = json_set(document, '$.delivery.state', 'bogus')": "newer",
    "document = json_set(document, '$.delivery.channels[0].pigeon', 'grey')": "newer",
    "version = 'x'": "by its ID",
    "version = x'00'": "by its ID",
    "version = -1": "by its ID",
    "version = 9223372036854775807": "by its ID",
    "state = 'bogus'": "sound",
    "state = x'00'": "sound",
    "next_attempt_us = 'soon'": "sound",
    "lease_until_us = x'ff', view = 5, scope = x'00', occurred_us = 'x'": "sound",
    "alert_id = CAST(x'ff' AS TEXT)": "sound",
    "id = x'00ff'": "lost",
    "id = CAST(x'ff' AS TEXT)": "lost",
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.items())
async def test_a_row_that_somebody_changed_hides_no_other(change: str, expected: str, path: Path) -> None:
    """Whatever is in it: it is unreadable by its ID, a newer version's, or left out; all others are as before."""
    async with prepared(path) as store:
        for number in range(5):
            await store.create(record(number, retrying(NOW)))
        ask(path, f"UPDATE records SET {change} WHERE id = '{record(2).id}'")
        others = {record(number).id for number in (0, 1, 3, 4)}

        found = await _outcome(store, record(2).id)
        assert {"by its ID": "unreadable"}.get(expected, expected) == found
        for record_id in others:
            stored = await store.get(record_id)
            assert stored is not None
            assert isinstance(await store.replace(stored.record, stored.version), Stored)
        for size in (1, 2, 10):
            assert others <= set(await _paged(store, size))
        due = [one.id for one in await store.due(NOW, 10)]
        assert others <= set(due) <= {*others, record(2).id}
        counts = await store.counts(NOW)
        assert 5 == sum(counts.by_state.values())
        assert all(isinstance(state, str) for state in counts.by_state)
        await store.vitals()
        await store.waiting()


async def _outcome(store: SqliteStore, record_id: str) -> str:
    try:
        return "lost" if await store.get(record_id) is None else "sound"
    except NewerRecord:
        return "newer"
    except RefusedContent as fault:
        return fault.reason.removesuffix("_record")


async def _paged(store: SqliteStore, size: int) -> list[str]:
    return [one.id async for page in Pages(partial(store.search, RecordFilter(), size)) for one in page]


async def test_a_sqlite_that_is_too_old_stops_the_start(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """It would fail at the first write; the message names both versions."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StartError, match=r"has SQLite 3\.\d+\.\d+; 3\.32\.0 or newer is needed"):
        async with open_sqlite_store(path):
            pytest.fail("it opened")


async def test_a_missing_directory_is_named_at_start(tmp_path: Path) -> None:
    """A path into nowhere stops the start, and no directory is made."""
    with pytest.raises(StartError, match=r"missing does not exist"):
        async with open_sqlite_store(tmp_path / "missing" / "alerts.db"):
            pytest.fail("it opened")

    assert {} == files(tmp_path)


async def test_a_place_that_cannot_be_written_is_named_at_start(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Without permission to write the start stops (the system's answer is put in: root may write anywhere)."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StartError, match="no permission to write"):
        async with open_sqlite_store(path):
            pytest.fail("it opened")


async def test_a_read_only_database_refuses_to_prepare(path: Path) -> None:
    """A database that takes no writes stops the start."""
    ask(path, "VACUUM")
    async with open_sqlite_store(path) as store:
        store._database._writing("rw").execute("PRAGMA query_only = ON")
        with pytest.raises(StartError, match="readonly"):
            await store.prepare()


async def test_a_database_that_stays_locked_stops_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the whole file for longer than the time-out keeps us out, with the reason, however busy the machine."""
    look = SqliteDatabase.open

    def late(database: SqliteDatabase) -> None:
        try:
            look(database)
        finally:
            time.sleep(0.2)

    monkeypatch.setattr(SqliteDatabase, "open", late)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE x (y)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StartError, match="locked"):
        async with open_sqlite_store(path, timeout_s=0.1):
            pytest.fail("it opened")
    holder.close()


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("CREATE TABLE customers (name)", "belongs to another program"),
        ("PRAGMA application_id = 1", "belongs to another program"),
        ("PRAGMA user_version = 7", "belongs to another program"),
        (f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 3", "newer version .*schema 3"),
    ],
)
async def test_anothers_database_is_left_alone(sql: str, reason: str, path: Path) -> None:
    """A database of another program, or of a newer version of ours, is refused and not changed by a byte."""
    for statement in sql.split("; "):
        ask(path, statement)
    before = files(path.parent)
    async with open_sqlite_store(path) as store:
        with pytest.raises(SchemaError, match=reason):
            await store.prepare()

    assert before == files(path.parent)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DROP INDEX records_due", "records_due"),
        ("DROP TABLE records", "records is not"),
        ("ALTER TABLE records RENAME COLUMN view TO perspective", "records is not"),
        ("PRAGMA user_version = 3", "newer version"),
    ],
)
async def test_the_guard_names_what_was_changed(sql: str, named: str, path: Path) -> None:
    """A table or an index that somebody changed while we run is found, by name."""
    async with prepared(path) as store:
        await store.guard()
        ask(path, sql)
        with pytest.raises(SchemaError, match=named):
            await store.guard()


async def test_a_replaced_file_takes_no_write(path: Path) -> None:
    """When the path leads to another file, writes would go to a file that nobody finds: they are refused."""
    async with prepared(path) as store:
        os.rename(path, path.with_name("elsewhere.db"))  # noqa: PTH104 (an instant)
        with pytest.raises(Unavailable, match="moved or replaced"):
            await store.create(record())
        ask(path, "VACUUM")
        with pytest.raises(Unavailable, match="moved or replaced"):
            await store.create(record())
        with pytest.raises(SchemaError, match="moved or replaced"):
            await store.guard()


async def test_a_lock_held_too_long_is_an_outage(path: Path) -> None:
    """A peer that holds the lock beyond the time-out makes writes unavailable, reads go on; then all is well."""
    async with prepared(path, timeout_s=0.1) as store:
        created = await store.create(record())
        peer = sqlite3.connect(path, isolation_level=None)
        peer.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await store.create(record(2))
        assert created == await store.get(record().id)
        peer.close()

        assert isinstance(await store.create(record(2)), Stored)


async def test_a_full_disk_undoes_the_whole_batch(path: Path) -> None:
    """When the disk is full every write of the batch is unavailable and none is there; with room it works again."""
    async with prepared(path) as store:
        await store.create(record())
        writer = store._database._writing("rw")
        writer.execute("PRAGMA max_page_count = 20")
        failed: list[int] = []

        async def create(number: int) -> None:
            with pytest.raises(Unavailable, match="full"):
                await store.create(record(number, description="x" * 10_000))
            failed.append(number)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(2, 20):
                    nursery.start_soon(create, number)
        assert 18 == len(failed)
        assert [record().id] == [found.id for found in await store.search(RecordFilter(), 100)]

        writer.execute("PRAGMA max_page_count = 1000000")
        assert isinstance(await store.create(record(2)), Stored)


async def test_a_search_ends_by_its_deadline(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A search that takes longer than the time-out is stopped, in its thread too, and the next one works."""
    monkeypatch.setattr(sqlite_database, "_PROGRESS_STEPS", 1)
    async with prepared(path) as store:
        await store.create(record())
        store._database.timeout_s = -1.0
        with pytest.raises(TimeoutError, match="took longer"):
            store._database.read(lambda connection: rows.count(connection, RecordFilter()))
        store._database.timeout_s = 10.0

        assert 1 == len(await store.search(RecordFilter(), 10))


@pytest.mark.parametrize(
    "bad",
    [
        Record("1-1", b'{"title":"\xff"}', Delivery(state="sending")),
        Record("1-1", b'{"view":["a","b"]}', Delivery(state="sending")),
        Record("1-1", b'{"occurred_at":"yesterday"}', Delivery(state="sending")),
        Record("1-\udcff", b"{}", Delivery(state="sending")),
        Record("1-1", b'{"title":"%b"}' % (b"x" * rows.MAX_DOCUMENT_BYTES), Delivery(state="sending")),
    ],
    ids=["no UTF-8", "a list to filter on", "no time", "surrogate in the ID", "too big"],
)
async def test_content_that_cannot_be_kept_is_refused_alone(bad: Record, path: Path) -> None:
    """What no database could keep, or answer filters on, is refused for its content; a neighbour is stored."""
    async with prepared(path) as store:
        with pytest.raises(RefusedContent) as caught:
            await store.create(bad)
        assert isinstance(await store.create(record()), Stored)

    assert len(str(caught.value)) < 300


async def test_a_cancelled_transaction_still_ends_as_a_whole(path: Path) -> None:
    """Cancelled while the transaction runs, the writer stops waiting at once; the write is there, and so are others."""
    async with prepared(path) as store:
        peer = sqlite3.connect(path, isolation_level=None)
        peer.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.create, record())
            nursery.start_soon(store.create, record(2))
            await _until(lambda: store._writing.borrowed_tokens == 1)
            nursery.cancel_scope.cancel()
        peer.execute("COMMIT")
        peer.close()
        assert isinstance(await store.create(record(3)), Stored)

        assert [3, 2, 1] == [int(found.id[-4:]) for found in await store.search(RecordFilter(), 10)]


async def test_a_stopping_store_leaves_nobody_waiting(path: Path) -> None:
    """When the block ends, all waiters are told; the transaction under way still ends, and the file is closed."""
    peer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    stopped: list[int] = []

    async def create(store: SqliteStore, number: int) -> None:
        with pytest.raises(Unavailable):
            await store.create(record(number))
        stopped.append(number)
        if len(stopped) == 50:
            peer.execute("COMMIT")

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as callers:
            async with prepared(path, timeout_s=PATIENCE_S) as store:
                peer.execute("BEGIN IMMEDIATE")
                outliving = partial(create, store)
                for number in range(50):
                    callers.start_soon(outliving, number)
                await _until(lambda: store._writing.borrowed_tokens == 1)
            with pytest.raises(Unavailable):
                await store.create(record(99))
    peer.close()

    assert list(range(50)) == sorted(stopped)
    assert [("ok",)] == ask(path, "PRAGMA integrity_check")
    [(stored,)] = ask(path, "SELECT count(*) FROM records")
    assert stored
    assert [path.name] == list(files(path.parent))  # the log was copied back: the connections are closed


async def test_several_processes_share_a_file(path: Path) -> None:
    """Stores with connections of their own, as in several processes: each record is created and claimed once."""
    won: list[str] = []

    async def compete() -> None:
        async with prepared(path) as store, trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, store, number)

    async def one(store: SqliteStore, number: int) -> None:
        if isinstance(await store.create(record(number)), Stored):
            won.append(f"create {number}")
        stored = await store.get(record(number).id)
        assert stored is not None
        if stored.record.delivery.state == "sending" and isinstance(
            await store.replace(delivered(record(number)), stored.version), Stored
        ):
            won.append(f"replace {number}")

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(compete)

    assert sorted(f"{what} {number}" for what in ("create", "replace") for number in range(50)) == sorted(won)


def test_a_batch_of_any_size_is_one_statement(database: SqliteDatabase) -> None:
    """Each statement gives up the interpreter lock, and without BEGIN it is a transaction: one wait for the disk."""
    statements: list[str] = []
    written = 0
    for size in (*range(1, 20), 33, 1024):
        database._writing("rw").set_trace_callback(statements.append if size < 20 else None)
        results = database.write([write_of(record(written + number), None) for number in range(size)])
        assert size == sum(isinstance(result, Stored) for result in results)
        written += size

    assert 19 == len(set(statements))  # one is told again for each step of its triggers
    assert written == database.read(lambda connection: rows.count(connection, RecordFilter()))


def test_a_conflict_in_a_batch_is_that_write_s_alone(database: SqliteDatabase) -> None:
    """All the others are done, and the record that was in the way is as it was."""
    database.write([write_of(record(77), None)])
    results = database.write([write_of(record(number, title=f"title {number}"), None) for number in range(211)])

    assert [77] == [number for number, result in enumerate(results) if isinstance(result, Conflict)]
    found = newest(database)
    assert 211 == len(found)
    assert "title" == found[210 - 77].fields()["title"]
    assert "title 210" == found[0].fields()["title"]


def test_writes_of_one_batch_see_each_other(database: SqliteDatabase) -> None:
    """In one batch a second create of a record is a conflict, and of two replaces of one version the first wins."""
    one, other = write_of(record(title="one"), None), write_of(record(title="other"), None)
    first, second = database.write([one, other])
    assert isinstance(first, Stored)
    assert Conflict() == second
    won, lost = database.write(
        [write_of(record(title="won"), first.version[0]), write_of(record(title="lost"), first.version[0])]
    )
    assert Conflict() == lost
    assert won == database.read(lambda connection: rows.get(connection, record().id))


def test_the_newest_are_found_without_a_look_at_the_others(database: SqliteDatabase, path: Path) -> None:
    """A page costs the same with many records: the index has the order, and it orders as `entry_order` does."""
    ids = ["1-9", "1-20", "Alerts-2|7-0", "a|b|18446744073709551615-18446744073709551615", "odd", "-"]
    database.write([write_of(Record(record_id, record().body, record().delivery), None) for record_id in ids])
    plan = ask(
        path, f"EXPLAIN QUERY PLAN SELECT id FROM records WHERE true ORDER BY {ENTRY_ORDER} DESC, id DESC LIMIT 5"
    )
    orders = {row[0]: row[1] for row in ask(path, f"SELECT id, {ENTRY_ORDER} FROM records")}

    assert "SCAN records USING INDEX records_by_entry" == plan[0][-1]
    assert {record_id: entry_order(record_id) for record_id in ids[:4]} == {one: orders[one] for one in ids[:4]}
    assert {*ids} == {found.id for found in newest(database)}


def test_an_index_that_an_older_release_did_not_make_is_added(database: SqliteDatabase, path: Path) -> None:
    """`inspect` names it, `prepare` adds it, and what lies in the file is listed by it."""
    database.write([write_of(record(1, record_id=record_id), None) for record_id in ("1-9", "1-20")])
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX records_by_entry")
    connection.close()

    with pytest.raises(SchemaError, match=r"records_by_entry .* it is missing"):
        database.guard()
    assert [f"would add the index records_by_entry to {path}"] == database.inspect()
    database.prepare()
    assert [] == database.inspect()
    assert ["1-20", "1-9"] == [found.id for found in newest(database)]


def test_another_process_that_closes_takes_no_log_away(database: SqliteDatabase, path: Path) -> None:
    """What a process writes after another one has closed the same file is in the file for everybody."""
    look = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM records').fetchone())"
    )

    def counted_by_another_process() -> int:
        return int(subprocess.run([sys.executable, "-c", look, path], capture_output=True, check=True).stdout)

    database.close()
    database.open()
    database.prepare()
    for number in (1, 2, 3):
        database.write([write_of(record(number), None)])
        assert number == counted_by_another_process()
    database.close()
    assert 3 == counted_by_another_process()


def test_due_reads_only_what_waits(database: SqliteDatabase, path: Path) -> None:
    """Looking for due records reads the index of the waiting ones alone, however many are final."""
    finals = [write_of(record(number, Delivery(state="delivered")), None) for number in range(1000)]
    database.write([*finals, write_of(record(1000, sending(NOW)), None)])
    has_time = "next_attempt_us IS NOT NULL OR lease_until_us IS NOT NULL"
    [(entries,)] = ask(path, f"SELECT count(*) FROM records INDEXED BY records_due WHERE {has_time}")

    assert 1 == entries
    assert [record(1000).id] == [one.id for one in database.read(lambda connection: rows.due(connection, NOW, NOW, 10))]


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (a thread tells no event that it has begun)
            await trio.sleep(0.001)


async def test_inspect_tells_what_prepare_would_create_and_creates_nothing(tmp_path: Path) -> None:
    """`check` must leave no trace."""
    path = tmp_path / "alerts.db"
    async with open_sqlite_store(path) as store:
        assert [f"the database {path} would be created"] == await store.inspect()
        assert not path.exists()
        await store.prepare()
        assert [] == await store.inspect()


async def test_a_peer_may_have_kept_the_file_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looked before another process wrote its identity finds that one, and does not write over it."""
    async with prepared(tmp_path / "a.db") as store:
        assert "ours" == await store.keep_deployment("ours")
        with monkeypatch.context() as earlier:
            earlier.setattr(SqliteDatabase, "deployment", lambda _: None)
            assert "ours" == await store.keep_deployment("theirs")
        assert "ours" == await store.deployment()
