"""Records as operators work with them: found, looked up, changed."""

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from trio_alerts.clock import ServerClock
from trio_alerts.delivery import Delivery, State
from trio_alerts.errors import NewerRecord, RefusedContent, Unavailable
from trio_alerts.operations.concurrency import for_each
from trio_alerts.pages import Pages
from trio_alerts.ports.hints import Hints
from trio_alerts.ports.store import AlertStore, RecordFilter, Stored
from trio_alerts.ports.stream import AlertStream
from trio_alerts.record import Record
from trio_alerts.reminders import due_hint, places, remind

PAGE = 500  # records a search: at 4 KiB each, 2 MB
BOUNDED_PAGE = 100  # records a search, if there is a bound in bytes: at 256 KiB each, 25 MB
READS_AT_ONCE = 16
NO_RECORD = "there is no such record"
MOST_ROUNDS = 10  # a write that loses a race against a process wins the second or the third time


@dataclass(frozen=True, slots=True)
class Change:
    """A record as it was written, or, in a dry run, as it would be."""

    record_id: str
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that was left alone, and why."""

    record_id: str
    reason: str


Decide = Callable[[Delivery, str], Delivery | str]
"""Takes a record's delivery and a fresh owner token; returns the next state, or why the record is left alone."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who changes records; their `name` stands in those that they settled."""

    name: str
    stream: AlertStream
    store: AlertStore
    hints: Hints
    clock: ServerClock

    async def change(self, record_id: str, decide: Decide, *, dry_run: bool = False) -> Change | Skip:
        """Change a record by a conditional write, as long as `decide` wants it; whoever was first has won.

        Raises:
            Unavailable: It may have been written, or not.
        """
        owner = f"{self.name}/{secrets.token_hex(8)}"
        for _ in range(MOST_ROUNDS):
            try:
                stored = await self.store.get(record_id)
            except (NewerRecord, RefusedContent) as fault:
                return Skip(record_id, str(fault))
            if stored is None:
                return Skip(record_id, NO_RECORD)
            if stored.record.delivery.owner == owner:
                return Change(record_id, stored.record.delivery)  # our own write, whose answer was a conflict
            after = decide(stored.record.delivery, owner)
            if isinstance(after, str):
                return Skip(record_id, after)
            if dry_run:
                return Change(record_id, after)
            written = await self.store.replace(replace(stored.record, delivery=after), stored.version)
            if isinstance(written, Stored):
                with suppress(Unavailable):  # then the sweep finds it within a minute
                    await remind(self.hints, [due_hint(written.record)], places(written.record))
                return Change(record_id, after)
        raise Unavailable(f"the store took none of {MOST_ROUNDS} writes of record {record_id!r}, and does not show why")


@dataclass(frozen=True, slots=True)
class Found:
    """Records, the newest first; how many match in all; and whether more follow the last of these."""

    records: Sequence[Record]
    matching: int
    more: bool


async def newest_records(
    store: AlertStore,
    wanted: RecordFilter,
    limit: int,
    after: Record | None = None,
    most_bytes: float = math.inf,
    count_to: int | None = None,
) -> Found:
    """Return at most `limit` matching records, the newest first, or those that follow the place of `after`.

    With `most_bytes` fewer, if they are that large together: they end with the search that reaches it. With `count_to`
    the count of what matches may end there; with 0, it is that of these records.

    Raises:
        Unavailable: The store does not answer.
    """
    found: list[Record] = []
    size, more, step = 0, False, PAGE if most_bytes == math.inf else BOUNDED_PAGE
    async for page in Pages[Record](
        lambda last: store.search(wanted, min(step, limit + 1 - len(found)), last or after)
    ):
        is_last = len(page) < min(step, limit + 1 - len(found))
        found.extend(page)
        size += sum(len(record.body) for record in page)
        if is_last:
            break
        if more := len(found) > limit or size >= most_bytes:
            break
    is_counted = count_to == 0 or (after is None and not more)
    return Found(found[:limit], len(found) if is_counted else await store.count(wanted, count_to), more)


async def all_states(store: AlertStore) -> dict[str, State]:
    """Return the state of every record, by ID, as far as a search sees it."""
    pages = Pages(partial(store.search, RecordFilter(), PAGE))
    return {record.id: record.delivery.state async for page in pages for record in page}


async def look_up(store: AlertStore, record_ids: Collection[str]) -> dict[str, State]:
    """Return the states of those records that exist, by real-time reads: a search may be a second behind."""
    found: dict[str, State] = {}

    async def look(record_id: str) -> None:
        try:
            stored = await store.get(record_id)
        except NewerRecord:
            found[record_id] = "unknown"
            return
        except RefusedContent:
            return  # it was made unreadable by hand: for the ledger it is gone
        if stored is not None:
            found[record_id] = stored.record.delivery.state

    await for_each(record_ids, look, at_most=READS_AT_ONCE)
    return found
