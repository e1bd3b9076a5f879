"""The reader: the one task that takes new entries from the stream."""

import math

import trio

from trio_alerts.alert import Entry
from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.outage import FIRST_WAIT_S
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work

TOGETHER = 16  # so many alerts begin in one turn of the loop


async def read_entries(send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Read as many entries as there are idle workers, and hand each to one of them, until the soft stop.

    After a lost connection it first takes what is pending under its own name and held by nobody: the answer that
    carried it was lost.
    """
    stream, in_flight = pipeline.stream, pipeline.in_flight
    recovering = True  # a process of the same name may have been here before
    wait_s = FIRST_WAIT_S
    with send:
        while await _idle_workers(pipeline):
            count = min(in_flight.idle, pipeline.settings.batch)
            pipeline.read_since_s = trio.current_time()
            try:
                entries = await (
                    stream.own_pending(in_flight.ids | in_flight.started, count) if recovering else stream.read(count)
                )
            except Unavailable as cause:
                recovering = True
                pipeline.stream_outage.began(cause)
                with pipeline.intake():
                    wait_s = await pipeline.stream_outage.pause(wait_s, None)
                continue
            finally:
                pipeline.read_since_s = None
            pipeline.stream_outage.ended()
            wait_s = FIRST_WAIT_S
            recovering = recovering and bool(entries)
            await hand_out(entries, send, pipeline)


async def hand_out(entries: list[Entry], send: trio.MemorySendChannel[Work], pipeline: Pipeline) -> None:
    """Give each entry to a worker, but for those that this process has already. A soft stop leaves the rest pending.

    A crowd that begins together stays together: its answers come as a crowd, and each of its steps waits for all of it.
    So only some begin in one turn of the loop. While it is behind, a crowd costs less: see `process.py`.
    """
    held = [entry for entry in entries if pipeline.in_flight.hold(entry.record_id, entry)]
    together = math.inf if pipeline.in_flight.are_many_idle else TOGETHER
    handed_out = 0
    with pipeline.intake():
        for entry in held:
            try:
                send.send_nowait(entry)  # idle workers are waiting already, as a rule
            except trio.WouldBlock:
                await send.send(entry)
            handed_out += 1
            if handed_out % together == 0:
                await trio.lowlevel.checkpoint()
    for entry in held[handed_out:]:
        pipeline.in_flight.release(entry.record_id, untouched=True)


async def _idle_workers(pipeline: Pipeline) -> bool:
    """Wait for an idle worker; False when there is nothing more to be read."""
    while not pipeline.stopping.is_set():
        if pipeline.in_flight.idle:
            return True
        await pipeline.in_flight.changed()
    return False
