"""What the pipeline asks of the world: a stream, a store, channels. Backends and fakes implement these protocols.

Two rules hold for every method. It raises `Unavailable` when the backend does not answer in its own bound or says "not
now"; nothing is then known about the fate of a write. And it can be cancelled at any time, with the same meaning: a
write may or may not have happened, and no other caller's write is affected. But for two methods: `replace` and `ack`,
which store what came of an attempt, hold a cancellation off until the backend has answered or its bound is over.
"""

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from trio_alerts.alert import Entry, Record
from trio_alerts.delivery import State
from trio_alerts.outcome import Outcome

SUSPECT_DELIVERIES = 3  # from this delivery on an entry may be what crashed its workers
HANDED_OVER_IDLE_S = 86_400.0  # no living worker's entry is ever this idle: it was handed over


@dataclass(frozen=True, slots=True)
class Pending:
    """What the group knows about an entry that was handed out and not acknowledged.

    `deliveries` counts the times it was handed out so far; `idle_s` is the time since the last of them or the last
    renewal. A replayed entry's `record_id` is not known before it is claimed: this one is made from its own ID.
    """

    stream: str
    id: str
    record_id: str
    consumer: str
    idle_s: float
    deliveries: int


def is_suspect(pending: Pending) -> bool:
    """Tell whether the next delivery of an entry makes it a suspect."""
    return pending.deliveries + 1 >= SUSPECT_DELIVERIES


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """Why an entry goes to the dead-letter stream; kept beside its original fields."""

    reason: str
    error: str


class AlertStream(Protocol):
    """A consumer group's view of one or several streams, for one consumer."""

    async def prepare(self) -> None:
        """Create the group where it is missing, by the rules of `start_from`; look at the server's own settings.

        Raises:
            StartError: The server cannot be reached, refuses us, or would lose alerts by its own settings.
            SettingsError: The group would start over too many waiting entries, and `start_from` does not say where.
        """

    async def inspect(self) -> list[str]:
        """Tell what `prepare` would create, a line each, and create nothing; raises what `prepare` raises."""

    async def deployment(self) -> str | None:
        """Return the identity of the deployment that the streams and the group belong to; None: it has none yet.

        Raises:
            SchemaError: The streams belong to two of them.
        """

    async def keep_deployment(self, identity: str) -> str:
        """Keep an identity, unless there is one; return the one that is kept: of two processes, one is first.

        From then on this process works for that deployment: see `guard`.
        """

    async def replace_deployment(self, identity: str) -> None:
        """Write another identity over the one that is kept: whoever works for the old one stops."""

    async def guard(self) -> None:
        """See whether the streams still belong to our deployment; if its identity is gone, write it back.

        `read` does the same before it creates a lost group again.

        Raises:
            SchemaError: They belong to another deployment.
        """

    async def read(self, count: int) -> list[Entry]:
        """Wait up to `block_s` for new entries and return at most `count`; re-creates a lost group at `0`.

        Only the reader calls this: it blocks a connection of its own. A cancelled read may leave entries pending
        under our name whose answer nobody saw; `own_pending` finds them.
        """

    async def wake(self) -> None:
        """Make a blocked `read` return at once, with what it has. Never raises: the read ends by itself anyway."""

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        """Return at most `count` entries that are pending under our own name, but for the record IDs that we hold.

        These are answers that got lost, or what a process of the same name left behind. Each counts one more delivery,
        but they do not count as claimed: under a name that two processes share, an owner may be alive. Suspects are
        left to the claimer, which takes one at a time.
        """

    async def look(self, min_idle_s: float, count: int) -> list[Pending]:
        """Return up to `count` pending entries of any consumer that have been idle for that long.

        Successive looks go round: entries that nobody can take now hide no others.
        """

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        """Take over those that are still that idle; each counts one more delivery. Vanished ones are acknowledged.

        Nothing is taken if the server's clock was set forward since the last `server_time`: then everything looks idle.
        """

    async def restart_idle_times(self) -> None:
        """Let idle times run again that stand at zero: of what was handed out before the server's clock was set back.

        Owners and deliveries stay. Until the clock is where it was, nobody could tell the dead from the living.
        """

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        """Reset the idle time of those that are still ours; return their record IDs.

        Args:
            entries: Which.
            counted: Whether the delivery to us counts from now on; None: as before.
        """

    async def owns(self, entry: Entry) -> bool:
        """Tell whether the server still has this entry pending under our name."""

    async def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        """Return those records whose entry is still pending in the group, under any name."""

    async def ack(self, entry: Entry) -> None:
        """Acknowledge. Safe to repeat. Cancellation: held off."""

    async def quarantine(self, entry: Entry, dead: DeadEntry) -> bool:
        """Move an entry to the dead-letter stream in one step, if it is still pending and ours; tell whether it was."""

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        """Make what is pending under our name, but for some record IDs, claimable at once; return how many.

        It counts no delivery against them, and whoever looks sees them as idle for `HANDED_OVER_IDLE_S`. What was
        handed over before stays as it is.

        Args:
            keeping: Which are not handed over.
            refunded: Whose delivery to us does not count already.
        """

    async def leave(self) -> bool:
        """Remove our consumer if it has nothing pending, in one step; tell whether it was removed."""

    async def newly_lost(self) -> int:
        """Return how many entries were trimmed or deleted before the group had read them, and nobody was told of yet.

        Their IDs are known to nobody. The number is kept on the server: of all processes, one is told of each.
        """

    async def quarantined(self) -> int:
        """Return how many entries lie in the dead-letter streams."""

    async def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
        """Remove other consumers that were silent for so long and have nothing pending; return their names."""

    async def trim(self, keep_s: float) -> int:
        """Remove from the streams what every group of theirs is done with, and is older; return how many entries.

        A group that is not ours counts too: nothing is removed that is pending in it, or that it has not read yet.
        """

    async def server_time(self) -> float:
        """Return the server's time in seconds since the epoch."""

    async def lock(self, name: str, ttl_s: float) -> bool:
        """Take a named lock that ends by itself; False if somebody has it. It saves work, it guards nothing."""


