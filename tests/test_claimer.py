"""The claimer: nobody who lives is taken for dead, and suspects come one at a time."""

from typing import Any, TypeVar, cast

import trio
from trio.testing import MockClock

from tests.fakes.world import GROUP, STREAM, World
from trio_alerts.backends.redis_answers import shaped
from trio_alerts.backends.redis_client import RedisClient
from trio_alerts.backends.redis_stream import RedisStream

T = TypeVar("T")


def slow_world(**settings: Any) -> World:
    """Return a world whose only alert is held for longer than any of these tests takes."""
    world = World(latency_s=500.0, send_timeout_s=600.0, lease_s=1500.0, **settings)
    world.emit()
    return world


async def test_after_a_pause_of_the_server_nobody_is_taken_for_dead(autojump_clock: MockClock) -> None:
    """Idle time runs on while the server is away: whoever looks first gives the others the time to renew theirs."""
    world = slow_world()
    async with world.serving(world.pipeline("holding", grace_s=1.0)):
        await trio.sleep(0.5)
        async with world.serving(world.pipeline("looking")):
            await trio.sleep(60)
            world.server.down = True
            await trio.sleep(101.8)
            world.server.down = False  # at 162.3: one looks at 162.5, the other one at 163 and renews
            await trio.sleep(60)
            assert ([], "holding") == (world.server.called("claim"), *world.pending.values())


async def test_after_a_gap_of_its_own_a_process_renews_what_it_holds_first(autojump_clock: MockClock) -> None:
    """A connection lost for nearly `claim_idle_s`: others wait no longer, so the next keep-alive would be too late."""
    world = slow_world(keepalive_s=8.0)
    async with world.serving(world.pipeline("holding", grace_s=1.0)):
        await trio.sleep(0.5)
        async with world.serving(world.pipeline("looking")):
            await trio.sleep(60)
            world.server.decide = lambda call: "down" if call.consumer == "holding" else None
            await trio.sleep(43.8)
            world.server.decide = lambda _: None  # at 104.3: renewed at 60, 45 s idle at 105, the keep-alive is at 108
            await trio.sleep(60)
            assert ([], "holding") == (world.server.called("claim"), *world.pending.values())


async def test_a_process_that_starts_gives_the_others_time_to_renew(autojump_clock: MockClock) -> None:
    """It cannot know what was before: the server may have been away until just now."""
    world = slow_world()
    async with world.serving(world.pipeline("holding", claim_every_s=3.0, grace_s=1.0)):
        await trio.sleep(60)
        world.server.down = True
        await trio.sleep(102.1)
        world.server.down = False  # at 162.1: what is held is renewed at 165
        async with world.serving(world.pipeline("new")):
            await trio.sleep(60)
            assert ([], "holding") == (world.server.called("claim"), *world.pending.values())


async def test_what_a_dead_process_held_is_taken_also_after_a_gap(autojump_clock: MockClock) -> None:
    """The wait after a gap is twice `keepalive_s`, and no longer."""
    world = slow_world()
    await world.take(world.pipeline("dead"))
    async with world.serving(world.pipeline("living", grace_s=1.0)):
        await trio.sleep(10)
        world.server.down = True
        await trio.sleep(89.5)
        world.server.down = False  # noticed at 100
        await trio.sleep(60)
        assert [120.0] == [call.at_s for call in world.server.called("claim")]
        assert 2 == world.server.pending(STREAM, GROUP)[min(world.pending)].deliveries


async def test_a_suspect_under_our_own_name_is_left_to_the_claimer() -> None:
    """What a process of the same name left behind may be what crashed it: the reader would take several at once."""
    page = [
        {"message_id": b"%d-0" % n, "consumer": b"me", "time_since_delivered": 0, "times_delivered": deliveries}
        for n, deliveries in enumerate((1, 2, 3, 1))
    ]
    taken: list[object] = []

    class Client:
        async def xpending_range(self, *_: object) -> list[dict[str, Any]]:
            return page

        async def run_script(self, shape: type[T], _: str, __: object, *arguments: object) -> T:
            taken.extend(argument for argument in arguments if str(argument).endswith("-0"))
            return shaped([[], []], shape)

        def expect(self, shape: type[T], answer: object, *_: object) -> T:
            return shaped(answer, shape)

    client = cast(RedisClient, Client())
    await RedisStream(World().settings(), client, client).own_pending((), 10)
    assert ["0-0", "3-0"] == taken
