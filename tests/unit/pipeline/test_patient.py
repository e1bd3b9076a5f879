"""The store as the four steps ask it: what a cancellation cuts, before a send and after it."""

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.delivery import Delivery
from trio_alerts.record import Record


@pytest.mark.parametrize("method", ["create", "get"])
async def test_a_cancellation_cuts_no_try_after_a_send(method: str, autojump_clock: MockClock) -> None:
    """What became of an outcome must be known: the answer is waited for. Before a send nothing depends on it."""
    world = World()
    world.store.latency_s = 5.0
    pipeline = world.pipeline()
    argument = "1-0" if method == "get" else Record("1-0", b"{}", Delivery(state="delivered"))
    for store, ended_at_s in ((pipeline.store_before_send, 1.0), (pipeline.store_after_send, 6.0)):
        with trio.move_on_after(1):
            await getattr(store, method)(argument)
        assert ended_at_s == trio.current_time()
