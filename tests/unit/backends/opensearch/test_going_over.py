"""How a process that runs goes over to the index that a migration has made."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.contracts.store import delivered, record
from tests.support.fakes.opensearch import FakeOpenSearch
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.migration import OpenSearchMigration
from trio_alerts.backends.opensearch.store import OpenSearchStore
from trio_alerts.errors import SchemaError, Unavailable
from trio_alerts.ports.store import Conflict, RecordFilter, Stored
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
OLD, NEW = "alerts-000001", "alerts-000002"


async def reach(_: str) -> None:
    await trio.lowlevel.checkpoint()


@pytest.fixture
def server(autojump_clock: MockClock) -> FakeOpenSearch:
    return FakeOpenSearch(WANTED)


@pytest.fixture
async def store(server: FakeOpenSearch, nursery: trio.Nursery) -> AsyncIterator[OpenSearchStore]:
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        for task in store.tasks()[:-1]:
            nursery.start_soon(task)
        await store.prepare()
        yield store
        nursery.cancel_scope.cancel()


async def migrate(server: FakeOpenSearch) -> None:
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
        await OpenSearchMigration(client, WANTED, 10, reach).run(lambda _: None)


async def test_a_version_of_the_old_index_means_nothing_in_the_new_one(
    server: FakeOpenSearch, store: OpenSearchStore
) -> None:
    """A write that was under way meets a conflict, and its own token, and is made again on what it finds."""
    mine, same = record(1), record(2)
    stored = await store.create(mine)
    assert isinstance(stored, Stored)
    await store.create(same)
    await migrate(server)
    # By chance, the copy has the very number that was read in the old index.
    kept = server.documents[mine.id]
    kept.seq_no = stored.version[0]
    server.index.writes += 100

    assert Conflict() == await store.replace(delivered(mine), stored.version)
    found = await store.get(mine.id)
    assert found is not None
    assert mine == found.record
    assert isinstance(await store.replace(mine, found.version), Stored)
    assert f"<OpenSearchStore alerts ({NEW})" in repr(store)


async def test_what_was_created_in_the_new_index_is_met_again(server: FakeOpenSearch, store: OpenSearchStore) -> None:
    """Its creator thinks of the old index: it finds its own record, and goes on with that."""
    await migrate(server)

    assert Conflict() == await store.create(record(1))
    found = await store.get(record(1).id)
    assert found is not None
    assert record(1) == found.record
    assert isinstance(await store.create(record(2)), Stored)


@pytest.mark.parametrize("way", ["get", "search", "guard"])
async def test_who_only_reads_goes_over_too(server: FakeOpenSearch, store: OpenSearchStore, way: str) -> None:
    """The first answer of the new index is enough, or the guard's look once a minute; nobody has to start again."""
    await store.create(record(1))
    await migrate(server)

    if way == "get":
        assert await store.get(record(1).id) is not None
    elif way == "search":
        assert [record(1)] == await store.search(RecordFilter(), 2)
    else:
        await store.guard()
    assert f"({NEW})" in repr(store)


async def test_while_writes_are_blocked_it_waits(server: FakeOpenSearch, store: OpenSearchStore) -> None:
    """That is an outage, and its message says why, not how to let writes through: those would be lost."""
    server.index.body["mappings"]["_meta"]["migration"] = {"to": NEW}
    server.index.body["settings"]["index.blocks.write"] = "true"

    with pytest.raises(Unavailable, match="cluster_block_exception"):
        await store.create(record(1))
    with pytest.raises(Unavailable, match=f"{NEW} is taking over.*`migrate --status` says how far it is") as caught:
        await store.guard()
    assert "PUT" not in str(caught.value)


@pytest.mark.parametrize("notes", [{}, {"ancestors": ["u1"], "whole": False}, {"ancestors": ["other"], "whole": True}])
async def test_an_index_that_does_not_hold_all_is_not_followed(
    server: FakeOpenSearch, store: OpenSearchStore, notes: dict[str, object]
) -> None:
    """Whoever moves the alias by hand, to what was copied in part or is another's, ends every process."""
    await migrate(server)
    server.index.body["mappings"]["_meta"]["migration"] = notes

    with pytest.raises(Unavailable, match=f"alias alerts points to {NEW} now"):
        await store.create(record(1))
    with pytest.raises(SchemaError, match=f"Alias alerts pointed to index {OLD}"):
        await store.guard()
