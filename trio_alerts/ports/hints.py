"""The port of the hints: what says when to look at which record, and which of those that wait in a queue comes next.

A hint decides nothing: the record does. Whoever follows one reads the record first; what is lost, or wrong, costs time,
and the sweep makes it good.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct


class DueHint(Struct, frozen=True):
    """When somebody has to look at a record again.

    Args:
        record_id: The record.
        at: When; None: nothing is left to do. A fraction of a millisecond is rounded up.
        taken_until_ms: What was said when it was handed out, if it was: see `Taken`.
    """

    record_id: str
    at: dt.datetime | None
    taken_until_ms: int | None = None


class Taken(Struct, frozen=True):
    """A record that was handed to us, and to nobody else before `until_ms`, in milliseconds since the epoch.

    Its due hint is at that time, so that what we do not live to do is done by another one; or earlier, if it was.
    """

    record_id: str
    until_ms: int


class DueNow(Struct, frozen=True):
    """What is due.

    Args:
        at: The server's time.
        taken: Which hints are ours now, in the order that was asked for.
        next_in_s: In how many seconds the next one is due, 0 if more are due now; infinite if there is none.
    """

    at: dt.datetime
    taken: Sequence[Taken]
    next_in_s: float


class Queued(Struct, frozen=True):
    """A record that waits in the queue of a channel.

    Args:
        channel: Whose queue.
        record_id: The record; its entry's ID says how old it is.
        severity_rank: How severe; a higher one comes first.
        attempts: How many were made through the channel.
    """

    channel: str
    record_id: str
    severity_rank: int
    attempts: int = 0


class Head(Struct, frozen=True):
    """The first in a channel's queue, and how many there are in all."""

    record_id: str
    severity_rank: int
    waiting: int


class Hints(Protocol):
    """When to look at which record, and which comes next; shared by all processes of a group."""

    async def put_due(self, hints: Sequence[DueHint]) -> None:
        """Say when records are due.

        A hint that was taken and is still as it was handed out is put at its new time, or removed. Else somebody has
        written it since: then the earlier time counts, and nothing is removed.
        """

    async def take_due(self, count: int, lease_s: float, *, newest: bool = False) -> DueNow:
        """Take at most `count` of the hints that are due, by the server's clock; each becomes due again in `lease_s`.

        So what a taker does not live to do is done by another one. Of two takers, one gets a hint.

        Args:
            count: How many; with several streams, of each.
            lease_s: How long they are ours.
            newest: Those that became due last, instead of those that have been due for longest.
        """

    async def recall_due(self) -> None:
        """Make every hint due now: after the server's clock was set back, their times lie too far in the future."""

    async def begin_sweep(self, every_s: float, *, broken: bool = False) -> float | None:
        """Tell whether it is our turn to sweep; of all processes, one gets it every `every_s` seconds.

        Args:
            every_s: How long nobody else gets it.
            broken: The clock was set, so that what others have noted is worth nothing: the turn is ours, and the time
                begins anew.

        Returns:
            For how many seconds sweeps have been made one after the other, without a break of `BREAK_S`; None: it is
            not our turn.
        """

    async def end_sweep(self) -> None:
        """Note that a sweep is complete."""

    async def put_queued(self, queued: Collection[Queued]) -> None:
        """Put records into queues; those that are there already get their new place."""

    async def take_queued(self, channel: str, lease_s: float, *, probe: bool = False) -> Taken | None:
        """Take the next record out of a channel's queue: the most severe, then the oldest. Of two takers, one gets it.

        In the same step it becomes due in `lease_s`, if it is not due sooner: nothing else tells of what a taker does
        not live to do.

        Args:
            channel: Whose queue.
            lease_s: How long the record is ours.
            probe: The one with the fewest attempts, then by severity and age: one alert that always fails must not
                stand before all others when a receiver is tried.
        """

    async def heads(self, channels: Collection[str]) -> Mapping[str, Head]:
        """Return the head of each queue that is not empty."""


BREAK_S = 300.0  # without a sweep for so long, processes were down: what waited meanwhile is given time
