"""The entries and records that this process has in its hands, from the read to the outcome."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import trio

from trio_alerts.alert import Entry
from trio_alerts.ports import SUSPECT_DELIVERIES


@dataclass(slots=True)
class _Held:
    entry: Entry | None  # None: a redrive, whose entry was acknowledged long ago
    since_s: float  # monotonic

    @property
    def suspect(self) -> bool:
        return self.entry is not None and self.entry.deliveries >= SUSPECT_DELIVERIES


class InFlight:
    """What is held, by record ID: no ID is ever given to a second worker, and idle workers can be counted.

    No operation looks at every worker; only a renewal looks at what is old.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.suspects = 0
        self.redrives = 0
        self._held: dict[str, _Held] = {}  # oldest first
        self._started: set[str] = set()
        self._parked = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<InFlight {len(self._held)} of {self.workers}, {self.redrives} redrives, {self.suspects} suspects>"

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._held

    @property
    def ids(self) -> AbstractSet[str]:
        """The record IDs that are held now: a live view."""
        return self._held.keys()

    @property
    def idle(self) -> int:
        """How many workers have nothing to do; never below 0."""
        return max(0, self.workers - len(self._held))

    @property
    def started(self) -> AbstractSet[str]:
        """The record IDs that a worker began and did not bring to an end; some of them are not held any more.

        A crash, a cut or another owner's attempt left them pending: their own records say what to do, so they must
        never be handed over as if nothing had happened.
        """
        return self._started

    def hold(self, record_id: str, entry: Entry | None) -> bool:
        """Take an ID into our hands; False if it is there already. `entry` is None for a redrive."""
        if record_id in self._held:
            return False
        held = _Held(entry, trio.current_time())
        self._held[record_id] = held
        self.suspects += held.suspect
        self.redrives += entry is None
        return True

    def start(self, record_id: str) -> None:
        """Note that a worker begins with it."""
        self._started.add(record_id)

    def release(self, record_id: str, *, untouched: bool) -> None:
        """Let go of an ID. `untouched`: nothing of it is left for others to be careful about."""
        held = self._held.pop(record_id)
        self.suspects -= held.suspect
        self.redrives -= held.entry is None
        if untouched:
            self._started.discard(record_id)
        self.wake()

    def older_than(self, seconds: float) -> list[Entry]:
        """Return the held entries that were taken longer ago than this, the oldest first."""
        old: list[Entry] = []
        limit = trio.current_time() - seconds
        for held in self._held.values():
            if held.since_s > limit:
                break
            if held.entry is not None:
                old.append(held.entry)
        return old

    async def changed(self) -> None:
        """Wait until something is released, or `wake` is called. Cancellation: nothing happened."""
        await self._parked.park()

    def wake(self) -> None:
        """Let everybody in `changed` look again."""
        if self._parked:
            self._parked.unpark_all()
