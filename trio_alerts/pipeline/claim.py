"""Claims of records: whoever sends owns the record first, by creating it or by writing over what was read."""

import datetime as dt
from enum import Enum, auto
from functools import partial

import trio
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from trio_alerts.alert import Alert, Entry
from trio_alerts.delivery import FINAL, SINK, ChannelDelivery, Delivery
from trio_alerts.errors import RefusedContent
from trio_alerts.event import SEVERITIES
from trio_alerts.held_back import first_state, standby
from trio_alerts.pipeline.admission import unless_closed
from trio_alerts.pipeline.retention import may_be_pruned, refuse_pruned
from trio_alerts.pipeline.silences import unless_silenced
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.store import Stored
from trio_alerts.ports.stream import SUSPECT_DELIVERIES
from trio_alerts.record import Record
from trio_alerts.routing.routes import Deliver, Suppress
from trio_alerts.transitions import first_attempt, left_to_redriver, renewed, suppressed, taken_over


class Claim(Struct, frozen=True):
    """A record that is ours: the state `sending` with our owner token, at this version.

    `stamped_at_s` is the monotonic time before its lease was written; `payload` is what receivers get, if it is known
    already; `admitted_at_s` is the monotonic time at which its channels were asked whether they take it;
    `taken_until_ms` is of the hint that led to it, if one did: see `Taken`; `severity_rank` is known if `payload` is.
    """

    stored: Stored
    stamped_at_s: float
    admitted_at_s: float
    payload: bytes | None = None
    taken_until_ms: int | None = None
    severity_rank: int | None = None

    @property
    def record_id(self) -> str:
        """The ID of the record."""
        return self.stored.record.id


class Disposition(Enum):
    """What is left to do with what a worker has carried."""

    ACKNOWLEDGE = auto()  # an entry whose outcome is stored
    FORGET = auto()  # nothing, for us: it was no entry, has left the stream, or was not begun
    WALK_AWAY = auto()  # an entry that others must be careful about


async def persist(entry: Entry, alert: Alert, pipeline: Pipeline) -> Claim | Record | None:
    """Make the record exist and ours, before anything is sent.

    Outcomes: a claim | the record, if there is nothing to send now: the entry can be acknowledged | None: walk away.

    Raises:
        RefusedContent: The store will never take it, its ID belongs to another alert, or its record may be pruned.
        Stopping: See `process_entry`.
    """
    if may_be_pruned(entry, pipeline):
        await refuse_pruned(entry, pipeline)
    owner = pipeline.new_owner()
    stamped_at_s = trio.current_time()
    now = pipeline.clock.now()
    decision = _TO_NOBODY if entry.canary else pipeline.routing.decide(alert.event, now)
    if isinstance(decision, Suppress):
        delivery = suppressed(decision.rule)
    else:
        begun = _first_attempt(decision, owner, now, pipeline.settings.lease_s)
        begun = unless_silenced(begun, alert.event, pipeline)
        delivery = await unless_closed(begun, alert.event, pipeline)
    record = Record(entry.record_id, alert.body, delivery)
    store, rounds = pipeline.store_before_send, 0
    while True:
        created = await store.create(record)
        if isinstance(created, Stored):
            pipeline.meter.wrote(None, created.record)
            return _claim_or_done(created, stamped_at_s, alert)
        existing = await store.get(record.id)
        if existing is not None:
            return await resume(entry, alert, existing, owner, stamped_at_s, pipeline)
        rounds += 1
        # It vanished between the two answers: the next round creates it again.
        await pipeline.store_outage.pace(rounds, record.id, pipeline.stopping)


async def resume(
    entry: Entry, alert: Alert, existing: Stored, owner: str, stamped_at_s: float, pipeline: Pipeline
) -> Claim | Record | None:
    """Go on from the record of an alert that was seen before. `owner` and `stamped_at_s` are of our own first try.

    Outcomes: ours (a write of our own whose answer was lost, or an attempt that we took over) | the record, which has
    nothing for us to send: acknowledge | None: walk away. Nothing else leaves this function.
    """
    store, rounds = pipeline.store_before_send, 0
    while True:
        rounds += 1
        await pipeline.store_outage.pace(rounds, entry.record_id, pipeline.stopping)
        delivery = existing.record.delivery
        if existing.record.content_sha256 != alert.content_sha256:
            raise RefusedContent(
                f"record {entry.record_id} belongs to an alert with other content: the message ID was used again",
                "id_reused",
            )
        if delivery.owner == owner:
            return _claim_or_done(existing, stamped_at_s, alert)
        if delivery.state == "quarantined" and not entry.replayed:
            reason = delivery.reason or "unknown"
            raise RefusedContent("its record was marked as quarantined before, and the entry was not moved", reason)
        if delivery.state in FINAL or delivery.state in ("retrying", "waiting"):
            return existing.record
        if delivery.state == "sending" and not await _owner_is_gone(entry, delivery, pipeline):
            return None
        stamped_at_s = trio.current_time()
        mine = await _take_over(delivery, entry, alert, owner, pipeline)
        taken = await store.replace(replace(existing.record, delivery=mine), existing.version)
        if isinstance(taken, Stored):
            pipeline.meter.wrote(delivery, taken.record)
            logger.warning(
                "{record_id}: an attempt of {owner} was cut, outcome unknown",
                record_id=entry.record_id,
                owner=delivery.owner,
                attempt=mine.attempts,
                severity=alert.event.severity,
            )
            return _claim_or_done(taken, stamped_at_s, alert)
        again = await store.get(entry.record_id)
        if again is None:
            return None  # vanished just now: the next delivery starts anew
        existing = again


