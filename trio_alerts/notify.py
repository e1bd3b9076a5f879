"""Step 3: one attempt to send one alert through its channels."""

from collections.abc import MutableMapping

import trio
from loguru import logger

from trio_alerts.alert import Record
from trio_alerts.pipeline import Pipeline
from trio_alerts.ports import Notification
from trio_alerts.retry import Accepted, Outcome, Refused, Retry, needs_a_human

Outcomes = MutableMapping[str, tuple[Outcome, float]]  # by channel: what came of it, and how long it took in seconds


async def notify(record: Record, payload: bytes, outcomes: Outcomes, pipeline: Pipeline) -> None:
    """Send through every channel of the running attempt, all at once, and note each outcome as soon as it is known.

    Cancellation: channels without an outcome by then may or may not have been reached.
    """
    channels = record.delivery.sending()
    notification = Notification(record.id, payload)
    if len(channels) == 1:  # the common case needs no task of its own
        await _attempt(channels[0].name, notification, outcomes, pipeline)
        return
    async with trio.open_nursery() as attempts:
        for channel in channels:
            attempts.start_soon(_attempt, channel.name, notification, outcomes, pipeline)


async def _attempt(name: str, notification: Notification, outcomes: Outcomes, pipeline: Pipeline) -> None:
    started_s = trio.current_time()
    outcome: Outcome
    channel = pipeline.channels.get(name)
    if channel is None:
        outcome = Refused("this channel is not configured any more")
    else:
        bound_s = pipeline.settings.send_timeout_s
        with trio.CancelScope(deadline=started_s + bound_s) as bound:
            outcome = await channel.send(notification)
        if bound.cancelled_caught:
            outcome = Retry(f"no answer within {bound_s:g} s", unseen=True)
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
