"""The reporter: once a minute it logs what is not working."""

from collections.abc import Mapping

import trio

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline

EVERY_S = 60.0


async def report_trouble(pipeline: Pipeline) -> None:
    """Log each minute one line for each backend that does not answer and each channel that is failing."""
    while True:
        await trio.sleep(EVERY_S)
        for outage in (pipeline.stream_outage, pipeline.store_outage):
            outage.report()
        waiting = await _waiting(pipeline)
        for name, health in pipeline.health.items():
            health.report(trio.current_time(), None if waiting is None else waiting.get(name, 0))


async def _waiting(pipeline: Pipeline) -> Mapping[str, int] | None:
    """Count the alerts that wait for a retry, by channel; None if that is unknown, or of no interest."""
    now_s = trio.current_time()
    if pipeline.store_outage.under_way or not any(health.is_failing(now_s) for health in pipeline.health.values()):
        return None
    try:
        return await pipeline.store.waiting()
    except Unavailable:
        return None
