"""What is written into the hints, and in which order: who dies in between leaves the rest to the next one."""

import datetime as dt

import pytest
from trio.testing import MockClock

from tests.support.fakes.hints import FakeHints
from tests.support.fakes.world import GROUP, World
from trio_alerts.errors import Unavailable
from trio_alerts.ports.hints import DueHint, Queued
from trio_alerts.reminders import remind


async def test_the_hint_that_led_here_goes_when_the_queues_are_told(autojump_clock: MockClock) -> None:
    world = World()
    hints = FakeHints(world.server, world.settings())
    await hints.put_due([DueHint("0-1", dt.datetime.fromtimestamp(world.server.time(), dt.UTC))])
    taken = (await hints.take_due(1, 30.0)).taken[0]
    done, queued = DueHint("0-1", None, taken.until_ms), Queued("webhook", "0-1", 3)
    world.server.fail_next("put_queued", "down", 1)
    with pytest.raises(Unavailable):
        await remind(hints, [done], [queued])
    assert {"0-1": taken.until_ms} == world.server.hints_of(GROUP).due
    await remind(hints, [done], [queued])
    assert {} == world.server.hints_of(GROUP).due
