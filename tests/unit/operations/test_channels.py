from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World
from trio_alerts.operations.channels import channel_standings
from trio_alerts.ports.hints import Queued
from trio_alerts.settings.settings import ChannelSettings


async def test_what_waits_under_an_older_name_is_counted_with_its_channel() -> None:
    """Else a channel that was renamed would seem to have no backlog."""
    world = World(channels=[FakeChannel("pager")])
    pipeline = world.pipeline("me")
    await pipeline.hints.put_queued([Queued("pager", "1-0", 4), Queued("old-pager", "2-0", 4)])
    pager = ChannelSettings(name="pager", aliases=("old-pager",))

    [standing] = await channel_standings([pager], pipeline.gates, pipeline.hints, world.store)
    assert ("pager", 2) == (standing.name, standing.queued)
