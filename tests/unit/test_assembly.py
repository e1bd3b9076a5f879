"""What one process is put together from."""

import datetime as dt

from trio_alerts.assembly import make_channels, make_transport
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.settings.addresses import parse_receiver_url
from trio_alerts.settings.settings import Settings

URL = parse_receiver_url("https://pager.example/x")


async def test_a_channel_answers_to_its_aliases() -> None:
    """A record that names a channel by its name of before is sent through the one channel that there is."""
    settings = Settings(channels=(WebhookSettings(name="pager", aliases=("old", "older"), url=URL),))
    async with make_transport(settings) as transport:
        channels = make_channels(settings, transport, lambda: dt.datetime.now(dt.UTC))

    assert ["pager", "old", "older"] == list(channels)
    assert {"pager"} == {channel.name for channel in channels.values()}
    assert 1 == len(set(map(id, channels.values())))
