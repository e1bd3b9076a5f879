"""The claimer: takes over entries whose consumer is gone."""

import trio
from loguru import logger

from trio_alerts.errors import NewerRecord, Unavailable
from trio_alerts.pipeline.keepalive import renew
from trio_alerts.pipeline.reader import hand_out
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, Pending, is_suspect


async def claim_entries(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Look for abandoned entries every `claim_every_s`, and take what idle workers can start at once.

    Where no worker is idle, because there is always something new to be read, those that are free next are reserved
    for what was found: at most a quarter of the workers, and in turn with the reader, so that both go on.

    Idle time runs on while the server or a process is paused, so after any gap the first thing is to renew our own
    entries, and the second to give others the time to renew theirs. The start counts as a gap, and so does a server
    whose clock was set. What was handed over on purpose can be taken at any time.
    """
    settings = pipeline.settings
    gap_s = max(settings.keepalive_s, 2 * settings.claim_every_s)
    seen_at_s = trio.current_time()
    trusted_from_s = seen_at_s + 2 * settings.keepalive_s
    turn = _Turn(pipeline)
    forward_s, in_order = 0.0, False
    with send:
        while not pipeline.stopping.is_set():
            await turn.comes()
            try:
                jump_s = await pipeline.measure_time()
                now_s = trio.current_time()
                if jump_s:
                    logger.warning("the clock of Redis was set by {jump_s} s", jump_s=round(jump_s, 1))
                if jump_s or now_s - seen_at_s > gap_s:
                    trusted_from_s, in_order = now_s + 2 * settings.keepalive_s, False
                    forward_s += max(jump_s, 0.0)
                seen_at_s = now_s
                if not in_order:
                    await renew(pipeline, 0.0)
                    await pipeline.stream.restart_idle_times()
                    in_order = True
                if now_s >= trusted_from_s:
                    min_idle_s, forward_s = settings.claim_idle_s, 0.0
                else:
                    min_idle_s = HANDED_OVER_IDLE_S + forward_s
                await _take(min_idle_s, turn, send, pipeline)
                seen_at_s = trio.current_time()  # waiting for a worker is no gap
            except Unavailable as cause:
                pipeline.stream_outage.began(cause)
            else:
                pipeline.stream_outage.ended()


class _Turn:
    """When the claimer looks next, and which workers are reserved for it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.more = False  # there is probably more to be taken
        self._pipeline = pipeline
        self._share = max(1, pipeline.settings.workers // 4)
        self._news = -1  # what had been read when workers were last reserved

    async def comes(self) -> None:
        """Wait for the time of the next look, or until workers that are reserved for it are free."""
        in_flight, every_s = self._pipeline.in_flight, self._pipeline.settings.claim_every_s
        if not in_flight.reserved:
            await self._pipeline.pause(every_s / (10 if self.more else 1))
            return
        with trio.move_on_after(every_s):  # not longer: a gap would not be seen
            while in_flight.free < in_flight.reserved and not self._pipeline.stopping.is_set():
                await in_flight.changed()

    def reserve(self, wanted: int) -> None:
        """Keep workers for the next look, unless the reader has had none since we last did."""
        in_flight = self._pipeline.in_flight
        if in_flight.news != self._news:
            in_flight.reserved = min(wanted, self._share)
            self._news = in_flight.news

    def ends(self, *, more: bool) -> None:
        """Give back what was reserved. After a turn that needed it, the reader's comes first."""
        in_flight = self._pipeline.in_flight
        self.more = more and not in_flight.reserved
        if in_flight.reserved:
            in_flight.reserved = 0
            in_flight.wake()


async def _take(min_idle_s: float, turn: _Turn, send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Take what idle workers can start; if there are none, reserve some."""
    in_flight = pipeline.in_flight
    if pipeline.stopping.is_set():
        return
    count = min(in_flight.reserved or in_flight.free or in_flight.workers, pipeline.settings.batch)
    found = await pipeline.stream.look(min_idle_s, count)
    chosen, suspect = await _choose(found, pipeline)
    if chosen and not in_flight.free:
        turn.reserve(len(chosen))
        return
    if chosen:
        entries = await pipeline.stream.claim(chosen, min_idle_s)
        await pipeline.fault_point.reach("after_claim")
        for entry in entries:
            if suspect is not None and (entry.stream, entry.id) == (suspect.stream, suspect.id):
                in_flight.suspect = entry.record_id
        await hand_out(entries, send, pipeline)
    turn.ends(more=len(found) == count)


async def _choose(found: list[Pending], pipeline: Pipeline) -> tuple[list[Pending], Pending | None]:
    """Leave out what we hold, and all suspects but one: a poison entry must not take others down with it.

    Whatever has a record is no suspect any more: it was read and stored, and its record says what is left to do. But
    it has been through two deaths, so it is never in the hands of the same process together with a suspect.

    Returns:
        What to take, and which of it is the suspect, if there is one.
    """
    in_flight = pipeline.in_flight
    free = [pending for pending in found if pending.record_id not in in_flight]
    again = [pending for pending in free if is_suspect(pending)]
    chosen = [pending for pending in free if not is_suspect(pending)]
    if not again or in_flight.suspect is not None:
        return chosen, None
    recorded = await _recorded(again, pipeline)
    survivors = [pending for pending in again if pending.record_id in recorded]
    if survivors or in_flight.survivors:
        return chosen + survivors, None
    return [*chosen, again[0]], again[0]


async def _recorded(suspects: list[Pending], pipeline: Pipeline) -> set[str]:
    """Return the IDs of those that have a record. A store that is away shows nothing."""
    recorded: set[str] = set()

    async def look(record_id: str) -> None:
        try:
            if await pipeline.store.get(record_id) is not None:
                recorded.add(record_id)
        except NewerRecord:
            recorded.add(record_id)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a worker meets it and deals with it
            logger.debug("nothing is known of {record_id}: {error!r}", record_id=record_id, error=fault)

    if not pipeline.store_outage.under_way:
        async with trio.open_nursery() as looks:
            for pending in suspects:
                looks.start_soon(look, pending.record_id)
    return recorded