async def _take_over(delivery: Delivery, entry: Entry, alert: Alert, owner: str, pipeline: Pipeline) -> Delivery:
    """Return the state of an attempt of ours, after the one of a dead owner, or of what becomes of it instead."""
    now, lease_s = pipeline.clock.now(), pipeline.settings.lease_s
    if delivery.state == "sending" and entry.deliveries >= SUSPECT_DELIVERIES:
        return left_to_redriver(delivery, entry.deliveries - 1, now, pipeline.retry_policy())
    begun = taken_over(delivery, owner, now, lease_s, pipeline.retry_policy())
    begun = unless_silenced(begun, alert.event, pipeline)
    mine = await unless_closed(begun, alert.event, pipeline)
    if mine.state == "sending":
        return mine
    return replace(mine, cuts=entry.deliveries - 1)  # its entry leaves the stream, which has counted the deaths so far


async def claim_again(claim: Claim, pipeline: Pipeline) -> Claim | None:
    """Claim what is ours once more; None if it is not any more."""
    stamped_at_s = trio.current_time()
    record = claim.stored.record
    longer = replace(record, delivery=renewed(record.delivery, pipeline.clock.now(), pipeline.settings.lease_s))
    again = await try_to_claim(longer, claim.stored, stamped_at_s, pipeline)
    return again and replace(again, admitted_at_s=claim.admitted_at_s, payload=claim.payload)


async def try_to_claim(record: Record, before: Stored, stamped_at_s: float, pipeline: Pipeline) -> Claim | None:
    """Write a record that is ours over what was read; None if somebody else was first, or nothing is to be sent.

    Its channels were asked just now. A conflict may be a write of our own whose answer was lost: then the record is
    what we wrote. Our token alone would not do: an earlier write of ours may have left it. Or the record is what was
    read, under another version, since it lies in a new index now: then it is written again.
    """
    store, rounds = pipeline.store_before_send, 0
    while True:
        written = await store.replace(record, before.version)
        if isinstance(written, Stored):
            pipeline.meter.wrote(before.record.delivery, written.record)
            break
        found = await store.get(record.id)
        if found is not None and found.record.delivery == record.delivery:
            written = found
            break
        if found is None or found.record.delivery != before.record.delivery:
            return None
        before, rounds = found, rounds + 1
        await pipeline.store_outage.pace(rounds, record.id, pipeline.stopping)
    return Claim(written, stamped_at_s, stamped_at_s) if written.record.delivery.sending() else None


_TO_NOBODY = Deliver((SINK,))


def _first_attempt(where: Deliver, owner: str, now: dt.datetime, lease_s: float) -> Delivery:
    if not where.fallbacks:
        return first_attempt(where.channels, owner, now, lease_s)
    sending = [ChannelDelivery(name, "sending") for name in where.channels]
    standing_by = [
        standby(one.channel, one.primaries, now + dt.timedelta(seconds=one.after_s)) for one in where.fallbacks
    ]
    return first_state((*sending, *standing_by), owner, now, lease_s)


async def _owner_is_gone(entry: Entry, delivery: Delivery, pipeline: Pipeline) -> bool:
    if delivery.lease_until is None or pipeline.clock.lapsed(delivery.lease_until, pipeline.settings.lease_s):
        return True
    ours = partial(pipeline.stream.owns, entry)
    return entry.claimed and await pipeline.stream_outage.outlast(ours, pipeline.stopping)


def _claim_or_done(stored: Stored, stamped_at_s: float, alert: Alert) -> Claim | Record:
    if stored.record.delivery.state != "sending":
        return stored.record
    rank = SEVERITIES.index(alert.event.severity)
    return Claim(stored, stamped_at_s, stamped_at_s, alert.payload, severity_rank=rank)
