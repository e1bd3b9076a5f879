"""What became of an alert: the states of a record and of its channels, and the ways from one to the next.

Every function here is pure: it takes a `Delivery` and returns the next one. What is written where, and by whom, is
decided in the pipeline's `claim.py` and `attempt.py`.
"""

import datetime as dt
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

from msgspec import Meta, Struct, ValidationError, convert, field
from msgspec.structs import replace

from trio_alerts.backoff import next_delay_s
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry

State = Literal["sending", "delivered", "retrying", "failed", "in_doubt", "suppressed", "quarantined"]
ChannelState = Literal["sending", "delivered", "retrying", "failed", "in_doubt"]
Result = Literal["accepted", "retry", "refused"]
Verdict = Literal["delivered", "failed"]
FINAL: frozenset[State] = frozenset({"delivered", "failed", "in_doubt", "suppressed"})  # the pipeline is done with it

SUSPECT_CUTS = 3  # in a row: the first two may have hit whatever was in flight beside the culprit
Moment = Annotated[dt.datetime, Meta(tz=True)]
EARLIEST, LATEST = dt.datetime(2, 1, 1, tzinfo=dt.UTC), dt.datetime(9998, 1, 1, tzinfo=dt.UTC)  # in every time zone
LARGEST = 2**31 - 1  # an OpenSearch `integer`

KEPT_ATTEMPTS = 10  # per channel: enough to see a pattern, and a record stays small
KEPT_ANSWER_CHARACTERS = 1024


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One try to send one alert through one channel, as the record keeps it."""

    at: Moment
    duration_s: float
    result: Result
    status: int | None = None
    error: str | None = None
    unseen: bool = False
    answer: str = ""


class ChannelDelivery(Struct, frozen=True, omit_defaults=True):
    """One channel's part: `in_doubt` counts its attempts whose outcome nobody saw.

    `attempts_before` are those that were made before a human asked for another one: the schedule counts from there.
    """

    name: str
    state: ChannelState
    attempts: int = field(default_factory=partial(int, 1))  # with a factory it is always written: see `Delivery`
    in_doubt: int = field(default_factory=int)
    next_attempt_at: Moment | None = None
    last_error: str | None = None
    last_status: int | None = None
    log: tuple[Attempt, ...] = ()
    attempts_before: int | None = None

    def is_due(self, now: dt.datetime) -> bool:
        """Tell whether it waits for an attempt that may begin now."""
        return self.state == "retrying" and (self.next_attempt_at is None or self.next_attempt_at <= now)


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole alert's part.

    `attempts` counts the times somebody set out to send it, `in_doubt` those of them of which an outcome stayed unseen.
    `owner` is the token of the last attempt, unique to it. Times are the Redis server's. `cuts` counts the attempts in
    a row that ended with their process; from `SUSPECT_CUTS` on the alert may be what ended it.
    `failed_channels`, `retrying_channels` and `in_doubt_channels` name the channels in that state, whatever the
    record's own: in an index, `channels` is flattened, and "pager and failed" would match across two of them.

    Counters are written at any value, by a default factory: `omit_defaults` leaves out constants only. What is not
    there can be neither summed nor found as 0.
    """

    state: State
    owner: str = ""
    lease_until: Moment | None = None
    attempts: int = field(default_factory=int)
    in_doubt: int = field(default_factory=int)
    next_attempt_at: Moment | None = None
    first_at: Moment | None = None
    last_at: Moment | None = None
    delivered_at: Moment | None = None
    last_error: str | None = None
    last_status: int | None = None
    reason: str | None = None
    suppressed_by: str | None = None
    cuts: int = field(default_factory=int)
    failed_channels: tuple[str, ...] = ()
    retrying_channels: tuple[str, ...] = ()
    in_doubt_channels: tuple[str, ...] = ()
    channels: tuple[ChannelDelivery, ...] = ()

    def sending(self) -> tuple[ChannelDelivery, ...]:
        """Return the channels that the running attempt goes through."""
        return tuple(channel for channel in self.channels if channel.state == "sending")


