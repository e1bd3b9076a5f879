"""The acknowledger: what workers are done with is acknowledged, many entries at once, while they go on with others."""

from contextlib import suppress

import trio

from trio_alerts.alert import Entry
from trio_alerts.pipeline.state import Pipeline

AT_ONCE = 1_000  # a command of 25 KB, half a millisecond of the server


async def acknowledge_entries(done: trio.MemoryReceiveChannel[Entry], pipeline: Pipeline) -> None:
    """Acknowledge entries whose outcome is stored and let go of them, until the channel is closed.

    Cancellation: as long as the server answers, what workers still bring to an outcome is acknowledged, too. The rest
    stays pending, and its records say that there is nothing left to send.
    """
    count = pipeline.meter.batches("redis")
    while entries := await _gathered(done):
        count(len(entries))
        await pipeline.patient_stream.ack(entries)
        for entry in entries:
            await pipeline.fault_point.reach("after_ack")
            pipeline.finished += 1
            pipeline.in_flight.release(entry.record_id, untouched=True)


async def _gathered(done: trio.MemoryReceiveChannel[Entry]) -> list[Entry]:
    """Wait for an entry, whatever is cancelled, and return all that are there; none when the channel is closed."""
    entries: list[Entry] = []
    with suppress(trio.EndOfChannel, trio.WouldBlock):
        with trio.CancelScope(shield=True):  # as bounded as what workers hold a cancellation off for
            entries.append(await done.receive())
        while len(entries) < AT_ONCE:
            entries.append(done.receive_nowait())
    return entries
