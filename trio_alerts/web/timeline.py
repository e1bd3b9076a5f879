"""What happened to an alert, in the order of time, as far as its record knows. Pure."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from trio_alerts.delivery import Attempt, ChannelDelivery, Delivery
from trio_alerts.exact_json import Timestamp

Tone = Literal["good", "bad", "doubt", "plain", "ahead"]

_RESULTS: dict[str, tuple[str, Tone]] = {
    "accepted": ("accepted", "good"),
    "retry": ("failed in a way that may pass", "bad"),
    "refused": ("refused for good", "bad"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, or that is planned (`ahead`)."""

    at: dt.datetime
    what: str
    tone: Tone = "plain"
    channel: str = ""
    attempt: Attempt | None = None


def timeline(fields: dict[str, Any], delivery: Delivery) -> list[Step]:
    """Return the steps, the oldest first."""
    return sorted(_steps(fields, delivery), key=lambda step: step.at)


def _steps(fields: dict[str, Any], delivery: Delivery) -> Iterator[Step]:
    for name, what in (("occurred_at", "the alert occurred"), ("ingested_at", "read from the stream")):
        if at := _time(fields.get(name)):
            yield Step(at, what)
    if delivery.state == "sending" and delivery.lease_until:
        yield Step(
            delivery.lease_until, "if nobody has said by then what came of the attempt, it counts as cut", "ahead"
        )
    for channel in delivery.channels:
        yield from (_tried(channel.name, one) for one in channel.log)
        yield from _waits(channel)


def _tried(channel: str, attempt: Attempt) -> Step:
    what, tone = _RESULTS[attempt.result]
    if attempt.unseen:
        what, tone = "nobody saw whether it arrived", "doubt"
    return Step(attempt.at, what, tone, channel, attempt)


def _waits(channel: ChannelDelivery) -> Iterator[Step]:
    if channel.since and channel.state == "waiting":
        yield Step(channel.since, "began to wait in the queue", channel=channel.name)
    if channel.next_attempt_at is None:
        return
    match channel.state:
        case "retrying":
            yield Step(channel.next_attempt_at, "next attempt", "ahead", channel.name)
        case "standby":
            primaries = " and ".join(channel.fallback_of)
            yield Step(channel.next_attempt_at, f"stands in, if {primaries} has not accepted it", "ahead", channel.name)
        case "waiting":
            yield Step(channel.next_attempt_at, "gives up waiting", "ahead", channel.name)


def _time(value: object) -> dt.datetime | None:
    try:
        return msgspec.convert(value, Timestamp)
    except msgspec.ValidationError:
        return None