class Rules(Struct, frozen=True):
    """What the transitions need to know of the settings.

    Args:
        schedule_s: The waits between attempts, in seconds.
        hold: The channels whose unseen outcomes wait for a human.
        jitter: From -1 to 1, drawn anew for each outcome; 0 gives the schedule itself.
        max_cuts: How many attempts in a row may end with their process.
    """

    schedule_s: Sequence[float]
    hold: frozenset[str] = frozenset()
    jitter: float = 0.0
    max_cuts: int = 5


def read_delivery(value: object) -> Delivery:
    """Read what a store kept, and anybody may have changed: whatever passes here, the program can go on from.

    Raises:
        ValidationError: Something in it makes no sense; the message says what and where, without values.
    """
    delivery = convert(value, Delivery)
    if not delivery.channels and delivery.state not in ("suppressed", "quarantined"):
        raise ValidationError(f"a record that is {delivery.state} has a channel - at `$.channels`")
    attempts = [attempt for channel in delivery.channels for attempt in channel.log]
    for part in (delivery, *delivery.channels, *attempts):
        for name in part.__struct_fields__:
            _check(name, getattr(part, name))
    return delivery


def _check(name: str, value: object) -> None:
    sound = True
    match value:
        case dt.datetime():
            sound = EARLIEST < value < LATEST
        case float():
            sound = math.isfinite(value)
        case int():
            sound = 0 <= value <= LARGEST
    if not sound:
        raise ValidationError(f"a number or time is out of range - at `{name}`")


def first_attempt(channels: Iterable[str], owner: str, now: dt.datetime, lease_s: float) -> Delivery:
    """Return the state that is stored before the first send: the record and the in-doubt ledger in one write."""
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
    """Return the state of an alert that a rule keeps from people; the record names the rule."""
    return Delivery(state="suppressed", suppressed_by=rule)


def quarantined(delivery: Delivery, reason: str) -> Delivery:
    """Return the state that is stored before an entry moves to the dead-letter stream."""
    return replace(delivery, state="quarantined", lease_until=None, next_attempt_at=None, reason=reason)


def next_attempt(
    delivery: Delivery, owner: str, now: dt.datetime, lease_s: float, through: Collection[str] | None = None
) -> Delivery:
    """Return the state of an owner's next attempt, through every channel that is due; accepted ones are skipped.

    Args:
        delivery: As it is.
        owner: The token of the attempt.
        now: The server's time.
        lease_s: How long the attempt may take.
        through: Only through these channels, if given; at least one of them is due.
    """
    channels = tuple(
        replace(channel, state="sending", attempts=channel.attempts + 1, next_attempt_at=None)
        if channel.is_due(now) and (through is None or channel.name in through)
        else channel
        for channel in delivery.channels
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
        retrying_channels=_named(channels, "retrying"),
    )


