"""How a delivery gets from one state to the next.

Every function here is pure: it takes a `Delivery` and returns the next one. Who writes it, and when, is decided in
`pipeline/`. What follows from the channels for the record is decided in `record_state.py`; what is held back by a
queue, a fallback or a silence has steps of its own in `held_back.py`. All possible steps are drawn in
`docs/state-machine.md`.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from msgspec.structs import replace

from trio_alerts.backoff import RetryPolicy, next_delay_s
from trio_alerts.delivery import (
    KEPT_ANSWER_CHARACTERS,
    KEPT_ATTEMPTS,
    Attempt,
    AttemptResult,
    ChannelDelivery,
    ChannelState,
    Delivery,
)
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.record_state import in_state, queues, summed_up, with_fallbacks

Resolution = Literal["delivered", "failed"]

SUSPECT_CUTS = 3  # in a row: the first two may have hit whatever was in flight beside the culprit


def first_attempt(channels: Iterable[str], owner: str, now: dt.datetime, lease_s: float) -> Delivery:
    """Return the state that is stored before the first send: it says at once that the outcome may stay unknown."""
    return Delivery(
        state="sending",
        owner=owner,
        lease_until=now + dt.timedelta(seconds=lease_s),
        attempts=1,
        first_at=now,
        last_at=now,
        channels=tuple(ChannelDelivery(name, "sending") for name in channels),
    )


def suppressed(rule: str) -> Delivery:
    """Return the state of an alert that the named rule suppresses."""
    return Delivery(state="suppressed", suppressed_by=rule)


def quarantined(delivery: Delivery, reason: str) -> Delivery:
    """Return the state that is stored before an entry moves to the dead-letter stream."""
    return replace(delivery, state="quarantined", lease_until=None, next_attempt_at=None, reason=reason)


def next_attempt(
    delivery: Delivery, owner: str, now: dt.datetime, lease_s: float, through: Collection[str] | None = None
) -> Delivery:
    """Return the state of an owner's next attempt: through every channel that is due, or those among `through`.

    At least one is due. What a receiver has accepted is never sent to it again.
    """
    current = delivery.channels
    if any(channel.state == "standby" for channel in current):
        current = with_fallbacks(current, now)
    channels = tuple(
        replace(channel, state="sending", attempts=channel.attempts + 1, next_attempt_at=None)
        if channel.is_due(now) and (through is None or channel.name in through)
        else channel
        for channel in current
    )
    return replace(
        delivery,
        state="sending",
        owner=owner,
        lease_until=now + dt.timedelta(seconds=lease_s),
        next_attempt_at=None,
        attempts=delivery.attempts + 1,
        last_at=now,
        channels=channels,
        retrying_channels=in_state(channels, "retrying"),
        queues=queues(channels),
    )


def moved_back(delivery: Delivery, now: dt.datetime, set_back: dt.timedelta) -> Delivery:
    """Return the same with its future times moved, if they were written before the server's clock was set back.

    They were if the last attempt lies in the future.
    """
    if not set_back or delivery.last_at is None or delivery.last_at <= now:
        return delivery

    def moved(time: dt.datetime | None) -> dt.datetime | None:
        return None if time is None else time - set_back

    return replace(
        delivery,
        lease_until=moved(delivery.lease_until),
        next_attempt_at=moved(delivery.next_attempt_at),
        channels=tuple(
            replace(
                channel,
                next_attempt_at=moved(channel.next_attempt_at),
                since=moved(channel.since),
                unconfigured_since=moved(channel.unconfigured_since),
            )
            for channel in delivery.channels
        ),
    )


def taken_over(delivery: Delivery, owner: str, now: dt.datetime, lease_s: float, policy: RetryPolicy) -> Delivery:
    """Return the state of a new owner, after the old one died in the middle of an attempt.

    Nobody saw the outcome. A channel that holds such alerts waits for a human; through the others the alert is sent
    again at once, with the same `webhook-id`. The state is `sending` if there is one of these.
    """
    lost = _attempt(*_OWNER_LOST, now)
    channels = tuple(
        replace(
            channel,
            state="in_doubt" if channel.name in policy.hold else "sending",
            attempts=channel.attempts + (channel.name not in policy.hold),
            in_doubt=channel.in_doubt + 1,
            last_error=lost.error,
            log=(*channel.log, lost)[-KEPT_ATTEMPTS:],
        )
        if channel.state == "sending"
        else channel
        for channel in delivery.channels
    )
    after = replace(summed_up(delivery, channels, now), owner=owner, reason=None)
    if after.state != "sending":
        return after
    return replace(renewed(after, now, lease_s), attempts=after.attempts + 1, last_at=now)


def renewed(delivery: Delivery, now: dt.datetime, lease_s: float) -> Delivery:
    """Return the state of an owner who claims again, because its lease grew old before the send."""
    return replace(delivery, lease_until=now + dt.timedelta(seconds=lease_s))


def lease_expired(delivery: Delivery, now: dt.datetime, policy: RetryPolicy, cuts: int | None = None) -> Delivery:
    """Return the state after an attempt whose owner died: in doubt, and a failed attempt on the schedule.

    After too many of them in a row it has failed: it kills every process that sends it. `cuts` says how many there are,
    if that is known; else it is one more.
    """
    cuts = delivery.cuts + 1 if cuts is None else cuts
    lost = {channel.name: _OWNER_LOST for channel in delivery.sending()}
    after = settled(delivery, lost, now, policy)
    if cuts < policy.max_cuts:
        return replace(after, cuts=cuts)
    why = f"given up: {cuts} processes in a row died while sending it"
    channels = tuple(
        replace(channel, state="failed", next_attempt_at=None, last_error=why)
        if channel.name in lost and channel.state == "retrying"
        else channel
        for channel in after.channels
    )
    return replace(summed_up(delivery, channels, now), cuts=cuts, reason="max_deliveries")


def left_to_redriver(delivery: Delivery, deaths: int, now: dt.datetime, policy: RetryPolicy) -> Delivery:
    """Return the state of an attempt whose entry was in the hands of so many processes that died.

    Its record shows that it can be read and stored, so the stream need not be careful with it. It is due at once,
    whatever the schedule says: the deaths are not its receivers' fault. But a suspect keeps to the schedule.
    """
    after = lease_expired(delivery, now, policy, deaths)
    if deaths >= SUSPECT_CUTS:
        return after
    lost = {channel.name for channel in delivery.sending()}
    channels = tuple(
        replace(channel, state="retrying", next_attempt_at=now)
        if channel.name in lost and channel.state != "in_doubt"
        else channel
        for channel in after.channels
    )
    return replace(summed_up(delivery, channels, now), cuts=deaths)


def settled(
    delivery: Delivery, outcomes: Mapping[str, tuple[Outcome | Later, float]], now: dt.datetime, policy: RetryPolicy
) -> Delivery:
    """Return the state after an attempt.

    `outcomes` says by channel what came of it, and how long it took in seconds. A sending channel that is not named
    there was cut off: its outcome is unseen. One that took nothing for now waits in its queue, and no step was used.
    """
    channels = tuple(
        _after_outcome(channel, *outcomes.get(channel.name, _CUT_OFF), now, policy)
        if channel.state == "sending"
        else channel
        for channel in delivery.channels
    )
    return summed_up(delivery, channels, now, cuts=0)


def with_acceptances(theirs: Delivery, ours: Delivery, now: dt.datetime) -> Delivery | None:
    """Merge what our receivers accepted into a record that has moved on; None if that changes nothing.

    An acceptance is never forgotten: the channel becomes `delivered` whatever its current owner is doing.
    """
    accepted = {channel.name: channel for channel in ours.channels if channel.state == "delivered"}
    channels = tuple(
        replace(accepted[channel.name], in_doubt=max(channel.in_doubt, accepted[channel.name].in_doubt))
        if channel.name in accepted and channel.state != "delivered"
        else channel
        for channel in theirs.channels
    )
    if channels == theirs.channels:
        return None
    return _still_quarantined(theirs, summed_up(theirs, channels, now))


def redelivery_requested(delivery: Delivery, owner: str, now: dt.datetime, *, in_doubt: bool) -> Delivery | None:
    """Return the state after a human asked for another attempt; None if there is nothing to send.

    Every channel that has given up or retries is due now, with the whole schedule ahead of it again; with `in_doubt`
    also those held in doubt, whose receivers may get it twice. Left alone are a running attempt, what is delivered, and
    a channel's queue. The new owner token keeps an earlier owner's late write from being taken for its own.
    """
    states: set[ChannelState] = {"failed", "retrying"}
    states |= {"in_doubt"} if in_doubt else set()
    if delivery.state in ("sending", "delivered") or not any(one.state in states for one in delivery.channels):
        return None
    channels = tuple(
        replace(channel, state="retrying", next_attempt_at=now, attempts_before=channel.attempts, since=None)
        if channel.state in states
        else channel
        for channel in delivery.channels
    )
    return replace(summed_up(delivery, channels, now, cuts=0), owner=owner, reason=None)


def resolved(delivery: Delivery, owner: str, now: dt.datetime, resolution: Resolution, by: str) -> Delivery | None:
    """Return the state after a human settled what is in doubt; None if nothing is, or an attempt is running.

    The other channels stay as they are. The attempt log and `reason` say who settled it, and when.
    """
    if delivery.state == "sending" or not any(channel.state == "in_doubt" for channel in delivery.channels):
        return None
    said = f"settled as {resolution} by {by}"
    attempt = Attempt(now, 0.0, "accepted" if resolution == "delivered" else "refused", error=said)
    channels = tuple(
        replace(
            channel,
            state=resolution,
            last_error=None if resolution == "delivered" else said,
            log=(*channel.log, attempt)[-KEPT_ATTEMPTS:],
        )
        if channel.state == "in_doubt"
        else channel
        for channel in delivery.channels
    )
    at = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    after = _still_quarantined(delivery, summed_up(delivery, channels, now))
    return replace(after, owner=owner, reason=f"{said} at {at}")


def in_queue(begun: ChannelDelivery, now: dt.datetime, wait_s: float) -> ChannelDelivery:
    """Return a channel of an attempt that was not made through it after all: it waits, and no step is used.

    A wait that goes on keeps its beginning, and so its end, `wait_s` later.
    """
    since = begun.since or now
    ends_at = since + dt.timedelta(seconds=wait_s)
    return replace(begun, state="waiting", attempts=begun.attempts - 1, since=since, next_attempt_at=ends_at)


_OWNER_LOST: tuple[Outcome, float] = (Retry("the worker died before it stored the outcome", unseen=True), 0.0)
_CUT_OFF: tuple[Outcome, float] = (Retry("cut off before the receiver answered", unseen=True), 0.0)
_RESULTS: dict[type[Outcome], AttemptResult] = {Accepted: "accepted", Retry: "retry", Refused: "refused"}


def _after_outcome(
    channel: ChannelDelivery, outcome: Outcome | Later, duration_s: float, now: dt.datetime, policy: RetryPolicy
) -> ChannelDelivery:
    if isinstance(outcome, Later):
        waiting = in_queue(channel, now, policy.patience_s)
        return replace(waiting, last_error=outcome.reason, last_status=outcome.status)
    state: ChannelState = "failed"
    next_attempt_at = None
    if isinstance(outcome, Accepted):
        state = "delivered"
    elif isinstance(outcome, Retry):
        delay_s = next_delay_s(policy, channel.attempts - (channel.attempts_before or 0), outcome)
        if outcome.unseen and channel.name in policy.hold:
            state = "in_doubt"
        elif delay_s is not None:
            state, next_attempt_at = "retrying", now + dt.timedelta(seconds=delay_s)
    return replace(
        channel,
        state=state,
        in_doubt=channel.in_doubt + outcome.unseen,
        next_attempt_at=next_attempt_at,
        since=None,
        last_error=outcome.reason,
        last_status=outcome.status,
        log=(*channel.log, _attempt(outcome, duration_s, now))[-KEPT_ATTEMPTS:],
    )


def _attempt(outcome: Outcome, duration_s: float, now: dt.datetime) -> Attempt:
    return Attempt(
        at=now - dt.timedelta(seconds=duration_s),
        duration_s=round(duration_s, 4),
        result=_RESULTS[type(outcome)],
        status=outcome.status,
        error=outcome.reason,
        unseen=outcome.unseen,
        answer=outcome.answer[:KEPT_ANSWER_CHARACTERS],
        reference=outcome.reference,
    )


def _still_quarantined(before: Delivery, after: Delivery) -> Delivery:
    """Return what follows; but only a delivered record leaves `quarantined` before its entry is put back."""
    if before.state == "quarantined" and after.state != "delivered":
        return replace(after, state="quarantined", lease_until=None, next_attempt_at=None)
    return after
