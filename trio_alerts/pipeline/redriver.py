"""The redriver: the only owner of retries. It finds records that are due and claims each before it is sent again."""

import datetime as dt
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Self

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.errors import NewerRecord, RefusedContent, Stopping, Unavailable
from trio_alerts.pipeline.claim import Claim, try_to_claim
from trio_alerts.pipeline.silences import unless_silenced
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.turn import Turn
from trio_alerts.pipeline.worker import Work
from trio_alerts.ports.store import Due
from trio_alerts.transitions import SUSPECT_CUTS, lease_expired, moved_back, next_attempt

PAGE = 200
MOVING = ("retrying", "waiting", "in_doubt")  # a fallback may be due, whatever its primaries wait for
MAX_WAITING = 10_000  # IDs of one kind, about 1.5 MB; what is due beyond them is found again by the next round


async def redrive_records(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Every `redrive_every_s`, look for what is due; hand it to the workers, at most a quarter of them at a time.

    A lock lets one process at a time look through the records. It only saves work: what decides is the conditional
    write of each claim. With a long backlog a look takes long, and the pause after it as long, but for an outage in it.
    """
    every_s, took_s = pipeline.settings.redrive_every_s, 0.0
    turn = Turn(pipeline.stream, "redrive", every_s, every_s)
    with send:
        async with trio.open_nursery() as claims:
            with Backlog(send, claims, pipeline) as backlog:
                while not pipeline.stopping.is_set():
                    await pipeline.pause(max(every_s, took_s))
                    began_s = trio.current_time()
                    try:
                        if await turn.is_ours():
                            await _look(backlog, pipeline)
                    except (Unavailable, Stopping) as cause:
                        logger.debug("retries wait: {}", cause)
                    took_s = pipeline.store_outage.uptime.since(began_s)


async def _look(backlog: "Backlog", pipeline: Pipeline) -> None:
    """Page through what is due now; what becomes due meanwhile is the next round's."""
    # What was written before the server's clock was set back is due by the time that was then.
    now = pipeline.clock.now() + pipeline.clock.set_back
    last: Due | None = None
    while not pipeline.stopping.is_set():
        page = await pipeline.store_outage.outlast(partial(pipeline.store.due, now, PAGE, last), pipeline.stopping)
        if not page:
            return
        last = page[-1]
        # The stream decides about these, not a lapsed lease.
        pending = await pipeline.stream.pending_among([due.id for due in page])
        for due in page:
            if due.id not in pending and due.id not in pipeline.in_flight:
                backlog.add(due)


class Backlog:
    """What is due and waits for a worker, apart for each kind: what goes through the same channels.

    The kinds are fed to the workers side by side, so that what waits for one channel's workers holds up no other. The
    claims run side by side as well, so that the store gets many in one request. Nothing that fails as a rule is awaited
    in their nursery: a claim cut by it would be an attempt that nobody makes.

    Args:
        send: Leads to the workers.
        claims: Where feeding and claiming run; they end with the soft stop.
        pipeline: The process.
    """

    def __init__(self, send: trio.MemorySendChannel[Work], claims: trio.Nursery, pipeline: Pipeline) -> None:
        self._send = send
        self._claims = claims
        self._pipeline = pipeline
        self._kinds: dict[tuple[str, ...], trio.MemorySendChannel[str]] = {}
        self._waiting: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for kind in self._kinds.values():
            kind.close()

    def add(self, due: Due) -> None:
        """Let a record wait for its turn, unless it does already, or there are too many of its kind."""
        if due.id in self._waiting or self._pipeline.stopping.is_set():
            return
        if due.channels not in self._kinds:
            self._kinds[due.channels], receive = trio.open_memory_channel[str](MAX_WAITING)
            self._claims.start_soon(self._feed, due.channels, receive)
        with suppress(trio.WouldBlock):
            self._kinds[due.channels].send_nowait(due.id)
            self._waiting.add(due.id)

    async def _feed(self, channels: tuple[str, ...], receive: trio.MemoryReceiveChannel[str]) -> None:
        """Hand the records of one kind to the workers, each as soon as one of its channels may have a worker."""
        with receive:
            async for record_id in receive:
                through = await self._free_slot(channels)
                if through is None:
                    return
                self._waiting.discard(record_id)
                # Takes the slot, and keeps any other work on it away.
                if self._pipeline.in_flight.hold(record_id, None, through):
                    self._claims.start_soon(_redrive, record_id, through, self._send, self._pipeline)

    async def _free_slot(self, channels: tuple[str, ...]) -> tuple[str, ...] | None:
        """Wait for a worker that retries may use; return which channels may use it. None when stopping."""
        while not self._pipeline.stopping.is_set():
            free = max(1, self._pipeline.settings.workers // 4) - self._pipeline.in_flight.redrives
            if self._pipeline.in_flight.idle and free:
                through = tuple(channel for channel in channels if self._may_use_one(channel, free))
                if through or not channels:
                    return through
            await self._pipeline.in_flight.changed()
        return None

    def _may_use_one(self, channel: str, free: int) -> bool:
        """A channel's first retry may use any free slot; another one must leave a slot to each channel without one."""
        redriving = self._pipeline.in_flight.redriving
        without = sum(not redriving[name] for name in self._pipeline.channels if name != channel)
        return not redriving[channel] or free > without


async def _redrive(
    record_id: str, through: Collection[str], send: trio.MemorySendChannel[Work], pipeline: Pipeline
) -> None:
    """Claim one record that we hold and hand it to a worker, or let go of it if it is not ours to send."""
    handed_over = False
    try:
        claim = await _claim(record_id, through, pipeline)
        if claim is not None:
            await send.send(claim)  # also when stopping: what is claimed is sent within the grace time
            handed_over = True
    except NewerRecord as fault:
        pipeline.newer_records.left_alone(fault)
    except RefusedContent as fault:  # somebody changed it by hand; it must not hold up the others
        if record_id not in pipeline.unreadable:
            logger.error("{record_id} is due and cannot be read: {error}", record_id=record_id, error=fault)
        pipeline.unreadable.add(record_id)
    except Stopping as cause:
        logger.debug("the retry of {record_id} waits: {cause}", record_id=record_id, cause=cause)
    finally:
        if not handed_over:
            pipeline.in_flight.release(record_id, untouched=True)


async def _claim(record_id: str, through: Collection[str], pipeline: Pipeline) -> Claim | None:
    """Make a due record ours by a conditional write; None if it is not due any more, or somebody else's.

    The attempt goes only through the channels that have a slot; what else of it is due stays due.

    A lapsed lease is a failed attempt on the schedule: nobody saw its outcome. Of those whose processes died one after
    the other, one at a time is sent.
    """
    stored = await pipeline.store_before_send.get(record_id)
    if stored is None:
        return None
    now = pipeline.clock.now()
    delivery = moved_back(stored.record.delivery, now, pipeline.clock.set_back)
    if delivery.cuts >= SUSPECT_CUTS:
        if pipeline.in_flight.suspect is not None:
            return None  # its turn comes
        pipeline.in_flight.suspect = record_id
    owner, stamped_at_s = pipeline.new_owner(), trio.current_time()
    if delivery.state in MOVING and any(one.is_due(now) and one.name in through for one in delivery.channels):
        begun = next_attempt(delivery, owner, now, pipeline.settings.lease_s, through)
        after = unless_silenced(begun, stored.record, pipeline)
    elif (
        delivery.state == "sending"
        and delivery.lease_until is not None
        and pipeline.clock.lapsed(delivery.lease_until, pipeline.settings.lease_s)
    ):
        if not _could_have_written(delivery.lease_until, now, pipeline):
            return None  # its owner may be alive, and about to write what it knows
        after = lease_expired(delivery, now, pipeline.retry_policy())
        if after.state == "failed":
            logger.error("{record_id}: {reason}", record_id=record_id, reason=after.last_error)
    else:
        return None
    if any(channel.fallback_of for channel in after.sending()):
        await pipeline.fault_point.reach("before_fallback")
    # Also None: settled by `lease_expired`, or silenced.
    return await try_to_claim(replace(stored.record, delivery=after), stored.version, stamped_at_s, pipeline)


def _could_have_written(lease_until: dt.datetime, now: dt.datetime, pipeline: Pipeline) -> bool:
    """Tell whether the store has answered for a whole lease since the claim: a living owner has written by then.

    What it does not answer is added to the lease, and no more: a store that fails once in a while delays this by those
    moments, and a long outage leaves owners the time that they had when it began.
    """
    lease_s = pipeline.settings.lease_s
    claimed_s_ago = lease_s + (now - lease_until).total_seconds()
    return pipeline.store_outage.uptime.since(trio.current_time() - claimed_s_ago) >= lease_s
