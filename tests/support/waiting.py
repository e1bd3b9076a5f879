"""Channels that wait, as a gate that takes nothing makes them."""

import datetime as dt

from trio_alerts.delivery import ChannelDelivery


def waiting(name: str, now: dt.datetime, expires_at: dt.datetime) -> ChannelDelivery:
    """Return a channel of a new record that must wait: nothing was tried."""
    return ChannelDelivery(name, "waiting", attempts=0, since=now, next_attempt_at=expires_at)
