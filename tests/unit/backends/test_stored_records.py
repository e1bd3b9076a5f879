"""A record that somebody broke by hand: every store answers alike."""

import sqlite3
from pathlib import Path

import pytest

from tests.contracts.store import record
from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.backends.stored_records import readable_records
from trio_alerts.errors import RefusedContent
from trio_alerts.ports.store import RecordFilter

BROKEN = '{"delivery":{"state":"sent"}}'


def test_what_cannot_be_read_is_left_out() -> None:
    """One broken document hides no other."""
    documents: list[tuple[str, bytes | str]] = [
        ("0", BROKEN),
        (record(1).id, record(1).to_json()),
        ("2", "{"),
        (record(3).id, record(3).to_json()),
    ]

    assert [record(1), record(3)] == readable_records(documents)


async def test_sqlite_reads_round_a_broken_record(tmp_path: Path) -> None:
    """By its ID it is refused; a search fills its pages with the others, and paging does not stop at it."""
    path = tmp_path / "alerts.db"
    async with open_sqlite_store(path) as store:
        await store.prepare()
        for number in range(5):
            await store.create(record(number))
        with sqlite3.connect(path) as connection:
            for number in (4, 2, 1):
                connection.execute("UPDATE records SET document = ? WHERE id = ?", (BROKEN, record(number).id))
        connection.close()

        with pytest.raises(RefusedContent, match="changed by somebody else"):
            await store.get(record(2).id)
        assert [record(3).id, record(0).id] == [found.id for found in await store.search(RecordFilter(), 2)]
        assert [record(0).id] == [found.id for found in await store.search(RecordFilter(), 1, record(3))]
