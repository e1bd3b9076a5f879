"""The drainer: what waits goes out by its gate, the most severe first, and nothing is lost on the way."""

import datetime as dt
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import GROUP, World
from trio_alerts.alert import parse_entry
from trio_alerts.outcome import Accepted, Later, Outcome, Retry
from trio_alerts.pipeline.claim import Disposition, persist
from trio_alerts.pipeline.service import serve
from trio_alerts.ports.channel import Message
from trio_alerts.ports.gates import Admitted, GateView, Rate
from trio_alerts.ports.hints import Queued, Taken
from trio_alerts.settings.settings import ChannelSettings

NOW = dt.datetime(2026, 11, 26, 2, 0, tzinfo=dt.UTC)


def limited(per_s: float = 1.0, burst: int = 1) -> ChannelSettings:
    return ChannelSettings(name="webhook", rate_per_s=per_s, burst=burst)


async def test_a_flood_goes_out_at_the_rate_and_the_most_severe_first(autojump_clock: MockClock) -> None:
    """A hundred alerts in a moment over four processes, of which one in ten is critical: never more than the rate."""
    world = World(workers=8)
    pipelines = [world.pipeline(name, channels=(limited(1.0, 3),)) for name in ("a", "b", "c", "d")]
    severe = {world.emit(severity="critical" if number % 10 == 0 else "low"): number % 10 == 0 for number in range(100)}
    async with world.serving(*pipelines):
        await trio.sleep(150.0)
        assert {"delivered"} == set(world.states.values())
    sent = world.channel.sends
    assert 100 == len(sent) == len({one.id for one in sent})
    for number, one in enumerate(sent):
        assert one.at_s >= number - 3
    order = [severe[one.id] for one in sent[3:]]
    assert order == sorted(order, reverse=True)
    assert sent[-1].at_s < 110.0


async def test_eleven_limits_make_no_failed_alert(autojump_clock: MockClock) -> None:
    """Each closes the gate for the time that it names; the alert arrives in the end, with one attempt."""
    world = World([Later("limited: answered 429", 30.0, 429)] * 11)
    record_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(400.0)
        delivery = world.delivery(record_id)
    assert ("delivered", 1) == (delivery.state, delivery.channels[0].attempts)
    assert all(30.0 <= later - earlier <= 32.0 for earlier, later in pairwise(world.channel.sent_at_s))
    assert 12 == len(world.channel.sends)


async def test_a_drain_leaves_workers_to_the_other_channels(autojump_clock: MockClock) -> None:
    """A receiver that hangs just when its backlog comes has a quarter of the workers; with one channel, all drain."""
    for others, most in (([FakeChannel("chat")], 4), ([], 16)):
        world = World([Later("limited: answered 429", 10.0, 429)], channels=others, workers=16)
        world.emit()
        async with world.serving(world.pipeline(send_timeout_s=5.0)):
            await trio.sleep(1.0)
            for _ in range(40):
                world.emit()
            await trio.sleep(4.0)
            world.channel.latency_s = 10**6
            await trio.sleep(8.0)
            assert most == world.channel.under_way


def poisoned(poison: set[str]) -> Callable[[Message], Outcome]:
    return lambda message: Retry("answered 500", 500) if message.id in poison else Accepted(200)


async def test_ten_poison_alerts_do_not_keep_a_healthy_receiver_shut(autojump_clock: MockClock) -> None:
    """They open the breaker; the first healthy alert is the second probe at the latest, and the others follow it."""
    world = World(workers=16, retry_schedule_s=(5.0,) * 12)
    poison = {world.emit(severity="critical") for _ in range(10)}
    world.channel.decide = poisoned(poison)
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(20.0)
        assert pipeline.channel_gates["webhook"].view.open_s is not None
        opened = len(world.channel.sends)
        healthy = [world.emit(severity="low") for _ in range(5)]
        await trio.sleep(70.0)
        assert ["delivered"] * 5 == [world.delivery(one).state for one in healthy]
    after = [one.id for one in world.channel.sends[opened:]]
    assert min(after.index(one) for one in healthy) <= 1


