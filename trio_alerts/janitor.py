"""The janitor: once a minute it says what needs a human."""

import trio
from loguru import logger

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline import Pipeline

EVERY_S = 60.0
NEEDS_A_HUMAN = ("failed", "in_doubt", "quarantined")


async def keep_house(pipeline: Pipeline) -> None:
    """Log one line a minute that counts what needs a human, if there is anything, until cancelled."""
    while True:
        await trio.sleep(EVERY_S)
        try:
            counts = await pipeline.store.counts(pipeline.clock.now())
        except Unavailable as cause:
            logger.debug("the janitor could not look: {}", cause)
            continue
        waiting = {state: counts.by_state.get(state, 0) for state in NEEDS_A_HUMAN} | {"overdue": counts.overdue}
        if any(waiting.values()):
            logger.warning(
                "needs a human: {}", ", ".join(f"{count} {state}" for state, count in waiting.items() if count)
            )
