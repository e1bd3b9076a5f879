"""The redriver: the only owner of retries. It follows the hints that say what is due, and sleeps until the next one."""

import datetime as dt
import math
from collections.abc import Sequence

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.errors import NewerRecord, RefusedContent, Stopping, Unavailable
from trio_alerts.pipeline.backlog import Backlog, due_channels
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.sweep import sweep_records
from trio_alerts.pipeline.worker import Work
from trio_alerts.ports.hints import DueHint, Queued, Taken
from trio_alerts.record import Record
from trio_alerts.reminders import due_hint, places, remind
from trio_alerts.transitions import moved_back


async def redrive_records(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Hand what is due to the workers, at most a quarter of them at a time, until the soft stop.

    A hint says when to look, and the sweep finds what no hint tells of; what decides is the conditional write of each
    claim.
    """
    with send:
        async with trio.open_nursery() as claims:
            with Backlog(send, claims, pipeline) as backlog:
                async with trio.open_nursery() as looks:
                    looks.start_soon(sweep_records, backlog, pipeline)
                    looks.start_soon(_follow_hints, backlog, pipeline)


async def _follow_hints(backlog: Backlog, pipeline: Pipeline) -> None:
    """Look when something is due, and every `redrive_every_s`: another process may have left a hint."""
    every_s = pipeline.settings.redrive_every_s
    while not pipeline.stopping.is_set():
        wait_s = every_s
        try:
            wait_s = min(every_s, await _look(backlog, pipeline))
        except (Unavailable, Stopping) as cause:
            logger.debug("retries wait: {reason}", reason=cause)
        await pipeline.agenda.due.sleep(wait_s, pipeline.stopping)


async def _look(backlog: Backlog, pipeline: Pipeline) -> float:
    """Take page by page what is due, as long as there is room for it; return in how many seconds to look again.

    Where a kind has no more room, the rest is left to other processes, or for later: the backlog rings when it has
    room again. One page of what has just become due is taken all the same, since other kinds may be in it.
    """
    newest = False
    while not pipeline.stopping.is_set():
        found = await pipeline.hints.take_due(backlog.room, pipeline.settings.lease_s, newest=newest)
        if not found.taken:
            return found.next_in_s
        backlog.at = found.at
        room = await _take_in(found.taken, found.at, backlog, pipeline)
        if newest:
            break
        newest = not room
    return math.inf


async def _take_in(taken: Sequence[Taken], at: dt.datetime, backlog: Backlog, pipeline: Pipeline) -> bool:
    """Let what one page of hints leads to wait for a worker; put back the hints of what is not to be done now.

    The stream decides about what is pending there, not a hint, and a newer process about what its version wrote. What
    this process has in its hands comes again when the hint's lease is over, if nothing was noted by then. Returns
    whether there was room for all of it.
    """
    again = at + dt.timedelta(seconds=pipeline.settings.redrive_every_s)
    pending = await pipeline.stream.pending_among([one.record_id for one in taken])
    free = [one for one in taken if one.record_id not in pending and one.record_id not in pipeline.in_flight]
    records, newer = await _read([one.record_id for one in free], backlog, pipeline)
    others = pending | newer
    hints = [DueHint(one.record_id, again, one.until_ms) for one in taken if one.record_id in others]
    queued: list[Queued] = []
    room, now = True, max(at, pipeline.clock.now())
    for one in free:
        if one.record_id not in records:
            continue
        record = records[one.record_id]
        if record is None:
            hints.append(DueHint(one.record_id, None, one.until_ms))
            continue
        record = replace(record, delivery=moved_back(record.delivery, now, pipeline.clock.set_back))
        channels = due_channels(record.delivery, now)
        if channels is not None and backlog.add(record.id, channels, one.until_ms):
            continue
        room = room and channels is None
        hints.append(due_hint(record, one.until_ms))
        queued += places(record)
    await remind(pipeline.hints, hints, queued)
    return room


async def _read(
    record_ids: Sequence[str], backlog: Backlog, pipeline: Pipeline
) -> tuple[dict[str, Record | None], set[str]]:
    """Read records side by side; return them, None for one that is gone, and the IDs of a newer version's.

    Those that cannot be read are left out.
    """
    found: dict[str, Record | None] = {}
    newer: set[str] = set()

    async def read(record_id: str) -> None:
        try:
            stored = await pipeline.store_before_send.get(record_id)
        except NewerRecord as fault:
            pipeline.newer_records.left_alone(fault)
            newer.add(record_id)
        except RefusedContent as fault:
            backlog.unreadable(record_id, fault)
        except Stopping as cause:
            logger.debug("the retry of {record_id} waits: {reason}", record_id=record_id, reason=cause)
        else:
            found[record_id] = stored.record if stored else None

    async with trio.open_nursery() as reads:
        for record_id in record_ids:
            reads.start_soon(read, record_id)
    return found, newer
