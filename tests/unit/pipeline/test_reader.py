"""Handing out what was read: a crowd is spread while the loop keeps up."""

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.pipeline.reader import hand_out
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work


class Begun(trio.abc.Instrument):
    """In the place of the channel to the workers: counts what begins in each turn of the loop.

    Args:
        look: Called behind each.
    """

    def __init__(self, look: Callable[[int], object] = lambda _: None) -> None:
        self.by_turn: Counter[int] = Counter()
        self._turn = 0
        self._look = look

    def before_io_wait(self, _timeout: float, /) -> None:
        self._turn += 1

    def send_nowait(self, _work: Work) -> None:
        self.by_turn[self._turn] += 1
        self._look(self.by_turn.total())


async def hand_out_40(pipeline: Pipeline, world: World, begun: Begun) -> None:
    await pipeline.stream.prepare()
    for _ in range(40):
        world.emit()
    entries = await pipeline.stream.read(40)
    trio.lowlevel.add_instrument(begun)
    await hand_out(entries, cast("Any", begun), pipeline)
    trio.lowlevel.remove_instrument(begun)


@pytest.mark.parametrize(
    ("workers", "together"),
    [
        pytest.param(64, [16, 16, 8], id="the loop keeps up"),
        pytest.param(1000, [40], id="it is behind"),
    ],
)
async def test_how_many_alerts_begin_together(workers: int, together: list[int], autojump_clock: MockClock) -> None:
    """A crowd that begins together comes back together, and waits in line for its store, and for the loop."""
    world, begun = World(workers=workers), Begun()
    await hand_out_40(world.pipeline(), world, begun)
    assert together == list(begun.by_turn.values())


async def test_a_soft_stop_leaves_the_rest_of_a_crowd_to_others(autojump_clock: MockClock) -> None:
    """Also between two parts of it."""
    world = World(workers=64)
    pipeline = world.pipeline()
    begun = Begun(lambda count: pipeline.stop() if count == 16 else None)
    await hand_out_40(pipeline, world, begun)
    assert 16 == begun.by_turn.total() == len(pipeline.in_flight.ids)
