"""Finding and changing records, on fakes."""

import pytest

from tests.unit.operations.desk import DELIVERED, FAILED, RETRYING, Desk
from trio_alerts.delivery import Delivery
from trio_alerts.operations import records
from trio_alerts.operations.records import Change, Skip, newest_records
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record import Record


@pytest.fixture
def desk() -> Desk:
    return Desk()


def once(delivery: Delivery, owner: str) -> Delivery:
    assert "retrying" != delivery.state, "it was decided a second time"
    return Delivery(state="retrying", owner=owner, channels=delivery.channels)


async def test_of_two_writers_one_wins(desk: Desk) -> None:
    """A record that moves on between the look and the write is looked at again: what is delivered by then stays."""
    record_id = desk.put(1, RETRYING)
    plain = desk.store.get

    async def deliver_after_the_look(asked: str) -> object:
        stored = await plain(asked)
        if "delivered" not in desk.states:
            desk.put(1, DELIVERED)
        return stored

    desk.store.get = deliver_after_the_look  # type: ignore[method-assign,assignment]
    result = await desk.operator.change(record_id, lambda old, _: "done" if old.state == "delivered" else old)
    assert Skip(record_id, "done") == result
    assert DELIVERED == desk.store[record_id]


async def test_a_write_whose_answer_was_a_conflict_is_recognised(desk: Desk) -> None:
    """Our own token in the record means that the first try happened: it is not left alone, nor written twice."""
    record_id = desk.put(1, FAILED)
    plain, writes = desk.store.replace, []

    async def happen_and_conflict(record: Record, version: tuple[int, int]) -> object:
        writes.append(record)
        await plain(record, version)
        return await plain(record, version)

    desk.store.replace = happen_and_conflict  # type: ignore[method-assign,assignment]
    assert isinstance(await desk.operator.change(record_id, once), Change)
    assert 1 == len(writes)


async def test_a_record_that_does_not_exist_is_left_alone(desk: Desk) -> None:
    """One such record ends nothing."""
    assert Skip("1-0", "there is no such record") == await desk.operator.change("1-0", once)


async def test_more_than_a_page_is_fetched_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit above one page asks again after the last record, until it has enough or there are no more."""
    monkeypatch.setattr(records, "PAGE", 3)
    for number in range(10, 20):
        desk.put(number, FAILED)

    found = await newest_records(desk.store, RecordFilter(), 7)

    assert [f"{number}-0" for number in range(19, 12, -1)] == [record.id for record in found.records]
    assert (10, True) == (found.matching, found.more)
    assert 3 == len(desk.store.called("search"))
    rest = await newest_records(desk.store, RecordFilter(), 3, found.records[-1])
    assert (["12-0", "11-0", "10-0"], 10, False) == ([one.id for one in rest.records], rest.matching, rest.more)
    assert 10 == len((await newest_records(desk.store, RecordFilter(), 50)).records)
