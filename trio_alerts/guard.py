"""The schema guard's task: a mapping can go bad while the process runs."""

import trio
from loguru import logger

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline import Pipeline

GUARD_EVERY_S = 60.0


async def guard_store(pipeline: Pipeline) -> None:
    """Compare the store with what it must be, every minute, until cancelled; that it cannot look is said once.

    Raises:
        SchemaError: It cannot be trusted any more; the process must stop.
    """
    blind = False
    while True:
        await trio.sleep(GUARD_EVERY_S)
        try:
            await pipeline.store.guard()
        except Unavailable as cause:
            if not blind:
                logger.warning("the guard cannot see whether the store is as it must be: {reason}", reason=cause)
            blind = True
        else:
            if blind:
                logger.info("the guard sees again that the store is as it must be")
            blind = False
