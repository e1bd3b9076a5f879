"""What this process has to look at again: noted in the hints for everybody, and kept as an alarm for itself."""

import datetime as dt
import math

import trio
from loguru import logger

from trio_alerts.clock import ServerClock
from trio_alerts.errors import Unavailable
from trio_alerts.ports.hints import Hints
from trio_alerts.record import Record
from trio_alerts.reminders import due_hint, places, remind

PENDING_S = 0.1  # in which an entry is acknowledged whose outcome is stored: before that, its record is left alone


class Alarm:
    """Wakes one sleeper at the earliest of the times that were asked for since it last woke."""

    def __init__(self) -> None:
        self._at_s = math.inf
        self._scope: trio.CancelScope | None = None

    def ring_by(self, at_s: float) -> None:
        """Wake the sleeper by then, on trio's clock, or do not let it fall asleep for longer."""
        self._at_s = min(self._at_s, at_s)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, at_s)

    async def sleep(self, at_most_s: float, stopping: trio.Event) -> None:
        """Sleep until it rings, for that long at most, or until the soft stop."""
        with trio.CancelScope(deadline=min(self._at_s, trio.current_time() + at_most_s)) as self._scope:
            await stopping.wait()
        self._scope, self._at_s = None, math.inf


class Agenda:
    """Notes when records have to be looked at, and wakes this process's own tasks by then.

    A note may fail (a full Redis takes none) and hinders nothing then: the sweep finds what was forgotten.

    Attributes:
        due: Rings when something is due that this process has noted.
        queued: Rings when something was put into a queue that this process does not drain.
        draining: The channels whose queues this process drains: who does takes what is put there without being told.
    """

    def __init__(self, hints: Hints, clock: ServerClock) -> None:
        self._hints = hints
        self._clock = clock
        self.due = Alarm()
        self.queued = Alarm()
        self.draining: set[str] = set()

    async def note(self, record: Record, taken_until_ms: int | None = None, *, pending: bool = False) -> None:
        """Write the hints of a record that was just written. Cancellation: held off.

        Args:
            record: As it is in the store.
            taken_until_ms: See `DueHint`.
            pending: Its entry is still to be acknowledged, which is done after this: whoever looks leaves it alone
                until then.
        """
        now = self._clock.now()
        hint = due_hint(record, taken_until_ms, now + dt.timedelta(seconds=PENDING_S) if pending else None)
        queued = places(record)
        with trio.CancelScope(shield=True):
            try:
                await remind(self._hints, [hint], queued)
            except Unavailable as cause:
                logger.debug("{record_id}: no hint was left: {reason}", record_id=record.id, reason=cause)
                return
        if hint.at is not None:
            self.due.ring_by(trio.current_time() + max(0.0, (hint.at - now).total_seconds()))
        if any(place.channel not in self.draining for place in queued):
            self.queued.ring_by(trio.current_time())
