"""What follows for a record from the states of its channels: the one place that decides it, at every write.

Pure: fallbacks engaged or spared, the record's state (and with it `delivered`), its next time, what it counts.
"""

import datetime as dt
from collections.abc import Mapping
from operator import attrgetter

from msgspec.structs import replace

from trio_alerts.delivery import ChannelDelivery, ChannelState, Delivery, State

Channels = tuple[ChannelDelivery, ...]

# What a record is called, by the worst state of those of its channels that count; the worst comes first.
_RECORD_STATES: Mapping[ChannelState, State] = {
    "sending": "sending",
    "retrying": "retrying",
    "waiting": "waiting",
    "in_doubt": "in_doubt",
    "failed": "failed",
    "delivered": "delivered",
    "suppressed": "suppressed",
    "spared": "suppressed",
    "standby": "suppressed",
}
_RANKS: Mapping[ChannelState, int] = {state: rank for rank, state in enumerate(_RECORD_STATES)}
_in_doubt = attrgetter("in_doubt")
_MOVES_BY_ITSELF = ("retrying", "waiting", "standby")  # at its `next_attempt_at`: retry, expiry, engagement


def summed_up(delivery: Delivery, channels: Channels, now: dt.datetime, cuts: int | None = None) -> Delivery:
    """Return the record's part with these channels: what is still moving comes first, then what needs a human.

    The time is none while it is `sending`: its lease says when others may look.
    """
    counted, has_fallback = channels, False
    for channel in channels:
        if channel.fallback_of:
            has_fallback = True
            channels = with_fallbacks(channels, now)
            counted = tuple(one for one in channels if not _is_neutral(one, channels)) or channels
            break
    worst = min(counted, key=_rank)
    state = _RECORD_STATES[worst.state]
    newly_unseen = [*map(_in_doubt, channels)] != [*map(_in_doubt, delivery.channels)]
    named = () if state == "delivered" and not has_fallback else channels  # the common case names none
    return replace(
        delivery,
        state=state,
        lease_until=delivery.lease_until if state == "sending" else None,
        next_attempt_at=None if state in ("sending", "delivered") else next_time(channels),
        last_at=now if state == "failed" else delivery.last_at,
        delivered_at=now if state == "delivered" else None,
        last_error=worst.last_error,
        last_status=worst.last_status,
        in_doubt=delivery.in_doubt + newly_unseen,
        cuts=delivery.cuts if cuts is None else cuts,
        channels=channels,
        failed_channels=named and in_state(named, "failed"),
        retrying_channels=named and in_state(named, "retrying"),
        in_doubt_channels=named and in_state(named, "in_doubt"),
        queues=named and queues(named),
    )


def with_fallbacks(channels: Channels, now: dt.datetime) -> Channels:
    """Return the channels with every fallback engaged that is due, and spared what is not, or no more, needed."""
    channels = tuple(
        replace(channel, state="spared") if channel.state == "failed" and _made_good(channel, channels) else channel
        for channel in channels
    )
    return tuple(_fallback(channel, channels, now) if channel.fallback_of else channel for channel in channels)


def in_state(channels: Channels, state: ChannelState) -> tuple[str, ...]:
    """Return the names of the channels in a state."""
    return tuple(channel.name for channel in channels if channel.state == state)


def queues(channels: Channels) -> tuple[str, ...]:
    """Return the names of the queues in which channels wait."""
    return tuple(dict.fromkeys(channel.queue for channel in channels if channel.state == "waiting"))


def next_time(channels: Channels) -> dt.datetime | None:
    """Return when the first of the channels moves by itself."""
    times = [one.next_attempt_at for one in channels if one.next_attempt_at and one.state in _MOVES_BY_ITSELF]
    return min(times, default=None)


def _fallback(channel: ChannelDelivery, channels: Channels, now: dt.datetime) -> ChannelDelivery:
    """Return what becomes of a fallback.

    Outcomes: spared, since a primary accepted, or none of them needs it | suppressed with all of them | engaged, since
    all have failed, or its time has come | as it is. A receiver that may have seen it is not left with half a story: it
    goes on. So does an attempt that is under way.
    """
    primaries = [one for one in channels if one.name in channel.fallback_of]
    accepted = any(one.state == "delivered" for one in primaries)
    may_be_seen = channel.in_doubt > 0 or channel.state in ("sending", "in_doubt", "delivered")
    if accepted and not may_be_seen and channel.state != "suppressed":
        return replace(channel, state="spared", next_attempt_at=None)
    if channel.state != "standby":
        return channel
    if primaries and all(one.state == "suppressed" for one in primaries):
        return replace(channel, state="suppressed", since=now)  # its time stands still
    in_need = [one for one in primaries if not _needs_nobody(one, channels)]
    if primaries and not in_need:
        return replace(channel, state="spared", next_attempt_at=None)
    if all(one.state == "failed" for one in in_need) or channel.is_due(now):
        return replace(channel, state="retrying", next_attempt_at=now)
    return channel


def _is_neutral(channel: ChannelDelivery, channels: Channels) -> bool:
    """Tell whether a channel has no say in the record's state, as long as any other has."""
    if channel.state == "failed" and channel.fallback_of:
        return any(one.state == "delivered" for one in channels if one.name in channel.fallback_of)
    return channel.state == "standby" or _needs_nobody(channel, channels)


def _needs_nobody(channel: ChannelDelivery, channels: Channels) -> bool:
    """Tell whether a channel is done with, without an acceptance, and leaves nothing to make good."""
    return channel.state in ("suppressed", "spared") or (channel.state == "in_doubt" and _made_good(channel, channels))


def _made_good(channel: ChannelDelivery, channels: Channels) -> bool:
    return any(one.state == "delivered" for one in channels if channel.name in one.fallback_of)


def _rank(channel: ChannelDelivery) -> int:
    return _RANKS[channel.state]
