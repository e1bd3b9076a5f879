"""One channel hangs, and the others do not notice: a whole process in virtual time, under Poisson load."""

import itertools
from random import Random

import pytest
import trio
from trio.testing import MockClock

from bench.figures import percentile
from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World
from trio_alerts.settings.settings import RouteSettings

USUAL_S = 0.1
HANGS_AT_S = 1.0


@pytest.mark.parametrize(
    ("channels", "workers", "rate", "seconds"),
    [pytest.param(3, 16, 60.0, 20.0, id="through its time-out"), pytest.param(10, 102, 600.0, 3.0, id="its start")],
)
async def test_others_go_on(
    channels: int, workers: int, rate: float, seconds: float, autojump_clock: MockClock
) -> None:
    """From XADD to the answer, 99 of 100 alerts of the others take what their receivers take."""
    others = [FakeChannel(f"channel-{number}", latency_s=USUAL_S) for number in range(1, channels)]
    world = World(channels=others, latency_s=USUAL_S, workers=workers)
    routes = [RouteSettings(name=one, match={"scope": (one,)}, channels=(one,)) for one in world.channels]
    rest = RouteSettings(name="rest", channels=("webhook",))
    random, due_s, emitted_s = Random(1), 0.0, dict[str, float]()
    async with world.serving(world.pipeline(routes=(*routes, rest))):
        start_s = trio.current_time()
        for name in itertools.cycle(world.channels):
            due_s += random.expovariate(rate)
            if due_s > seconds:
                break
            await trio.sleep_until(start_s + due_s)
            emitted_s[world.emit(scope=name)] = trio.current_time()
            if due_s > HANGS_AT_S:
                world.channel.latency_s = 10**6
        await trio.sleep(1)
    sends = [send for channel in others for send in channel.sends]
    waits_s = sorted(send.at_s + USUAL_S - emitted_s[send.id] for send in sends)
    assert len(emitted_s) * (channels - 1) // channels <= len(sends)
    assert pytest.approx(USUAL_S) == percentile(waits_s, 0.99)
