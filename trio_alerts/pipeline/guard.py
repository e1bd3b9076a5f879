"""The guard's task: a mapping can go bad while the process runs, and a backend can be taken over."""

import trio
from loguru import logger

from trio_alerts.deployment import refuse_contradiction
from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline

GUARD_EVERY_S = 60.0


async def guard_store(pipeline: Pipeline) -> None:
    """Compare both backends with what they must be, every minute, until cancelled; that it cannot look is logged once.

    Raises:
        SchemaError: The store cannot be trusted any more, or one of them belongs to another deployment: the process
            must stop.
    """
    blind = False
    while True:
        await trio.sleep(GUARD_EVERY_S)
        try:
            await pipeline.store.guard()
            await pipeline.stream.guard()
            refuse_contradiction(await pipeline.store.keep_deployment(pipeline.deployment), pipeline.deployment)
        except Unavailable as cause:
            if not blind:
                logger.warning("the guard cannot check the store: {reason}", reason=cause)
            blind = True
        else:
            if blind:
                logger.info("the guard can check the store again, and it is as it must be")
            blind = False
