"""One process at work: its nurseries, and how it stops."""

import math
import signal
from collections.abc import Callable, Collection

import trio
from loguru import logger

from trio_alerts.alert import Entry
from trio_alerts.deployment import new_identity, refuse_foreign, take_possession
from trio_alerts.errors import Interrupted, Unavailable
from trio_alerts.pipeline.acknowledger import acknowledge_entries
from trio_alerts.pipeline.claimer import claim_entries
from trio_alerts.pipeline.drainer import drain_queues
from trio_alerts.pipeline.gates import watch_gates
from trio_alerts.pipeline.guard import guard_store
from trio_alerts.pipeline.janitor import run_janitor
from trio_alerts.pipeline.keepalive import keep_alive
from trio_alerts.pipeline.pulse import show_gauges
from trio_alerts.pipeline.reader import read_entries
from trio_alerts.pipeline.redriver import redrive_records
from trio_alerts.pipeline.refund import refund_deliveries
from trio_alerts.pipeline.reporter import report_trouble
from trio_alerts.pipeline.retention import learn_what_was_pruned, prune_records
from trio_alerts.pipeline.silences import watch_silences
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.worker import Work, run_worker
from trio_alerts.stop_signals import EARLY, asks_to_reload, stop_signals

FAREWELL_BOUND_S = 2.0  # a healthy server answers in 1 ms; the worst stop is grace_s + this


async def serve(pipeline: Pipeline, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Prepare both backends, then carry alerts until the pipeline is stopped; started when it begins to read.

    Raises:
        SchemaError, StartError, SettingsError: What `prepare` found; nothing was consumed.
        ExceptionGroup: What went wrong while running, the exceptions of workers included.
    """
    await refuse_foreign(pipeline.stream, pipeline.store)
    await pipeline.store.prepare()
    await pipeline.stream.prepare()
    await pipeline.measure_time()
    identity = new_identity(pipeline.settings.group, pipeline.clock.now(), pipeline.random)
    pipeline.deployment = await take_possession(pipeline.stream, pipeline.store, identity)
    try:
        async with trio.open_nursery() as helpers:
            for helper in (keep_alive, refund_deliveries, guard_store, run_janitor, prune_records):
                helpers.start_soon(helper, pipeline)
            for helper in (report_trouble, show_gauges):
                helpers.start_soon(helper, pipeline)
            helpers.start_soon(pipeline.retired.let_go)
            await helpers.start(watch_silences, pipeline)  # before the first alert
            await helpers.start(watch_gates, pipeline)
            await learn_what_was_pruned(pipeline)
            pipeline.reading = True
            pipeline.meter.cells[pipeline.meter.layout.reading] = 1
            task_status.started()
            settings = pipeline.settings
            logger.info(
                "reading {_streams} as {consumer}",
                _streams=", ".join(settings.stream_names),
                streams=settings.stream_names,
                consumer=settings.consumer,
            )
            await _work(pipeline)
            await _hand_over(pipeline.in_flight.blamed, pipeline)
            await _leave(pipeline)
            helpers.cancel_scope.cancel()
    except Exception:  # of a helper, or of who feeds the workers: no entry is to blame for it
        with trio.move_on_after(FAREWELL_BOUND_S, shield=True):
            await _hand_over(pipeline.in_flight.blamed, pipeline)
        raise
    if pipeline.faults:
        raise ExceptionGroup("a worker failed", pipeline.faults)
    logger.info("stopped; other processes can take over what is left")


async def _work(pipeline: Pipeline) -> None:
    """Carry alerts and acknowledge them, until the soft stop is through or the grace time over."""
    send, receive = trio.open_memory_channel[Entry](math.inf)  # `InFlight.done` bounds what is in it
    with trio.CancelScope() as grace, receive:
        async with trio.open_nursery() as acknowledging:
            acknowledging.start_soon(acknowledge_entries, receive, pipeline)
            with send:
                await _run_workers(send, grace, pipeline)
    if grace.cancelled_caught:
        logger.warning("the grace time is over: what was cut is taken over by other processes")


async def _run_workers(done: trio.MemorySendChannel[Entry], grace: trio.CancelScope, pipeline: Pipeline) -> None:
    """Run the workers and whoever feeds them, until the soft stop is through; it begins the grace time."""
    send, receive = trio.open_memory_channel[Work](0)
    with receive:  # shared by all workers: one for each would be memory for nothing
        async with trio.open_nursery() as work:
            for _ in range(pipeline.settings.workers):
                work.start_soon(run_worker, receive, done, pipeline)
            async with trio.open_nursery() as intake:
                with send:
                    for feed in (read_entries, claim_entries, redrive_records, drain_queues):
                        intake.start_soon(feed, send.clone(), pipeline)
                await pipeline.stopping.wait()
                grace.deadline = trio.current_time() + pipeline.settings.grace_s
                logger.info("stopping: {in_flight} in flight", in_flight=len(pipeline.in_flight.ids))
                await pipeline.stream.wake()
            # Nothing more is taken in from here on: what was not started need not wait for those that were.
            await _hand_over(pipeline.in_flight.started, pipeline)


async def watch_signals(
    stop: Callable[[], None],
    reload: Callable[[], None] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stop softly at the first signal, and now at the second; one that asks to reload stops what can do that not.

    Raises:
        Interrupted: At the second signal.
    """
    with trio.open_signal_receiver(*stop_signals()) as signals:
        if EARLY.hand_over() and reload is not None:
            reload()
        task_status.started()
        first = True
        async for number in signals:
            if reload is not None and asks_to_reload(number):
                if first:
                    reload()
                continue
            if not first:
                raise Interrupted(f"stopped at once by a second signal ({signal.Signals(number).name})")
            first = False
            stop()


async def _hand_over(keeping: Collection[str], pipeline: Pipeline) -> None:
    """Make what is pending claimable for other processes at once, but for some; none of it is a suspect for this."""
    with trio.move_on_after(FAREWELL_BOUND_S):
        try:
            count = await pipeline.stream.hand_over(keeping, pipeline.in_flight.refunded)
        except Unavailable as cause:
            logger.warning("could not hand over: {reason}; entries are taken over after claim_idle_s", reason=cause)
        else:
            if count:
                logger.info("handed over {entries} entries", entries=count)


async def _leave(pipeline: Pipeline) -> None:
    with trio.move_on_after(FAREWELL_BOUND_S):
        try:
            await pipeline.stream.leave()
        except Unavailable as cause:
            logger.debug("the consumer stays in the group: {reason}", reason=cause)
