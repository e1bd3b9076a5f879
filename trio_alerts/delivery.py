"""What a record says about its delivery: the state of the alert and of each of its channels."""

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal, get_args

from msgspec import Struct, ValidationError, convert, field

from trio_alerts.exact_json import Timestamp

StoredState = Literal["sending", "delivered", "retrying", "waiting", "failed", "in_doubt", "suppressed", "quarantined"]
State = Literal[StoredState, "unknown"]  # a search shows so what a newer version wrote; it is never stored
ChannelState = Literal[
    "sending", "delivered", "retrying", "waiting", "standby", "failed", "in_doubt", "spared", "suppressed"
]
AttemptResult = Literal["accepted", "retry", "refused"]
FINAL: frozenset[State] = frozenset({"delivered", "failed", "in_doubt", "suppressed"})  # the pipeline is done with it

MOVING: tuple[State, ...] = ("retrying", "waiting", "in_doubt")  # a fallback may be due, whatever the others wait for
EARLIEST, LATEST = dt.datetime(2, 1, 1, tzinfo=dt.UTC), dt.datetime(9998, 1, 1, tzinfo=dt.UTC)  # in every time zone
LARGEST = 2**31 - 1  # an OpenSearch `integer`

KEPT_ATTEMPTS = 10  # per channel: enough to see a pattern, and a record stays small
KEPT_ANSWER_CHARACTERS = 1024
SINK = "~canary"  # the channel of canaries, which accepts and tells nobody: no name that settings allow
UNCONFIGURED = "unconfigured"  # the queue for channels that the process which was to send does not know


class Attempt(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One try to send one alert through one channel, as the record keeps it.

    `reference` is what the service calls the message that it took, such as Slack's `ts`: whoever wants to find or
    answer it there needs that.
    """

    at: Timestamp
    duration_s: float
    result: AttemptResult
    status: int | None = None
    error: str | None = None
    unseen: bool = False
    answer: str = ""
    reference: str = ""


class ChannelDelivery(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One channel's part: `in_doubt` counts its attempts whose outcome nobody saw.

    `attempts_before` are those that were made before a human asked for another one: the schedule counts from there.
    `next_attempt_at` is when it moves by itself: a retry, the end of a wait, a fallback that is engaged. `since` is the
    first wait after the last attempt that used a step of the schedule; `fallback_of` names the primaries of a fallback.
    `unconfigured_since` is set while it waits for a process that knows it.
    """

    name: str
    state: ChannelState
    attempts: int = field(default_factory=partial(int, 1))  # with a factory it is always written: see `Delivery`
    in_doubt: int = field(default_factory=int)
    next_attempt_at: Timestamp | None = None
    last_error: str | None = None
    last_status: int | None = None
    log: tuple[Attempt, ...] = ()
    attempts_before: int | None = None
    since: Timestamp | None = None
    fallback_of: tuple[str, ...] = ()
    unconfigured_since: Timestamp | None = None

    @property
    def queue(self) -> str:
        """The name of the queue that it is in while it waits."""
        return self.name if self.unconfigured_since is None else UNCONFIGURED

    def is_due(self, now: dt.datetime) -> bool:
        """Tell whether an attempt through it may begin now: a retry, or a fallback whose time has come."""
        if self.state not in ("retrying", "standby"):
            return False
        return self.next_attempt_at is None or self.next_attempt_at <= now


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The whole alert's part.

    `attempts` counts the times somebody set out to send it, `in_doubt` those of them of which an outcome stayed unseen.
    `owner` is the token of the last attempt, unique to it. Times are the Redis server's. `last_at` is when the last
    attempt began, or when it was given up: that may be long after it. `cuts` counts the attempts in
    a row that ended with their process; from `SUSPECT_CUTS` on the alert may be what ended it.
    `failed_channels`, `retrying_channels` and `in_doubt_channels` name the channels in that state, and `queues` where
    channels wait, whatever the record's own state: in an index, `channels` is flattened, and "pager and failed" would
    match across two of them. `next_attempt_at` is when the first of them moves by itself; none while the record is
    `sending`.

    Counters are written at any value, by a default factory: `omit_defaults` leaves out constants only. What is not
    there can be neither summed nor found as 0.
    """

    state: State
    owner: str = ""
    lease_until: Timestamp | None = None
    attempts: int = field(default_factory=int)
    in_doubt: int = field(default_factory=int)
    next_attempt_at: Timestamp | None = None
    first_at: Timestamp | None = None
    last_at: Timestamp | None = None
    delivered_at: Timestamp | None = None
    last_error: str | None = None
    last_status: int | None = None
    reason: str | None = None
    suppressed_by: str | None = None
    cuts: int = field(default_factory=int)
    failed_channels: tuple[str, ...] = ()
    retrying_channels: tuple[str, ...] = ()
    in_doubt_channels: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    channels: tuple[ChannelDelivery, ...] = ()

    def attempt_at(self) -> dt.datetime | None:
        """Return when the next attempt is due, or the lease of the running one is over; None: no attempt is ahead.

        The end of a wait is left out: an attempt through a channel that waits begins when its queue is drained.
        """
        if self.state not in MOVING:
            return self.lease_until if self.state == "sending" else None
        times = [one.next_attempt_at for one in self.channels if one.state in ("retrying", "standby")]
        return min((time for time in times if time is not None), default=None)

    def sending(self) -> tuple[ChannelDelivery, ...]:
        """Return the channels that the running attempt goes through."""
        return tuple(channel for channel in self.channels if channel.state == "sending")


def read_delivery(value: object) -> Delivery:
    """Read what a store kept, and anybody may have changed: whatever passes here, the program can go on from.

    Raises:
        ValidationError: Something in it makes no sense; the message says what and where, without values.
    """
    delivery = convert(value, Delivery)
    if delivery.state == "unknown":
        raise ValidationError("nothing is stored in this state - at `$.state`")
    if not delivery.channels and delivery.state not in ("suppressed", "quarantined"):
        raise ValidationError(f"a record that is {delivery.state} has a channel - at `$.channels`")
    attempts = [attempt for channel in delivery.channels for attempt in channel.log]
    for part in (delivery, *delivery.channels, *attempts):
        for name in part.__struct_fields__:
            _check(name, getattr(part, name))
    return delivery


def unknown_parts(value: object, at: str = "delivery", kind: type[Struct] = Delivery) -> Iterator[str]:
    """Yield what a stored delivery has that this version does not know: fields, nested ones too, and states."""
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        if name not in kind.__struct_fields__:
            yield f"{at}.{name:.60}"
        elif isinstance(part, str) and part not in _WORDS.get((kind, name), (part,)):
            yield f"{at}.{name} {part!r:.60}"
        elif isinstance(part, list) and name in _NESTED:
            for one in part:
                yield from unknown_parts(one, f"{at}.{name}", _NESTED[name])


_NESTED: Mapping[str, type[Struct]] = {"channels": ChannelDelivery, "log": Attempt}
_WORDS: Mapping[tuple[type[Struct], str], tuple[str, ...]] = {
    (Delivery, "state"): get_args(StoredState),
    (ChannelDelivery, "state"): get_args(ChannelState),
    (Attempt, "result"): get_args(AttemptResult),
}


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
