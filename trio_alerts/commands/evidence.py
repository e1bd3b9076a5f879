"""What `audit` rests on: where every ID was seen, gathered while processes may go on carrying alerts."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.commands.at_once import at_once
from trio_alerts.delivery import State
from trio_alerts.errors import RefusedContent
from trio_alerts.ledger import Balance, Fate, Seen, balance, last_trace
from trio_alerts.pages import Pages
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.record_ids import RecordIds, order

RECORDS_A_PAGE = 500
ROUNDS = 3  # what is missing in the first and is found in the next was on its way
PAUSE_S = 1.5  # a search sees what was written a second ago
MOST_LOOKED_UP = 2000  # IDs by single reads, about a second; with more missing, the next round decides
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of everything, and what is known of each alert that is missing, by its ID.

    `taken_away`: see `Seen`; the figures cannot be trusted to be complete unless it is 0.
    """

    fates: Mapping[Fate, int]
    missing: Mapping[str, str]
    taken_away: int = 0

    @property
    def seen(self) -> int:
        """All alerts."""
        return sum(self.fates.values()) + len(self.missing)

    @property
    def balanced(self) -> bool:
        """Whether every alert is accounted for."""
        return not self.missing and not self.taken_away


async def gather_verdict(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> Verdict:
    """Account for every alert. Missing is only what was missing each time it was looked for.

    Raises:
        Unavailable: A backend does not answer.
    """
    seen, result = await _look_once(ledger, store, streams)
    suspects = result.missing
    for _ in range(ROUNDS - 1):
        if not suspects:
            break
        await trio.sleep(PAUSE_S)
        seen, result = await _look_once(ledger, store, streams)
        before, suspects = suspects, result.missing & suspects
        if suspects == before:
            break
    # What is missing for the first time is moving: from the stream to a record, or back from the quarantine.
    moving = len(result.missing) - len(suspects)
    fates = {**result.fates, "in_flight": result.fates["in_flight"] + moving}
    missing = {record_id: last_trace(record_id, seen) for record_id in suspects}
    return Verdict(fates, missing, seen.taken_away)


async def _look_once(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> tuple[Seen, Balance]:
    seen = await gather(ledger, store, streams)
    found = await look_up(store, sorted(balance(seen).missing)[:MOST_LOOKED_UP])
    seen = replace(seen, states={**seen.states, **found})
    return seen, balance(seen)


async def gather(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> Seen:
    """Look at every place once.

    The order is that in which alerts move: an entry that is read, quarantined, dropped or recorded meanwhile is found
    in its next place.
    """
    entries: set[str] = set()
    not_read: set[str] = set()
    before_start: set[str] = set()
    pending: set[str] = set()
    quarantined: set[str] = set()
    dropped: set[str] = set()
    deleted: set[str] = set()
    lost_unread = taken_away = 0
    ids = RecordIds(streams)
    for stream in streams:
        by_entry = dict(await _all(stream, ledger.entries))
        entries.update(by_entry.values())
        position = await ledger.position(stream)
        if position.last_delivered is None:
            not_read.update(by_entry.values())
        else:
            last = order(position.last_delivered)
            not_read.update(record_id for one, record_id in by_entry.items() if order(one) > last)
        if position.start is not None:
            start = order(position.start)
            before_start.update(record_id for one, record_id in by_entry.items() if order(one) <= start)
        pending.update([by_entry.get(one, ids.of(stream, one)) for one in await _pending(stream, ledger)])
        quarantined.update([record_id for _, record_id in await _all(stream, ledger.quarantined) if record_id])
        dropped.update([record_id for _, record_id in await _all(stream, ledger.dropped) if record_id])
        deleted.update([ids.of(stream, one) for _, one in await _all(stream, ledger.deleted)])
        lost = await ledger.lost_unread(stream)
        lost_unread += lost.count
        taken_away += lost.taken_away
    return Seen(
        states=await _states(store),
        entries=entries,
        not_read=not_read,
        before_start=before_start,
        pending=pending,
        quarantined=quarantined,
        dropped=dropped,
        deleted=deleted,
        lost_unread=lost_unread,
        taken_away=taken_away,
    )


async def _all(stream: str, page_of: Callable[[str, str], Awaitable[list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    pages = Pages[tuple[str, str]](lambda last: page_of(stream, last[0] if last else ""))
    return [item async for page in pages for item in page]


async def _pending(stream: str, ledger: RedisLedger) -> list[str]:
    pages = Pages[str](lambda last: ledger.pending(stream, last or ""))
    return [entry_id async for page in pages for entry_id in page]


async def _states(store: AlertStore) -> dict[str, State]:
    pages = Pages(partial(store.search, RecordFilter(), RECORDS_A_PAGE))
    return {record.id: record.delivery.state async for page in pages for record in page}


async def look_up(store: AlertStore, record_ids: Collection[str]) -> dict[str, State]:
    """Return the states of those records that exist, by real-time reads: a search may be a second behind."""
    found: dict[str, State] = {}

    async def look(record_id: str) -> None:
        try:
            stored = await store.get(record_id)
        except RefusedContent:
            return  # somebody made it unreadable: for the ledger it is gone
        if stored is not None:
            found[record_id] = stored.record.delivery.state

    await at_once(AT_ONCE, look, record_ids)
    return found
