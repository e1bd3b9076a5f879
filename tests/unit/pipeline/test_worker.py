"""What a worker leaves behind: what is handed over at a soft stop must have had no chance of being sent."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.store import Fault
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.alert import Entry
from trio_alerts.batcher import Batcher
from trio_alerts.outcome import Retry
from trio_alerts.pipeline.fault_points import FaultPoint, InjectedFault
from trio_alerts.pipeline.worker import Work, run_worker
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record

A_DAY_S = 86_400


@pytest.mark.parametrize(("fault", "doubts"), [("down", 0), ("answer_lost", 1)])
async def test_what_waits_for_the_store_is_handed_over(autojump_clock: MockClock, fault: Fault, doubts: int) -> None:
    """Nothing of it was sent and nothing will be: a peer begins at once, and this delivery does not count.

    A record that was written all the same says `sending`, and nobody can know that nothing went out.
    """
    world = World()
    async with world.serving(world.pipeline("stopping")):
        world.store.fail_next("create", fault)
        world.store.decide = lambda _: "down"
        entry_id = world.emit()
        await trio.sleep(7)
    held = world.server.pending(STREAM, GROUP)[entry_id]
    assert ([], 0, True) == (world.channel.sends, held.deliveries, held.idle_s >= A_DAY_S)
    world.store.decide = lambda _: None
    async with world.serving(world.pipeline("peer")):
        await trio.sleep(2)
    assert ({entry_id: 1}, doubts) == (world.channel.accepted, world.delivery(entry_id).in_doubt)


async def test_a_claim_that_grew_old_in_an_outage_is_handed_over(autojump_clock: MockClock) -> None:
    """The record is ours and nothing was sent: its lease could not be renewed before the stop."""
    world = World()
    create = world.store.create

    async def slow(record: Record) -> Stored | Conflict:
        created = await create(record)
        await trio.sleep(40)
        return created

    world.store.create = slow  # type: ignore[method-assign]
    world.store.decide = lambda call: "down" if call.method == "replace" else None
    entry_id = world.emit()
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(100)
    held = world.server.pending(STREAM, GROUP)[entry_id]
    assert ("sending", [], 0) == (world.delivery(entry_id).state, world.channel.sends, held.deliveries)
    assert set() == set(pipeline.in_flight.started)


async def test_what_was_sent_is_not_handed_over_before_the_end(autojump_clock: MockClock) -> None:
    """The store goes away before the outcome is stored: cut at the end of the grace time, and only then for others.

    Its record says that nobody saw the outcome, so whoever takes it counts the doubt.
    """
    world = World(grace_s=5.0)
    entry_id = world.emit()
    world.store.decide = lambda call: "down" if call.method == "replace" else None
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(7)
    assert (12.0, 12.0) == (trio.current_time(), world.server.called("hand_over")[-1].at_s)
    held = world.server.pending(STREAM, GROUP)[entry_id]
    assert (1, 0, A_DAY_S) == (len(world.channel.sends), held.deliveries, round(held.idle_s))
    world.store.decide = lambda _: None
    async with world.serving(world.pipeline("peer")):
        await trio.sleep(2)
    assert ("delivered", 1) == (world.delivery(entry_id).state, world.delivery(entry_id).in_doubt)


async def test_a_store_that_is_closed_after_the_send_does_not_make_it_unsent(autojump_clock: MockClock) -> None:
    """Whatever ends first when everything is cancelled, an outcome that could not be stored is no unsent alert."""
    world = World()
    pipeline = world.pipeline()
    world.emit()
    entry = await world.take(pipeline)

    async def never(_: Sequence[Record]) -> Sequence[Stored | Conflict]:
        await trio.sleep_forever()
        raise AssertionError

    async def store(record: Record, _: tuple[int, int]) -> Stored | Conflict:
        return await closing.submit(record, held=True)

    closing = Batcher[Record, Stored | Conflict](never, max_items=1, max_bytes=1, size_of=lambda _: 1, patience_s=10.0)
    world.store.replace = store  # type: ignore[assignment, method-assign]
    send, receive = trio.open_memory_channel[Work](1)
    send.send_nowait(entry)
    send.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closing.run)
        nursery.start_soon(run_worker, receive, trio.open_memory_channel[Entry](0)[0], pipeline)
        await trio.sleep(1)
        pipeline.stop()
        nursery.cancel_scope.cancel()
    receive.close()
    assert [entry.id] == [sent.id for sent in world.channel.sends]
    assert {entry.id} == set(pipeline.in_flight.started)


async def test_a_worker_that_failed_still_sends_what_is_claimed(autojump_clock: MockClock) -> None:
    """The only worker meets a bug while a retry is being claimed for it: the retry is sent, and the bug is raised."""
    world = World([Retry("busy", 503)], retry_schedule_s=(1.0,), workers=1)
    retried, _ = await world.carry(world.pipeline("first"))
    get = world.store.get

    async def slow(record_id: str) -> Stored | None:
        await trio.sleep(3)
        return await get(record_id)

    world.store.get = slow  # type: ignore[method-assign]
    pipeline = world.pipeline()
    pipeline.fault_point = FaultPoint("after_persist:raise")
    with pytest.RaisesGroup(pytest.RaisesGroup(InjectedFault)):
        async with world.serving(pipeline):
            await trio.sleep(5)  # the look began at 1, and the claim at 4
            unlucky = world.emit(alert_id="unlucky")
            await trio.sleep(100)
    assert {retried.id: "delivered", unlucky: "sending"} == world.states
    assert [0.0, 7.0] == world.channel.sent_at_s
