"""The four steps of an entry, from the stream to its outcome: parse, persist, notify, update and acknowledge."""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from typing import TypeVar

import trio
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from trio_alerts.alert import Alert, Entry, Record, parse_entry, payload_of
from trio_alerts.delivery import (
    FINAL,
    Delivery,
    State,
    first_attempt,
    left_to_redriver,
    quarantined,
    renewed,
    settled,
    suppressed,
    taken_over,
    with_acceptances,
)
from trio_alerts.errors import ParseFault, QuarantineHalt, RefusedContent
from trio_alerts.pipeline.notify import Outcomes, notify
from trio_alerts.pipeline.outage import Rounds
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports import SUSPECT_DELIVERIES, Conflict, DeadEntry, Stored
from trio_alerts.routing.routes import Suppress
from trio_alerts.settings.settings import Settings

T = TypeVar("T")


class Claim(Struct, frozen=True):
    """A record that is ours: the state `sending` with our owner token, at this version.

    `stamped_at_s` is the monotonic time before its lease was written; `payload` is what receivers get, if it is known
    already.
    """

    stored: Stored
    stamped_at_s: float
    payload: bytes | None = None


class Step(Enum):
    """What is left to do with an entry that is not ours to send."""

    ACKNOWLEDGE = auto()
    WALK_AWAY = auto()


async def process_entry(entry: Entry, pipeline: Pipeline) -> Step:
    """Bring one entry to its outcome.

    Returns:
        `ACKNOWLEDGE` when it is done with: its outcome is stored and it is acknowledged, or it is in the quarantine.
        `WALK_AWAY` when its record belongs to an owner who may be alive; it stays pending.

    Raises:
        Stopping: The store did not answer before the soft stop; nothing was sent, the entry stays pending.
        QuarantineHalt: Too many entries in a row were quarantined.

    Cancellation: before the send nothing went out; during it the record says `sending`, and the next owner counts the
    attempt as in doubt; after it the outcome is stored and the entry acknowledged first.

    Between two steps a worker lets the others catch up: what many of them do in a row stays in the CPU's caches. With
    the same in `TrioTransport.exchange`, that saves a sixth of an alert's CPU with 512 workers, and more with more.
    """
    await pipeline.fault_point.reach("after_read")
    try:
        if entry.deliveries > pipeline.settings.max_deliveries:
            return await condemn(entry, pipeline)
        alert = parse_entry(entry, pipeline.clock.now())  # 1 parse
        await trio.lowlevel.checkpoint()
        await pipeline.fault_point.reach("after_parse")
        claim = await persist(entry, alert, pipeline)  # 2 persist
        del alert  # the record has it all: the event's many small objects need not wait for the receiver
        await pipeline.fault_point.reach("after_persist")
        if claim is Step.WALK_AWAY:
            return Step.WALK_AWAY
        if isinstance(claim, Claim) and not await deliver(claim, pipeline):  # 3 notify, 4 update
            return Step.WALK_AWAY
    except (ParseFault, RefusedContent) as fault:
        return await quarantine(entry, fault, pipeline)
    await pipeline.stream_outage.outlast(partial(pipeline.stream.ack, entry))  # 4 then XACK
    await pipeline.fault_point.reach("after_ack")
    pipeline.quarantined_in_a_row = 0
    pipeline.finished += 1
    return Step.ACKNOWLEDGE


async def persist(entry: Entry, alert: Alert, pipeline: Pipeline) -> Claim | Step:
    """Make the record exist and ours, before anything is sent.

    Raises:
        RefusedContent: The store will never take it, or its ID belongs to another alert.
        Stopping: See `process_entry`.
    """
    owner = pipeline.new_owner()
    stamped_at_s = trio.current_time()
    decision = pipeline.routing.decide(alert.event)
    if isinstance(decision, Suppress):
        delivery = suppressed(decision.rule)
    else:
        delivery = first_attempt(decision.channels, owner, pipeline.clock.now(), pipeline.settings.lease_s)
    record = Record(entry.record_id, alert.body, delivery)
    rounds = Rounds(pipeline.store_outage, record.id, pipeline.stopping)
    while True:
        created = await pipeline.ask_store(lambda: pipeline.store.create(record), write=True)
        if isinstance(created, Stored):
            return _claim_or_done(created, stamped_at_s, alert.payload)
        existing = await pipeline.ask_store(lambda: pipeline.store.get(record.id))
        if existing is not None:
            return await resume(entry, alert, existing, owner, stamped_at_s, pipeline)
        await rounds.next()  # it vanished between the two answers: the next round creates it again


