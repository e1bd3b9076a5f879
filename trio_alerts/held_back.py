"""How a delivery that is held back gets from one state to the next: in a queue, as a fallback, by a silence.

The other half of `transitions.py`, and as pure; both are drawn in `docs/state-machine.md`.
"""

import datetime as dt
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import MOVING, ChannelDelivery, Delivery
from trio_alerts.record_state import Channels, summed_up
from trio_alerts.transitions import in_queue, next_attempt

UNCONFIGURED_FOR = dt.timedelta(hours=1)  # a change of the configuration has reached every process by then
SILENCE = "silence:"  # before the ID of a silence, in `suppressed_by`: without it, it is the name of a route


def standby(name: str, primaries: Collection[str], due_at: dt.datetime) -> ChannelDelivery:
    """Return a fallback of a new record, due when none of these primaries has accepted by then."""
    return ChannelDelivery(name, "standby", attempts=0, fallback_of=tuple(primaries), next_attempt_at=due_at)


def first_state(channels: Channels, owner: str, now: dt.datetime, lease_s: float) -> Delivery:
    """Return the state that is stored first, if some channels wait, stand by or are suppressed.

    It is `waiting`, with no attempt made, unless a channel is `sending`; see `first_attempt`.
    """
    after = summed_up(Delivery(state="waiting", owner=owner, first_at=now, channels=channels), channels, now)
    if after.state != "sending":
        return after
    return replace(after, lease_until=now + dt.timedelta(seconds=lease_s), attempts=1, last_at=now)


def drained(delivery: Delivery, owner: str, now: dt.datetime, lease_s: float, through: Collection[str]) -> Delivery:
    """Return the state of an owner's attempt through those of these channels in whose queues it waits."""
    channels = tuple(
        replace(channel, state="retrying", next_attempt_at=now, unconfigured_since=None)
        if channel.state == "waiting" and channel.name in through
        else channel
        for channel in delivery.channels
    )
    return next_attempt(replace(delivery, channels=channels), owner, now, lease_s, through)


def wait_expired(delivery: Delivery, owner: str, now: dt.datetime) -> Delivery:
    """Return the state after channels were waited for as long as their schedule would have lasted: they have failed.

    So has, after `UNCONFIGURED_FOR`, what waits for a process that knows its channel.
    """
    channels = tuple(
        _given_up(channel)
        if channel.state == "waiting" and channel.next_attempt_at is not None and channel.next_attempt_at <= now
        else channel
        for channel in delivery.channels
    )
    return replace(summed_up(delivery, channels, now), owner=owner)


def sent_through(delivery: Delivery, names: Sequence[str], owner: str, now: dt.datetime) -> Delivery | None:
    """Return the state after a human asked for an attempt through one channel; None if it needs nobody to ask.

    That is so if it has accepted, is being sent to, or waits. Else it is due now, with the whole schedule ahead of it.
    If the record did not count on it, it stands in for all that have not accepted: its acceptance makes that good. What
    they do by themselves they go on with.

    Args:
        delivery: The state before.
        names: The channel's name, and its aliases.
        owner: As in `redelivery_requested`.
        now: The server's time.
    """
    given = next((channel for channel in delivery.channels if channel.name in names), None)
    if given is not None and given.state in ("delivered", "sending", "waiting"):
        return None
    asked = given or ChannelDelivery(names[0], "standby", attempts=0)
    if asked.fallback_of or asked.state in ("standby", "spared", "suppressed"):  # else it would be spared at once
        unaccepted = ("retrying", "waiting", "in_doubt", "failed")
        in_need = (one.name for one in delivery.channels if one is not given and one.state in unaccepted)
        asked = replace(asked, fallback_of=tuple(in_need))
    asked = replace(asked, state="retrying", next_attempt_at=now, attempts_before=asked.attempts, since=None)
    channels = tuple(asked if channel is given else channel for channel in delivery.channels)
    after = summed_up(delivery, channels if given else (*channels, asked), now, cuts=0)
    still_suppressed = any(channel.state == "suppressed" for channel in channels)
    by = delivery.suppressed_by if still_suppressed else None
    after = replace(after, in_doubt=delivery.in_doubt)  # a new channel is no new doubt
    return replace(after, owner=owner, first_at=delivery.first_at or now, reason=None, suppressed_by=by)


def looked_at(delivery: Delivery, owner: str, now: dt.datetime) -> Delivery:
    """Return the state at this time, with nothing done but what time alone does: a fallback is due."""
    return replace(summed_up(delivery, delivery.channels, now), owner=owner)


def turned_away(begun: Delivery, names: Collection[str], now: dt.datetime, wait_s: float) -> Delivery:
    """Return the state of an attempt that is not made through these channels after all: they wait in their queues.

    What its beginning counted for them is taken back, but for the doubts of a takeover.

    Args:
        begun: The attempt, as `first_attempt`, `next_attempt`, `drained` or `taken_over` began it.
        names: The channels that take nothing now.
        now: The server's time.
        wait_s: For how long they may wait, all in all.
    """
    return _taken_back(begun, names, lambda channel: in_queue(channel, now, wait_s), now)


def unconfigured(begun: Delivery, unknown: Collection[str], now: dt.datetime) -> Delivery:
    """Return the state of an attempt that is not made through channels which its process does not know.

    They wait for a process that knows them, for `UNCONFIGURED_FOR`; the time that they may wait for their receivers
    goes on, but ends nothing meanwhile. Else it is as `turned_away`.
    """

    def set_aside(channel: ChannelDelivery) -> ChannelDelivery:
        ends_at, attempts = now + UNCONFIGURED_FOR, channel.attempts - 1
        return replace(channel, state="waiting", attempts=attempts, unconfigured_since=now, next_attempt_at=ends_at)

    return _taken_back(begun, unknown, set_aside, now)