class Stored(Struct, frozen=True):
    """A record as it lies in the store. `version` is opaque: a conditional update succeeds only on the same one."""

    record: Record
    version: tuple[int, int]


class Conflict(Struct, frozen=True):
    """A conditional write did not happen: the record exists already, has moved on, or has vanished."""


class Due(Struct, frozen=True):
    """A record that waits for an attempt, as far as a search sees it.

    `channels` are the names of those that are due, in their order; none if a lease has lapsed, or if the record cannot
    be read.
    """

    id: str
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records to find; an empty filter finds all. Values of one field are alternatives; fields are joined by and.

    `since` is included and `until` is not; both are compared with `occurred_at`.
    """

    view: Sequence[str] = ()
    scope: Sequence[str] = ()
    severity: Sequence[str] = ()
    state: Sequence[State] = ()
    rule_id: Sequence[str] = ()
    alert_id: Sequence[str] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None


class AlertStore(Protocol):
    """Where records live. Reads by ID are real-time; searches may lag behind by a second."""

    async def prepare(self) -> None:
        """Create what is missing and compare the rest, before anything is consumed.

        Raises:
            StartError: The store cannot be reached or refuses us.
            SchemaError: It cannot be trusted to answer filters.
        """

    async def inspect(self) -> list[str]:
        """Tell what `prepare` would create, a line each, and create nothing; raises what `prepare` raises."""

    async def deployment(self) -> str | None:
        """Return the identity of the deployment that the store belongs to; None: it has none, or does not exist yet.

        A store from before there were identities that is plainly not ours has a description of its owner instead.
        """

    async def keep_deployment(self, identity: str) -> str:
        """Keep an identity, unless there is one; return the one that is kept. Safe to repeat."""

    async def replace_deployment(self, identity: str) -> None:
        """Take the store over: write another identity over the one that is kept."""

    async def guard(self) -> None:
        """Compare again, while running; creates nothing.

        Raises:
            SchemaError: It cannot be trusted any more.
        """

    async def create(self, record: Record) -> Stored | Conflict:
        """Write a record that must not exist yet.

        Raises:
            RefusedContent: The store will never take this document.
        """

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        """Write a whole record over the version that was read. Cancellation: held off.

        Raises:
            RefusedContent: The store will never take this document.
        """

    async def get(self, record_id: str) -> Stored | None:
        """Read one record, as it is now."""

    async def due(self, now: dt.datetime, count: int, after: Due | None = None) -> list[Due]:
        """Return the records that wait for an attempt: `retrying` and due, or `sending` with a lapsed lease.

        Args:
            now: The server's time.
            count: The page's size.
            after: The last record of the page before; pages come in the order of their IDs, as strings.
        """

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        """Return one page of matching records, the newest entry first; `after` is the last record of the page before.

        Newest is the highest entry ID as Redis orders them, by its two numbers, whatever the stream.
        """

    async def count(self, wanted: RecordFilter) -> int:
        """Count the matching records, as far as a search sees them."""

    async def counts(self, now: dt.datetime) -> "Counts":
        """Count all records by state, as far as a search sees them."""

    async def waiting(self) -> Mapping[str, int]:
        """Count the records that wait for a retry by the channel that it goes through, as far as a search sees them.

        A channel is missing if none does.
        """

    async def vitals(self) -> "Vitals":
        """Look for what is slow to find: too much for every minute, as far as a search sees it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records are in each state, and how many retries are overdue by more than a minute."""

    by_state: Mapping[str, int]
    overdue: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """How things go.

    Args:
        waiting_since: When the first attempt began of the oldest record that is `sending`, `retrying` or `in_doubt`.
        repeated: How many records carry an `alert_id` that another one has, the first of each not counted: what a
            producer wrote twice. A store may stop counting at a thousand such IDs.
    """

    waiting_since: dt.datetime | None
    repeated: int


class Message(Struct, frozen=True):
    """What a channel sends.

    Args:
        id: The `webhook-id`: the same at every attempt.
        payload: The alert as compact JSON.
        deadline: When the attempt has to be over, on trio's clock.
    """

    id: str
    payload: bytes
    deadline: float = math.inf


class Channel(Protocol):
    """A configured way to reach people."""

    name: str

    async def send(self, message: Message) -> Outcome:
        """Make one attempt and say what came of it.

        Raises:
            trio.TooSlowError: There was no answer by the message's deadline, and the receiver may have seen
                something of the attempt. If nothing was sent, `Retry` says so.

        Cancellation, TooSlowError: nobody knows then whether the receiver has it; the caller records the attempt as
        unseen.
        """
