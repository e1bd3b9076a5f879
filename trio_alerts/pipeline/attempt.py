"""Steps 3 and 4: one attempt to send one alert through its channels, and its outcome."""

from collections.abc import Awaitable, MutableMapping, Sequence

import trio
from loguru import logger
from msgspec.structs import replace

from trio_alerts.delivery import SINK, ChannelDelivery, Delivery
from trio_alerts.errors import AlertError, NewerRecord
from trio_alerts.outcome import Accepted, Later, Outcome, Retry
from trio_alerts.pipeline.admission import ADMITTED_FOR_S, ask_gate, may_pass
from trio_alerts.pipeline.claim import Claim
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import Channel, Message
from trio_alerts.ports.gates import Admitted, Closed
from trio_alerts.ports.store import Stored
from trio_alerts.record import Record
from trio_alerts.record_ids import is_canary
from trio_alerts.transitions import settled, with_acceptances

# By channel: what came of it, and how long it took in seconds.
Outcomes = MutableMapping[str, tuple[Outcome | Later, float]]

ACCEPTED_ALONE_S = 1.0  # a sibling that takes longer is worth a write; most answer sooner, and then one write is enough


def notify(claim: Claim, outcomes: Outcomes, pipeline: Pipeline) -> Awaitable[Claim | None]:
    """Return what sends through every channel of the running attempt together, and notes each outcome once it is known.

    Awaited, it returns the claim to go on with, if the record was written under way; else None.

    Cancellation: channels without an outcome by then may or may not have been reached.
    """
    record, started_s = claim.stored.record, trio.current_time()
    payload = record.payload() if claim.payload is None else claim.payload
    parts = record.delivery.sending()
    message = Message(record.id, payload, started_s + pipeline.settings.send_timeout_s)
    if len(parts) == 1:  # the common case needs no task of its own
        return _attempt(parts[0], message, started_s, claim, outcomes, pipeline)
    return _attempts(parts, message, started_s, claim, outcomes, pipeline)


async def update(claim: Claim, outcomes: Outcomes, pipeline: Pipeline) -> Record:
    """Store the outcome of an attempt, whatever has become of the record in the meantime.

    Outcomes: stored | stored before, and the answer got lost | merged into what others made of it | created again.

    Returns:
        The record as it is now: `sending` if another owner is at it.

    Raises:
        NewerRecord: A newer version has taken it over, and counts the attempt as in doubt.
    """
    record = claim.stored.record
    version: tuple[int, int] | None = claim.stored.version
    before, owner = record.delivery, record.delivery.owner
    after = settled(record.delivery, outcomes, pipeline.clock.now(), pipeline.retry_policy())
    outcome = replace(record, delivery=after)
    store, rounds = pipeline.store_after_send, 0
    while True:
        written = await (store.create(outcome) if version is None else store.replace(outcome, version))
        if isinstance(written, Stored):
            pipeline.meter.wrote(before, written.record, claim.severity_rank)
            return written.record
        rounds += 1
        await pipeline.store_outage.pace(rounds, record.id)
        try:
            current = await store.get(record.id)
        except NewerRecord:
            _report_unmerged(record.id, outcomes)
            raise
        if current is None and is_canary(record.id):
            return record  # another process has brought it the whole way, and cleared it away
        if current is None:
            logger.error(
                "{record_id}: the record has vanished from the store; it is written again",
                record_id=record.id,
                severity=record.severity,
            )
            outcome, version = replace(record, delivery=after), None
            continue
        theirs = current.record.delivery
        merged: Delivery | None
        if theirs.owner == owner and theirs.state == "sending":
            merged = settled(theirs, outcomes, pipeline.clock.now(), pipeline.retry_policy())
        else:
            merged = with_acceptances(theirs, after, pipeline.clock.now())
        if merged is None:
            if theirs.owner == owner:  # our own write, whose answer was lost
                pipeline.meter.wrote(before, current.record)
            return current.record
        before = theirs
        outcome, version = replace(current.record, delivery=merged), current.version


def _report_unmerged(record_id: str, outcomes: Outcomes) -> None:
    """Log who accepted an alert whose record cannot be changed any more by this version."""
    if accepted := _accepted(outcomes):
        logger.warning(
            "{record_id}: {_channels} accepted it after a newer version had taken it over as in doubt; "
            "it may be sent once more",
            record_id=record_id,
            channels=accepted,
            _channels=", ".join(accepted),
        )


def _accepted(outcomes: Outcomes) -> list[str]:
    """Return the channels that accepted, in the order of their answers."""
    return [name for name, (outcome, _) in outcomes.items() if isinstance(outcome, Accepted)]


