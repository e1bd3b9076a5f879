"""Step 3: one attempt to send one alert through its channels."""

from collections.abc import Awaitable, MutableMapping, Sequence

import trio
from loguru import logger

from trio_alerts.alert import Record
from trio_alerts.delivery import ChannelDelivery
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports import Message
from trio_alerts.retry import Outcome, Refused, Retry

Outcomes = MutableMapping[str, tuple[Outcome, float]]  # by channel: what came of it, and how long it took in seconds


def notify(record: Record, payload: bytes, outcomes: Outcomes, pipeline: Pipeline) -> Awaitable[None]:
    """Return what sends through every channel of the running attempt together, and notes each outcome once it is known.

    Cancellation: channels without an outcome by then may or may not have been reached.
    """
    parts = record.delivery.sending()
    message = Message(record.id, payload, trio.current_time() + pipeline.settings.send_timeout_s)
    if len(parts) == 1:  # the common case needs no task of its own
        return _attempt(parts[0], message, outcomes, pipeline)
    return _attempts(parts, message, outcomes, pipeline)


async def _attempts(parts: Sequence[ChannelDelivery], message: Message, outcomes: Outcomes, pipeline: Pipeline) -> None:
    async with trio.open_nursery() as attempts:
        for part in parts:
            attempts.start_soon(_attempt, part, message, outcomes, pipeline)


async def _attempt(part: ChannelDelivery, message: Message, outcomes: Outcomes, pipeline: Pipeline) -> None:
    started_s = trio.current_time()
    outcome: Outcome
    channel = pipeline.channels.get(part.name)
    if channel is None:
        outcome = Refused("this channel is not configured any more")
    else:
        try:
            outcome = await channel.send(message)
        except trio.TooSlowError:
            outcome = Retry(f"no answer within {pipeline.settings.send_timeout_s:g} s", unseen=True)
        except Exception as fault:  # noqa: BLE001 - a bug of one channel is no reason to end the others' work
            outcome = Retry(f"a bug in this channel ({type(fault).__name__})", unseen=True)
            if pipeline.is_first(part.name, type(fault)):
                logger.opt(exception=fault).error(
                    "{record_id}: channel {channel} failed with what nobody planned for, please report it; "
                    "the attempt counts as unseen",
                    record_id=message.id,
                    channel=part.name,
                )
    now_s = trio.current_time()
    outcomes[part.name] = (outcome, now_s - started_s)
    pipeline.health_of(part.name).note(outcome, message.id, part.attempts, now_s)
    logger.debug(
        "{record_id}: {channel} {}",
        outcome.reason or "accepted it",
        record_id=message.id,
        channel=part.name,
        status=outcome.status,
        attempt=part.attempts,
    )
