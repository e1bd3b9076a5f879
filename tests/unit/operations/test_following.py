"""What somebody who follows the records is shown, from look to look."""

import pytest
from trio.testing import MockClock

from tests.support.fakes.store import FakeStore
from tests.unit.operations.desk import record
from trio_alerts.delivery import Delivery
from trio_alerts.operations import following
from trio_alerts.operations.following import Follower
from trio_alerts.ports.store import RecordFilter
from trio_alerts.transitions import suppressed

WATCHED = 4


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> FakeStore:
    monkeypatch.setattr(following, "WATCHED", WATCHED)
    return FakeStore()


def put(store: FakeStore, *numbers: int, delivery: Delivery | None = None, view: str = "v") -> None:
    for number in numbers:
        store.put(record(number, delivery or suppressed("night"), view=view))


async def shown(follower: Follower) -> list[int]:
    return [int(one.id.partition("-")[0]) for one in await follower.look()]


async def test_a_look_is_one_search(store: FakeStore) -> None:
    """However much has come: what a page of news may hide is for the next look."""
    put(store, 1, 2)
    follower = Follower(store, RecordFilter())
    assert ["2-0"] == [one.id for one in await follower.begin(1)]
    put(store, *range(10, 21))

    assert [[17, 18, 19, 20], [13, 14, 15, 16], [10, 11, 12], [], []] == [await shown(follower) for _ in range(5)]
    assert 6 == len(store.called("search"))
    put(store, 21)
    assert [21] == await shown(follower)


async def test_nothing_that_was_there_is_taken_for_new(store: FakeStore) -> None:
    """Older records that come into view, because newer ones match no more, are no news."""
    put(store, *range(1, 9))
    follower = Follower(store, RecordFilter(state=["suppressed"]))
    await follower.begin(4)
    put(store, 6, 7, delivery=Delivery(state="failed"))
    assert [] == await shown(follower)
    put(store, 9)
    assert [9] == await shown(follower)


async def test_changes_are_seen_of_the_newest(store: FakeStore) -> None:
    """What is behind them is watched no more, and what is kept of it is forgotten."""
    put(store, *range(1, 9))
    follower = Follower(store, RecordFilter())
    await follower.begin(4)
    put(store, 4, 5, delivery=Delivery(state="failed"))
    assert [5] == await shown(follower)
    put(store, *range(10, 13))
    assert [10, 11, 12] == await shown(follower)
    put(store, 5, 8, delivery=Delivery(state="delivered"))
    assert [8] == await shown(follower)
    assert WATCHED == len(follower._states)


async def test_a_record_that_comes_late_is_seen(store: FakeStore) -> None:
    """Entries do not become records in their order: several workers, streams, and processes that died."""
    put(store, 1, 5)
    follower = Follower(store, RecordFilter())
    await follower.begin(1)
    put(store, 6)
    assert [6] == await shown(follower)
    put(store, 3)
    assert [3] == await shown(follower)
