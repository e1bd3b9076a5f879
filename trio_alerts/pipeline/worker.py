"""A worker: one of N tasks that each carry one alert at a time."""

import trio
from loguru import logger

from trio_alerts.alert import Entry
from trio_alerts.errors import AlertError, NewerRecord, RefusedContent, Stopping
from trio_alerts.pipeline.claim import Claim, Disposition
from trio_alerts.pipeline.process import deliver, process_entry
from trio_alerts.pipeline.state import Pipeline

Work = Entry | Claim  # a claim is a retry that the redriver has made ours


async def run_worker(
    receive: trio.MemoryReceiveChannel[Work], done: trio.MemorySendChannel[Entry], pipeline: Pipeline
) -> None:
    """Carry alerts, one at a time, until the channel is closed; what is to be acknowledged is left to others."""
    carry = pipeline.traced(_carry)
    async for work in receive:
        entry = await carry(work, pipeline)
        if entry is not None:
            await pipeline.in_flight.done(entry.record_id)
            done.send_nowait(entry)


async def _carry(work: Work, pipeline: Pipeline) -> Entry | None:
    """Carry one alert; return its entry if that is to be acknowledged, and is held until then.

    An unexpected exception ends the intake of the whole process; the entry stays pending, and the service
    raises the exception when the workers are done: this one too goes on with what is claimed already.
    """
    left = Disposition.WALK_AWAY
    try:
        left = await _go_through(work, pipeline)
    except Stopping:
        # Only the waits before a send are given up, so nothing of ours went out or ever will: another process may
        # begin at once. If a write of ours did happen, it finds the record `sending` and counts a doubt too many.
        left = Disposition.FORGET
    except NewerRecord as fault:  # of a retry, taken over under way
        pipeline.newer_records.left_alone(fault)
        left = Disposition.FORGET
    except RefusedContent as fault:  # of a retry, changed by hand under way: entries are quarantined with such a record
        logger.error("{record_id}: the outcome cannot be stored: {error}", record_id=work.record_id, error=fault)
        left = Disposition.FORGET
    except Exception as fault:  # noqa: BLE001 - the one catch-all: the fault is raised by the service, after the drain
        if not isinstance(fault, AlertError):
            logger.error(
                "{record_id}: a worker failed ({error!r}); its entry stays pending",
                record_id=work.record_id,
                error=fault,
            )
            pipeline.in_flight.blamed.add(work.record_id)
        pipeline.faults.append(fault)
        pipeline.stop()
    finally:
        if left is not Disposition.ACKNOWLEDGE:
            pipeline.in_flight.release(work.record_id, untouched=left is Disposition.FORGET)
    return work if isinstance(work, Entry) and left is Disposition.ACKNOWLEDGE else None


async def _go_through(work: Work, pipeline: Pipeline) -> Disposition:
    if pipeline.stopping.is_set() and isinstance(work, Entry):
        return Disposition.FORGET  # not started: it is handed over to another process
    pipeline.in_flight.start(work.record_id)
    if isinstance(work, Entry):
        return await process_entry(work, pipeline)
    outcome = await deliver(work, pipeline)
    if outcome is not None:
        await pipeline.agenda.note(outcome, work.taken_until_ms)
    return Disposition.FORGET