async def _attempts(
    parts: Sequence[ChannelDelivery],
    message: Message,
    started_s: float,
    claim: Claim,
    outcomes: Outcomes,
    pipeline: Pipeline,
) -> Claim | None:
    """Make all attempts side by side; what a quick channel accepted is stored before one that hangs has ended.

    The first acceptance that has a sibling under way `ACCEPTED_ALONE_S` later is stored then. Whoever comes last ends
    the wait for that, and a write that the store does not answer: the outcomes of all are stored next.
    """
    later: Claim | None = None

    async def attempt(part: ChannelDelivery) -> None:
        nonlocal later
        await _attempt(part, message, started_s, claim, outcomes, pipeline)
        if len(outcomes) == len(parts):
            attempts.cancel_scope.cancel()
        elif [part.name] == _accepted(outcomes):
            await trio.sleep(ACCEPTED_ALONE_S)
            later = await _store_accepted(claim, outcomes, pipeline)

    async with trio.open_nursery() as attempts:
        for part in parts:
            attempts.start_soon(attempt, part)
    return later


async def _store_accepted(claim: Claim, outcomes: Outcomes, pipeline: Pipeline) -> Claim | None:
    """Store what was accepted so far; return the claim to go on with, None if the record is not known to say so.

    Nothing depends on this write but what a crash leaves in doubt. The last one meets whatever kept this one from being
    made, and a write whose answer was lost.
    """
    record, now = claim.stored.record, pipeline.clock.now()
    after = settled(record.delivery, outcomes, now, pipeline.retry_policy())  # if the others were cut off now
    so_far = with_acceptances(record.delivery, after, now)
    if so_far is None:
        return None
    try:
        written = await pipeline.store_after_send.replace(replace(record, delivery=so_far), claim.stored.version)
    except AlertError:
        return None
    if not isinstance(written, Stored):
        return None
    await pipeline.fault_point.reach("after_acceptance")
    return replace(claim, stored=written)


def _channel(name: str, pipeline: Pipeline) -> Channel:
    if name == SINK:
        return pipeline.sink
    return pipeline.channels.get(name) or pipeline.retired[name]


def _for(part: ChannelDelivery, message: Message) -> Message:
    return replace(message, may_be_repeat=True) if part.in_doubt else message


async def _attempt(
    part: ChannelDelivery, message: Message, started_s: float, claim: Claim, outcomes: Outcomes, pipeline: Pipeline
) -> None:
    """Send through one channel, whatever comes of it: only a cancellation gets out."""
    retry = part.attempts > 1
    if started_s - claim.admitted_at_s > ADMITTED_FOR_S and not may_pass(part.name, pipeline, retry=retry):
        answer = await _ask_again(part, claim, started_s, pipeline)
        if isinstance(answer, Closed):
            outcomes[part.name] = (Later(f"not sent, since it takes nothing now ({answer.why})", answer.for_s), 0.0)
            return
    outcome: Outcome | Later
    send = pipeline.bulkhead.started(part.name, retry=retry)
    try:
        outcome = await _channel(part.name, pipeline).send(_for(part, message))
    except trio.TooSlowError:
        outcome = Retry(f"no answer within {pipeline.settings.send_timeout_s:g} s", unseen=True)
    except Exception as fault:  # noqa: BLE001 - a bug of one channel is no reason to end the others' work
        outcome = Retry(f"a bug in this channel ({type(fault).__name__})", unseen=True)
        if pipeline.health_of(part.name).is_new(type(fault)):
            _report_bug(fault, part, message)
    now_s = trio.current_time()
    if send is not None:  # else, or if cancelled, nobody counts any more
        send.ended(accepted=isinstance(outcome, Accepted))
    outcomes[part.name] = (outcome, now_s - started_s)
    pipeline.meter.attempted(part.name, outcome, now_s - started_s)
    gate, shut = pipeline.channel_gates.get(part.name), False
    if gate is not None:
        shut = gate.view.open_s is not None
        gate.note(outcome, message.id, now_s)
    pipeline.health_of(part.name).note(outcome, message.id, part.attempts, now_s, shut=shut)
    logger.debug(
        "{record_id}: channel {channel}: {reason}",
        record_id=message.id,
        channel=part.name,
        reason=outcome.reason or "accepted",
        status=outcome.status,
        attempt=part.attempts,
    )


async def _ask_again(part: ChannelDelivery, claim: Claim, now_s: float, pipeline: Pipeline) -> Closed | Admitted:
    """Ask the gate once more: since the claim, much may have happened."""
    unused_s = now_s - claim.admitted_at_s
    answer = await ask_gate(part.name, pipeline, retry=part.attempts > 1, unused_s=unused_s)
    is_late = trio.current_time() - claim.stamped_at_s >= pipeline.send_within_s
    if is_late and isinstance(answer, Admitted):
        return Closed("unanswered", 0.0)  # in time: the lease may end before the send now
    return answer


def _report_bug(fault: Exception, part: ChannelDelivery, message: Message) -> None:
    logger.opt(exception=fault).error(
        "{record_id}: channel {channel} failed unexpectedly, please report this bug; the attempt counts as unseen",
        record_id=message.id,
        channel=part.name,
        attempt=part.attempts,
    )
