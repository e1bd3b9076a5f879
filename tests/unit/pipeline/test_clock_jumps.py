"""Redis's clock is set, forward or back, under processes at work."""

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import GROUP, World
from trio_alerts.errors import Unavailable
from trio_alerts.outcome import Retry
from trio_alerts.pipeline.turn import PATIENCE_ROUNDS, Turn
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S

HOUR_S = 3600.0


def holding_world(alerts: int = 3, **settings: Any) -> World:
    """Alerts that are held for longer than any of these tests takes."""
    world = World(latency_s=500.0, send_timeout_s=600.0, lease_s=1500.0, **settings)
    for number in range(alerts):
        world.emit(alert_id=f"a-{number}")
    return world


@pytest.mark.parametrize("seconds", [HOUR_S, 2 * HANDED_OVER_IDLE_S, -HOUR_S])
@pytest.mark.parametrize("at_s", [60.0, 60.5, 60.9])
async def test_nobody_is_taken_for_dead(seconds: float, at_s: float, autojump_clock: MockClock) -> None:
    """Set forward, everything looks idle; each process sees that by itself, renews, and gives the others the time."""
    world = holding_world()
    async with world.serving(world.pipeline("holding", grace_s=1.0)):
        await trio.sleep(0.5)
        async with world.serving(world.pipeline("looking", claim_every_s=1.3)):
            await trio.sleep(at_s)
            world.server.jump(seconds)
            await trio.sleep(120)
            assert {"holding"} == set(world.pending.values())
            assert 3 == len(world.channel.sends)


async def test_a_jump_between_look_and_claim_takes_nothing(autojump_clock: MockClock) -> None:
    """The claim is refused where it is decided: on the server, by its clock at that moment."""
    world = holding_world()
    async with world.serving(world.pipeline("holding", grace_s=1.0)):
        await trio.sleep(0.5)
        looking = world.pipeline("looking")
        await looking.stream.prepare()
        await looking.measure_time()
        found = await looking.stream.look(0.0, 10)
        world.server.jump(HOUR_S)
        assert [] == await looking.stream.claim(found, 45.0)
        await looking.measure_time()
        assert 3 == len(await looking.stream.claim(found, 45.0))


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "before the start"])
async def test_what_a_dead_process_held_is_taken_over_in_time(
    seconds: float, seen: bool, autojump_clock: MockClock
) -> None:
    """Set back, idle times stand still for an hour, and so would claims; who starts afterwards has seen no jump."""
    world = World()
    dying = world.pipeline("dying")
    world.emit()
    await world.take(dying)  # and nothing more is heard of it
    if not seen:
        world.server.jump(seconds)
    async with world.serving(world.pipeline("living")):
        await trio.sleep(5)
        if seen:
            world.server.jump(seconds)
        await trio.sleep(60)
        assert ["delivered"] == list(world.states.values())


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
async def test_retries_go_on(seconds: float, autojump_clock: MockClock) -> None:
    """Set back, the next attempts lie an hour ahead: no retry waits for that."""
    world = World([Retry("busy", 503)] * 3, retry_schedule_s=(20.0, 20.0, 20.0))
    world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(10)
        world.server.jump(seconds)
        await trio.sleep(150)
    waits = [later - earlier for earlier, later in pairwise(world.channel.sent_at_s)]
    assert 3 == len(waits)
    assert waits[0] <= 30.0
    assert all(20.0 <= wait <= 24.0 for wait in waits[1:])


async def test_a_retry_that_is_being_sent_is_nobody_elses(autojump_clock: MockClock) -> None:
    """It has no entry any more, only its lease: set forward, that is over for everybody who looks at the clock."""
    world = World([Retry("busy", 503)], retry_schedule_s=(100.0, 1000.0), lease_s=60.0, send_timeout_s=20.0)
    record_id = world.emit()
    async with world.serving(world.pipeline("first"), world.pipeline("second")):
        await trio.sleep(0.5)
        world.channel.latency_s = 15.0
        with trio.fail_after(150):
            while not world.channel.under_way:  # noqa: ASYNC110 - a channel gives no sign
                await trio.sleep(0.1)
        world.server.jump(HOUR_S)
        await trio.sleep(60)
    delivery = world.delivery(record_id)
    assert ("delivered", 2, 0) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert 2 == len(world.channel.sends)


async def test_retries_need_no_lock(autojump_clock: MockClock) -> None:
    """A server with a full memory takes none: it is a SET."""
    world = World([Retry("busy", 503)], retry_schedule_s=(5.0, 5.0))
    world.emit()
    world.server.decide = lambda call: "down" if call.method == "lock" else None
    async with world.serving(world.pipeline()):
        await trio.sleep(10)
    assert ["delivered"] == list(world.states.values())


async def test_hints_that_cannot_be_recalled_hold_up_no_sweep(autojump_clock: MockClock) -> None:
    """The sweep is made all the same, and the next one tries it again; then it is done."""
    world = World()
    async with world.serving(world.pipeline()):
        await trio.sleep(9)  # between two looks at whether it is time to sweep
        world.server.fail_next("recall_due", "down", 1)
        world.server.jump(-HOUR_S)
        await trio.sleep(20)
        assert (2, 1) == (len(world.store.called("due")), len(world.server.called("recall_due")))
        await trio.sleep(120)
        assert (4, 2) == (len(world.store.called("due")), len(world.server.called("recall_due")))


async def test_turns_are_taken_in_the_end(autojump_clock: MockClock) -> None:
    """One process of two while the lock works; both when somebody keeps it."""
    world = World()
    one, other = (world.pipeline(name).stream for name in ("one", "other"))
    first, second = Turn(one, "look", 2.0, 2.0), Turn(other, "look", 2.0, 2.0)
    assert [True, False] == [await first.is_ours(), await second.is_ours()]
    world.server.locks[f"{GROUP}:look"] = trio.current_time() + HOUR_S
    rounds = []
    for _ in range(PATIENCE_ROUNDS):
        await trio.sleep(2.0)
        rounds.append((await first.is_ours(), await second.is_ours()))
    assert [(False, False)] * (PATIENCE_ROUNDS - 1) + [(True, True)] == rounds


async def test_an_outage_is_no_turn_of_its_own(autojump_clock: MockClock) -> None:
    """With the server away the work itself fails, and says so."""
    world = World()
    world.server.down = True
    turn = Turn(world.pipeline().stream, "look", 2.0, 2.0)
    assert await turn.is_ours()
    with pytest.raises(Unavailable):
        await world.pipeline().stream.server_time()
