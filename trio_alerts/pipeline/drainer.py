"""The drainer: what waits in a channel's queue goes out as soon as its gate lets it, by any worker that is idle."""

import math
from collections.abc import Collection

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.delivery import MOVING
from trio_alerts.errors import NewerRecord, RefusedContent, Stopping, Unavailable
from trio_alerts.held_back import configured, drained
from trio_alerts.pipeline.admission import ask_gate
from trio_alerts.pipeline.claim import Claim, try_to_claim
from trio_alerts.pipeline.silences import unless_silenced
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work
from trio_alerts.ports.gates import Admitted
from trio_alerts.ports.hints import Taken
from trio_alerts.reminders import places
from trio_alerts.transitions import SUSPECT_CUTS, moved_back

LOOK_EVERY_S = 1.0  # another process may have put something into a queue
PUT_BACK_AFTER_S = 0.2  # an entry whose record was stored is acknowledged in a fraction of it
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.01, 1.0  # before a gate that is closed is asked again


async def drain_queues(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Drain the queues of all channels side by side, until the soft stop. One command a second looks at all of them."""
    draining = pipeline.agenda.draining
    with send:
        async with trio.open_nursery() as drains:
            while not pipeline.stopping.is_set():
                for name in await _not_empty(list(pipeline.channel_gates), pipeline):
                    if name not in draining:
                        draining.add(name)
                        drains.start_soon(_drain, _Queue(name, send, drains, pipeline))
                await pipeline.agenda.queued.sleep(LOOK_EVERY_S, pipeline.stopping)


async def _not_empty(names: Collection[str], pipeline: Pipeline) -> Collection[str]:
    try:
        return await pipeline.hints.heads(names) if names else ()
    except Unavailable as cause:
        logger.debug("the queues do not answer: {reason}", reason=cause)
        return ()


async def _drain(queue: "_Queue") -> None:
    """Drain one queue until it is empty, or the soft stop."""
    pipeline = queue.pipeline
    try:
        while (admitted := await _admitted(queue.name, pipeline)) is not None:
            taken = await queue.take(admitted)
            if taken is None:
                # What was put there while we learned that nothing is has rung for nobody.
                pipeline.agenda.queued.ring_by(trio.current_time())
                return
            queue.drains.start_soon(queue.send_one, taken, admitted)
    except (Unavailable, Stopping) as cause:
        logger.debug("the queue of {channel} waits: {reason}", channel=queue.name, reason=cause)
    finally:
        pipeline.agenda.draining.discard(queue.name)


async def _admitted(name: str, pipeline: Pipeline) -> Admitted | None:
    """Wait until a worker is idle and the gate lets an alert through; None at the soft stop.

    With other channels, those workers are a quarter at most: a receiver that hangs again would hold them all.
    """
    in_flight, share = pipeline.in_flight, pipeline.bulkhead.drain_share
    while not pipeline.stopping.is_set():
        if not in_flight.idle or in_flight.draining[name] >= share:
            await in_flight.changed()
            continue
        answer = await ask_gate(name, pipeline, probe=True)
        if isinstance(answer, Admitted):
            return answer
        await pipeline.pause(min(max(answer.for_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
    return None


class _Queue:
    """One channel's queue, as this process drains it.

    Args:
        name: The channel's name, as records in the queue have it.
        send: Leads to the workers.
        drains: Where claims run side by side; they end with the soft stop.
        pipeline: The process.
    """

    def __init__(self, name: str, send: trio.MemorySendChannel[Work], drains: trio.Nursery, pipeline: Pipeline) -> None:
        self.name = name
        self.drains = drains
        self.pipeline = pipeline
        self._send = send

    async def take(self, admitted: Admitted) -> Taken | None:
        """Take the next record that this process does not hold, and hold it; None if there is none.

        Or if the channel has left the configuration.
        """
        hints, lease_s = self.pipeline.hints, self.pipeline.settings.lease_s
        while self.name in self.pipeline.channels:
            taken = await hints.take_queued(self.name, lease_s, probe=admitted.probe)
            if taken is None or self.pipeline.in_flight.hold(taken.record_id, None, (self.name,), drained=True):
                return taken
            self.drains.start_soon(self._put_back, taken.record_id)
        return None

    async def send_one(self, taken: Taken | None, admitted: Admitted) -> None:
        """Claim a record that we hold and hand it to a worker; if it is not ours to send, the next one, and so on.

        A token of the rate is spent for one alert: who loses a record to another process spends it on the next.
        """
        while taken is not None:
            if await self._sent(taken, admitted):
                return
            try:
                taken = await self.take(admitted)
            except Unavailable as cause:
                logger.debug("the queue of {channel} waits: {reason}", channel=self.name, reason=cause)
                return

    async def _sent(self, taken: Taken, admitted: Admitted) -> bool:
        pipeline, record_id, handed_over = self.pipeline, taken.record_id, False
        try:
            claim = await self._claim(taken, admitted)
            if claim is not None:
                # Also when stopping: what is claimed is sent within the grace time.
                await self._send.send(claim)
                handed_over = True
        except NewerRecord as fault:
            pipeline.newer_records.left_alone(fault)
        except RefusedContent as fault:
            logger.error("{record_id} waits and cannot be read: {error}", record_id=record_id, error=fault)
        except (Unavailable, Stopping) as cause:
            logger.debug("{record_id} goes on waiting: {reason}", record_id=record_id, reason=cause)
        finally:
            if not handed_over:
                pipeline.in_flight.release(record_id, untouched=True)
        return handed_over

    async def _claim(self, taken: Taken, admitted: Admitted) -> Claim | None:
        """Make a waiting record ours by a conditional write; None if it does not wait any more, or must be left alone.

        The stream decides about what is still pending there: its owner is about to acknowledge it, or has died.
        """
        pipeline, record_id = self.pipeline, taken.record_id
        stored = await pipeline.store_before_send.get(record_id)
        if stored is None:
            return None
        now, record, owner = pipeline.clock.now(), stored.record, pipeline.new_owner()
        stamped_at_s = trio.current_time()  # the lease begins with `now`, and what follows may take its time
        there = moved_back(record.delivery, now, pipeline.clock.set_back)
        delivery = configured(there, pipeline.channels, owner, now, pipeline.retry_policy())
        waits = self.name in delivery.queues
        if delivery.state not in MOVING or (delivery is there and not waits):
            return None
        if self.name not in pipeline.channels:  # it left the configuration a moment ago
            self.drains.start_soon(self._put_back, record_id)
            return None
        is_suspect = delivery.cuts >= SUSPECT_CUTS
        if (is_suspect and pipeline.in_flight.suspect is not None) or await pipeline.stream.pending_among([record_id]):
            self.drains.start_soon(self._put_back, record_id)
            return None
        if is_suspect:
            pipeline.in_flight.suspect = record_id
        after = delivery
        if waits:  # else a doubt has come back that is a human's to settle
            begun = drained(delivery, owner, now, pipeline.settings.lease_s, [self.name])
            after = unless_silenced(begun, record, pipeline)
        claim = await try_to_claim(replace(record, delivery=after), stored, stamped_at_s, pipeline)
        if claim is not None:
            admitted_at_s = math.inf if admitted.probe else claim.admitted_at_s
            return replace(claim, admitted_at_s=admitted_at_s, taken_until_ms=taken.until_ms)
        if after.state != "sending":
            await pipeline.agenda.note(replace(record, delivery=after), taken.until_ms)
        return None

    async def _put_back(self, record_id: str) -> None:
        """Put into the queue again, in a moment, what must be left alone now: meanwhile it holds up no other.

        The sweep finds what cannot be read or put back.
        """
        await self.pipeline.pause(PUT_BACK_AFTER_S)
        try:
            stored = await self.pipeline.store.get(record_id)
            if stored is not None:
                queued = [one for one in places(stored.record) if one.channel == self.name]
                await self.pipeline.hints.put_queued(queued)
        except (Unavailable, NewerRecord, RefusedContent) as cause:
            logger.debug("{record_id} is not put back into its queue: {reason}", record_id=record_id, reason=cause)