async def resume(
    entry: Entry, alert: Alert, existing: Stored, owner: str, stamped_at_s: float, pipeline: Pipeline
) -> Claim | Step:
    """Go on from the record of an alert that was seen before. `owner` and `stamped_at_s` are of our own first try.

    Outcomes: ours (a write of our own whose answer was lost, or an attempt that we took over) | acknowledge | walk
    away. Nothing else leaves this function.
    """
    rounds = Rounds(pipeline.store_outage, entry.record_id, pipeline.stopping)
    while True:
        await rounds.next()
        delivery = existing.record.delivery
        if existing.record.content_sha256 != alert.content_sha256:
            raise RefusedContent(
                f"record {entry.record_id} belongs to an alert with other content: the message ID was used again",
                "id_reused",
            )
        if delivery.owner == owner:
            return _claim_or_done(existing, stamped_at_s, alert.payload)
        if delivery.state == "quarantined" and not entry.replayed:
            reason = delivery.reason or "unknown"
            raise RefusedContent("its record was marked before, and the move did not follow", reason)
        if delivery.state in FINAL or delivery.state == "retrying":
            return Step.ACKNOWLEDGE
        if delivery.state == "sending" and not await _owner_is_gone(entry, delivery, pipeline):
            return Step.WALK_AWAY
        stamped_at_s = trio.current_time()
        now, lease_s = pipeline.clock.now(), pipeline.settings.lease_s
        if delivery.state == "sending" and entry.deliveries >= SUSPECT_DELIVERIES:
            mine = left_to_redriver(delivery, entry.deliveries - 1, now, pipeline.rules())
        else:
            mine = taken_over(delivery, owner, now, lease_s, pipeline.rules())
        taken = await _replace(pipeline, replace(existing.record, delivery=mine), existing.version)
        if isinstance(taken, Stored):
            logger.warning(
                "{record_id}: an attempt of {owner} was cut, outcome unknown",
                record_id=entry.record_id,
                owner=delivery.owner,
                attempt=mine.attempts,
            )
            return _claim_or_done(taken, stamped_at_s, alert.payload)
        again = await pipeline.ask_store(lambda: pipeline.store.get(entry.record_id))
        if again is None:
            return Step.WALK_AWAY  # vanished just now: the next delivery starts anew
        existing = again


async def deliver(claim: Claim, pipeline: Pipeline) -> bool:
    """Send what is ours and store what came of it; False if its outcome is another owner's to store.

    Cancellation: what receivers have said by then is stored first, in a bounded time.
    """
    await trio.lowlevel.checkpoint()
    rounds: Rounds | None = None
    while _is_old(claim, pipeline.settings):
        rounds = rounds or Rounds(pipeline.store_outage, claim.stored.record.id, pipeline.stopping)
        await rounds.next()
        again = await _claim_again(claim, pipeline)
        if again is None:
            return False
        claim = again
    record = claim.stored.record
    payload = payload_of(record) if claim.payload is None else claim.payload
    outcomes: Outcomes = {}
    await pipeline.fault_point.reach("before_send")
    try:
        await notify(record, payload, outcomes, pipeline)
    except BaseException:  # cut, or failed, while some receivers had answered
        if outcomes:
            with trio.move_on_after(2 * pipeline.settings.store_timeout_s, shield=True):
                await update(claim, outcomes, pipeline)
        raise
    await pipeline.fault_point.reach("after_send")
    state = await update(claim, outcomes, pipeline)
    await pipeline.fault_point.reach("after_update")
    return state != "sending"


async def update(claim: Claim, outcomes: Outcomes, pipeline: Pipeline) -> State:
    """Store the outcome of an attempt, whatever has become of the record in the meantime.

    Outcomes: stored | stored before, and the answer got lost | merged into what others made of it | created again.

    Returns:
        The state that the record has now: `sending` if another owner is at it.
    """
    record, version = claim.stored.record, claim.stored.version
    owner = record.delivery.owner
    after = settled(record.delivery, outcomes, pipeline.clock.now(), pipeline.rules())
    write = partial(pipeline.store.replace, replace(record, delivery=after), version)
    rounds = Rounds(pipeline.store_outage, record.id)
    while True:
        written = await pipeline.store_outage.outlast(write, write=True)
        if isinstance(written, Stored):
            return written.record.delivery.state
        await rounds.next()
        current = await pipeline.store_outage.outlast(partial(_held, pipeline.store.get, record.id))
        if current is None:
            logger.error(
                "{record_id}: the record has vanished from the store; it is written again", record_id=record.id
            )
            write = partial(_held, pipeline.store.create, replace(record, delivery=after))
            continue
        theirs = current.record.delivery
        merged: Delivery | None
        if theirs.owner == owner and theirs.state == "sending":
            merged = settled(theirs, outcomes, pipeline.clock.now(), pipeline.rules())
        else:
            merged = with_acceptances(theirs, after, pipeline.clock.now())
        if merged is None:
            return theirs.state
        write = partial(pipeline.store.replace, replace(current.record, delivery=merged), current.version)


