"""Admission: which channels an attempt may use now, and which must wait. Every attempt is asked about here first."""

import math
from collections.abc import Sequence

from loguru import logger

from trio_alerts.delivery import SINK, Delivery
from trio_alerts.errors import Unavailable
from trio_alerts.event import SEVERITIES, AlertEvent
from trio_alerts.held_back import UNCONFIGURED_FOR, turned_away, unconfigured
from trio_alerts.pipeline.channel_gate import ChannelGate
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.gates import Admitted, Closed
from trio_alerts.record import Record
from trio_alerts.text import in_words

ADMITTED_FOR_S = 1.0  # what was let in and has not been sent by then is asked about again
ASK_AGAIN_S = 1.0  # a gate that does not answer, or workers that are all with slow sends


async def unless_closed(
    begun: Delivery, alert: AlertEvent | Record, pipeline: Pipeline, *, retry: bool = False
) -> Delivery:
    """Return an attempt that is about to be made without the channels that take nothing now: these wait.

    So do those that this process does not know, for one that does. A channel that is well and has no rate costs no
    command. Cancellation: at worst a token is spent for nothing.
    """
    closed, unknown = [], []
    for channel in begun.channels:
        if channel.state != "sending":
            continue
        if channel.name not in pipeline.channels and channel.name != SINK:
            unknown.append(channel.name)
        elif not may_pass(channel.name, pipeline, retry=retry):
            rank = _severity_rank(alert)
            if isinstance(await ask_gate(channel.name, pipeline, behind=rank, retry=retry), Closed):
                closed.append(channel.name)
    if unknown:
        _report(unknown, pipeline)
        begun = unconfigured(begun, unknown, pipeline.clock.now())
    if closed:
        begun = turned_away(begun, closed, pipeline.clock.now(), pipeline.retry_policy().patience_s)
    return begun


def may_pass(name: str, pipeline: Pipeline, *, retry: bool = False) -> bool:
    """Tell whether a channel is well, has no rate, and no lack of workers: then nobody need be asked."""
    gate = pipeline.channel_gates.get(name)
    return (gate is None or gate.is_free) and pipeline.bulkhead.may_start(name, retry=retry)


async def ask_gate(
    name: str,
    pipeline: Pipeline,
    *,
    behind: int | None = None,
    retry: bool = False,
    probe: bool = False,
    unused_s: float = math.inf,
) -> Closed | Admitted:
    """Return whether an alert may be sent through a channel now. If there is a rate, a token is spent for it.

    Args:
        name: The channel's.
        pipeline: The process.
        behind: The alert's severity, if it comes from elsewhere than the queue: what is as severe and waits goes first.
        retry: It is not its first attempt.
        probe: It is the alert to try a channel with, if its breaker is open.
        unused_s: For how long it has had a token that it did not use, if it was let in before.
    """
    gate = pipeline.channel_gates.get(name)
    if not pipeline.bulkhead.may_start(name, retry=retry):
        return Closed("workers", ASK_AGAIN_S)
    if gate is None or gate.is_free:
        return Admitted()
    closed = gate.closed()
    # Within the time that earns a token nobody else can have had it: with a store that is slow, it is moved to now.
    again = gate.rate is not None and unused_s * gate.rate.per_s < 1
    if closed is not None and not (probe and closed.why == "breaker") and not (again and closed.why == "rate"):
        return closed
    answer = await _ask(gate, pipeline, behind, probe=probe, again=again)
    if isinstance(answer, Closed):
        gate.answered(answer)
    return answer


async def _ask(
    gate: ChannelGate, pipeline: Pipeline, behind: int | None, *, probe: bool, again: bool
) -> Closed | Admitted:
    try:
        if behind is not None and gate.rate is not None:
            heads = await pipeline.hints.heads(gate.names)
            if any(head.severity_rank >= behind for head in heads.values()):
                return Closed("queue", 0.0)
        answer = await pipeline.gates.ask(gate.name, gate.rate, probe=probe, again=again)
    except Unavailable:  # whoever waits for Redis says so
        return Closed("unanswered", ASK_AGAIN_S)
    await pipeline.fault_point.reach("after_gate")
    return answer


def _report(unknown: Sequence[str], pipeline: Pipeline) -> None:
    """Log each channel that is not known here, once."""
    for name in unknown:
        if name not in pipeline.unconfigured:
            logger.error(
                "channel {channel} is not configured here, and records name it: its alerts wait for a process that "
                "knows it, and fail after {_wait}",
                channel=name,
                wait_s=UNCONFIGURED_FOR.total_seconds(),
                _wait=in_words(UNCONFIGURED_FOR.total_seconds()),
            )
    pipeline.unconfigured.update(unknown)


def _severity_rank(alert: AlertEvent | Record) -> int:
    return SEVERITIES.index(alert.severity) if isinstance(alert, AlertEvent) else alert.severity_rank
