"""The acknowledger in whole processes, in virtual time: what it holds, for how long, and what is left of it."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.alert import Entry
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline


def slow_to_acknowledge(world: World, pipeline: Pipeline, seconds: float) -> None:
    """Let each acknowledgement take so long; nothing else does."""
    ack = pipeline.stream.ack

    async def late(entries: Sequence[Entry]) -> None:
        await trio.sleep(seconds)
        await ack(entries)

    pipeline.stream.ack = late  # type: ignore[method-assign]


async def test_a_worker_does_not_wait_for_it(autojump_clock: MockClock) -> None:
    """The only worker sends the second alert while the first is being acknowledged, and what gathers goes together."""
    world = World(workers=1, latency_s=1.0)
    pipeline = world.pipeline()
    slow_to_acknowledge(world, pipeline, 3.0)
    async with world.serving(pipeline):
        for number in range(2):
            world.emit(alert_id=f"a-{number}")
        await trio.sleep(7)
    assert [0.0, 1.0] == world.channel.sent_at_s
    assert {} == world.pending


async def test_what_is_not_acknowledged_is_held(autojump_clock: MockClock) -> None:
    """It is renewed like what is being sent, so that nobody takes it over, and only the worker is free."""
    world = World(workers=2, keepalive_s=10.0, claim_idle_s=30.0)
    entry_id, pipeline = world.emit(), world.pipeline()
    world.server.decide = lambda call: "down" if call.method == "ack" else None
    in_flight = pipeline.in_flight
    async with world.serving(pipeline, world.pipeline("peer")):
        await trio.sleep(100)
        assert (1, 2, {entry_id}) == (in_flight.unacknowledged, in_flight.idle, in_flight.ids)
        assert ({entry_id: "me"}, []) == (world.pending, world.server.called("claim"))
        world.server.decide = lambda _: None
        await trio.sleep(6)
        assert (0, 2, set(), {}) == (in_flight.unacknowledged, in_flight.idle, set(in_flight.ids), world.pending)
    assert {entry_id: 1} == world.channel.accepted


async def test_not_more_is_left_to_it_than_there_are_workers(autojump_clock: MockClock) -> None:
    """A Redis that hands out and takes nothing back: then workers wait, and the rest stays in the stream."""
    world = World(workers=3)
    pipeline = world.pipeline()
    for number in range(20):
        world.emit(alert_id=f"a-{number}")
    world.server.decide = lambda call: "down" if call.method == "ack" else None
    async with world.serving(pipeline):
        await trio.sleep(60)
        assert (3, 0, 6) == (pipeline.in_flight.unacknowledged, pipeline.in_flight.idle, len(world.channel.sends))
        world.server.decide = lambda _: None
        await trio.sleep(10)
        assert (20, {}) == (len(world.channel.sends), world.pending)


@pytest.mark.parametrize(("away_s", "pending"), [(3.0, 0), (60.0, 1)])
async def test_a_soft_stop_waits_for_it_as_long_as_for_workers(
    autojump_clock: MockClock, away_s: float, pending: int
) -> None:
    """Within the grace time it is tried again; after it the entry is handed over, and its record says the rest."""
    world = World(grace_s=10.0)
    entry_id = world.emit()
    world.server.decide = lambda call: "down" if call.method == "ack" else None
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
        stopped_at_s = trio.current_time()
        world.server.decide = lambda call: (
            "down" if call.method == "ack" and trio.current_time() < stopped_at_s + away_s else None
        )
    assert ("delivered", pending) == (world.delivery(entry_id).state, len(world.pending))
    assert bool(pending) is (trio.current_time() == stopped_at_s + 10.0)
    world.server.decide = lambda _: None
    async with world.serving(world.pipeline("peer")):
        await trio.sleep(2)
    assert ({entry_id: 1}, {}) == (world.channel.accepted, world.pending)


async def test_what_is_finished_while_everything_is_cancelled_is_acknowledged(autojump_clock: MockClock) -> None:
    """The write of an outcome holds the cancellation off; so does what is left to do for it."""
    world = World()
    entry_id, pipeline = world.emit(), world.pipeline()
    replace = world.store.replace

    async def late(*arguments: object) -> object:
        with trio.CancelScope(shield=True):
            await trio.sleep(4)
        return await replace(*arguments)  # type: ignore[arg-type]

    world.store.replace = late  # type: ignore[assignment, method-assign]
    slow_to_acknowledge(world, pipeline, 2.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, pipeline)
        await trio.sleep(1)
        cut_at_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert cut_at_s + 5 == trio.current_time()
    assert ("delivered", {}) == (world.delivery(entry_id).state, world.pending)