def moved_back(delivery: Delivery, now: dt.datetime, set_back: dt.timedelta) -> Delivery:
    """Return the same with the times to come moved, if they were written before the server's clock was set back.

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
            replace(channel, next_attempt_at=moved(channel.next_attempt_at)) for channel in delivery.channels
        ),
    )


def taken_over(delivery: Delivery, owner: str, now: dt.datetime, lease_s: float, rules: Rules) -> Delivery:
    """Return the state of a new owner, after the old one is gone in the middle of an attempt.

    Nobody saw the outcome. A channel that holds such alerts waits for a human; the others are sent to again at once,
    by the same `webhook-id`. The state is `sending` if there is one of these.
    """
    gone = _attempt(Retry("the worker was gone before the outcome was stored", unseen=True), 0.0, now)
    channels = tuple(
        replace(
            channel,
            state="in_doubt" if channel.name in rules.hold else "sending",
            attempts=channel.attempts + (channel.name not in rules.hold),
            in_doubt=channel.in_doubt + 1,
            last_error=gone.error,
            log=(*channel.log, gone)[-KEPT_ATTEMPTS:],
        )
        if channel.state == "sending"
        else channel
        for channel in delivery.channels
    )
    after = replace(_summed_up(delivery, channels, now), reason=None)
    if after.state != "sending":
        return replace(after, owner=owner)
    return replace(
        after, owner=owner, lease_until=now + dt.timedelta(seconds=lease_s), attempts=after.attempts + 1, last_at=now
    )


def renewed(delivery: Delivery, now: dt.datetime, lease_s: float) -> Delivery:
    """Return the state of an owner who claims again, because its lease grew old before the send."""
    return replace(delivery, lease_until=now + dt.timedelta(seconds=lease_s))


def cut(delivery: Delivery, now: dt.datetime, rules: Rules, cuts: int | None = None) -> Delivery:
    """Return the state after an attempt whose owner is gone: in doubt, and a failed attempt on the schedule.

    After too many of them in a row it has failed: whoever sends it dies of it.

    Args:
        delivery: As it was while sending.
        now: The server's time.
        rules: Schedule, policies and chance.
        cuts: How many attempts in a row ended with their process, if that is known; else it is one more.
    """
    cuts = delivery.cuts + 1 if cuts is None else cuts
    lost: dict[str, tuple[Outcome, float]] = {
        channel.name: (Retry("the worker was gone before the outcome was stored", unseen=True), 0.0)
        for channel in delivery.sending()
    }
    after = settled(delivery, lost, now, rules)
    if cuts < rules.max_cuts:
        return replace(after, cuts=cuts)
    why = f"given up: {cuts} processes in a row ended while they sent it"
    channels = tuple(
        replace(channel, state="failed", next_attempt_at=None, last_error=why)
        if channel.name in lost and channel.state == "retrying"
        else channel
        for channel in after.channels
    )
    return replace(_summed_up(delivery, channels, now), cuts=cuts, reason="max_deliveries")


def left_to_redriver(delivery: Delivery, deaths: int, now: dt.datetime, rules: Rules) -> Delivery:
    """Return the state of an attempt whose entry was in the hands of so many processes that died.

    Its record shows that it can be read and stored, so the stream need not be careful with it. It is due at once,
    whatever the schedule says: the deaths are not its receivers' fault. But a suspect keeps to the schedule.
    """
    after = cut(delivery, now, rules, deaths)
    if deaths >= SUSPECT_CUTS:
        return after
    gone = {channel.name for channel in delivery.sending()}
    channels = tuple(
        replace(channel, state="retrying", next_attempt_at=now)
        if channel.name in gone and channel.state != "in_doubt"
        else channel
        for channel in after.channels
    )
    return replace(_summed_up(delivery, channels, now), cuts=deaths)


def settled(
    delivery: Delivery, outcomes: Mapping[str, tuple[Outcome, float]], now: dt.datetime, rules: Rules
) -> Delivery:
    """Return the state after an attempt.

    Args:
        delivery: As it was while sending.
        outcomes: By channel: what came of it, and how long it took in seconds. A sending channel that is not named
            here was cut: its outcome is unseen.
        now: The server's time.
        rules: Schedule, policies and chance.
    """
    channels = tuple(
        _after_outcome(channel, *outcomes.get(channel.name, _CUT_OFF), now, rules)
        if channel.state == "sending"
        else channel
        for channel in delivery.channels
    )
    return _summed_up(delivery, channels, now, cuts=0)


def with_acceptances(theirs: Delivery, ours: Delivery, now: dt.datetime) -> Delivery | None:
    """Merge what our receivers accepted into a record that has moved on; None if that changes nothing.

    An acceptance is never forgotten: the channel becomes `delivered` whatever its present owner is doing.
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
    after = _summed_up(theirs, channels, now)
    if theirs.state == "quarantined" and after.state != "delivered":
        return replace(after, state="quarantined", lease_until=None, next_attempt_at=None)
    return after


def asked_for(delivery: Delivery, owner: str, now: dt.datetime, *, in_doubt: bool) -> Delivery | None:
    """Return the state after a human asked for another attempt; None if there is nothing to send.

    Every channel that has given up or waits is due now, and has the whole schedule before it again. A running attempt
    is left alone. The new owner token keeps an earlier owner's late write from being taken for its own.

    Args:
        delivery: As it is.
        owner: A token that no attempt has.
        now: The server's time.
        in_doubt: Also through channels that are held in doubt: a receiver may get those a second time.
    """
    states: set[ChannelState] = {"failed", "retrying", "in_doubt"} if in_doubt else {"failed", "retrying"}
    if delivery.state == "sending" or not any(channel.state in states for channel in delivery.channels):
        return None
    channels = tuple(
        replace(channel, state="retrying", next_attempt_at=now, attempts_before=channel.attempts)
        if channel.state in states
        else channel
        for channel in delivery.channels
    )
    return replace(_summed_up(delivery, channels, now, cuts=0), owner=owner, reason=None)


