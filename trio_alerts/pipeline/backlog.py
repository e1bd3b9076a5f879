"""What is due and waits for a worker; each record is claimed before it is sent again."""

import datetime as dt
from collections.abc import Collection
from typing import Self

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.delivery import EARLIEST, MOVING, Delivery
from trio_alerts.errors import NewerRecord, RefusedContent, Stopping, Unavailable
from trio_alerts.held_back import doubted
from trio_alerts.pipeline.admission import unless_closed
from trio_alerts.pipeline.claim import Claim, try_to_claim
from trio_alerts.pipeline.silences import unless_silenced
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work
from trio_alerts.ports.hints import DueHint
from trio_alerts.transitions import SUSPECT_CUTS, lease_expired, moved_back, next_attempt

WAITING_A_SLOT = 4  # records of one kind: what is due beyond them is left to other processes, or to a later look


def due_channels(delivery: Delivery, now: dt.datetime) -> tuple[str, ...] | None:
    """Return the channels of a record through which an attempt is due; none of them if a lease is over; None: not due.

    A claim looks again, and may find that the owner of the lease is to be left some more time.
    """
    if delivery.state == "sending":
        return () if delivery.lease_until is not None and delivery.lease_until <= now else None
    if delivery.state not in MOVING:
        return None
    return tuple(channel.name for channel in delivery.channels if channel.is_due(now)) or None