async def test_a_receiver_that_is_back_gets_what_waits_within_a_probe(autojump_clock: MockClock) -> None:
    """While it is away one alert is tried every 30 s, and the others use no step; then all go out."""
    world = World(workers=16)
    world.channel.decide = lambda _: Retry("answered 503", 503)
    first = [world.emit() for _ in range(10)]
    async with world.serving(world.pipeline("a"), world.pipeline("b")):
        await trio.sleep(10.0)
        later = [world.emit() for _ in range(50)]
        before = len(world.channel.sends)
        await trio.sleep(600.0)
        probes = len(world.channel.sends) - before
        assert 19 <= probes <= 21
        world.channel.decide = lambda _: Accepted(200)
        await trio.sleep(35.0)
        assert {"delivered"} == {world.delivery(one).state for one in [*first, *later]}
    tried = [world.delivery(one).channels[0].attempts for one in later]
    assert 3 >= max(tried)


async def test_who_has_not_heard_that_a_breaker_has_closed_sends_the_most_severe(autojump_clock: MockClock) -> None:
    """The gate says so when it is asked: what goes out is no probe, and not the alert with the fewest attempts."""
    world = World()
    pipeline = world.pipeline(channels=(limited(2.0),))
    async with world.serving(pipeline):
        assert Admitted() == await pipeline.gates.ask("webhook", Rate(2.0))
        pipeline.channel_gates["webhook"].saw(GateView(open_s=40.0), trio.current_time())
        low_id, critical_id = world.emit(severity="low"), world.emit(severity="critical")
        await trio.sleep(0.1)
        assert {low_id: "waiting", critical_id: "waiting"} == world.states
        await pipeline.hints.put_queued([Queued("webhook", critical_id, 4, attempts=3)])
        await trio.sleep(0.7)
        assert [critical_id] == [one.id for one in world.channel.sends]


async def test_one_channel_waits_and_the_other_has_it_at_once(autojump_clock: MockClock) -> None:
    """One record; the acceptance of the one is stored while the other waits its turn."""
    world = World(channels=[FakeChannel("pager")])
    pipeline = world.pipeline(channels=(limited(0.1), ChannelSettings(name="pager")))
    ids = [world.emit() for _ in range(3)]
    async with world.serving(pipeline):
        await trio.sleep(5.0)
        assert 3 == len(world.channels["pager"].sends)
        assert ["delivered", "waiting", "waiting"] == sorted(world.delivery(one).state for one in ids)
        await trio.sleep(20.0)
        assert {"delivered"} == set(world.states.values())
    assert 3 == len(world.channel.sends)


async def test_what_is_put_into_a_queue_that_is_drained_is_not_looked_for(autojump_clock: MockClock) -> None:
    """A receiver hangs, and a hundred alerts join its queue: it is looked at once a second, not once for each."""
    world = World(channels=[FakeChannel("chat", latency_s=10**6)], workers=16)
    channels = (ChannelSettings(name="webhook"), ChannelSettings(name="chat"))
    async with world.serving(world.pipeline(channels=channels, send_timeout_s=5.0)):
        for _ in range(100):
            world.emit()
            await trio.sleep(0.1)
    assert 90 < sum(call.method == "put_queued" for call in world.server.calls)
    assert 15 > sum(call.method == "heads" for call in world.server.calls)


