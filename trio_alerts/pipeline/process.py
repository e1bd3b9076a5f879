"""The four steps of an entry, from the stream to its outcome: parse, persist, notify, update."""

import trio

from trio_alerts.alert import Entry
from trio_alerts.errors import NewerRecord, ParseFault, RefusedContent
from trio_alerts.pipeline.attempt import Outcomes, notify, update
from trio_alerts.pipeline.claim import Claim, Disposition, claim_again, persist
from trio_alerts.pipeline.quarantine import quarantine, reject_poison
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.record import Record


async def process_entry(entry: Entry, pipeline: Pipeline) -> Disposition:
    """Bring one entry to its outcome.

    Returns:
        `ACKNOWLEDGE` when its outcome is stored, `FORGET` when it is a dead letter, and `WALK_AWAY` when its record
        belongs to an owner who may be alive, or to a newer version: then it stays pending.

    Raises:
        Stopping: The store did not answer before the soft stop; nothing was sent, the entry stays pending.
        QuarantineHalt: Too many entries in a row were quarantined.

    Cancellation: before the send nothing went out; during it the record says `sending`, and the next owner counts the
    attempt as in doubt; after it the outcome is stored first.
    """
    await pipeline.fault_point.reach("after_read")
    try:
        if entry.deliveries > pipeline.settings.max_deliveries:
            return await reject_poison(entry, pipeline)
        alert = pipeline.parse(entry, pipeline.clock.now())  # 1 parse
        await _catch_up(pipeline)
        await pipeline.fault_point.reach("after_parse")
        claim = await persist(entry, alert, pipeline)  # 2 persist
        del alert  # the record has it all: the event's many small objects need not wait for the receiver
        await pipeline.fault_point.reach("after_persist")
        record = await deliver(claim, pipeline) if isinstance(claim, Claim) else claim  # 3 notify, 4 update
        if record is None:
            return Disposition.WALK_AWAY
    except (ParseFault, RefusedContent) as fault:
        return await quarantine(entry, fault, pipeline)
    except NewerRecord as fault:
        return await _leave_alone(entry, fault, pipeline)
    if record.delivery.state != "delivered":
        if record.delivery.state == "waiting":
            await pipeline.fault_point.reach("after_waiting")
        await pipeline.agenda.note(record, pending=True)
        await pipeline.fault_point.reach("after_note")
    if not entry.canary:  # it says nothing of the producers
        pipeline.quarantined_in_a_row = 0
    return Disposition.ACKNOWLEDGE


async def deliver(claim: Claim, pipeline: Pipeline) -> Record | None:
    """Send what is ours and store what came of it; return the record, or None if another owner is at it.

    Cancellation: what receivers have answered by then is stored first, in a bounded time.
    """
    await _catch_up(pipeline)
    rounds = 0
    while trio.current_time() - claim.stamped_at_s >= pipeline.send_within_s:
        rounds += 1
        await pipeline.store_outage.pace(rounds, claim.record_id, pipeline.stopping)
        again = await claim_again(claim, pipeline)
        if again is None:
            return None
        claim = again
    outcomes: Outcomes = {}
    await pipeline.fault_point.reach("before_send")
    try:
        claim = await notify(claim, outcomes, pipeline) or claim
    except BaseException:  # cut, or failed, while some receivers had answered
        if outcomes:
            with trio.move_on_after(2 * pipeline.settings.store_timeout_s, shield=True):
                await update(claim, outcomes, pipeline)
        raise
    await pipeline.fault_point.reach("after_send")
    outcome = await update(claim, outcomes, pipeline)
    await pipeline.fault_point.reach("after_update")
    return None if outcome.delivery.state == "sending" else outcome


async def _catch_up(pipeline: Pipeline) -> None:
    """Let the other workers catch up between two steps, while the loop is behind.

    What many of them do in a row stays in the CPU's caches. While the loop keeps up, each pause only costs the alert a
    turn of it.
    """
    if pipeline.in_flight.are_many_idle:
        await trio.lowlevel.checkpoint()


async def _leave_alone(entry: Entry, fault: NewerRecord, pipeline: Pipeline) -> Disposition:
    """Leave an entry to newer processes: its delivery to us does not count, however often it comes back."""
    pipeline.newer_records.left_alone(fault)
    async with pipeline.in_flight.counting:
        pipeline.in_flight.refunded.discard(entry.record_id)  # else it would be counted again, now that nobody waits
        await pipeline.patient_stream.refund(entry)
    return Disposition.WALK_AWAY