class Backlog:
    """What is due and waits for a worker, apart for each kind: what goes through the same channels.

    The kinds are fed to the workers side by side, so that what waits for one channel's workers holds up no other. The
    claims run side by side as well, so that the store gets many in one request. Nothing that fails as a rule is awaited
    in their nursery: a claim cut by it would be an attempt that nobody makes.

    Args:
        send: Leads to the workers.
        claims: Where feeding and claiming run; they end with the soft stop.
        pipeline: The process.

    Attributes:
        room: How many of one kind may wait: few, so that idle processes get their part of a long backlog.
        at: The server's time when it last said what is due: our own clock may be some milliseconds behind it.
    """

    def __init__(self, send: trio.MemorySendChannel[Work], claims: trio.Nursery, pipeline: Pipeline) -> None:
        self.at = EARLIEST
        self._slots = max(1, pipeline.settings.workers // 4)  # workers that retries may use
        self.room = WAITING_A_SLOT * self._slots
        self._send = send
        self._claims = claims
        self._pipeline = pipeline
        self._kinds: dict[tuple[str, ...], trio.MemorySendChannel[str]] = {}
        self._unreadable: set[str] = set()  # that were logged: they are met again
        self._full: set[tuple[str, ...]] = set()  # kinds that had no room
        self._waiting: dict[str, int | None] = {}  # until when the hint is ours that led to it, if one did

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for kind in self._kinds.values():
            kind.close()

    def add(self, record_id: str, channels: tuple[str, ...], taken_until_ms: int | None = None) -> bool:
        """Let a record wait for its turn; False if there are too many of its kind.

        Args:
            record_id: The record.
            channels: Its kind: those that are due; none if a lease has lapsed.
            taken_until_ms: See `Claim`.
        """
        if record_id in self._waiting:
            self._waiting[record_id] = taken_until_ms or self._waiting[record_id]
            return True
        if self._pipeline.stopping.is_set():
            return False
        if channels not in self._kinds:
            self._kinds[channels], receive = trio.open_memory_channel[str](self.room)
            self._claims.start_soon(self._feed, channels, receive)
        try:
            self._kinds[channels].send_nowait(record_id)
        except trio.WouldBlock:
            self._full.add(channels)
            return False
        self._waiting[record_id] = taken_until_ms
        return True

    def unreadable(self, record_id: str, fault: RefusedContent) -> None:
        """Log that somebody changed a record by hand, once; it must not hold up the others."""
        if record_id not in self._unreadable:
            logger.error("{record_id} is due and cannot be read: {error}", record_id=record_id, error=fault)
        self._unreadable.add(record_id)

    async def _feed(self, channels: tuple[str, ...], receive: trio.MemoryReceiveChannel[str]) -> None:
        """Hand the records of one kind to the workers, each as soon as one of its channels may have a worker."""
        with receive:
            async for record_id in receive:
                through = await self._free_slot(channels)
                if through is None:
                    return
                taken_until_ms = self._waiting.pop(record_id)
                if channels in self._full and receive.statistics().current_buffer_used <= self.room // 2:
                    self._full.discard(channels)
                    self._pipeline.agenda.due.ring_by(trio.current_time())
                # Takes the slot, and keeps any other work on it away.
                if self._pipeline.in_flight.hold(record_id, None, through):
                    self._claims.start_soon(self._redrive, record_id, through, taken_until_ms)

    async def _free_slot(self, channels: tuple[str, ...]) -> tuple[str, ...] | None:
        """Wait for a worker that retries may use; return which channels may use it. None when stopping."""
        while not self._pipeline.stopping.is_set():
            free = self._slots - self._pipeline.in_flight.redrives
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

    async def _redrive(self, record_id: str, through: Collection[str], taken_until_ms: int | None) -> None:
        """Claim one record that we hold and hand it to a worker, or let go of it if it is not ours to send.

        Then its hint is put back, so that somebody looks again in a moment: at what was turned away for a reason that
        passes, and at what has moved on.
        """
        pipeline, handed_over = self._pipeline, False
        try:
            claim = await _claim(record_id, through, self.at, pipeline)
            if claim is not None:
                # Also when stopping: what is claimed is sent within the grace time.
                await self._send.send(replace(claim, taken_until_ms=taken_until_ms))
                handed_over = True
        except NewerRecord as fault:
            pipeline.newer_records.left_alone(fault)
        except RefusedContent as fault:
            self.unreadable(record_id, fault)
        except Stopping as cause:
            logger.debug("the retry of {record_id} waits: {reason}", record_id=record_id, reason=cause)
        finally:
            if not handed_over:
                pipeline.in_flight.release(record_id, untouched=True)
        if not handed_over and taken_until_ms is not None:
            await self._put_back(record_id, taken_until_ms)

    async def _put_back(self, record_id: str, taken_until_ms: int) -> None:
        again = self._pipeline.clock.now() + dt.timedelta(seconds=self._pipeline.settings.redrive_every_s)
        try:
            await self._pipeline.hints.put_due([DueHint(record_id, again, taken_until_ms)])
        except Unavailable as cause:
            logger.debug("{record_id}: its hint is not put back: {reason}", record_id=record_id, reason=cause)


async def _claim(record_id: str, through: Collection[str], at: dt.datetime, pipeline: Pipeline) -> Claim | None:
    """Make a due record ours by a conditional write; None if it is not due any more, or somebody else's.

    The attempt goes only through the channels that have a slot; what else of it is due stays due.

    A lapsed lease is a failed attempt on the schedule: nobody saw its outcome. Of those whose processes died one after
    the other, one at a time is sent.
    """
    stored = await pipeline.store_before_send.get(record_id)
    if stored is None:
        return None
    now = max(at, pipeline.clock.now())  # after the read, which may have waited for the store: a lease begins with it
    delivery = moved_back(stored.record.delivery, now, pipeline.clock.set_back)
    if delivery.cuts >= SUSPECT_CUTS:
        if pipeline.in_flight.suspect is not None:
            return None  # its turn comes
        pipeline.in_flight.suspect = record_id
    owner, stamped_at_s = pipeline.new_owner(), trio.current_time()
    after = doubted(delivery, owner, now, pipeline.retry_policy())
    if after is not delivery:
        pass  # what else of it is due comes again in a moment
    elif delivery.state in MOVING and any(one.is_due(now) and one.name in through for one in delivery.channels):
        begun = next_attempt(delivery, owner, now, pipeline.settings.lease_s, through)
        begun = unless_silenced(begun, stored.record, pipeline)
        after = await unless_closed(begun, stored.record, pipeline, retry=True)
    elif (
        delivery.state == "sending"
        and delivery.lease_until is not None
        and pipeline.clock.lapsed(delivery.lease_until, pipeline.settings.lease_s)
    ):
        if not _could_have_written(delivery.lease_until, now, pipeline):
            return None  # its owner may be alive, and about to write what it knows
        after = lease_expired(delivery, now, pipeline.retry_policy())
        if after.state == "failed":
            logger.error(
                "{record_id}: {reason}",
                record_id=record_id,
                reason=after.last_error,
                severity=stored.record.severity,
            )
    else:
        return None
    if any(channel.fallback_of for channel in after.sending()):
        await pipeline.fault_point.reach("before_fallback")
    # Also None: settled by `lease_expired`, silenced, or turned away by every channel.
    return await try_to_claim(replace(stored.record, delivery=after), stored, stamped_at_s, pipeline)


def _could_have_written(lease_until: dt.datetime, now: dt.datetime, pipeline: Pipeline) -> bool:
    """Tell whether the store has answered for a whole lease since the claim: a living owner has written by then.

    What it does not answer is added to the lease, and no more: a store that fails once in a while delays this by those
    moments, and a long outage leaves owners the time that they had when it began.
    """
    lease_s = pipeline.settings.lease_s
    claimed_s_ago = lease_s + (now - lease_until).total_seconds()
    return pipeline.store_outage.uptime.since(trio.current_time() - claimed_s_ago) >= lease_s
