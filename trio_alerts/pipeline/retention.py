"""Retention: records that are settled, old, and whose entries are gone from the stream are deleted, in small steps.

A record is all that keeps an entry which is read again from being sent again. So it goes only when its entry can be
read no more: nothing up to that entry is in the stream, or pending, and nothing happened to the record since. And up to
where that was so is kept with the store for ever: an entry from before it that comes back (a stream restored from a
backup, or deleted and begun anew) and has no record is quarantined, for a human to decide about. Nothing comes back
unnoticed in between: first the store keeps up to where, then the stream is looked at once more, then records go.
"""

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio
from loguru import logger

from trio_alerts.alert import Entry
from trio_alerts.errors import RefusedContent, Stopping, Unavailable
from trio_alerts.held_back import SILENCE
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.turn import Turn
from trio_alerts.ports.stream import Gone
from trio_alerts.record import Record
from trio_alerts.record_ids import order
from trio_alerts.retention import is_settled

EVERY_S = 60.0  # or four times in `keep_records_s`, if that is more often
ROUND_S = 25.0  # what a round does not finish, whoever asks next goes on with
PAGE = 1000  # record IDs a search: OpenSearch refreshes an index that rests only now and then, and a search waits
STEP = 500  # records: a few ms of SQLite's lock, and one bulk of OpenSearch
RESTS = 3.0  # after each step, for so many times as long as it took: three quarters of the store are the deliveries'
LEAST_REST_S = 0.02
STRAIGHT_S = 3600.0  # without a jump of the server's clock, before anything is old by it; `keep_records_s`, if shorter


async def learn_what_was_pruned(pipeline: Pipeline) -> None:
    """Learn, before the first entry is read, which entries may have been sent although they have no record.

    A store that does not answer is waited for, until a soft stop: nothing is read then. (An index that another process
    has just created does not answer for a moment.)
    """
    with suppress(Stopping):
        await pipeline.store_outage.outlast(partial(_learn, pipeline), pipeline.stopping)


def may_be_pruned(entry: Entry, pipeline: Pipeline) -> bool:
    """Tell whether an entry's record may be gone, as far as can be told without asking: most are too young."""
    keep_s = pipeline.settings.keep_records_s
    if entry.canary or (keep_s is None and not pipeline.pruned_before):
        return False
    place = order(entry.id)
    if place < pipeline.pruned_before.get(entry.stream, (0, 0)):
        return True
    return keep_s is not None and place[0] / 1000 < pipeline.clock.now().timestamp() - keep_s


async def refuse_pruned(entry: Entry, pipeline: Pipeline) -> None:
    """Refuse an entry from before what was pruned, by any process up to now, if it has no record.

    Raises:
        RefusedContent: It goes to quarantine.
        Stopping: See `process_entry`.
    """
    await pipeline.store_outage.outlast(partial(_learn, pipeline), pipeline.stopping)
    if order(entry.id) >= pipeline.pruned_before.get(entry.stream, (0, 0)):
        return
    if await pipeline.store_before_send.get(entry.record_id) is None:
        raise RefusedContent(
            f"entry {entry.id} came back after the records of its time were deleted (`keep_records_s`): it may have "
            "been sent; to send it now, replay it",
            "pruned",
        )


async def prune_records(pipeline: Pipeline) -> None:
    """Delete old records, one process for all, and learn what the others deleted; until cancelled."""
    keep_s = pipeline.settings.keep_records_s
    every_s = EVERY_S if keep_s is None else min(EVERY_S, keep_s / 4)
    turn = Turn(pipeline.stream, "retention", every_s, every_s / 2)
    more = False
    while True:
        await trio.sleep(every_s / 2 if more else every_s)
        more = False
        try:
            await _learn(pipeline)
            if keep_s is not None and pipeline.clock.straight_for_s >= min(keep_s, STRAIGHT_S):
                more = await turn.is_ours() and await _prune(keep_s, pipeline)
        except Unavailable as cause:
            logger.debug("retention waits: {reason}", reason=cause)


async def _learn(pipeline: Pipeline) -> None:
    pruned = await pipeline.store.pruned()
    pipeline.pruned_before = {stream: order(one.before) for stream, one in pruned.items()}


async def _prune(keep_s: float, pipeline: Pipeline) -> bool:
    """Make one round; tell whether it ended early, because it took too long."""
    limit = pipeline.clock.earliest_now() - dt.timedelta(seconds=keep_s)
    ends_s = trio.current_time() + ROUND_S
    found = await pipeline.silences.latest()
    silences = frozenset(f"{SILENCE}{one.id}" for one in (found.silences if found else ()) if one.until > limit)
    for stream, gone in (await pipeline.upkeep.gone()).items():
        before = min(gone.before, f"{max(round(limit.timestamp() * 1000), 0)}-0", key=order)
        if not await pipeline.store.old(stream, before, 1):
            await pipeline.store.prune(stream, (), _nothing, pipeline.fault_point.reach)  # finishes what was begun
            continue
        await pipeline.store.raise_pruned_before(stream, before)
        again = (await pipeline.upkeep.gone()).get(stream)
        if again is None or order(again.before) < order(before):
            continue  # something came back
        # An entry that was replayed is younger than its record's ID says: its last attempt is younger still.
        old = limit if again.empty else dt.datetime.fromtimestamp(order(before)[0] / 1000, dt.UTC)
        settled = partial(is_settled, before=old, silences=silences)
        if await _prune_stream(stream, before, again, settled, ends_s, pipeline):
            return True
    return False


async def _prune_stream(
    stream: str, before: str, gone: Gone, settled: Callable[[Record], bool], ends_s: float, pipeline: Pipeline
) -> bool:
    """Prune one page after the other; tell whether the time was up before the last one."""
    last = ""
    while page := await pipeline.store.old(stream, before, PAGE, last):
        for step in (page[start : start + STEP] for start in range(0, len(page), STEP)):
            if trio.current_time() >= ends_s:
                return True
            began_s = trio.current_time()
            going = [record_id for record_id in step if record_id not in gone.noted]
            count = await pipeline.store.prune(stream, going, settled, pipeline.fault_point.reach)
            logger.debug("deleted {records} old records of {stream}", records=count, stream=stream)
            await trio.sleep(max(RESTS * (trio.current_time() - began_s), LEAST_REST_S))
        if len(page) < PAGE:
            return False
        last = page[-1]
    return False


def _nothing(_: Record) -> bool:
    return False
