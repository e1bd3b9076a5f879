"""The entries and records that this process has in its hands, from the read to the outcome."""

from collections import Counter
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import takewhile

import trio

from trio_alerts.alert import Entry
from trio_alerts.ports.stream import SUSPECT_DELIVERIES

MANY_IDLE = 200


@dataclass(slots=True)
class _Held:
    entry: Entry | None  # None: a redrive, whose entry was acknowledged long ago
    since_s: float  # monotonic
    channels: Collection[str]  # of a redrive: those that it goes through
    drained: bool
    done: bool = False  # its outcome is stored: it is only to be acknowledged
    worker: trio.lowlevel.Task | None = None  # once it is begun with


class InFlight:
    """What is held, by record ID: no ID is ever given to a second worker, and idle workers can be counted.

    No operation looks at every worker; only a renewal looks at what is old, and a refund at who waits.

    Attributes:
        redrives: How many retries are held.
        redriving: How many of them go through each channel.
        draining: How many alerts from each channel's queue are held.
        reserved: How many workers are kept for abandoned entries, as soon as they have nothing to do.
        news: How many entries were held so far that came by no claim.
        unacknowledged: How many entries are held whose outcome is stored: their workers are free.
        survivors: How many entries are held that were claimed after two deaths or more, suspects or not.
        suspect: The record ID of what may be what its processes died of: there is one of these at a time.
        started: The record IDs that a worker began and did not finish; some are not held any more. A crash, a cut or
            another owner's attempt left them pending: never to be handed over as if nothing had happened.
        refunded: The record IDs of entries whose delivery does not count now, on the server.
        counting: Held while it is changed on the server whether deliveries count: of two changes at once, the earlier
            one could be the last to arrive.
        blamed: The record IDs of entries at which a worker failed.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.suspect: str | None = None
        self.redrives = 0
        self.redriving: Counter[str] = Counter()
        self.draining: Counter[str] = Counter()
        self.reserved = 0
        self.news = 0
        self.unacknowledged = 0
        self.survivors = 0
        self.refunded: set[str] = set()
        self.counting = trio.Lock()
        self.blamed: set[str] = set()
        self._held: dict[str, _Held] = {}  # oldest first
        self.started: set[str] = set()
        self._parked = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        suspect = f", suspect {self.suspect}" if self.suspect else ""
        return f"<InFlight {len(self._held)} of {self.workers}, {self.redrives} redrives{suspect}>"

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._held

    @property
    def ids(self) -> AbstractSet[str]:
        """The record IDs that are held now: a live view."""
        return self._held.keys()

    @property
    def oldest_since_s(self) -> float | None:
        """When the oldest was taken, on trio's clock; None: nothing is held."""
        return next((held.since_s for held in self._held.values()), None)

    @property
    def free(self) -> int:
        """How many workers have nothing to do; never below 0."""
        return max(0, self.workers - len(self._held) + self.unacknowledged)

    @property
    def idle(self) -> int:
        """How many workers may be given something: those with nothing to do, but for what is reserved."""
        return max(0, self.free - self.reserved)

    @property
    def are_many_idle(self) -> bool:
        """Whether so many workers are idle as only a loop that is behind leaves without an alert, under load.

        Then what saves CPU matters, else what saves time; see `process.py` and `hand_out`.
        """
        return self.idle >= MANY_IDLE

    def hold(
        self, record_id: str, entry: Entry | None, channels: Collection[str] = (), *, drained: bool = False
    ) -> bool:
        """Take an ID into our hands; False if it is there already. A redrive has no entry, but the channels it uses.

        `drained`: it waited in a queue, whose alerts may use any worker; only retries are bound to a quarter of them.
        """
        if record_id in self._held:
            return False
        self._held[record_id] = _Held(entry, trio.current_time(), channels, drained)
        if entry is None:
            self.redrives += not drained
            (self.draining if drained else self.redriving).update(channels)
        elif not entry.claimed:
            self.news += 1
        elif entry.deliveries >= SUSPECT_DELIVERIES:
            self.survivors += 1
        return True

    def start(self, record_id: str) -> None:
        """Note that a worker, the current task, begins with it."""
        self.started.add(record_id)
        self._held[record_id].worker = trio.lowlevel.current_task()

    async def done(self, record_id: str) -> None:
        """Note that its worker is free, while the entry is held until it is acknowledged. Waits while too many are.

        Cancellation: its worker is not free.
        """
        while self.unacknowledged >= self.workers:
            await self.changed()
        held = self._held[record_id]
        held.done, held.worker = True, None
        self.unacknowledged += 1
        self.wake()

    def release(self, record_id: str, *, untouched: bool) -> None:
        """Let go of an ID. `untouched`: nothing of it is left for others to be careful about."""
        held = self._held.pop(record_id)
        self.unacknowledged -= held.done
        if held.entry is None:
            self.redrives -= not held.drained
            (self.draining if held.drained else self.redriving).subtract(held.channels)
        elif held.entry.claimed and held.entry.deliveries >= SUSPECT_DELIVERIES:
            self.survivors -= 1
        if record_id == self.suspect:
            self.suspect = None
        if untouched:
            self.started.discard(record_id)
        self.wake()

    def older_than(self, seconds: float) -> list[Entry]:
        """Return the held entries that were taken longer ago than this, the oldest first."""
        limit_s = trio.current_time() - seconds
        old = takewhile(lambda held: held.since_s <= limit_s, self._held.values())
        return [held.entry for held in old if held.entry is not None]

    def carried_by(self, workers: Collection[trio.lowlevel.Task]) -> list[Entry]:
        """Return the entries that these tasks work on."""
        return [held.entry for held in self._held.values() if held.entry is not None and held.worker in workers]

    def entries(self, record_ids: Collection[str]) -> list[Entry]:
        """Return the entries of these records, as far as they are held."""
        held = [self._held[record_id] for record_id in record_ids if record_id in self._held]
        return [one.entry for one in held if one.entry is not None]

    async def changed(self) -> None:
        """Wait until something is released, or `wake` is called. Cancellation: nothing happened."""
        await self._parked.park()

    def wake(self) -> None:
        """Let everybody in `changed` look again."""
        if self._parked:
            self._parked.unpark_all()