async def test_what_joins_a_queue_that_was_found_empty_a_moment_ago_goes_out_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is still said to drain the queue when it notes that."""
    world = World()
    before, pipeline = (world.pipeline(name, channels=(limited(10.0),)) for name in ("before", "now"))
    *_, late = [(await world.carry(before))[0].record_id for _ in range(3)]
    take, joining = pipeline.hints.take_queued, [world.store.records[late].record]

    async def join_behind(channel: str, lease_s: float, *, probe: bool = False) -> Taken | None:
        taken = await take(channel, lease_s, probe=probe)
        if taken is None and joining:
            await pipeline.agenda.note(joining.pop())
        return taken

    monkeypatch.setattr(pipeline.hints, "take_queued", join_behind)
    async with world.serving(pipeline):
        await trio.sleep(0.05)
        del world.server.hints_of(GROUP).queues["webhook"][late]
        await trio.sleep(0.45)
        assert "delivered" == world.delivery(late).state


async def test_what_is_still_pending_is_left_alone(autojump_clock: MockClock) -> None:
    """Its owner is about to acknowledge it, or has died: the stream decides then. It holds up no other meanwhile."""
    world = World()
    owner, other = (world.pipeline(name, channels=(limited(1.0),), claim_idle_s=3000.0) for name in ("owner", "other"))
    await world.carry(owner)
    world.emit(severity="critical")
    held = await world.take(owner)
    await persist(held, parse_entry(held, NOW), owner)
    _, disposition = await world.carry(owner, severity="low")
    assert (Disposition.ACKNOWLEDGE, ["waiting", "waiting"]) == (disposition, [*world.states.values()][1:])
    await owner.agenda.note(world.store.records[held.record_id].record)
    async with world.serving(other):
        await trio.sleep(9.0)
        assert ["delivered", "waiting", "delivered"] == list(world.states.values())
        await owner.stream.ack([held])
        await trio.sleep(2.0)
        assert {"delivered"} == set(world.states.values())
    assert 3 == len(world.channel.sends)


@pytest.mark.parametrize("fault", ["down", "answer_lost"])
async def test_a_queue_that_cannot_be_told_is_found_by_the_sweep(fault: str, autojump_clock: MockClock) -> None:
    """The acknowledgement is not held up by it."""
    world = World()
    pipeline = world.pipeline(channels=(limited(1.0),))
    world.server.fail_next("put_queued", fault, 1)  # type: ignore[arg-type]
    async with world.serving(pipeline):
        ids = [world.emit() for _ in range(2)]
        await trio.sleep(2.5)
        assert {} == world.pending
        await trio.sleep(70.0)
        assert {"delivered"} == {world.delivery(one).state for one in ids}


async def test_what_dies_with_its_drainer_is_sent_when_its_lease_is_over(autojump_clock: MockClock) -> None:
    """Its entry was acknowledged long ago, and no sweep need find it: others look at that time."""
    world = World(lease_s=25.0)
    first, dying, other = (world.pipeline(name, channels=(limited(1.0),)) for name in ("first", "dying", "other"))
    await world.carry(first)
    entry, _ = await world.carry(first)
    world.channel.latency_s = 10.0
    async with trio.open_nursery() as life:
        await life.start(serve, dying)
        await trio.sleep(2.0)
        world.store.decide = lambda _: "down"  # a killed process writes nothing any more
        life.cancel_scope.cancel()
    world.store.decide, world.channel.latency_s = lambda _: None, 0.0
    assert "sending" == world.delivery(entry.record_id).state
    async with world.serving(other):
        await trio.sleep(40.0)
        assert "delivered" == world.delivery(entry.record_id).state
    assert 3 == len(world.channel.sends)


async def test_what_its_drainer_took_and_did_not_claim_is_sent_after_its_lease(autojump_clock: MockClock) -> None:
    """It died in between: the record waits and is in no queue, and the next sweep is far."""
    world = World(lease_s=25.0)
    dying, other = (world.pipeline(name, channels=(limited(1.0),)) for name in ("dying", "other"))
    await world.carry(dying)
    entry, _ = await world.carry(dying)
    async with world.serving(other):
        await trio.sleep(0.5)
        taken = await dying.hints.take_queued("webhook", 25.0)
        assert (entry.record_id, "waiting") == (taken and taken.record_id, world.delivery(entry.record_id).state)
        await trio.sleep(27.0)
        assert "delivered" == world.delivery(entry.record_id).state
    assert 2 == len(world.channel.sends)


async def test_what_was_drained_and_delivered_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """Nobody looks at it when its lease would have been over."""
    world = World(lease_s=25.0)
    async with world.serving(world.pipeline(channels=(limited(1.0),))):
        for _ in range(3):
            world.emit()
        await trio.sleep(5.0)
        assert {"delivered"} == set(world.states.values())
        assert ({}, {}) == (world.server.hints_of(GROUP).due, world.server.hints_of(GROUP).queues["webhook"])
