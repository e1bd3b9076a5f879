"""Other channels and routes, taken up by a whole process while alerts are under way, in virtual time."""

from dataclasses import replace
from typing import Any

import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World
from trio_alerts.meter.layout import RESULTS, ROOM, Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.outcome import Accepted, Later, Retry
from trio_alerts.pipeline.bulkhead import Bulkhead
from trio_alerts.pipeline.channel_gate import ChannelGate
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.gates import Closed, GateView, Rate
from trio_alerts.ports.hints import Taken
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import ChannelSettings, RouteSettings, Settings


def reconfigure(pipeline: Pipeline, *channels: FakeChannel) -> None:
    """Let a process have these channels and no others."""
    new = replace(pipeline.settings, channels=tuple(ChannelSettings(name=one.name) for one in channels))
    pipeline.reconfigure(new, {one.name: one for one in channels}, Routing(new))


def channels_of(world: World, record_id: str) -> dict[str, str]:
    return {channel.name: channel.state for channel in world.delivery(record_id).channels}


async def test_an_attempt_ends_on_the_channel_it_began_with(autojump_clock: MockClock) -> None:
    """The receiver is changed in the middle of a send: it ends where it began, and the next alert goes to the new."""
    world, new = World(latency_s=10.0), FakeChannel("webhook")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        first = world.emit()
        await trio.sleep(5.0)
        reconfigure(pipeline, new)
        second = world.emit(alert_id="a-2")
        await trio.sleep(20.0)
    assert [first] == [message.id for message in world.channel.sends]
    assert [second] == [message.id for message in new.sends]
    assert {first: "delivered", second: "delivered"} == world.states
    assert (1, 0) == (world.delivery(first).attempts, world.delivery(first).in_doubt)


async def test_what_was_claimed_for_a_channel_that_is_gone_goes_out_through_it(autojump_clock: MockClock) -> None:
    """The record says `sending`, and the store is slow to take it: the channel leaves before the send begins."""
    world, other = World(), FakeChannel("other")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        world.store.latency_s = 8.0
        entry_id = world.emit()
        await trio.sleep(4.0)
        reconfigure(pipeline, other)
        await trio.sleep(30.0)
    assert ([entry_id], []) == ([message.id for message in world.channel.sends], other.sends)
    assert {"webhook": "delivered"} == channels_of(world, entry_id)
    assert 0 == world.delivery(entry_id).in_doubt


async def test_what_only_former_channels_used_is_closed_when_nobody_can_use_it_any_more(
    autojump_clock: MockClock,
) -> None:
    """Not while an attempt of before is under way, however long; then within a second or two."""
    world, closed_at_s = World(latency_s=10.0), list[float]()
    pipeline = world.pipeline()

    async def close() -> None:
        closed_at_s.append(trio.current_time())

    async with world.serving(pipeline):
        world.emit()
        await trio.sleep(5.0)
        new = world.settings(channels=(ChannelSettings(name="new"),))
        pipeline.reconfigure(new, {"new": FakeChannel("new")}, Routing(new), close)
        assert "<RetiredChannels ['webhook']>" == repr(pipeline.retired)
        await trio.sleep(20.0)
    (at_s,) = closed_at_s
    assert 10.0 < at_s <= 12.0
    assert "<RetiredChannels []>" == repr(pipeline.retired)


async def test_a_retry_for_a_channel_that_is_gone_waits_for_it_to_come_back(autojump_clock: MockClock) -> None:
    """As for any process that does not know it: set aside, and sent at once when it is there again."""
    world, other = World([Retry("busy", 503)]), FakeChannel("other")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        entry_id = world.emit()
        await trio.sleep(1.0)
        reconfigure(pipeline, other)
        await trio.sleep(20.5)
        assert (("unconfigured",), 1) == (world.delivery(entry_id).queues, world.delivery(entry_id).attempts)
        reconfigure(pipeline, other, world.channel)
        await trio.sleep(2.0)
        assert ["delivered"] == list(channels_of(world, entry_id).values())
    assert [0.0, 22.0] == world.channel.sent_at_s


