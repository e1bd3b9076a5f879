"""A change of the configuration that has not reached every process yet, in whole processes and virtual time."""

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World, bring_through
from tests.unit.pipeline.test_process import cut_off
from trio_alerts.outcome import Retry
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.settings.settings import ChannelSettings, InDoubtPolicy, RouteSettings

HOUR_S = 3600.0


@pytest.fixture
def world() -> World:
    """Give a world in which `slack` is new: its first answer is 503, and the retry is due after 5 s."""
    return World(channels=[FakeChannel("slack", [Retry("busy", 503)])])


def stranger(world: World) -> Pipeline:
    """Return a process that has not heard of `slack`."""
    pipeline = world.pipeline("old", channels=(ChannelSettings(name="webhook"),))
    pipeline.channels = {"webhook": world.channel}
    return pipeline


def states(world: World, record_id: str) -> dict[str, str]:
    return {channel.name: channel.state for channel in world.delivery(record_id).channels}


async def test_a_retry_waits_for_who_knows_it(world: World, autojump_clock: MockClock, lines: list[str]) -> None:
    """The process that does not know it sends nothing, gives up nothing, and says so once; then it goes out at once."""
    slack = world.channels["slack"]
    async with world.serving(world.pipeline()):
        record_id = world.emit()
        await trio.sleep(1.0)
    async with world.serving(stranger(world)):
        await trio.sleep(100.0)
    assert {"webhook": "delivered", "slack": "waiting"} == states(world, record_id)
    assert (("unconfigured",), 1) == (world.delivery(record_id).queues, world.delivery(record_id).channels[1].attempts)
    assert 1 == sum("channel slack is not configured here" in line for line in lines)

    async with world.serving(world.pipeline()):
        await trio.sleep(2.0)
    assert {"webhook": "delivered", "slack": "delivered"} == states(world, record_id)
    assert ([0.0, 101.0], [0.0]) == (slack.sent_at_s, world.channel.sent_at_s)


async def test_who_knows_the_channel_sends_it_while_others_do_not(autojump_clock: MockClock) -> None:
    """In the middle of the change: whoever looks at the retry first, it goes out within moments, once."""
    slack = FakeChannel("slack", [Retry("busy", 503)] * 8)
    world = World(channels=[slack])
    async with world.serving(world.pipeline()):
        ids = [world.emit(alert_id=f"a-{number}") for number in range(8)]
        await trio.sleep(1.0)
        async with world.serving(*[stranger(world) for _ in range(3)]):
            await trio.sleep(20.0)
    assert {"delivered"} == {world.delivery(record_id).state for record_id in ids}
    assert 16 == len(slack.sends)


async def test_what_nobody_knows_for_an_hour_has_failed(world: World, autojump_clock: MockClock) -> None:
    """By a clock of its own, and its fallback is sent; a schedule of days would have had more patience."""
    world.channels["email"] = FakeChannel("email")
    del world.channels["webhook"]
    route = RouteSettings(name="all", channels=("slack",), fallback=("email",), fallback_after_s=9 * HOUR_S)
    async with world.serving(world.pipeline(routes=(route,))):
        record_id = world.emit()
        await trio.sleep(1.0)
    alone = world.pipeline("old", channels=(ChannelSettings(name="email"),))
    alone.channels = {"email": world.channels["email"]}
    async with world.serving(alone):
        await trio.sleep(HOUR_S - 60.0)
        assert {"slack": "waiting", "email": "standby"} == states(world, record_id)
        await trio.sleep(180.0)
    assert {"slack": "spared", "email": "delivered"} == states(world, record_id)
    assert "given up: no process has known this channel for an hour" == world.delivery(record_id).channels[0].last_error


@pytest.mark.parametrize(("policy", "state", "sent"), [("resend", "delivered", 1), ("hold", "in_doubt", 0)])
async def test_what_becomes_of_a_cut_attempt_is_the_channel_s_to_say(
    policy: InDoubtPolicy, state: str, sent: int, autojump_clock: MockClock
) -> None:
    """The process that takes it over does not know the channel; the doubt is counted, and who knows it decides."""
    world = World()
    entry, old = await cut_off(world)
    old.channels = {}
    assert Disposition.ACKNOWLEDGE == await bring_through(entry, old)
    (channel,) = world.delivery(entry.record_id).channels
    assert ("waiting", 1) == (channel.state, channel.in_doubt)

    known = ChannelSettings(name="webhook", in_doubt_policy=policy)
    async with world.serving(world.pipeline("new", channels=(known,))):
        await trio.sleep(100.0)
    assert (state, sent) == (world.delivery(entry.record_id).state, len(world.channel.sends))


async def test_a_doubt_that_a_stranger_put_on_the_schedule_is_still_held(autojump_clock: MockClock) -> None:
    """The owner of a retry dies, and who does not know the channel finds that; whoever knows it asks a human."""
    channels, schedule_s = [FakeChannel("other")], (5.0, 300.0, 300.0)
    world = World(
        [Retry("busy", 503)], hold=["webhook"], latency_s=12.0, channels=channels, retry_schedule_s=schedule_s
    )
    async with trio.open_nursery() as dying:
        await dying.start(serve, world.pipeline("dead"))
        entry_id = world.emit()
        await trio.sleep(20.0)
        assert {"webhook": "sending", "other": "delivered"} == states(world, entry_id)
        dying.cancel_scope.cancel()
    old = world.pipeline("old", channels=(ChannelSettings(name="other"),))
    old.channels = {"other": world.channels["other"]}
    async with world.serving(old):
        await trio.sleep(90.0)
        assert {"webhook": "retrying", "other": "delivered"} == states(world, entry_id)
    async with world.serving(world.pipeline("new")):
        await trio.sleep(600.0)
    assert {"webhook": "in_doubt", "other": "delivered"} == states(world, entry_id)
    assert 2 == len(world.channel.sends)
