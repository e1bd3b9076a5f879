"""Which records may be deleted for their age. Pure."""

import datetime as dt
from collections.abc import Collection

import msgspec
from msgspec import Struct

from trio_alerts.delivery import ChannelState, State
from trio_alerts.exact_json import Timestamp
from trio_alerts.record import Record

SETTLED: frozenset[State] = frozenset({"delivered", "failed", "suppressed"})
_SETTLED_CHANNELS: frozenset[ChannelState] = frozenset({"delivered", "failed", "spared", "suppressed"})


def is_settled(record: Record, before: dt.datetime, silences: Collection[str]) -> bool:
    """Tell whether nobody will do anything about a record any more, and nothing happened to it since a time.

    The youngest of its times decides, the producer's `occurred_at` included: what was written while a clock was far
    behind looks old, but not by all of them.

    Args:
        record: The record. Of the alert, its times are enough.
        before: The time.
        silences: As records name them, those that are active or ended later than that: what one of them keeps back may
            still be sent.
    """
    delivery = record.delivery
    if delivery.state not in SETTLED or not {one.state for one in delivery.channels} <= _SETTLED_CHANNELS:
        return False
    if delivery.next_attempt_at is not None or delivery.lease_until is not None or delivery.queues:
        return False
    if delivery.state != "delivered" and delivery.suppressed_by in silences:
        return False
    try:
        alert = _DECODER.decode(record.body)
    except (msgspec.DecodeError, UnicodeError):
        return False
    times = (alert.ingested_at, alert.occurred_at, delivery.first_at, delivery.last_at, delivery.delivered_at)
    return alert.ingested_at is not None and all(time < before for time in times if time is not None)


class _Times(Struct, frozen=True):
    ingested_at: Timestamp | None = None
    occurred_at: Timestamp | None = None


_DECODER = msgspec.json.Decoder(_Times)