async def test_a_queue_whose_channel_is_gone_is_not_drained(autojump_clock: MockClock) -> None:
    """What waits in it stays there; when the channel is back, it goes out."""
    world, other = World(), FakeChannel("other")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        world.limit("webhook", 30.0)
        await trio.sleep(2.0)
        entry_id = world.emit()
        await trio.sleep(1.0)
        assert {"webhook": "waiting"} == channels_of(world, entry_id)
        reconfigure(pipeline, other)
        await trio.sleep(60.0)
        assert ({"webhook": "waiting"}, []) == (channels_of(world, entry_id), world.channel.sends)
        reconfigure(pipeline, other, world.channel)
        await trio.sleep(70.0)  # whoever took its hint in between let it lie for a lease at most
    assert {"webhook": "delivered"} == channels_of(world, entry_id)


async def test_who_has_just_taken_from_a_queue_whose_channel_leaves_puts_it_back(autojump_clock: MockClock) -> None:
    """It sends nothing, and does not try again and again."""
    world, other, taken = World(), FakeChannel("other"), list[str]()
    pipeline = world.pipeline()
    take_queued = pipeline.hints.take_queued

    async def leaves_meanwhile(channel: str, *arguments: Any, **named: Any) -> Taken | None:
        if channel == "webhook":
            reconfigure(pipeline, other)
            taken.append(channel)
        return await take_queued(channel, *arguments, **named)

    async with world.serving(pipeline):
        world.limit("webhook", 3.0)
        await trio.sleep(2.0)
        entry_id = world.emit()
        pipeline.hints.take_queued = leaves_meanwhile  # type: ignore[method-assign]
        await trio.sleep(60.0)
        assert (["webhook"], []) == (taken, world.channel.sends)
        assert {"webhook": "waiting"} == channels_of(world, entry_id)
        pipeline.hints.take_queued = take_queued  # type: ignore[method-assign]
        reconfigure(pipeline, world.channel)
        await trio.sleep(3.0)
    assert {"webhook": "delivered"} == channels_of(world, entry_id)


async def test_a_channel_that_is_new_has_a_gate_a_queue_and_a_share(autojump_clock: MockClock) -> None:
    """What its service asks for is heeded, what waits for it goes out, and it may not take the workers of others."""
    world, new = World(), FakeChannel("new")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(5.0)
        world.limit("new", 20.0)
        reconfigure(pipeline, world.channel, new)
        assert (1, "new") == (pipeline.bulkhead.drain_share, pipeline.meter.layout.channels[-1])
        await trio.sleep(2.0)
        entry_id = world.emit()
        await trio.sleep(10.0)
        assert {"webhook": "delivered", "new": "waiting"} == channels_of(world, entry_id)
        await trio.sleep(15.0)
    assert {"webhook": "delivered", "new": "delivered"} == channels_of(world, entry_id)


async def test_a_channel_that_leaves_holds_what_it_held(autojump_clock: MockClock) -> None:
    """Nobody sees the outcome of an attempt that ends after its channel has left: it waits for a human, as it said."""
    world = World([Retry("reset", unseen=True)], latency_s=10.0, hold=["webhook"])
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        entry_id = world.emit()
        await trio.sleep(5.0)
        reconfigure(pipeline, FakeChannel("other"))
        await trio.sleep(30.0)
    assert {"webhook": "in_doubt"} == channels_of(world, entry_id)