def configured(
    delivery: Delivery, known: Collection[str], owner: str, now: dt.datetime, policy: RetryPolicy
) -> Delivery:
    """Return the state after a process that knows channels has moved them from `unconfigured` to their own queues.

    An attempt that was cut waits for a human instead if the channel holds such alerts: whoever took it over could not
    know that.
    """
    channels = tuple(
        _known(channel, now, policy)
        if channel.state == "waiting" and channel.unconfigured_since and channel.name in known
        else channel
        for channel in delivery.channels
    )
    if channels == delivery.channels:
        return delivery
    return replace(summed_up(delivery, channels, now), owner=owner)


def doubted(delivery: Delivery, owner: str, now: dt.datetime, policy: RetryPolicy) -> Delivery:
    """Return the state after who holds what is in doubt has found it on the schedule: it waits for a human.

    A process that did not know the channel put it there: it found that the owner of the attempt was gone, and could not
    know that such an attempt is not to be repeated. The same object is returned if there is nothing of the kind.
    """
    if delivery.state not in MOVING:
        return delivery
    channels = tuple(
        replace(channel, state="in_doubt", next_attempt_at=None)
        if channel.state == "retrying" and _is_held(channel, policy)
        else channel
        for channel in delivery.channels
    )
    return delivery if channels == delivery.channels else replace(summed_up(delivery, channels, now), owner=owner)


def silenced(begun: Delivery, silence_id: str, why: str, now: dt.datetime) -> Delivery:
    """Return the state of an attempt that is not made after all, because a silence matches.

    What its beginning counted is taken back, but for the doubts of a takeover. Its channels stay in the record: they
    are what `silence_lifted` sends.

    Args:
        begun: The attempt, as `first_attempt`, `next_attempt`, `drained` or `taken_over` began it.
        silence_id: Of the silence that matches.
        why: Its reason.
        now: The server's time.
    """

    def suppressed(channel: ChannelDelivery) -> ChannelDelivery:
        return replace(channel, state="suppressed", attempts=channel.attempts - 1)

    after = _taken_back(begun, [channel.name for channel in begun.channels], suppressed, now)
    return replace(after, suppressed_by=f"{SILENCE}{silence_id}", reason=why)


def silence_lifted(delivery: Delivery, owner: str, now: dt.datetime) -> Delivery | None:
    """Return the state after a human asked for what a silence kept back; None if there is nothing to send.

    Only the suppressed channels are due, now, with the whole schedule ahead of them; a fallback that stood by goes on
    standing by, for the time that was left. A running attempt is left alone, a dead letter, and what another channel
    has delivered: that never goes back. `owner`: as in `redelivery_requested`.
    """
    movable = delivery.state not in ("sending", "quarantined", "delivered")
    if not movable or not any(channel.state == "suppressed" for channel in delivery.channels):
        return None
    channels = tuple(
        _lifted(channel, now) if channel.state == "suppressed" else channel for channel in delivery.channels
    )
    return replace(summed_up(delivery, channels, now), owner=owner, suppressed_by=None, reason=None)


def _taken_back(
    begun: Delivery, names: Collection[str], become: Callable[[ChannelDelivery], ChannelDelivery], now: dt.datetime
) -> Delivery:
    """Return the state of an attempt that is not made through these channels; through none at all, it was not made."""
    channels = tuple(
        become(channel) if channel.state == "sending" and channel.name in names else channel
        for channel in begun.channels
    )
    after = summed_up(begun, channels, now)
    if after.state == "sending":
        return after
    attempts = begun.attempts - 1
    return replace(after, attempts=attempts, last_at=begun.last_at if attempts else None)


def _known(channel: ChannelDelivery, now: dt.datetime, policy: RetryPolicy) -> ChannelDelivery:
    if _is_held(channel, policy):
        return replace(channel, state="in_doubt", next_attempt_at=None, unconfigured_since=None)
    since = channel.since or now
    ends_at = since + dt.timedelta(seconds=policy.patience_s)
    return replace(channel, since=since, next_attempt_at=ends_at, unconfigured_since=None)


def _is_held(channel: ChannelDelivery, policy: RetryPolicy) -> bool:
    """Tell whether a channel waits for a human since nobody saw its last outcome, whoever it was that noted that."""
    is_asked_for = channel.attempts_before == channel.attempts  # by a human, who knows of the doubt
    return bool(channel.log) and channel.log[-1].unseen and channel.name in policy.hold and not is_asked_for


def _given_up(channel: ChannelDelivery) -> ChannelDelivery:
    why = "no process has known this channel for an hour" if channel.unconfigured_since else "it waited for too long"
    return replace(
        channel, state="failed", next_attempt_at=None, unconfigured_since=None, last_error=f"given up: {why}"
    )


def _lifted(channel: ChannelDelivery, now: dt.datetime) -> ChannelDelivery:
    if channel.since and channel.next_attempt_at:  # a fallback: `since` says when its clock was stopped
        return replace(
            channel, state="standby", since=None, next_attempt_at=now + (channel.next_attempt_at - channel.since)
        )
    return replace(channel, state="retrying", since=None, next_attempt_at=now, attempts_before=channel.attempts)
