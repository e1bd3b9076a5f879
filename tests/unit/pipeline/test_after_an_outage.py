"""A receiver that was away comes back while alerts go on coming: the backlog has to end."""

import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.outcome import Accepted, Retry

# A fifth of 60 alerts a second and of the workers' pace, to be a fifth of the work for the test.
PER_S, LATENCY_S, AWAY_S = 12, 0.5, 60.0


async def test_the_backlog_of_an_outage_ends_while_alerts_go_on_coming(autojump_clock: MockClock) -> None:
    """Four processes of four workers send 32 a second, and a quarter of them 8: fewer than the 12 that come."""
    world = World(workers=4, latency_s=LATENCY_S)
    world.channel.decide = lambda _: Retry("answered 503", 503) if trio.current_time() < AWAY_S else Accepted(200)

    async def emit() -> None:
        for number in range(150 * PER_S):
            world.emit(alert_id=f"a-{number}", severity="critical" if number % 10 == 0 else "low")
            await trio.sleep(1 / PER_S)

    pipelines = [world.pipeline(f"p-{number}") for number in range(4)]
    async with world.serving(*pipelines), trio.open_nursery() as producers:
        producers.start_soon(emit)
        await trio.sleep(AWAY_S)
        assert list(world.states.values()).count("waiting") > 0.8 * AWAY_S * PER_S
        await trio.sleep(85.0)
        # What came in the last second is under way; nothing else is left, and nothing has failed.
        unfinished = [state for state in world.states.values() if state != "delivered"]
        assert len(unfinished) <= 2 * PER_S
        producers.cancel_scope.cancel()
        await trio.sleep(10.0)
    assert {"delivered"} == set(world.states.values())
    assert {1} == set(world.channel.accepted.values())