async def test_routes_are_those_of_the_moment(autojump_clock: MockClock) -> None:
    """An alert that is read after the change goes where the new routes say, and to no channel that is gone."""
    world, other = World(), FakeChannel("other")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        first = world.emit()
        await trio.sleep(1.0)
        channels = (ChannelSettings(name="webhook"), ChannelSettings(name="other"))
        low = RouteSettings(name="low", channels=("webhook",), match={"severity": ("low",)})
        new = world.settings(channels=channels, routes=(low, RouteSettings(name="rest", channels=("other",))))
        pipeline.reconfigure(new, {"webhook": world.channel, "other": other}, Routing(new))
        second = world.emit(alert_id="a-2")
        await trio.sleep(1.0)
    assert (["webhook"], ["other"]) == (list(channels_of(world, first)), list(channels_of(world, second)))


async def test_a_gate_lives_through_a_change_of_its_channel(autojump_clock: MockClock) -> None:
    """Its breaker stays open and its limit lasts, whatever else of it is new; a rate of before binds no more."""
    world = World(channels=[FakeChannel("slack")])
    pipeline = world.pipeline()
    old = pipeline.channel_gates
    old["webhook"].saw(GateView(open_s=10.0), 0.0)
    old["slack"].note(Later("limited", 30.0), "1-0", 0.0)

    def configured(**slack: object) -> dict[str, ChannelGate]:
        changed = ChannelSettings(name="slack", aliases=("chat",), **slack)  # type: ignore[arg-type]
        new = replace(pipeline.settings, channels=(ChannelSettings(name="webhook", in_doubt_policy="hold"), changed))
        pipeline.reconfigure(new, dict.fromkeys(("webhook", "slack", "chat"), world.channels["slack"]), Routing(new))
        return pipeline.channel_gates

    new = configured()
    assert (old["webhook"], old["slack"], old["slack"]) == (new["webhook"], new["slack"], new["chat"])
    assert ["breaker", "limit"] == [closed.why for name in ("webhook", "chat") if (closed := new[name].closed())]
    await trio.sleep(31.0)
    gate = configured(rate_per_s=0.001)["slack"]
    assert (False, Rate(0.001, 1)) == (gate.is_free, gate.rate)
    gate.answered(Closed("rate", 1000.0))
    assert gate.closed()
    assert configured(rate_per_s=5.0)["slack"].closed() is None
    assert configured()["slack"].is_free


async def test_what_is_known_of_a_slow_channel_is_kept(autojump_clock: MockClock) -> None:
    """Also under a new name that has the old one for an alias; a channel that is new begins anew."""
    bulkhead = Bulkhead([["slow"], ["well"]], 4)
    bulkhead.started("slow")
    await trio.sleep(1.0)
    bulkhead.watch([["slower", "slow"], ["other"]])
    assert [False, False, True] == [bulkhead.may_start(name) for name in ("slow", "slower", "other")]
    bulkhead.watch([["slow"], ["slower"]])  # of what was one, only one can be the one of before
    assert [False, True] == [bulkhead.may_start(name) for name in ("slow", "slower")]
    bulkhead.watch([["slow"]])
    assert (True, 4) == (bulkhead.may_start("slow"), bulkhead.drain_share)


def test_a_channel_that_is_new_has_figures_of_its_own() -> None:
    """Nothing of the others moves, and none of them is forgotten; beyond the room that there is, it is `other`."""
    layout = Layout(["pager"])
    meter = Meter(layout)

    def attempted(*names: str) -> list[int]:
        for name in names:
            meter.attempted(name, Accepted(), 0.1)
        return [meter.cells[layout.attempts + place * len(RESULTS)] for place in range(len(layout.channels))]

    assert [0, 1] == attempted("pager")
    meter.configure(Settings(channels=(ChannelSettings(name="desk", aliases=("pager",)),)))
    assert ("other", "pager", "desk") == layout.channels
    assert [1, 1, 2] == attempted("desk", "pager", "gone")
    most = [f"c{number}" for number in range(ROOM)]
    meter.configure(Settings(channels=tuple(ChannelSettings(name=name) for name in most)))
    assert (2 + ROOM, 2) == (len(layout.channels), attempted(most[-1])[0])
