"""What happens once a minute."""

import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.outcome import Refused, Retry
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S


async def test_what_needs_a_human_is_said_once_a_minute(autojump_clock: MockClock, logged: list[str]) -> None:
    """One line, with dead letters without a record too; nothing while there is nothing."""
    world = World([Refused("no", 410)])
    async with world.serving(world.pipeline()):
        await trio.sleep(90)
        world.emit()
        world.server.add(STREAM, {b"event": b"{"})
        await trio.sleep(100)
    said = [line for line in logged if "needs a human" in line]
    assert ["ERROR needs a human: 1 failed, 1 quarantined"] * 2 == said


async def test_a_doubt_needs_a_human_while_another_channel_is_retried(
    autojump_clock: MockClock, logged: list[str]
) -> None:
    """The record is called `retrying`; what is in doubt is counted by its channels."""
    chat = FakeChannel("chat", [Retry("busy", 503)] * 99)
    world = World([Retry("cut", unseen=True)], channels=[chat], hold=["webhook"])
    record_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(70)
    assert "retrying" == world.delivery(record_id).state
    assert ["ERROR needs a human: 1 in_doubt"] == [line for line in logged if "needs a human" in line]


async def test_what_was_lost_is_told_by_one_of_all_processes(autojump_clock: MockClock, logged: list[str]) -> None:
    """Entries that the producer's limit took unread are an error, once."""
    world = World(latency_s=1000.0, send_timeout_s=2000.0, lease_s=5000.0, workers=1, grace_s=0.0)
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        await trio.sleep(1)
        for n in range(7):
            world.emit(alert_id=f"a-{n}")
        await trio.sleep(1)
        world.server.trim(STREAM, 2)
        await trio.sleep(200)
    said = [line for line in logged if line.startswith("ERROR lost upstream")]
    assert (1, True) == (len(said), "lost upstream: 3 entries" in said[0])


async def test_consumers_of_dead_processes_are_removed(autojump_clock: MockClock) -> None:
    """After ten minutes of silence with nothing pending; what has something pending is taken over first."""
    world = World()
    shadow, busy = world.pipeline("shadow"), world.pipeline("busy")
    world.emit()
    await world.take(shadow)
    await shadow.stream.hand_over(set())
    world.emit(alert_id="b")
    await world.take(busy)
    async with world.serving(world.pipeline("living", block_s=2.0)):
        await trio.sleep(5)
        consumers = world.server.streams[STREAM].groups[GROUP].consumers
        assert {"shadow", "busy", "living"} == consumers
        await trio.sleep(580)
        assert {"shadow", "busy", "living"} == consumers
        await trio.sleep(120)
        assert {"living"} == consumers
    assert ["delivered"] * 2 == list(world.states.values())
    assert HANDED_OVER_IDLE_S > 600  # what was handed over is taken long before its consumer goes


async def test_acknowledged_entries_are_trimmed_if_that_is_wanted(autojump_clock: MockClock) -> None:
    """With `trim = "acked"`, older than `trim_keep_s`; by default nothing is ever trimmed."""
    world = World(trim_keep_s=600.0)
    world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(2000)
    assert 1 == len(world.server.streams[STREAM].entries)
    async with world.serving(world.pipeline(trim="acked")):
        young = world.emit(alert_id="young")
        await trio.sleep(100)
    assert [young] == list(world.server.streams[STREAM].entries)


async def test_one_process_tidies_up_for_all(autojump_clock: MockClock) -> None:
    """A lock keeps the others from doing the same; it ends by itself."""
    world = World(trim="acked")
    async with world.serving(world.pipeline("one"), world.pipeline("two"), world.pipeline("three")):
        await trio.sleep(10 * 60 + 30)
    assert 10 == len(world.server.called("trim"))


async def test_an_outage_keeps_the_janitor_from_nothing_but_this_round(
    autojump_clock: MockClock, logged: list[str]
) -> None:
    """A store that is away does not keep the streams from being looked after, nor the other way round."""
    world = World([Refused("no", 410)], trim="acked")
    world.emit()
    async with world.serving(world.pipeline()):
        world.store.decide = lambda call: "down" if call.method == "counts" else None
        await trio.sleep(70)
        assert 1 == len(world.server.called("trim"))
        world.store.decide = lambda _: None
        await trio.sleep(60)
    assert 1 == len([line for line in logged if "needs a human" in line])
