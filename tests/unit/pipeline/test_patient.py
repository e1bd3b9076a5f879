"""The backends as the four steps ask them: what a cancellation cuts, before a send and after it."""

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


@pytest.mark.parametrize("method", ["ack", "quarantine"])
async def test_a_cancellation_cuts_no_try_to_be_done_with_an_entry(method: str, autojump_clock: MockClock) -> None:
    """Whether it left the pending list is known before the task goes."""
    world = World()
    pipeline = world.pipeline()
    world.emit()
    entry = await world.take(pipeline)
    world.server.latency_s = 5.0
    began_at_s = trio.current_time()
    with trio.move_on_after(1):
        if method == "ack":
            await pipeline.patient_stream.ack([entry])
        else:
            await pipeline.patient_stream.quarantine(entry, "bad_json", "not JSON")
    assert (began_at_s + 5.0, {}) == (trio.current_time(), world.pending)
