"""Records that are old and settled go, and nothing is sent again for it."""

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.store import Call
from tests.support.fakes.stream_server import Held
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.clock import ServerClock
from trio_alerts.outcome import Refused
from trio_alerts.pipeline import retention
from trio_alerts.pipeline.fault_points import FaultPoint, InjectedFault
from trio_alerts.pipeline.retention import EVERY_S
from trio_alerts.pipeline.service import serve
from trio_alerts.ports.silences import Silence

KEEP_S = 480.0
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class OldWorld(World):
    """A world whose records are kept for `KEEP_S`, and where this machine's time is the server's."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"keep_records_s": KEEP_S, **settings})
        self.server.jump(1000.0)
        self.machine_ahead_s = 0.0
        self.clock = lambda: ServerClock(lambda: 1000.0 + trio.current_time() + self.machine_ahead_s)

    def emit(self, **fields: Any) -> str:
        occurred_at = EPOCH + dt.timedelta(seconds=1000.0 + trio.current_time())
        return super().emit(**{"occurred_at": occurred_at.isoformat(), **fields})

    @property
    def pruned(self) -> int:
        return sum(one.count for one in self.store.kept.values())


async def test_old_records_go_when_their_entries_are_gone(autojump_clock: MockClock) -> None:
    """So long after what happened last, within a minute; the younger one, and one whose entry is there, stay."""
    world = OldWorld()
    async with world.serving(world.pipeline()):
        gone = [world.emit(alert_id=f"a-{n}") for n in range(3)]
        await trio.sleep(10)
        there = world.emit(alert_id="b")
        await trio.sleep(KEEP_S / 2)
        young = world.emit(alert_id="c")
        await trio.sleep(1)
        world.server.trim(STREAM, 2)
        await trio.sleep(KEEP_S / 2 + 2 * EVERY_S)
        assert {there, young} == world.states.keys()
        world.server.trim(STREAM, 0)
        await trio.sleep(2 * EVERY_S)
        assert ({young}, 4) == (set(world.states), world.pruned)
        await trio.sleep(KEEP_S)
    assert (set(), 5, {}) == (set(world.states), world.pruned, world.pending)
    assert len(gone) + 2 == len(world.channel.sends)


async def test_by_default_records_stay(autojump_clock: MockClock) -> None:
    """For ever, if nobody says how long."""
    world = OldWorld(keep_records_s=None)
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(1)
        world.server.trim(STREAM, 0)
        await trio.sleep(2 * KEEP_S)
    assert (1, 0) == (len(world.states), world.pruned)


async def test_what_is_pending_keeps_its_record_and_those_behind_it(autojump_clock: MockClock) -> None:
    """Also when its entry is gone: a pending list is read again, too."""
    world = OldWorld(claim_idle_s=1e6)
    first, second = world.emit(alert_id="a"), world.emit(alert_id="b")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(1)
        world.server.trim(STREAM, 0)
        group = world.server.streams[STREAM].groups[GROUP]
        group.pending[first] = Held("frozen", trio.current_time(), 1)
        await trio.sleep(2 * KEEP_S)
        assert {first, second} == world.states.keys()
        del group.pending[first]
        await trio.sleep(2 * EVERY_S)
    assert 2 == world.pruned


async def test_an_entry_that_comes_back_is_not_sent_again(autojump_clock: MockClock, logged: list[str]) -> None:
    """A stream that is restored from a backup, or begun anew: what may have been sent goes to the quarantine."""
    world = OldWorld()
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        record_id = world.emit()
        await trio.sleep(1)
        fields = world.server.streams[STREAM].entries[record_id]
        world.server.trim(STREAM, 0)
        await trio.sleep(2 * KEEP_S)
        assert 1 == world.pruned
        del world.server.streams[STREAM]
        world.server.add(STREAM, fields, record_id)
        world.server.changed.unpark_all()
        await trio.sleep(10)
    assert (1, {}) == (len(world.channel.sends), world.states)
    assert [(b"_reason", b"pruned")] == [
        pair for letter in world.dead for pair in letter.items() if pair[0] == b"_reason"
    ]
    assert any(f"{record_id}: quarantined (pruned)" in line for line in logged)


async def test_what_comes_back_before_anybody_knew_is_asked_about(autojump_clock: MockClock) -> None:
    """An entry that is old enough to have had a record is not taken for new because others pruned a moment ago."""
    world = OldWorld()
    record_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(2 * KEEP_S + EVERY_S / 2)  # between two looks at what was pruned
        stream = world.server.streams[STREAM]
        fields = stream.entries.pop(record_id)
        await world.store.raise_pruned_before(STREAM, "999999999999-0")
        del world.store.records[record_id]
        stream.entries[record_id] = fields
        world.server.set_id(STREAM, GROUP, "0-0")
        await trio.sleep(10)
    assert (1, 1) == (len(world.channel.sends), len(world.dead))


async def test_what_comes_back_while_others_go_keeps_its_record(autojump_clock: MockClock) -> None:
    """The stream is looked at once more after everybody can know which records may be gone."""
    world = OldWorld()
    record_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(10)
        world.emit(alert_id="b")
        await trio.sleep(1)
        stream = world.server.streams[STREAM]
        fields = stream.entries[record_id]
        world.server.trim(STREAM, 0)

        def come_back(call: Call) -> None:
            if call.method == "raise_pruned_before":
                stream.entries[record_id] = fields

        world.store.decide = come_back
        await trio.sleep(2 * KEEP_S)
    assert (["delivered", "delivered"], 0) == (list(world.states.values()), world.pruned)


async def test_what_a_silence_kept_back_is_kept_as_long_after_its_end(autojump_clock: MockClock) -> None:
    """Until then it may be sent after all."""
    world = OldWorld()
    since = EPOCH + dt.timedelta(seconds=1000)
    until = since + dt.timedelta(seconds=2 * KEEP_S)
    silence = Silence(id="1", matchers=("severity = high",), since=since, until=until, why="a drill", by="eve")
    world.server.keep_silence(STREAM, GROUP, silence)
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(1)
        world.server.trim(STREAM, 0)
        await trio.sleep(3 * KEEP_S - 10)
        assert (["suppressed"], 0) == (list(world.states.values()), world.pruned)
        await trio.sleep(2 * EVERY_S)
    assert 1 == world.pruned


async def test_an_old_entry_that_was_never_read_is_sent(autojump_clock: MockClock) -> None:
    """A backlog of days: nobody pruned anything of its time."""
    world = OldWorld()
    world.emit()
    await trio.sleep(3 * KEEP_S)
    async with world.serving(world.pipeline()):
        await trio.sleep(10)
    assert (1, []) == (len(world.channel.sends), world.dead)


async def test_an_entry_that_comes_back_and_has_its_record_is_acknowledged(autojump_clock: MockClock) -> None:
    """Like any other that is delivered already."""
    world = OldWorld([Refused("no", 410)], keep_records_s=KEEP_S)
    async with world.serving(world.pipeline()):
        record_id = world.emit()
        await trio.sleep(1)
        await world.store.raise_pruned_before(STREAM, "999999999999-0")
        world.server.set_id(STREAM, GROUP, "0-0")
        await trio.sleep(10)
    assert ({record_id: "failed"}, [], {}) == (world.states, world.dead, world.pending)


async def test_a_clock_that_was_set_makes_nothing_old(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the server's alone nor, until it has gone straight for a while, this machine's with it."""
    monkeypatch.setattr(retention, "STRAIGHT_S", 150.0)
    world = OldWorld(keep_records_s=10 * KEEP_S)
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(1)
        world.server.trim(STREAM, 0)
        world.server.jump(20 * KEEP_S)
        await trio.sleep(150 + 2 * EVERY_S)
        assert 0 == world.pruned
        world.machine_ahead_s += 20 * KEEP_S
        world.server.jump(1.0)
        await trio.sleep(140)
        assert 0 == world.pruned
        await trio.sleep(2 * EVERY_S)
    assert 1 == world.pruned


