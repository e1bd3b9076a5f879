"""A worker: one of N tasks that each carry one alert at a time."""

import trio
from loguru import logger

from trio_alerts.alert import Entry
from trio_alerts.errors import AlertError, NewerRecord, RefusedContent, Stopping
from trio_alerts.pipeline.claim import Claim, Disposition
from trio_alerts.pipeline.process import deliver, process_entry
from trio_alerts.pipeline.state import Pipeline

Work = Entry | Claim  # a claim is a retry that the redriver has made ours


async def run_worker(receive: trio.MemoryReceiveChannel[Work], pipeline: Pipeline) -> None:
    """Carry alerts, one at a time, until the channel is closed."""
    carry = pipeline.traced(_carry)
    with receive:
        async for work in receive:
            await carry(work, pipeline)


async def _carry(work: Work, pipeline: Pipeline) -> None:
    """Carry one alert.

    An unexpected exception ends the intake of the whole process; the entry stays pending, and the service
    raises the exception when the workers are done: this one too goes on with what is claimed already.
    """
    untouched = True
    try:
        if pipeline.stopping.is_set() and isinstance(work, Entry):
            return  # not started: it is handed over to another process
        untouched = False
        pipeline.in_flight.start(work.record_id)
        if isinstance(work, Claim):
            outcome = await deliver(work, pipeline)
            if outcome is not None:
                await pipeline.agenda.note(outcome, work.taken_until_ms)
            untouched = True
        else:
            untouched = await process_entry(work, pipeline) is Disposition.ACKNOWLEDGE
    except Stopping:
        # Only the waits before a send are given up, so nothing of ours went out or ever will: another process may
        # begin at once. If a write of ours did happen, it finds the record `sending` and counts a doubt too many.
        untouched = True
    except NewerRecord as fault:  # of a retry, taken over under way
        pipeline.newer_records.left_alone(fault)
        untouched = True
    except RefusedContent as fault:  # of a retry, changed by hand under way: entries are quarantined with such a record
        logger.error("{record_id}: the outcome cannot be stored: {error}", record_id=work.record_id, error=fault)
        untouched = True
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
        pipeline.in_flight.release(work.record_id, untouched=untouched)
