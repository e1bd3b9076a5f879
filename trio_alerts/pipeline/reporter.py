"""The reporter: once a minute it logs what is not working."""

from collections import Counter
from collections.abc import Sequence

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
        failing = [name for name, health in pipeline.health.items() if health.is_failing(trio.current_time())]
        waiting = await _waiting(failing, pipeline)
        for name, health in pipeline.health.items():
            gate = pipeline.channel_gates.get(name)
            count = None if waiting is None else waiting[name]
            health.report(trio.current_time(), count, None if gate is None else gate.view)


async def _waiting(failing: Sequence[str], pipeline: Pipeline) -> Counter[str] | None:
    """Count the alerts in the queues of these channels, and those that wait for a retry; None if it is unknown."""
    if pipeline.store_outage.under_way or not failing:
        return None
    try:
        waiting = Counter(await pipeline.store.waiting())
        waiting.update({name: head.waiting for name, head in (await pipeline.hints.heads(failing)).items()})
    except Unavailable:
        return None
    return waiting