async def quarantine(entry: Entry, fault: ParseFault | RefusedContent, pipeline: Pipeline) -> Step:
    """Move an entry that can never be processed to the dead-letter stream.

    Raises:
        QuarantineHalt: It was one too many in a row.
    """
    dead = DeadEntry(fault.reason, str(fault))
    moved = await pipeline.stream_outage.outlast(partial(_held, pipeline.stream.quarantine, entry, dead))
    if not moved:
        return Step.WALK_AWAY
    pipeline.quarantined_in_a_row += 1
    logger.error(
        "{record_id}: quarantined ({reason}): {error}", record_id=entry.record_id, reason=fault.reason, error=fault
    )
    if pipeline.quarantined_in_a_row >= pipeline.settings.quarantine_halt:
        raise QuarantineHalt(
            f"{pipeline.quarantined_in_a_row} entries in a row were quarantined, the last one because {fault}: "
            f"mend the producer of {entry.stream!r}, then start again (`quarantine_halt` sets the number)"
        )
    return Step.ACKNOWLEDGE


async def condemn(entry: Entry, pipeline: Pipeline) -> Step:
    """Decide about an entry that was delivered too often: what has an outcome is acknowledged, the rest quarantined."""
    rounds = Rounds(pipeline.store_outage, entry.record_id, pipeline.stopping)
    while True:
        await rounds.next()
        existing = await pipeline.ask_store(lambda: pipeline.store.get(entry.record_id))
        if existing is None or existing.record.delivery.state == "quarantined":
            break
        if existing.record.delivery.state != "sending":
            await pipeline.stream_outage.outlast(lambda: pipeline.stream.ack(entry))
            return Step.ACKNOWLEDGE
        marked = replace(existing.record, delivery=quarantined(existing.record.delivery, "max_deliveries"))
        if isinstance(await _replace(pipeline, marked, existing.version), Stored):
            break
    fault = ParseFault(
        "max_deliveries",
        f"delivered {entry.deliveries - 1} times without an outcome: every worker that had it crashed or was cut",
    )
    return await quarantine(entry, fault, pipeline)


async def _owner_is_gone(entry: Entry, delivery: Delivery, pipeline: Pipeline) -> bool:
    if delivery.lease_until is None or pipeline.clock.lapsed(delivery.lease_until, pipeline.settings.lease_s):
        return True
    return entry.claimed and await pipeline.stream_outage.outlast(
        lambda: pipeline.stream.owns(entry), pipeline.stopping
    )


def _is_old(claim: Claim, settings: Settings) -> bool:
    """Tell whether a lease is too old to begin a send: what others judge us by must outlast it."""
    young_s = min(settings.lease_s / 2, settings.lease_s - settings.connect_timeout_s - settings.send_timeout_s)
    return trio.current_time() - claim.stamped_at_s >= young_s


async def _claim_again(claim: Claim, pipeline: Pipeline) -> Claim | None:
    """Claim what is ours once more; None if it is not any more."""
    stamped_at_s = trio.current_time()
    record = claim.stored.record
    longer = replace(record, delivery=renewed(record.delivery, pipeline.clock.now(), pipeline.settings.lease_s))
    return await try_to_claim(longer, claim.stored.version, stamped_at_s, pipeline, claim.payload)


async def try_to_claim(
    record: Record, version: tuple[int, int], stamped_at_s: float, pipeline: Pipeline, payload: bytes | None = None
) -> Claim | None:
    """Write a record whose owner we are; None if somebody else was first, or if it has nothing to send.

    A conflict may be a write of our own whose answer was lost: our token in the record tells.
    """
    written = await _replace(pipeline, record, version)
    current = (
        written if isinstance(written, Stored) else await pipeline.ask_store(partial(pipeline.store.get, record.id))
    )
    owner = record.delivery.owner
    if current is None or current.record.delivery.owner != owner or not current.record.delivery.sending():
        return None
    return Claim(current, stamped_at_s, payload)


def _claim_or_done(stored: Stored, stamped_at_s: float, payload: bytes) -> Claim | Step:
    return Claim(stored, stamped_at_s, payload) if stored.record.delivery.state == "sending" else Step.ACKNOWLEDGE


async def _replace(pipeline: Pipeline, record: Record, version: tuple[int, int]) -> Stored | Conflict:
    return await pipeline.ask_store(partial(pipeline.store.replace, record, version), write=True)


async def _held(operation: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Hold a cancellation off until the backend has answered, at most its own bound: as `replace` and `ack` do."""
    with trio.CancelScope(shield=True):
        answer = await operation(*arguments)
    return answer  # noqa: RET504 - to the type checker, a scope may swallow a return
