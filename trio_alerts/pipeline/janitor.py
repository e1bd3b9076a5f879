"""The janitor: once a minute it looks for losses, and puts the group and the streams in order."""

from functools import partial

import trio
from loguru import logger

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.pipeline.turn import Turn

EVERY_S = 60.0
GONE_AFTER_S = 600.0  # a living consumer speaks every few seconds, and one that is busy has something pending


async def run_janitor(pipeline: Pipeline) -> None:
    """Do every chore once a minute, until cancelled. What a backend's outage keeps from being done waits a minute."""
    turn = Turn(pipeline.stream, "janitor", EVERY_S, EVERY_S / 2)
    while True:
        await trio.sleep(EVERY_S)
        for chore in (_report_what_was_lost, partial(_tidy_up, turn)):
            try:
                await chore(pipeline)
            except Unavailable as cause:
                logger.debug("the janitor waits: {reason}", reason=cause)


async def report_what_needs_a_human(pipeline: Pipeline) -> None:
    """Log one line that counts what needs a human, if there is anything; one process does it for all, when it sweeps.

    Raises:
        Unavailable: A backend does not answer.
    """
    counts = await pipeline.store.counts(pipeline.clock.now())
    waiting = {
        "failed": counts.by_state.get("failed", 0),
        "in_doubt": counts.in_doubt,  # also while another channel is retried: the human need not wait for that
        "quarantined": await pipeline.upkeep.dead_letters(),  # most have no record: what is no alert never gets one
        "overdue": counts.overdue,
    }
    if any(waiting.values()):
        logger.error(
            "needs a human: {_counts}",
            _counts=", ".join(f"{count} {state}" for state, count in waiting.items() if count),
            failed=waiting["failed"],
            in_doubt=waiting["in_doubt"],
            quarantined=waiting["quarantined"],
            overdue=waiting["overdue"],
        )


async def _report_what_was_lost(pipeline: Pipeline) -> None:
    if lost := await pipeline.upkeep.newly_lost():
        logger.error(
            "lost upstream: {lost} entries were trimmed or deleted from the stream before they were read; "
            "raise the producer's MAXLEN, or run more workers",
            lost=lost,
        )


async def _tidy_up(turn: Turn, pipeline: Pipeline) -> None:
    """Remove what dead processes left in the group, and what is done with. One process does it for all."""
    settings = pipeline.settings
    if not await turn.is_ours():
        return
    for name in await pipeline.upkeep.remove_idle_consumers(max(GONE_AFTER_S, 2 * settings.block_s)):
        logger.info("consumer {gone} is gone: removed from the group", gone=name)
    if settings.trim == "acked" and (removed := await pipeline.upkeep.trim(settings.trim_keep_s)):
        logger.debug("trimmed {entries} entries that every group is done with", entries=removed)
