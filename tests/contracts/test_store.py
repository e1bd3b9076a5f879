"""The store that the deterministic tests stand on keeps the contract, and its faults are what they say."""

import pytest
import trio
from trio.testing import MockClock

from tests.contracts.retention import RetentionContract
from tests.contracts.store import NOW, StoreContract, TestedStore, as_async, delivered, record, retrying
from tests.support.fakes.store import Call, FakeStore, Fault
from trio_alerts.errors import NewerRecord, RefusedContent, SchemaError, Unavailable
from trio_alerts.ports.store import Conflict, Counts, RecordFilter, Stored
from trio_alerts.record import Record


class TestFakeStore(StoreContract, RetentionContract):
    """The contract on the fake, whose searches lag."""

    @pytest.fixture
    async def tested(self, autojump_clock: MockClock) -> TestedStore:
        store = FakeStore(lagging=True)
        store.unknown_in = unknown_in
        await store.prepare()

        return TestedStore(
            store,
            refresh=as_async(store.refresh),
            document=as_async(lambda record_id: store.records[record_id].record.to_json()),
            vanish=as_async(store.records.__delitem__),
        )


def unknown_in(stored: Record) -> str:
    """Return what a reader of the document would not know in it."""
    try:
        Record.from_json(stored.id, stored.to_json())
    except NewerRecord as newer:
        return newer.unknown
    return ""


async def test_a_search_sees_what_was_refreshed(autojump_clock: MockClock) -> None:
    """With a lag, searches, due and counts show the last refresh if none is allowed; a read by ID shows the present."""
    store = FakeStore(lagging=True)
    store.forbids_refresh = True
    await store.create(record(1, retrying(NOW)))

    assert store.records[record().id] == await store.get(record().id)
    assert [] == await store.search(RecordFilter(), 10)
    assert [] == await store.due(NOW, 10)
    assert Counts({}, overdue=0, in_doubt=0) == await store.counts(NOW)
    store.refresh()
    assert [record().id] == [due.id for due in await store.due(NOW, 10)]


@pytest.mark.parametrize(("fault", "happened"), [("down", False), ("answer_lost", True)])
async def test_a_fault_says_whether_the_write_happened(fault: Fault, happened: bool, autojump_clock: MockClock) -> None:
    """`down` is before the write and `answer_lost` after it; the caller cannot tell; the repeat is a conflict."""
    store = FakeStore()
    store.fail_next("create", fault)

    with pytest.raises(Unavailable):
        await store.create(record())
    assert happened == (record().id in store.records)
    assert isinstance(await store.create(record()), Conflict if happened else Stored)


async def test_faults_hit_the_calls_they_are_meant_for(autojump_clock: MockClock) -> None:
    """Planned faults count down for one method; `decide` sees every other call."""
    store = FakeStore()
    store.fail_next("get", "down", times=2)
    store.decide = lambda call: "answer_lost" if call.method == "due" else None

    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.get("1")
    assert await store.get("1") is None
    with pytest.raises(Unavailable):
        await store.due(NOW, 10)


async def test_refused_content_is_not_stored(autojump_clock: MockClock) -> None:
    """A record that the predicate refuses stays out, alone."""
    store = FakeStore()
    store.refuses = lambda refused: refused.fields()["title"] == "bad"

    with pytest.raises(RefusedContent):
        await store.create(record(1, title="bad"))
    await store.create(record(2))
    assert [record(2).id] == list(store.records)


async def test_calls_are_logged_with_their_virtual_time(autojump_clock: MockClock) -> None:
    """Every call is in the log, with the state that it would have stored."""
    store = FakeStore(latency_s=2)
    created = await store.create(record())
    assert isinstance(created, Stored)
    await store.replace(delivered(record()), created.version)
    await store.get(record().id)

    expected = [
        Call(0, "create", record().id, "sending"),
        Call(2, "replace", record().id, "delivered"),
        Call(4, "get", record().id),
    ]
    assert expected == store.calls
    assert expected[:2] == store.called("create", "replace")
    assert "delivered" == store[record().id].state


@pytest.mark.parametrize(("deadline_s", "happened"), [(0.5, False), (1.5, True)])
async def test_a_cancelled_write_is_whole_or_absent(
    deadline_s: float, happened: bool, autojump_clock: MockClock
) -> None:
    """Cancelled in the first half of its latency a write has not happened, in the second half it has."""
    store = FakeStore(latency_s=2)
    with trio.move_on_after(deadline_s) as scope:
        await store.create(record())

    assert scope.cancelled_caught
    assert happened == (record().id in store.records)


async def test_the_guard_finds_what_it_is_told_to(autojump_clock: MockClock) -> None:
    """A schema fault stops `prepare` and `guard` alike."""
    store = FakeStore()
    await store.prepare()
    store.schema_fault = "view is text, must be keyword"

    with pytest.raises(SchemaError, match="view is text"):
        await store.guard()
    with pytest.raises(SchemaError, match="view is text"):
        await store.prepare()
