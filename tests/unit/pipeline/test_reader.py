"""Handing out what was read: a crowd is spread while the loop keeps up."""

import math

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.pipeline.reader import hand_out
from trio_alerts.pipeline.worker import Work


@pytest.mark.parametrize(
    ("workers", "at_once"),
    [
        pytest.param(64, {0, 16, 32, 40}, id="the loop keeps up"),
        pytest.param(1000, {0, 40}, id="it is behind"),
    ],
)
async def test_how_many_alerts_begin_together(workers: int, at_once: set[int], autojump_clock: MockClock) -> None:
    """A crowd that begins together comes back together, and waits in line for its store, and for the loop."""
    world = World(workers=workers)
    pipeline = world.pipeline()
    await pipeline.stream.prepare()
    for _ in range(40):
        world.emit()
    send, receive = trio.open_memory_channel[Work](math.inf)
    seen = {0}
    with send, receive:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_out, await pipeline.stream.read(40), send, pipeline)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
                seen.add(receive.statistics().current_buffer_used)
    assert at_once == seen


async def test_a_soft_stop_leaves_the_rest_of_a_crowd_to_others(autojump_clock: MockClock) -> None:
    """Also in the pause between two parts of it."""
    world = World(workers=64)
    pipeline = world.pipeline()
    await pipeline.stream.prepare()
    for _ in range(40):
        world.emit()
    send, receive = trio.open_memory_channel[Work](math.inf)
    with send, receive:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_out, await pipeline.stream.read(40), send, pipeline)
            for _ in range(2):
                await trio.lowlevel.checkpoint()
            pipeline.stop()
        assert 16 == receive.statistics().current_buffer_used == len(pipeline.in_flight.ids)
