"""The claimer: nobody who lives is taken for dead, and suspects come one at a time."""

from typing import Any, TypeVar, cast

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.backends.redis.answers import shaped
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.stream import RedisStream
from trio_alerts.pipeline.state import Pipeline

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


async def backlog(world: World, abandoned: int, workers: int) -> tuple[list[str], Pipeline]:
    """Let a process die with entries in its hands, and put more new ones behind them than anybody can carry."""
    ids = [world.emit(alert_id=f"abandoned-{n}") for n in range(abandoned)]
    dead = world.pipeline("dead").stream
    await dead.prepare()
    await dead.read(abandoned)
    for n in range(2000):
        world.emit(alert_id=f"new-{n}")
    for held in world.server.pending(STREAM, GROUP).values():
        held.since_s -= 100.0
    return ids, world.pipeline("living", workers=workers)


@pytest.mark.parametrize(("workers", "within_s"), [(1, 100.0), (4, 60.0), (16, 20.0)])
@pytest.mark.parametrize("handed_over", [False, True])
async def test_abandoned_entries_get_their_share_under_a_backlog(
    autojump_clock: MockClock, workers: int, within_s: float, handed_over: bool
) -> None:
    """Every worker is busy all the time, and the reader has always something new: both go on, in turn."""
    world = World(latency_s=3.0)
    ids, pipeline = await backlog(world, 16, workers)
    wait_s = 0.0 if handed_over else 20.0  # for the others to renew what is theirs, at the start
    if handed_over:
        await world.pipeline("dead").stream.hand_over(())
    async with world.serving(pipeline):
        await trio.sleep(wait_s)
        before = len(world.channel.sends)
        await trio.sleep(within_s / 2)
        sent = [send.id for send in world.channel.sends[before:]]
        assert len(sent) / 7 <= len(set(sent) & set(ids)) <= len(sent) * 4 / 5
        await trio.sleep(within_s / 2)
        sent = [send.id for send in world.channel.sends[before:]]
        assert set(ids) <= set(sent)
        assert workers * (within_s / 3 - 2) <= len(sent)  # no worker waits for anything


@pytest.mark.parametrize("workers", [1, 16])
async def test_a_look_that_finds_nothing_costs_no_worker(autojump_clock: MockClock, workers: int) -> None:
    """With nothing abandoned every worker is busy from the first second to the last, as if nobody looked."""
    world = World(latency_s=3.5)
    _, pipeline = await backlog(world, 0, workers)
    async with world.serving(pipeline):
        await trio.sleep(60.5)
        assert 18 * workers == len(world.channel.sends)
        assert 60 <= len(world.server.called("look")) <= 61


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

        def expect_page(self, *_: object) -> None: ...

    client = cast(RedisClient, Client())
    await RedisStream(World().settings(), client, client).own_pending((), 10)
    assert ["0-0", "3-0"] == taken
