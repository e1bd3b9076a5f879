"""The store's port: where records live."""

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from trio_alerts.delivery import State
from trio_alerts.deployment import DeploymentKeeper
from trio_alerts.ports.hints import Queued
from trio_alerts.record import Record


class Stored(Struct, frozen=True):
    """A record as it lies in the store. `version` is opaque: a conditional update succeeds only on the same one."""

    record: Record
    version: tuple[int, int]


class Conflict(Struct, frozen=True):
    """A conditional write did not happen: the record exists already, has moved on, or has vanished."""


class Due(Struct, frozen=True):
    """A record with something to do, or in a queue, as far as a search sees it.

    Args:
        id: The record's.
        channels: The names of those through which an attempt is due, in their order.
        next_at: When the next attempt is due that is not due yet; None: none is, or the last one is under way.
        cut: Only a read tells what is to be done: a lease has lapsed, or this cannot be read.
        queues: Its places in the queues of channels that it waits for.
        expired: It has waited for one of them for too long.
    """

    id: str
    channels: tuple[str, ...] = ()
    next_at: dt.datetime | None = None
    cut: bool = False
    queues: tuple[Queued, ...] = ()
    expired: bool = False


class Pruned(Struct, frozen=True):
    """What retention has deleted of one stream's records.

    Args:
        count: How many, since there is this store.
        before: Only of entries with a lower ID. One of these that has no record may have been sent.
    """

    count: int
    before: str


def pruned_records(pruned: Mapping[str, Pruned]) -> int:
    """Return how many records were deleted, of all streams."""
    return sum(one.count for one in pruned.values())


# A record in one of these states may have a channel in doubt beside those that it is named after; in the others, a
# channel in doubt would have given it its name, unless a fallback has made the doubt good.
STATES_BESIDE_A_DOUBT: tuple[State, ...] = ("sending", "retrying", "waiting")


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records to find; an empty filter finds all. Values of one field are alternatives; fields are joined by and.

    A value is found as it was written, but for `tx` and `address`, found in any case: producers differ in that.
    `address` looks into the alert's `addresses` and its `contract`. `label` is keys and values: values of one key are
    alternatives, and each key is a field of its own. `channel` is one of the record's, whatever came of it. `title` is
    words, all of which stand in the title, in any order and case; see `words`.

    The state `in_doubt` finds what has a channel in doubt, while another one is still sent to or retried, too.
    `since` is included and `until` is not; both are compared with `occurred_at`. Only with `canaries`
    canaries are found, too.
    """

    view: Sequence[str] = ()
    scope: Sequence[str] = ()
    severity: Sequence[str] = ()
    state: Sequence[State] = ()
    rule_id: Sequence[str] = ()
    alert_id: Sequence[str] = ()
    suppressed_by: Sequence[str] = ()
    tx: Sequence[str] = ()
    address: Sequence[str] = ()
    label: Sequence[tuple[str, str]] = ()
    channel: Sequence[str] = ()
    fingerprint: Sequence[str] = ()
    title: Sequence[str] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    canaries: bool = False


class AlertStore(DeploymentKeeper, Protocol):
    """Where records live. Reads by ID are real-time. Canaries are in no figure, and in `due` as any alert is.

    So is the first page of `search`, which people ask for, unless OpenSearch forbids us to refresh the index: then it
    may lag behind by a second, as all other searches may.
    """

    async def prepare(self) -> None:
        """Create what is missing and compare the rest, before anything is consumed.

        Raises:
            StartError: The store cannot be reached or refuses us.
            SchemaError: It cannot be trusted to answer filters.
        """

    async def inspect(self) -> list[str]:
        """Tell what `prepare` would create, a line each, and create nothing; raises what `prepare` raises."""

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

    async def remove(self, record_id: str) -> None:
        """Remove a record, whatever its version; it need not exist. Searches may see it for a second more."""

    async def get(self, record_id: str) -> Stored | None:
        """Read one record, as it is now.

        Raises:
            NewerRecord: A newer version wrote it; this one must leave it alone.
            RefusedContent: Somebody changed the record, and it cannot be read any more.
        """

    async def due(self, now: dt.datetime, count: int, after: Due | None = None, *, ahead_s: float = 0.0) -> list[Due]:
        """Return the records with something to do: what their `next_attempt_at` says, a lapsed lease, or a queue.

        Args:
            now: The server's time.
            count: The page's size.
            after: The last record of the page before; pages come in the order of their IDs, as strings.
            ahead_s: By how much a `next_attempt_at` may still lie in the future. Leases are left out of this: all that
                is under way has one.
        """

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        """Return one page of matching records, the newest entry first; `after` is the last record of the page before.

        A page that is shorter than `count` is the last one.

        Newest is the highest entry ID as Redis orders them, by its two numbers, whatever the stream. A record that a
        newer version wrote is `unknown`, without its channels.
        """

    async def count(self, wanted: RecordFilter, stop_at: int | None = None) -> int:
        """Count the matching records, as the last `search` could find them.

        A store for which it takes long may stop at a number.
        """

    async def counts(self, now: dt.datetime) -> "Counts":
        """Count all records by state, as far as a search sees them."""

    async def waiting(self) -> Mapping[str, int]:
        """Count the records that wait for a retry by the channel that it goes through, as far as a search sees them.

        A channel is missing if none does.
        """

    async def vitals(self) -> "Vitals":
        """Look for what is slow to find: too much for every minute, as far as a search sees it."""

    async def old(self, stream: str, before: str, count: int, after: str = "") -> list[str]:
        """Return the IDs of records of a stream that may be settled, as far as a search sees them, the oldest first.

        Args:
            stream: Of which the records say that they come from it.
            before: An entry ID: only records of lower ones.
            count: The page's size. A shorter page is the last one.
            after: The last ID of the page before.
        """

    async def raise_pruned_before(self, stream: str, before: str) -> None:
        """Keep for ever that records of entries with lower IDs may be gone; see `Pruned`. It never falls."""

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        """Delete those of these records that are settled, as they are now, and count them; return how many went.

        A record counts once, whoever dies or is not answered over it, and whoever else prunes at the same time: what
        was begun is finished by the next call, and counted there.

        Args:
            stream: Of which they are; `raise_pruned_before` was called for it.
            record_ids: Which; as many as one step may take.
            settled: Tells whether a record may go. It may be called in a thread, and sees no more of the alert than
                its times.
            reach: Called right before and right after records are deleted, with the fault point's name.
        """

    async def pruned(self) -> Mapping[str, Pruned]:
        """Return what was deleted, by stream; real-time and exact, whoever is at it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records are in each state, and in other need.

    Args:
        by_state: Records by state; one that occurs nowhere is missing.
        overdue: Retries that are overdue by more than a minute.
        in_doubt: Records that the state `in_doubt` finds; see `RecordFilter`.
    """

    by_state: Mapping[str, int]
    overdue: int
    in_doubt: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """How things go.

    Args:
        waiting_since: The `first_at` of the oldest record that is `sending`, `retrying`, `waiting` or `in_doubt`.
        repeated: How many records carry an `alert_id` that another one has, the first of each not counted: what a
            producer wrote twice. A store may stop counting at a thousand such IDs.
    """

    waiting_since: dt.datetime | None
    repeated: int
