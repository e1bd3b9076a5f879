"""Settling what is in doubt, on fakes."""

import datetime as dt

import pytest

from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, NOW, RETRYING, WAITING, Desk, sending
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.held_back import first_state, standby
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.resolve import resolve
from trio_alerts.transitions import Resolution, suppressed


@pytest.mark.parametrize("resolution", ["delivered", "failed"])
async def test_resolve_settles(resolution: Resolution) -> None:
    """The record is as the human says, and says who; asked again, nothing is in doubt any more."""
    desk = Desk()
    record_id = desk.put(1, IN_DOUBT)

    result = await resolve(desk.operator, record_id, resolution)

    assert Change(record_id, desk.store[record_id]) == result
    assert resolution == desk.store[record_id].state
    assert f"settled as {resolution} by ann@desk" in str(desk.store[record_id].reason)
    again = await resolve(desk.operator, record_id, "failed" if resolution == "delivered" else "delivered")
    assert Skip(record_id, f"no channel of it is in doubt, the record is {resolution}") == again
    assert resolution == desk.store[record_id].state


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, DELIVERED, WAITING, sending(60), suppressed("night")])
async def test_resolve_touches_nothing_else(delivery: Delivery) -> None:
    """What is not in doubt is nothing to settle: no write."""
    desk = Desk()
    record_id = desk.put(1, delivery)

    assert isinstance(await resolve(desk.operator, record_id, "delivered"), Skip)
    assert delivery == desk.store[record_id]


@pytest.mark.parametrize(("resolution", "fallback"), [("delivered", "spared"), ("failed", "retrying")])
async def test_a_fallback_follows_what_the_human_says(resolution: Resolution, fallback: str) -> None:
    """What arrived needs no fallback; what did not is sent through it at once."""
    desk = Desk()
    channels = (ChannelDelivery("pager", "in_doubt"), standby("email", ["pager"], NOW + dt.timedelta(hours=1)))
    record_id = desk.put(1, first_state(channels, "them/1", NOW, 60.0))

    await resolve(desk.operator, record_id, resolution)
    assert [resolution, fallback] == [channel.state for channel in desk.store[record_id].channels]
