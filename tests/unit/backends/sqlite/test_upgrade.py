"""The file that an older version made: brought up to date at start, in one transaction, whatever happens meanwhile."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contracts.store import NOW, SECOND
from tests.unit.backends.sqlite.test_store import ask
from trio_alerts.backends.sqlite import schema
from trio_alerts.backends.sqlite import store as sqlite_store
from trio_alerts.backends.sqlite.database import SqliteDatabase
from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.errors import SchemaError
from trio_alerts.ports.store import RecordFilter, Stored

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")  # as the program dumped its file, with a record in each state
STATES = ("delivered", "retrying", "failed", "in_doubt", "sending", "suppressed", "quarantined")
# What the upgrade does, in this order; each begins one statement.
STEPS = ("BEGIN IMMEDIATE", "CREATE INDEX records_due", "DROP INDEX", "PRAGMA user_version = 2", "COMMIT")
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from trio_alerts.backends.sqlite.database import SqliteDatabase
database = SqliteDatabase(Path(sys.argv[1]), timeout_s=10)
database._writing("rwc").set_trace_callback(
    lambda statement: os.kill(os.getpid(), signal.SIGKILL) if statement.startswith(sys.argv[2]) else None
)
database.prepare()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of schema 1."""
    path = tmp_path / "alerts.db"
    with sqlite3.connect(path) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(SCHEMA_1.read_text())
    old.close()
    return path


def content(path: Path) -> list[tuple[object, ...]]:
    """Return every row, as it lies there."""
    return ask(path, "SELECT * FROM records ORDER BY id") + ask(path, "SELECT * FROM deployment")


async def test_it_is_brought_up_to_date_and_older_processes_are_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """`check` says so and changes nothing, other commands ask for it, `run` does it: every record is there as before.

    A process of the older version that has the file open stops at its next guard, and writes what it must until then.
    """
    before = content(path)
    async with open_sqlite_store(path) as older, open_sqlite_store(path) as newer:
        told = await newer.inspect()
        assert [f"would upgrade {path} from schema 1: stop all processes of the older version first"] == told[:1]
        with pytest.raises(SchemaError, match=r"older version .*schema 1\); `run` upgrades it"):
            await newer.guard()
        assert [(1,)] == ask(path, "PRAGMA user_version")
        with monkeypatch.context() as version:
            version.setattr(schema, "SCHEMA_VERSION", 1)
            assert await older.get("1772366400001-0") is not None  # it is open

        await newer.prepare()
        assert [f"WARNING upgrading {path} from schema 1 to 2, which takes about 5 s a GB"] == lines
        assert (before, [(2,)]) == (content(path), ask(path, "PRAGMA user_version"))
        assert [] == ask(path, "SELECT name FROM sqlite_master WHERE name = 'records_waiting'")
        await newer.guard()
        assert [] == await newer.inspect()

        stored = await older.get("1772366400001-0")
        assert stored is not None
        assert isinstance(await older.replace(stored.record, stored.version), Stored)
        monkeypatch.setattr(schema, "SCHEMA_VERSION", 1)
        with pytest.raises(SchemaError, match="newer version of this program"):
            await older.guard()


async def test_everything_in_it_is_read_found_and_due(path: Path) -> None:
    """In every state; the retry is due at its time, the attempt that was cut at the end of its lease."""
    async with open_sqlite_store(path) as store:
        await store.prepare()
        found = await store.search(RecordFilter(), 10)
        assert STATES == tuple(record.delivery.state for record in reversed(found))
        for record in found:
            stored = await store.get(record.id)
            assert stored is not None
            assert record == stored.record
        assert dict.fromkeys(STATES, 1) == (await store.counts(NOW)).by_state
        retry, cut = "1772366400001-0", "1772366400004-0"
        for seconds, ids in ((5, []), (6, [retry]), (59, [retry]), (60, [retry, cut])):
            assert ids == [due.id for due in await store.due(NOW + seconds * SECOND, 10)]
        assert "0123456789abcdef0123456789abcdef" == await store.deployment()


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_in_the_middle_leaves_it_whole(step: str, path: Path) -> None:
    """It is still of the older version, which can go on with it, and the next start upgrades it."""
    before, was = content(path), ask(path, "SELECT * FROM sqlite_master")
    died = subprocess.run([sys.executable, "-c", KILLED_AT, str(path), step], check=False)
    assert -signal.SIGKILL == died.returncode

    assert [("ok",)] == ask(path, "PRAGMA integrity_check")
    assert (before, was, [(1,)]) == (
        content(path),
        ask(path, "SELECT * FROM sqlite_master"),
        ask(path, "PRAGMA user_version"),
    )
    database = SqliteDatabase(path, timeout_s=10)
    database.prepare()
    database.close()
    assert (before, [(2,)]) == (content(path), ask(path, "PRAGMA user_version"))


def test_of_processes_that_start_together_one_upgrades_it(path: Path) -> None:
    """The others have looked at it before that, and find it done."""
    one, other = SqliteDatabase(path, timeout_s=10), SqliteDatabase(path, timeout_s=10)
    for database in (one, other):
        database.open()
        assert database.inspect()
    for database in (one, other):
        database.prepare()
    for database in (one, other):
        database.guard()
        database.close()


async def test_a_large_one_may_take_longer_than_any_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store_timeout_s` bounds waiting, not the upgrade: else a file of some GB would never be upgraded."""
    create = schema.create

    def slowly(connection: sqlite3.Connection) -> None:
        time.sleep(0.5)
        create(connection)

    monkeypatch.setattr(schema, "create", slowly)
    monkeypatch.setattr(sqlite_store, "LATE_S", 0.0)
    async with open_sqlite_store(path, timeout_s=0.1) as store:
        await store.prepare()
        await store.guard()