async def test_what_was_written_while_the_clock_was_behind_is_not_old(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server had lost its clock, and the producer had not: the record carries a time that is young."""
    monkeypatch.setattr(retention, "STRAIGHT_S", 150.0)
    world = OldWorld()
    world.server.jump(-900.0)
    async with world.serving(world.pipeline(keep_records_s=800.0)):
        world.emit()
        await trio.sleep(5)
        world.server.jump(900.0)
        world.server.trim(STREAM, 0)
        await trio.sleep(790)
        assert 0 == world.pruned
        await trio.sleep(300)
    assert 1 == world.pruned


async def test_a_step_is_bounded_and_followed_by_a_rest(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is larger than it may be, and the store has three times as long for itself."""
    monkeypatch.setattr(retention, "STEP", 100)
    world = OldWorld()
    world.store.latency_s = 0.0
    async with world.serving(world.pipeline(workers=50)):
        for n in range(290):
            world.emit(alert_id=f"a-{n}")
        await trio.sleep(100)
        world.server.trim(STREAM, 0)
        world.store.latency_s = 0.1
        await trio.sleep(KEEP_S + 2 * EVERY_S)
        assert 290 == world.pruned
    began_s = [call.at_s for call in world.store.called("prune")]
    assert [0.4, 0.4] == pytest.approx([two - one for one, two in pairwise(began_s)])  # 0.1 s each, and the rest


async def test_one_process_prunes_for_all(autojump_clock: MockClock) -> None:
    """The others only learn what it deleted."""
    world = OldWorld()
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        await trio.sleep(10.5 * EVERY_S)  # between two rounds
        begun = trio.current_time()
        await trio.sleep(4 * EVERY_S)  # after 15 rounds without a turn, a process would do the work all the same
    rounds = [call for call in world.server.called("gone") if call.at_s >= begun]
    assert 4 == len(rounds)


async def test_what_is_noted_as_lost_keeps_the_record_that_proves_otherwise(autojump_clock: MockClock) -> None:
    """Without its record, `audit` would take it for lost upstream, and count it twice."""
    world = OldWorld()
    record_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
        world.server.trim(STREAM, 0)
        world.server.deleted[STREAM] = [record_id]
        await trio.sleep(2 * KEEP_S)
    assert ({record_id}, 0) == (set(world.states), world.pruned)


async def test_nothing_is_read_before_the_store_says_what_was_deleted(autojump_clock: MockClock) -> None:
    """Who does not know could send it again; an index that another process has just created says it a moment later."""
    world = OldWorld()
    record_id = world.emit()
    world.store.fail_next("pruned", "down", 3)
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
    times_s = [call.at_s for call in world.store.called("pruned")]
    assert 4 == len(times_s)
    assert times_s[-1] == min(call.at_s for call in world.server.called("read"))
    assert {record_id: "delivered"} == world.states


async def test_a_stop_ends_the_wait_for_it(autojump_clock: MockClock) -> None:
    """Then nothing is read at all."""
    world = OldWorld()
    world.emit()
    world.store.fail_next("pruned", "down", 100)
    pipeline = world.pipeline()
    async with trio.open_nursery() as processes:
        processes.start_soon(serve, pipeline)
        await trio.sleep(10)
        pipeline.stop()
    assert ([], 10) == (world.server.called("read"), round(trio.current_time()))


@pytest.mark.parametrize("point", ["before_prune", "after_prune"])
async def test_a_process_can_be_made_to_die_over_it(autojump_clock: MockClock, point: str) -> None:
    """Fault points for the crash tests."""
    world = OldWorld()
    pipeline = world.pipeline()
    pipeline.fault_point = FaultPoint(f"{point}:raise")
    with pytest.RaisesGroup(InjectedFault, flatten_subgroups=True):
        async with world.serving(pipeline):
            world.emit()
            await trio.sleep(1)
            world.server.trim(STREAM, 0)
            await trio.sleep(2 * KEEP_S)
