"""Step 3: one attempt to send one alert through its channels."""

from collections.abc import Awaitable, MutableMapping, Sequence

import trio
from loguru import logger

from trio_alerts.alert import Record
from trio_alerts.pipeline import Pipeline
from trio_alerts.ports import Notification
from trio_alerts.retry import Accepted, Outcome, Refused, Retry, needs_a_human

Outcomes = MutableMapping[str, tuple[Outcome, float]]  # by channel: what came of it, and how long it took in seconds


def notify(record: Record, payload: bytes, outcomes: Outcomes, pipeline: Pipeline) -> Awaitable[None]:
    """Return what sends through every channel of the running attempt together, and notes each outcome once it is known.

    Cancellation: channels without an outcome by then may or may not have been reached.
    """
    names = [channel.name for channel in record.delivery.sending()]
    notification = Notification(record.id, payload, trio.current_time() + pipeline.settings.send_timeout_s)
    if len(names) == 1:  # the common case needs no task of its own
        return _attempt(names[0], notification, outcomes, pipeline)
    return _attempts(names, notification, outcomes, pipeline)


async def _attempts(names: Sequence[str], notification: Notification, outcomes: Outcomes, pipeline: Pipeline) -> None:
    async with trio.open_nursery() as attempts:
        for name in names:
            attempts.start_soon(_attempt, name, notification, outcomes, pipeline)


async def _attempt(name: str, notification: Notification, outcomes: Outcomes, pipeline: Pipeline) -> None:
    started_s = trio.current_time()
    outcome: Outcome
    channel = pipeline.channels.get(name)
    if channel is None:
        outcome = Refused("this channel is not configured any more")
    else:
        try:
            outcome = await channel.send(notification)
        except trio.TooSlowError:
            outcome = Retry(f"no answer within {pipeline.settings.send_timeout_s:g} s", unseen=True)
    outcomes[name] = (outcome, trio.current_time() - started_s)
    _report(name, notification.id, outcome, pipeline)


def _report(name: str, record_id: str, outcome: Outcome, pipeline: Pipeline) -> None:
    """Log a channel's changes of state, not its every answer."""
    if isinstance(outcome, Accepted):
        logger.debug("{}: accepted by {}", record_id, name)
        if pipeline.channel_trouble.pop(name, None) is not None:
            logger.info("channel {} accepts again", name)
        return
    if pipeline.channel_trouble.get(name) != outcome.reason:
        pipeline.channel_trouble[name] = outcome.reason
        level = "ERROR" if needs_a_human(outcome) else "WARNING"
        logger.log(
            level, "channel {}: {} (first with {}; the same reason is not repeated)", name, outcome.reason, record_id
        )
