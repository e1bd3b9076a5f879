"""Deliveries that do not count: an entry whose worker waits for a backend is not what its process dies of."""

import trio

from trio_alerts.alert import Entry
from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline

LOOK_EVERY_S = 1.0
REFUNDED_AT_ONCE = 200  # what was done is noted after so many: whatever fails then is not done twice
SLOW_S = 1.0  # a backend that is well answers in a tenth of it


async def refund_deliveries(pipeline: Pipeline) -> None:
    """Take back, on the server, the delivery of each entry whose worker waits for a backend, until it waits no more.

    So a process that is killed in the wait leaves no suspects behind, however often that happens. Runs until it is
    cancelled.
    """
    while True:
        with trio.move_on_after(LOOK_EVERY_S):
            await pipeline.waits.changed()
        try:
            async with pipeline.in_flight.counting:
                await _refund(pipeline)
        except Unavailable as cause:
            pipeline.stream_outage.began(cause)


async def _refund(pipeline: Pipeline) -> None:
    in_flight = pipeline.in_flight
    workers = {*pipeline.store_outage.waiting(SLOW_S), *pipeline.stream_outage.waiting(SLOW_S)}
    if not workers and not in_flight.refunded:
        return
    waiting = in_flight.carried_by(workers)
    going_on = in_flight.refunded - {entry.record_id for entry in waiting}
    await _count(waiting, False, pipeline)
    await _count(in_flight.entries(going_on), True, pipeline)
    if not pipeline.stopping.is_set():  # from then on those that were given up are still to be handed over
        in_flight.refunded &= in_flight.ids


async def _count(entries: list[Entry], counted: bool, pipeline: Pipeline) -> None:
    refunded = pipeline.in_flight.refunded
    changed = [entry for entry in entries if counted is (entry.record_id in refunded)]
    for start in range(0, len(changed), REFUNDED_AT_ONCE):
        group = changed[start : start + REFUNDED_AT_ONCE]
        await pipeline.stream.renew(group, counted=counted)
        ids = {entry.record_id for entry in group}
        pipeline.in_flight.refunded = refunded = refunded - ids if counted else refunded | ids
