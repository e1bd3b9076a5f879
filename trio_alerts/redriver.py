"""The redriver: the only owner of retries. It finds records that are due and claims each before it is sent again."""

import datetime as dt
from functools import partial

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.delivery import SUSPECT_CUTS, cut, next_attempt
from trio_alerts.errors import RefusedContent, Stopping, Unavailable
from trio_alerts.pipeline import Pipeline
from trio_alerts.process import Claim, try_to_claim
from trio_alerts.worker import Redrive, Work

PAGE = 200


async def redrive_records(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Every `redrive_every_s`, hand what is due to the workers, at most a quarter of them at a time.

    A lock lets one process at a time look through the records. It only saves work: what decides is the conditional
    write of each claim.
    """
    settings = pipeline.settings
    with send:
        while not pipeline.stopping.is_set():
            await pipeline.pause(settings.redrive_every_s)
            try:
                if await pipeline.stream.lock("redrive", settings.redrive_every_s):
                    await _redrive_due(send, pipeline)
            except (Unavailable, Stopping) as cause:
                logger.debug("retries wait: {}", cause)


async def _redrive_due(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Page through what is due. The claims of a page run side by side, so that the store gets many in one request.

    Nothing that fails as a rule is awaited in the nursery: a claim cut by it would be an attempt that nobody makes.
    What becomes due meanwhile is the next round's: one that took it in might never end, and never come back to what is
    due again behind it.
    """
    now, after = pipeline.clock.now(), ""
    while not pipeline.stopping.is_set():
        ids = await pipeline.ask_store(partial(pipeline.store.due, now, PAGE, after))
        if not ids:
            return
        after = ids[-1]
        pending = await pipeline.stream.pending_among(ids)  # the stream decides about these, not a lapsed lease
        async with trio.open_nursery() as claims:
            for record_id in ids:
                if record_id in pending:
                    continue
                if not await _free_slot(pipeline):
                    break
                if pipeline.in_flight.hold(record_id, None):  # takes the slot, and keeps any other work on it away
                    claims.start_soon(_redrive, record_id, send, pipeline)


async def _free_slot(pipeline: Pipeline) -> bool:
    """Wait for a worker that retries may use; False when stopping."""
    most = max(1, pipeline.settings.workers // 4)
    while not pipeline.stopping.is_set():
        if pipeline.in_flight.idle and pipeline.in_flight.redrives < most:
            return True
        await pipeline.in_flight.changed()
    return False


async def _redrive(record_id: str, send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Claim one record that we hold and hand it to a worker, or let go of it if it is not ours to send."""
    handed_over = False
    try:
        claim = await _claim(record_id, pipeline)
        if claim is not None:
            await send.send(Redrive(claim))  # also when stopping: what is claimed is sent within the grace time
            handed_over = True
    except RefusedContent as fault:  # somebody changed it by hand; it must not hold up the others
        logger.error("{record_id} is due and cannot be read: {error}", record_id=record_id, error=fault)
    except Stopping as cause:
        logger.debug("the retry of {record_id} waits: {cause}", record_id=record_id, cause=cause)
    finally:
        if not handed_over:
            pipeline.in_flight.release(record_id, untouched=True)


async def _claim(record_id: str, pipeline: Pipeline) -> Claim | None:
    """Make a due record ours by a conditional write; None if it is not due any more, or somebody else's.

    A lapsed lease is a failed attempt on the schedule: nobody saw its outcome. Of those whose processes died of late,
    one after the other, one at a time is sent.
    """
    stored = await pipeline.ask_store(partial(pipeline.store.get, record_id))
    if stored is None:
        return None
    now, delivery = pipeline.clock.now(), stored.record.delivery
    if delivery.cuts >= SUSPECT_CUTS:
        if pipeline.in_flight.suspect is not None:
            return None  # its turn comes
        pipeline.in_flight.suspect = record_id
    owner, stamped_at_s = pipeline.new_owner(), trio.current_time()
    if delivery.state == "retrying" and delivery.next_attempt_at is not None and delivery.next_attempt_at <= now:
        after = next_attempt(delivery, owner, now, pipeline.settings.lease_s)
    elif delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until <= now:
        if not _could_have_written(delivery.lease_until, now, pipeline):
            return None  # its owner may be alive, and about to write what it knows
        after = cut(delivery, now, pipeline.rules())
        if after.state == "failed":
            logger.error("{record_id}: {reason}", record_id=record_id, reason=after.last_error)
    else:
        return None
    # Also None: settled by `cut`.
    return await try_to_claim(replace(stored.record, delivery=after), stored.version, stamped_at_s, pipeline)


def _could_have_written(lease_until: dt.datetime, now: dt.datetime, pipeline: Pipeline) -> bool:
    """Tell whether the store has answered for a whole lease since the claim: a living owner has written by then.

    What it does not answer is added to the lease, and no more: a store that fails once in a while delays this by those
    moments, and a long outage leaves owners the time that they had when it began.
    """
    lease_s = pipeline.settings.lease_s
    claimed_s_ago = lease_s + (now - lease_until).total_seconds()
    return pipeline.store_outage.uptime.since(trio.current_time() - claimed_s_ago) >= lease_s
