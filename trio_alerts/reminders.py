"""What a record leaves behind in the hints: when somebody has to look at it again, and in whose queues it waits."""

import datetime as dt
from collections.abc import Sequence

from trio_alerts.ports.hints import DueHint, Hints, Queued
from trio_alerts.record import Record


def due_hint(record: Record, taken_until_ms: int | None = None, not_before: dt.datetime | None = None) -> DueHint:
    """Return when somebody has to look at a record; `taken_until_ms` as in `DueHint`."""
    at = record.delivery.attempt_at()
    if at is not None and not_before is not None:
        at = max(at, not_before)
    return DueHint(record.id, at, taken_until_ms)


def places(record: Record) -> list[Queued]:
    """Return the places of a record in the queues of its channels.

    What waits for a process that knows its channel is in that channel's queue, too: only such a process looks there.
    """
    if not record.delivery.queues or record.delivery.state == "quarantined":
        return []
    rank = record.severity_rank
    waiting = (channel for channel in record.delivery.channels if channel.state == "waiting")
    return [Queued(channel.name, record.id, rank, channel.attempts) for channel in waiting]


async def remind(hints: Hints, due: Sequence[DueHint], queued: Sequence[Queued]) -> None:
    """Write the hints of records, as far as there are any.

    Raises:
        Unavailable: They may have been written, or not; the sweep finds the record all the same.
    """
    if queued:
        await hints.put_queued(queued)
    # Last, since it may remove the hint that led here: who dies in between leaves that to the next one.
    if due := [hint for hint in due if hint.at is not None or hint.taken_until_ms is not None]:
        await hints.put_due(due)