def resolved(delivery: Delivery, owner: str, now: dt.datetime, verdict: Verdict, by: str) -> Delivery | None:
    """Return the state after a human settled what is in doubt; None if nothing is, or an attempt is running.

    The other channels stay as they are. The attempt log and `reason` say who settled it, and when.
    """
    if delivery.state == "sending" or not any(channel.state == "in_doubt" for channel in delivery.channels):
        return None
    said = f"settled as {verdict} by {by}"
    attempt = Attempt(now, 0.0, "accepted" if verdict == "delivered" else "refused", error=said)
    channels = tuple(
        replace(
            channel,
            state=verdict,
            last_error=None if verdict == "delivered" else said,
            log=(*channel.log, attempt)[-KEPT_ATTEMPTS:],
        )
        if channel.state == "in_doubt"
        else channel
        for channel in delivery.channels
    )
    at = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return replace(_summed_up(delivery, channels, now), owner=owner, reason=f"{said} at {at}")


_CUT_OFF: tuple[Outcome, float] = (Retry("cut before the receiver answered", unseen=True), 0.0)
_RESULTS: dict[type[Outcome], Result] = {Accepted: "accepted", Retry: "retry", Refused: "refused"}
_ORDER: tuple[ChannelState, ...] = ("sending", "retrying", "in_doubt", "failed", "delivered")


def _after_outcome(
    channel: ChannelDelivery, outcome: Outcome, duration_s: float, now: dt.datetime, rules: Rules
) -> ChannelDelivery:
    state: ChannelState = "failed"
    next_attempt_at = None
    if isinstance(outcome, Accepted):
        state = "delivered"
    elif isinstance(outcome, Retry):
        attempts = channel.attempts - (channel.attempts_before or 0)
        delay_s = next_delay_s(rules.schedule_s, attempts, outcome, rules.jitter)
        if outcome.unseen and channel.name in rules.hold:
            state = "in_doubt"
        elif delay_s is not None:
            state, next_attempt_at = "retrying", now + dt.timedelta(seconds=delay_s)
    return replace(
        channel,
        state=state,
        in_doubt=channel.in_doubt + outcome.unseen,
        next_attempt_at=next_attempt_at,
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
    )


def _rank(channel: ChannelDelivery) -> int:
    return _ORDER.index(channel.state)


def _summed_up(
    delivery: Delivery, channels: tuple[ChannelDelivery, ...], now: dt.datetime, cuts: int | None = None
) -> Delivery:
    """Return the alert's state from its channels': whatever still moves comes first, then what needs a human."""
    worst = min(channels, key=_rank)
    state = worst.state
    nexts = [channel.next_attempt_at for channel in channels if channel.next_attempt_at is not None]
    newly_unseen = any(
        after.in_doubt > before.in_doubt for after, before in zip(channels, delivery.channels, strict=True)
    )
    return replace(
        delivery,
        state=state,
        lease_until=delivery.lease_until if state == "sending" else None,
        next_attempt_at=min(nexts, default=None) if state == "retrying" else None,
        delivered_at=now if state == "delivered" else None,
        last_error=worst.last_error,
        last_status=worst.last_status,
        in_doubt=delivery.in_doubt + newly_unseen,
        cuts=delivery.cuts if cuts is None else cuts,
        channels=channels,
        failed_channels=() if state == "delivered" else _named(channels, "failed"),
        retrying_channels=() if state == "delivered" else _named(channels, "retrying"),
        in_doubt_channels=() if state == "delivered" else _named(channels, "in_doubt"),
    )


def _named(channels: tuple[ChannelDelivery, ...], state: ChannelState) -> tuple[str, ...]:
    return tuple(channel.name for channel in channels if channel.state == state)
