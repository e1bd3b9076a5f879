"""The sweep: once a minute one process asks the store for what is due or waits, in case a hint was lost, and counts.

It looks as far ahead as the next one may take to come, so that a retry without a hint is late only if its hint was lost
since the last sweep.
"""

import datetime as dt
from collections.abc import Sequence
from functools import partial

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.errors import NewerRecord, RefusedContent, Stopping, Unavailable
from trio_alerts.held_back import configured, wait_expired
from trio_alerts.pipeline.backlog import Backlog
from trio_alerts.pipeline.janitor import report_what_needs_a_human
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.hints import DueHint
from trio_alerts.ports.store import Due, Stored

EVERY_S = 60.0
TAKEN_FOR_S = EVERY_S - 0.5  # so that who swept last is not too early for its own next turn
ASK_EVERY_S = 5.0  # how much later a sweep may come whose process is gone
AHEAD_S = EVERY_S + ASK_EVERY_S  # what is due before the next sweep gets its hint from this one
PAGE = 1000  # records a search
STEADY_S = 3600.0  # of sweeps without a break, before a wait may expire: what piled up meanwhile gets its chance


async def sweep_records(backlog: Backlog, pipeline: Pipeline) -> None:
    """Sweep whenever it is our turn, at the start too, until the soft stop.

    Without an answer (a full Redis takes no turn) every process sweeps for itself, since no hints are taken then.
    """
    jumps, next_s, to_recall = pipeline.clock.jumps, trio.current_time(), False
    while not pipeline.stopping.is_set():
        began_s = trio.current_time()
        ours, steady_s = began_s >= next_s, 0.0
        try:
            turn = await pipeline.hints.begin_sweep(TAKEN_FOR_S, broken=pipeline.clock.jumps != jumps)
            ours, steady_s = turn is not None, turn or 0.0
        except Unavailable as cause:
            logger.debug("the sweep has no turn: {reason}", reason=cause)
        if ours:
            to_recall |= pipeline.clock.jumps != jumps and bool(pipeline.clock.set_back)
            jumps = pipeline.clock.jumps
            to_recall = to_recall and not await _recalled(pipeline)
            try:
                await _sweep(steady_s, backlog, pipeline)
                await pipeline.hints.end_sweep()
                await report_what_needs_a_human(pipeline)
            except (Unavailable, Stopping) as cause:
                logger.debug("the sweep waits: {reason}", reason=cause)
            ended_s = trio.current_time()
            next_s = max(began_s + EVERY_S, ended_s + (ended_s - began_s))
        left_s = next_s - trio.current_time()
        await pipeline.pause(left_s if 0 < left_s < ASK_EVERY_S else ASK_EVERY_S)


async def _recalled(pipeline: Pipeline) -> bool:
    """Let all hints be looked at again; False if that was refused: the sweep is made, and the next one tries again."""
    try:
        await pipeline.hints.recall_due()
    except Unavailable as cause:
        logger.debug("hints of before the clock was set back stay as they are: {reason}", reason=cause)
        return False
    return True


async def _sweep(steady_s: float, backlog: Backlog, pipeline: Pipeline) -> None:
    """Page through what is due until the next sweep, or waits."""
    # What was written before the server's clock was set back is due by the time that was then.
    now = pipeline.clock.now() + pipeline.clock.set_back
    page: list[Due] = []
    while not pipeline.stopping.is_set():
        last = page[-1] if page else None
        look = partial(pipeline.store.due, now, PAGE, last, ahead_s=AHEAD_S)
        page = await pipeline.store_outage.outlast(look, pipeline.stopping)
        if page:
            await _take_in(page, steady_s, backlog, pipeline)
        if len(page) < PAGE:
            return


async def _take_in(page: Sequence[Due], steady_s: float, backlog: Backlog, pipeline: Pipeline) -> None:
    # The stream decides about these, not a lapsed lease.
    pending = await pipeline.stream.pending_among([due.id for due in page])
    free = [due for due in page if due.id not in pending and due.id not in pipeline.in_flight]
    lease_ends = pipeline.clock.now() + dt.timedelta(seconds=pipeline.settings.lease_s)
    hints: list[DueHint] = []
    for due in free:
        if due.channels or due.cut:
            ours = backlog.add(due.id, due.channels)
            hints.append(DueHint(due.id, lease_ends if ours else pipeline.clock.now()))
        elif due.next_at is not None:
            hints.append(DueHint(due.id, due.next_at))
        if due.expired and steady_s >= STEADY_S:
            await _expire(due.id, pipeline)
    await _note(hints, free, pipeline)


async def _note(hints: Sequence[DueHint], found: Sequence[Due], pipeline: Pipeline) -> None:
    """Write the hints of what was found: others take what we have no room for, or do not live to do."""
    try:
        if hints:
            await pipeline.hints.put_due(hints)
            pipeline.agenda.due.ring_by(trio.current_time())  # who follows hints hears when the first of them is due
        if queued := [place for due in found for place in due.queues]:
            await pipeline.hints.put_queued(queued)
    except Unavailable as cause:
        logger.debug("no hints are left of what was found: {reason}", reason=cause)


async def _expire(record_id: str, pipeline: Pipeline) -> None:
    """Let an alert fail whose channels were waited for as long as their schedule would have lasted.

    What waits in `unconfigured` and is known here goes back to its own queue instead.
    """
    try:
        stored = await pipeline.store_before_send.get(record_id)
        if stored is None:
            return
        owner, now = pipeline.new_owner(), pipeline.clock.now()
        before = configured(stored.record.delivery, pipeline.channels, owner, now, pipeline.retry_policy())
        after = wait_expired(before, owner, now)
        if after.channels == stored.record.delivery.channels:
            return
        outcome = replace(stored.record, delivery=after)
        written = await pipeline.store_before_send.replace(outcome, stored.version)
    except NewerRecord as fault:
        pipeline.newer_records.left_alone(fault)
    except RefusedContent as fault:
        logger.error("{record_id}: its wait is over, and it cannot be read: {error}", record_id=record_id, error=fault)
    else:
        if isinstance(written, Stored):
            pipeline.meter.wrote(stored.record.delivery, written.record)
            if after.channels != before.channels:
                logger.error(
                    "{record_id}: {reason}", record_id=record_id, reason=after.last_error, severity=outcome.severity
                )
            await pipeline.agenda.note(outcome)
