"""Silences at work: each process looks for changes all the time, and at each attempt at what it saw last."""

import trio
from loguru import logger

from trio_alerts.delivery import SINK, Delivery
from trio_alerts.errors import ParseFault, Unavailable
from trio_alerts.event import AlertEvent
from trio_alerts.held_back import silenced
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.record import Record

CHECK_EVERY_S = 0.8  # so that a change is at most 1 s late, the answer's way included


async def watch_silences(pipeline: Pipeline, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Look for changes until cancelled; started after the first look, whether it was answered or not."""
    blind = await _check(pipeline, blind=False)
    task_status.started()
    while True:
        await trio.sleep(CHECK_EVERY_S)
        blind = await _check(pipeline, blind=blind)


def unless_silenced(begun: Delivery, alert: AlertEvent | Record, pipeline: Pipeline) -> Delivery:
    """Return an attempt that is about to be made, or what becomes of it if a silence matches the alert."""
    cache = pipeline.silence_cache
    if not cache.active or begun.state != "sending" or begun.channels[0].name == SINK:
        return begun
    now = pipeline.clock.now()
    try:
        event = alert.event() if isinstance(alert, Record) else alert
    except ParseFault:
        return begun  # somebody changed the record by hand: rather sent than kept back
    silence = cache.matching(event, now, trio.current_time())
    if silence is None:
        return begun
    logger.debug(
        "alert {alert_id} is silenced by {silence}",
        alert_id=event.alert_id,
        severity=event.severity,
        silence=silence.id,
    )
    return silenced(begun, silence.id, silence.why, now)


async def _check(pipeline: Pipeline, *, blind: bool) -> bool:
    """Look for changes; tell whether there was no answer. That is logged once, and only if something is silenced."""
    cache, asked_at_s = pipeline.silence_cache, trio.current_time()
    try:
        found = await pipeline.silences.latest(cache.version)
    except Unavailable as cause:
        if cache.active and not blind:
            logger.warning("the silences cannot be checked; until then nothing is silenced: {reason}", reason=cause)
        return True
    for problem in cache.check(found, pipeline.clock.now(), asked_at_s):
        logger.error("{error}", error=problem)
    if found is not None and found.version:
        logger.info("the silences have changed: {active} active", active=len(cache.active))
    return False
