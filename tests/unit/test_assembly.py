"""What one process is put together from."""

import datetime as dt
from dataclasses import replace
from ipaddress import ip_network

import pytest

from trio_alerts.assembly import Outlets
from trio_alerts.channels.email import EmailSettings
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.errors import SettingsError
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url, parse_smtp_url
from trio_alerts.settings.settings import Settings

URL = parse_receiver_url("https://pager.example/x")
PAGER = WebhookSettings(name="pager", url=URL)
DESK = WebhookSettings(name="desk", url=URL, secret=Secret("c2VjcmV0"))


def outlets() -> Outlets:
    return Outlets(lambda: dt.datetime.now(dt.UTC))


async def test_a_channel_answers_to_its_aliases() -> None:
    """A record that names a channel by its name of before is sent through the one channel that there is."""
    channels, _ = outlets().make(Settings(channels=(replace(PAGER, aliases=("old", "older")),)))

    assert ["pager", "old", "older"] == list(channels)
    assert {"pager"} == {channel.name for channel in channels.values()}
    assert 1 == len(set(map(id, channels.values())))


async def test_what_has_not_changed_is_made_once() -> None:
    """A channel goes on with its connections; one with another secret is another channel."""
    made = outlets()
    before, _ = made.make(Settings(channels=(PAGER, DESK)))
    after, close = made.make(Settings(channels=(replace(DESK, secret=Secret("bmV3")), PAGER)))

    assert (True, False, None) == (before["pager"] is after["pager"], before["desk"] is after["desk"], close)


async def test_other_networks_are_another_transport() -> None:
    """Each channel gets it, also one that has not changed; the one of before is there until it is closed."""
    made = outlets()
    before, _ = made.make(Settings(channels=(PAGER,)))
    after, close = made.make(Settings(channels=(PAGER,), networks=(ip_network("10.0.0.0/8"),)))

    assert before["pager"] is not after["pager"]
    assert close is not None
    first, second = (channel._transport for channel in (before["pager"], after["pager"]))  # type: ignore[attr-defined]
    assert [False, False] == [transport._pool.closed for transport in (first, second)]
    await close()
    assert [True, False] == [transport._pool.closed for transport in (first, second)]
    await made.aclose()
    assert second._pool.closed


async def test_what_cannot_be_made_changes_nothing(tmp_path: object) -> None:
    """A channel whose CA file has gone since it was checked: the next change begins from what there was before."""
    made = outlets()
    before, _ = made.make(Settings(channels=(PAGER,)))
    broken = EmailSettings(
        name="mail", smtp_url=parse_smtp_url("smtp://mail.example"), sender="a@b.example", to=("c@d.example",)
    )
    with pytest.raises(SettingsError):
        made.make(Settings(channels=(PAGER, replace(broken, ca_file=f"{tmp_path}/gone.pem"))))  # type: ignore[arg-type]
    assert before["pager"] is made.make(Settings(channels=(PAGER,)))[0]["pager"]
