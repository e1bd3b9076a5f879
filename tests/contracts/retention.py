"""What every store must do when old records are deleted: one suite that runs on all of them; see `store.py`."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio

from tests.contracts.store import NEWER, NOW, PATIENCE_S, TestedStore, delivered, record, retrying
from tests.support.at_once import results_of
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.pages import Pages
from trio_alerts.ports.store import Counts, Pruned, RecordFilter, Stored
from trio_alerts.record import Record
from trio_alerts.record_ids import CANARIES
from trio_alerts.transitions import quarantined, suppressed

STREAM = "AlertStream"
BEFORE = "1767225600000-5000"  # above the ID of every record here but one


class Died(Exception):
    """A process dies at a fault point."""


class RetentionContract:
    """The suite; `tested` comes from the subclass."""

    async def test_what_may_be_settled_is_found_in_pages_the_oldest_first(self, tested: TestedStore) -> None:
        """By stream, state and ID; what is under way, in doubt, quarantined, younger or elsewhere is not found."""
        settled = [delivered(record(number)) for number in (3, 1, 2)]
        settled += [record(4, suppressed("rule")), record(5, _failed())]
        under_way = [record(6), record(7, retrying(NOW)), record(8, quarantined(record(8).delivery, "why"))]
        young = delivered(record(9, record_id="1767225600000-5000"))
        under_way.append(delivered(record(10, record_id=f"{CANARIES}1767225600000-0010")))
        await _fill(tested, [*settled, *under_way, young])

        pages = Pages[str](lambda last: tested.store.old(STREAM, BEFORE, 2, last or ""))
        assert [[1, 2], [3, 4], [5]] == [[_number(one) for one in page] async for page in pages]
        assert [] == await tested.store.old("another", BEFORE, 10)

    async def test_what_is_settled_goes_and_is_counted(self, tested: TestedStore) -> None:
        """The others stay as they are; what is deleted can be read no more."""
        await _fill(tested, [delivered(record(number)) for number in range(1, 5)])

        assert {} == await tested.store.pruned()
        assert 2 == await _prune(tested, [1, 2, 3], settled=lambda one: one.id != record(2).id)
        assert {STREAM: Pruned(2, BEFORE)} == await tested.store.pruned()
        there = [number for number in range(1, 5) if await tested.store.get(record(number).id)]
        assert [2, 4] == there
        await tested.refresh()
        assert [4, 2] == [_number(one.id) for one in await tested.store.search(RecordFilter(), 10)]

    async def test_a_record_counts_once(self, tested: TestedStore) -> None:
        """What a search still shows after it is gone, and what never was, is neither deleted nor counted again."""
        await _fill(tested, [delivered(record(1))])

        assert 1 == await _prune(tested, [1])
        assert 0 == await _prune(tested, [1, 2])
        assert 1 == (await tested.store.pruned())[STREAM].count

    async def test_a_record_is_judged_as_it_is_now(self, tested: TestedStore) -> None:
        """What has changed since it was found is judged by what it says now, and one of a newer version stays."""
        await _fill(tested, [delivered(record(1)), *list(NEWER.values())[:1]])
        before = await tested.store.get(record(1).id)
        assert before is not None
        await tested.store.replace(Record(before.record.id, before.record.body, _failed()), before.version)

        assert 0 == await _prune(tested, [1, 2], settled=lambda one: one.delivery.state != "failed")
        assert 1 == await _prune(tested, [1, 2], settled=lambda one: one.delivery.state == "failed")

    async def test_the_bound_never_falls(self, tested: TestedStore) -> None:
        """Nor does it mix up streams; IDs are compared as numbers."""
        for before in ("1767225600000-9", "1767225600000-10", "99-9"):
            await tested.store.raise_pruned_before(STREAM, before)
        await tested.store.raise_pruned_before("another", "7-7")

        expected = {STREAM: Pruned(0, "1767225600000-10"), "another": Pruned(0, "7-7")}
        assert expected == await tested.store.pruned()

    @pytest.mark.parametrize("point", ["before_prune", "after_prune"])
    async def test_who_dies_over_it_leaves_the_count_exact(self, point: str, tested: TestedStore) -> None:
        """What is gone is counted, what is there is not; the next one finishes what was begun, and counts it once."""
        await _fill(tested, [delivered(record(number)) for number in range(1, 6)])

        async def die(reached: str) -> None:
            await trio.lowlevel.checkpoint()
            if reached == point:
                raise Died

        with pytest.raises(Died):
            await _prune(tested, [1, 2, 3], reach=die)
        await _assert_exact(tested, 5)
        await _prune(tested, [1, 2, 3])
        await _prune(tested, [4])
        assert 4 == (await tested.store.pruned())[STREAM].count
        await _assert_exact(tested, 5)

    async def test_several_at_once_count_each_record_once(self, tested: TestedStore) -> None:
        """Processes that do the same at the same time, or stop in the middle of it, get the count right together."""
        await _fill(tested, [delivered(record(number)) for number in range(1, 21)])
        pruning = [partial(_prune, tested, range(first, first + 8)) for first in (1, 3, 5, 7, 9, 11) for _ in range(2)]
        with trio.fail_after(PATIENCE_S):
            await results_of(pruning)
            for first in (1, 11):
                await _prune(tested, range(first, first + 10))

        assert 20 == (await tested.store.pruned())[STREAM].count
        await _assert_exact(tested, 20)

    async def test_nothing_but_records_is_found(self, tested: TestedStore) -> None:
        """Whatever a store keeps about pruning is no record: no search, count or sweep sees it."""
        await _fill(tested, [delivered(record(1))])
        await _prune(tested, [1])
        await tested.refresh()

        assert [] == await tested.store.search(RecordFilter(), 10)
        assert 0 == await tested.store.count(RecordFilter())
        assert Counts({}, 0, 0) == await tested.store.counts(NOW)
        assert [] == await tested.store.due(NOW, 10)
        assert {} == await tested.store.waiting()


async def nothing(_: str) -> None:
    """Reach a fault point that is not armed."""
    await trio.lowlevel.checkpoint()


def _failed() -> Delivery:
    return Delivery(state="failed", attempts=1, channels=(ChannelDelivery("hook", "failed"),))


async def _prune(
    tested: TestedStore,
    numbers: Sequence[int],
    *,
    settled: Callable[[Record], bool] = lambda _: True,
    reach: Callable[[str], Awaitable[None]] = nothing,
) -> int:
    await tested.store.raise_pruned_before(STREAM, BEFORE)
    return await tested.store.prune(STREAM, [record(number).id for number in numbers], settled, reach)


async def _fill(tested: TestedStore, records: Sequence[Record]) -> None:
    for one in records:
        assert isinstance(await tested.store.create(one), Stored)
    await tested.refresh()


async def _assert_exact(tested: TestedStore, created: int) -> None:
    there = [number for number in range(1, created + 1) if await tested.store.get(record(number).id)]
    pruned = (await tested.store.pruned()).get(STREAM, Pruned(0, BEFORE))
    assert created == len(there) + pruned.count


def _number(record_id: str) -> int:
    return int(record_id.rpartition("-")[2])
