"""Entries that can never be processed: they go to the dead-letter stream."""

from loguru import logger
from msgspec.structs import replace

from trio_alerts.alert import Entry
from trio_alerts.errors import ParseFault, QuarantineHalt, RefusedContent
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.store import Stored
from trio_alerts.transitions import quarantined


async def quarantine(entry: Entry, fault: ParseFault | RefusedContent, pipeline: Pipeline) -> Disposition:
    """Move an entry that can never be processed to the dead-letter stream.

    Raises:
        QuarantineHalt: It was one too many in a row.
    """
    if entry.canary:  # no human must look at it: who wrote it sees that it did not come through
        logger.warning(
            "{record_id}: a canary is given up ({reason}): {error}",
            record_id=entry.record_id,
            reason=fault.reason,
            error=fault,
        )
        return Disposition.ACKNOWLEDGE
    if not await pipeline.patient_stream.quarantine(entry, fault.reason, str(fault)):
        return Disposition.WALK_AWAY
    pipeline.quarantined_in_a_row += 1
    pipeline.meter.quarantined(fault.reason)
    logger.error(
        "{record_id}: quarantined ({reason}): {error}", record_id=entry.record_id, reason=fault.reason, error=fault
    )
    if pipeline.quarantined_in_a_row >= pipeline.settings.quarantine_halt:
        raise QuarantineHalt(
            f"{pipeline.quarantined_in_a_row} entries in a row were quarantined, the last one because {fault}: "
            f"fix the producer of {entry.stream!r}, then start again (`quarantine_halt` sets the number)"
        )
    return Disposition.FORGET


async def reject_poison(entry: Entry, pipeline: Pipeline) -> Disposition:
    """Decide about an entry that was delivered too often: what has an outcome is acknowledged, the rest quarantined."""
    store, rounds = pipeline.store_before_send, 0
    while True:
        rounds += 1
        await pipeline.store_outage.pace(rounds, entry.record_id, pipeline.stopping)
        existing = await store.get(entry.record_id)
        if existing is None or existing.record.delivery.state == "quarantined":
            break
        if existing.record.delivery.state != "sending":
            await pipeline.agenda.note(existing.record, pending=True)
            return Disposition.ACKNOWLEDGE
        marked = replace(existing.record, delivery=quarantined(existing.record.delivery, "max_deliveries"))
        if isinstance(await store.replace(marked, existing.version), Stored):
            break
    fault = ParseFault(
        "max_deliveries",
        f"delivered {entry.deliveries - 1} times without an outcome: every worker that had it crashed or was cut",
    )
    return await quarantine(entry, fault, pipeline)
