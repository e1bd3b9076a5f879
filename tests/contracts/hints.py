"""What all hints must do, whatever they are made of: one suite that runs on all of them.

A test module makes a class of it and says how to get a world: a server, and what an operator can do there.
"""

import datetime as dt
import math
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from trio_alerts.ports.hints import DueHint, Head, Hints, Queued, Taken

GROUP = "group"
LEASE_S = 60.0
MILLISECOND = dt.timedelta(milliseconds=1)
LATER = dt.timedelta(seconds=100)


class HintsWorld(Protocol):
    """A server without hints of `GROUP`."""

    names: tuple[str, str, str]

    def open(self, *, streams: int = 1) -> AbstractAsyncContextManager[Hints]:
        """Connect, for the first so many streams."""


async def now(hints: Hints) -> dt.datetime:
    """Return the server's time."""
    return (await hints.take_due(0, LEASE_S)).at


async def next_of(hints: Hints, channel: str, *, probe: bool = False) -> str | None:
    """Take the next record out of a queue; return its ID."""
    taken = await hints.take_queued(channel, LEASE_S, probe=probe)
    return None if taken is None else taken.record_id


def ids(*numbers: int) -> list[str]:
    return [f"{10**12 + number}-0" for number in numbers]


class HintsContract:
    """The contract."""

    async def test_what_is_due_is_handed_to_one_taker(self, world: HintsWorld) -> None:
        """Two take what is due: one gets it, and both are told when the next one is due: when its lease ends."""
        (record_id,) = ids(1)
        async with world.open() as one, world.open() as other:
            assert math.inf == (await one.take_due(10, LEASE_S)).next_in_s
            at = await now(one)
            await one.put_due([DueHint(record_id, at)])
            taken, nothing = await one.take_due(10, LEASE_S), await other.take_due(10, LEASE_S)
        until_ms = round((taken.at.timestamp() + LEASE_S) * 1000)
        assert ([Taken(record_id, until_ms)], []) == (list(taken.taken), list(nothing.taken))
        assert taken.next_in_s == LEASE_S
        assert LEASE_S - 10 < nothing.next_in_s <= LEASE_S

    async def test_what_its_taker_leaves_lying_is_due_again(self, world: HintsWorld) -> None:
        """After the lease, and not before: another one takes it."""
        (record_id,) = ids(1)
        async with world.open() as dead, world.open() as living:
            await dead.put_due([DueHint(record_id, await now(dead))])
            (taken,) = (await dead.take_due(10, 0.5)).taken
            wait_s = (await living.take_due(10, LEASE_S)).next_in_s
            assert wait_s <= 0.5
            await trio.sleep(wait_s + 0.001)
            again = await living.take_due(10, LEASE_S)
        assert [record_id] == [one.record_id for one in again.taken]
        assert again.taken[0].until_ms > taken.until_ms

    async def test_the_earliest_come_first_and_no_more_than_asked_for(self, world: HintsWorld) -> None:
        """In the order of their times; as long as more are due, the next one is due now."""
        first, second, third = ids(1, 2, 3)
        async with world.open() as hints:
            at = await now(hints)
            await hints.put_due([DueHint(one, at - n * MILLISECOND) for n, one in enumerate((third, second, first))])
            some, rest = await hints.take_due(2, LEASE_S), await hints.take_due(2, LEASE_S)
        assert [[first, second], [third]] == [[one.record_id for one in found.taken] for found in (some, rest)]
        assert (0, LEASE_S) >= (some.next_in_s, rest.next_in_s)

    async def test_hints_can_be_recalled(self, world: HintsWorld) -> None:
        """All are due at once, those of living takers too."""
        taken, later = ids(1, 2)
        async with world.open() as hints:
            at = await now(hints)
            await hints.put_due([DueHint(taken, at), DueHint(later, at + LATER)])
            await hints.take_due(10, LEASE_S)
            await hints.recall_due()
            assert {taken, later} == {one.record_id for one in (await hints.take_due(10, LEASE_S)).taken}

    async def test_the_newest_can_be_taken_first(self, world: HintsWorld) -> None:
        """What has just become due is found behind a long backlog; what is not due yet is not taken."""
        old, new, later = ids(1, 2, 3)
        async with world.open() as hints:
            at = await now(hints)
            await hints.put_due([DueHint(old, at - MILLISECOND), DueHint(new, at), DueHint(later, at + LATER)])
            found = await hints.take_due(1, LEASE_S, newest=True)
        assert ([new], 0.0) == ([one.record_id for one in found.taken], found.next_in_s)

    async def test_a_time_is_rounded_up(self, world: HintsWorld) -> None:
        """A hint is never due before its record is: not by a microsecond."""
        (record_id,) = ids(1)
        async with world.open() as hints:
            at = await now(hints) + LATER
            await hints.put_due([DueHint(record_id, at + dt.timedelta(microseconds=1))])
            found = await hints.take_due(10, LEASE_S)
            due_at = found.at + dt.timedelta(seconds=found.next_in_s)
        assert at + MILLISECOND == due_at

    async def test_the_earlier_time_counts(self, world: HintsWorld) -> None:
        """Whoever has not taken a hint puts nothing off that somebody else wants sooner."""
        (record_id,) = ids(1)
        async with world.open() as hints:
            at = await now(hints) + LATER
            for late in (0, 1, -1):
                await hints.put_due([DueHint(record_id, at + late * LATER / 2)])
            found = await hints.take_due(10, LEASE_S)
        assert at - LATER / 2 == found.at + dt.timedelta(seconds=found.next_in_s)

    async def test_who_has_taken_a_hint_may_put_it_off_or_remove_it(self, world: HintsWorld) -> None:
        """A retry that comes later than the lease ends; and an outcome after which nothing is left to do."""
        later, done = ids(1, 2)
        async with world.open() as hints:
            at = await now(hints)
            await hints.put_due([DueHint(later, at), DueHint(done, at)])
            until_ms = {one.record_id: one.until_ms for one in (await hints.take_due(10, LEASE_S)).taken}
            await hints.put_due([DueHint(later, at + LATER, until_ms[later]), DueHint(done, None, until_ms[done])])
            found = await hints.take_due(10, LEASE_S)
        assert at + LATER == found.at + dt.timedelta(seconds=found.next_in_s)

    async def test_what_somebody_wrote_since_is_kept(self, world: HintsWorld) -> None:
        """An operator wants it at once while its taker stores an outcome: it is due, and neither put off nor gone."""
        put_off, removed, untaken = ids(1, 2, 3)
        async with world.open() as taker, world.open() as operator:
            at = await now(taker)
            await taker.put_due([DueHint(put_off, at), DueHint(removed, at), DueHint(untaken, at + LATER)])
            until_ms = {one.record_id: one.until_ms for one in (await taker.take_due(10, LEASE_S)).taken}
            await operator.put_due([DueHint(put_off, at), DueHint(removed, at)])
            outcomes = [DueHint(put_off, at + LATER, until_ms[put_off]), DueHint(removed, None, until_ms[removed])]
            await taker.put_due([*outcomes, DueHint(untaken, None)])
            assert [put_off, removed] == [one.record_id for one in (await operator.take_due(10, 1000.0)).taken]
            found = await operator.take_due(10, LEASE_S)
        assert at + LATER == found.at + dt.timedelta(seconds=found.next_in_s)

    async def test_a_hint_that_was_lost_is_written_again(self, world: HintsWorld) -> None:
        """Its taker knows the record's next time."""
        (record_id,) = ids(1)
        async with world.open() as hints:
            at = await now(hints) + LATER
            await hints.put_due([DueHint(record_id, at, 12345)])
            found = await hints.take_due(10, LEASE_S)
        assert at == found.at + dt.timedelta(seconds=found.next_in_s)

    async def test_each_stream_has_its_own(self, world: HintsWorld) -> None:
        """Records of several streams are due together; one from none of them is kept as well."""
        (entry_id,) = ids(1)
        records = [f"{name}|{entry_id}" for name in (*world.names[:2], "elsewhere")]
        async with world.open(streams=2) as hints:
            at = await now(hints)
            await hints.put_due([DueHint(one, at) for one in records])
            found = await hints.take_due(10, LEASE_S)
            assert sorted(records) == sorted(one.record_id for one in found.taken)
            await hints.put_due([DueHint(one.record_id, None, one.until_ms) for one in found.taken])
            assert math.inf == (await hints.take_due(10, LEASE_S)).next_in_s

    async def test_one_sweeps_for_all(self, world: HintsWorld) -> None:
        """Of two, one gets the turn; it comes again when the time is over."""
        async with world.open() as one, world.open() as other:
            assert 0 == await one.begin_sweep(0.3)
            assert [None, None] == [await one.begin_sweep(0.3), await other.begin_sweep(0.3)]
            assert 0 == await other.begin_sweep(0.3, broken=True)
            await one.end_sweep()
            await trio.sleep(0.35)
            steady_s = await other.begin_sweep(0.3)
            assert steady_s is not None
            assert steady_s >= 0.3
            assert None is await one.begin_sweep(0.3)

    async def test_a_break_begins_the_time_anew(self, world: HintsWorld) -> None:
        """Sweeps that were not completed, or a clock that was set: nobody knows what waited meanwhile, and why."""
        async with world.open() as hints:
            steady_s: list[float | None] = []
            for completed, broken in ((False, False), (True, False), (True, True), (True, False)):
                steady_s.append(await hints.begin_sweep(0.0, broken=broken))
                if completed:
                    await hints.end_sweep()
                await trio.sleep(0.05)
        assert [True, True, True, False] == [one is not None and one < 0.05 for one in steady_s]

    async def test_a_queue_is_by_severity_then_by_age(self, world: HintsWorld) -> None:
        """The oldest of the most severe is taken first, by one taker; then there is nothing."""
        waits = [Queued("pager", *one) for one in zip(ids(1, 2, 3, 4), (1, 4, 1, 4), strict=True)]
        async with world.open() as one, world.open() as other:
            await one.put_queued([*waits, Queued("chat", ids(9)[0], 0)])
            heads = await other.heads(["chat", "pager", "email"])
            taken = [await next_of(hints, "pager") for hints in (one, other, one, other, one)]
        assert {"chat": Head(ids(9)[0], 0, 1), "pager": Head(ids(2)[0], 4, 4)} == heads
        assert [*ids(2, 4, 1, 3), None] == taken

    async def test_a_probe_is_the_one_that_was_tried_least(self, world: HintsWorld) -> None:
        """Then by severity and age. What is taken for one reason is gone for the other, too."""
        tried = zip(ids(1, 2, 3, 4), (4, 1, 3, 3), (2, 0, 0, 0), strict=True)
        async with world.open() as hints:
            await hints.put_queued([Queued("pager", *one) for one in tried])
            probes = [await next_of(hints, "pager", probe=True) for _ in range(2)]
            rest = [await next_of(hints, "pager") for _ in range(3)]
        assert (ids(3, 4), [*ids(1, 2), None]) == (probes, rest)

    async def test_what_is_taken_out_of_a_queue_is_due_after_the_lease(self, world: HintsWorld) -> None:
        """By then its taker is done or dead, and nothing else tells of it; as a probe, and from another stream too."""
        async with world.open(streams=2) as dead, world.open(streams=2) as living:
            for name, probe in zip(world.names[:2], (False, True), strict=True):
                record_id = f"{name}|{ids(1)[0]}"
                await dead.put_queued([Queued("pager", record_id, 3)])
                at = await now(dead)
                taken = await dead.take_queued("pager", LEASE_S, probe=probe)
                found = await living.take_due(10, LEASE_S)
                assert taken is not None
                assert (record_id, []) == (taken.record_id, found.taken)
                assert 0 <= taken.until_ms / 1000 - at.timestamp() - LEASE_S < 10
                assert LEASE_S - 10 < found.next_in_s <= LEASE_S
                await living.recall_due()
                (again,) = (await living.take_due(10, LEASE_S)).taken
                assert record_id == again.record_id
                await living.put_due([DueHint(record_id, None, again.until_ms)])

    async def test_what_is_taken_out_of_a_queue_can_be_due_sooner(self, world: HintsWorld) -> None:
        """Through another channel: that hint stays. And a taker that is done removes its own, and no other."""
        sooner, later = ids(1, 2)
        async with world.open() as hints:
            await hints.put_queued([Queued("pager", one, 3) for one in (sooner, later)])
            at = await now(hints) + LATER / 10
            await hints.put_due([DueHint(sooner, at), DueHint(later, at + LATER)])
            for _ in range(2):
                taken = await hints.take_queued("pager", LEASE_S)
                assert taken is not None
                await hints.put_due([DueHint(taken.record_id, None, taken.until_ms)])
            found = await hints.take_due(10, LEASE_S)
            assert at == found.at + dt.timedelta(seconds=found.next_in_s)
            await hints.recall_due()
            assert [sooner] == [one.record_id for one in (await hints.take_due(10, LEASE_S)).taken]

    async def test_a_place_in_a_queue_is_renewed(self, world: HintsWorld) -> None:
        """Put again, a record has its new place, and no other."""
        first, second = ids(1, 2)
        async with world.open() as hints:
            await hints.put_queued([Queued("pager", one, 2) for one in (first, second)])
            await hints.put_queued([Queued("pager", first, 1), Queued("pager", second, 2, attempts=3)])
            assert {"pager": Head(second, 2, 2)} == await hints.heads(["pager"])
            assert first == await next_of(hints, "pager", probe=True)
            assert second == await next_of(hints, "pager")
            assert {} == await hints.heads(["pager"])

    async def test_the_queues_of_several_streams_are_one(self, world: HintsWorld) -> None:
        """The heads of all streams are compared."""
        one, other = world.names[:2]
        waits = [(one, 1, 2), (other, 2, 4), (one, 3, 4), (other, 4, 2)]
        async with world.open(streams=2) as hints:
            await hints.put_queued([Queued("pager", f"{name}|{ids(age)[0]}", rank) for name, age, rank in waits])
            heads = await hints.heads(["pager"])
            taken = [await next_of(hints, "pager") for _ in range(5)]
        assert {"pager": Head(f"{other}|{ids(2)[0]}", 4, 4)} == heads
        order = (waits[1], waits[2], waits[0], waits[3])
        assert [*(f"{name}|{ids(age)[0]}" for name, age, _ in order), None] == taken

    async def test_more_than_one_call_holds(self, world: HintsWorld) -> None:
        """Hundreds at once, as after a sweep."""
        records = ids(*range(500))
        async with world.open() as hints:
            at = await now(hints)
            await hints.put_due([DueHint(one, at) for one in records])
            await hints.put_queued([Queued("pager", one, 3) for one in records])
            found = await hints.take_due(1000, LEASE_S)
            assert set(records) == {one.record_id for one in found.taken}
            assert {"pager": Head(records[0], 3, 500)} == await hints.heads(["pager"])
