"""Every alert that was ever seen accounted for, while processes may go on carrying alerts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.delivery import State
from trio_alerts.ledger import Balance, Sightings, balance
from trio_alerts.operations.records import all_states, look_up
from trio_alerts.pages import Pages
from trio_alerts.ports.store import AlertStore, pruned_records
from trio_alerts.record_ids import RecordIds, order

ROUNDS = 3  # what is missing in the first and is found in the next was on its way
PAUSE_S = 1.5  # a search sees what was written a second ago
MOST_LOOKED_UP = 2000  # IDs by single reads, about a second; with more missing, the next round decides


async def audit(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> Balance:
    """Account for every alert. Missing is only what was missing each time it was looked for.

    Raises:
        Unavailable: A backend does not answer.
    """
    result = await _look_once(ledger, store, streams)
    suspects = set(result.missing)
    for _ in range(ROUNDS - 1):
        if not suspects:
            break
        await trio.sleep(PAUSE_S)
        result = await _look_once(ledger, store, streams)
        before, suspects = suspects, result.missing.keys() & suspects
        if suspects == before:
            break
    # What is missing for the first time is moving: from the stream to a record, or back from the dead-letter stream.
    moving = len(result.missing) - len(suspects)
    fates = {**result.fates, "in_flight": result.fates["in_flight"] + moving}
    return replace(result, fates=fates, missing={record_id: result.missing[record_id] for record_id in suspects})


async def accept_losses(ledger: RedisLedger, streams: Sequence[str]) -> None:
    """Note that an operator knows of streams and groups that were taken away, so that the ledger can balance again."""
    for stream in streams:
        await ledger.lost_unread(stream)  # what is found only now is accepted too
        await ledger.accept_losses(stream)


async def _look_once(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> Balance:
    seen = await _gather(ledger, store, streams)
    found = await look_up(store, sorted(balance(seen).missing)[:MOST_LOOKED_UP])
    seen.states = {**seen.states, **found}
    return balance(seen)


async def _gather(ledger: RedisLedger, store: AlertStore, streams: Sequence[str]) -> Sightings:
    """Look at every place once.

    The order is that in which alerts move: an entry that is read, quarantined, dropped or recorded meanwhile is found
    in its next place.
    """
    seen = Sightings()
    ids = RecordIds(streams)
    for stream in streams:
        by_entry = dict(await _all(stream, ledger.entries))
        seen.entries.update(by_entry.values())
        position = await ledger.position(stream)
        if position.last_delivered is None:
            seen.not_read.update(by_entry.values())
        else:
            last = order(position.last_delivered)
            seen.not_read.update(record_id for one, record_id in by_entry.items() if order(one) > last)
        if position.start is not None:
            start = order(position.start)
            seen.before_start.update(record_id for one, record_id in by_entry.items() if order(one) <= start)
        seen.pending.update([by_entry.get(one, ids.of(stream, one)) for one in await _pending(stream, ledger)])
        seen.quarantined.update([record_id for _, record_id in await _all(stream, ledger.dead_letters) if record_id])
        seen.dropped.update([record_id for _, record_id in await _all(stream, ledger.dropped) if record_id])
        seen.deleted.update([ids.of(stream, one) for _, one in await _all(stream, ledger.deleted)])
        lost = await ledger.lost_unread(stream)
        seen.lost_unread += lost.count
        seen.taken_away += lost.taken_away
    seen.states, seen.pruned = await _records(store)
    return seen


async def _records(store: AlertStore) -> tuple[dict[str, State], int]:
    """Return the state of every record, and how many were pruned; what goes meanwhile may be in both."""
    pruned = pruned_records(await store.pruned())
    for _ in range(ROUNDS):
        before, states = pruned, await all_states(store)
        if (pruned := pruned_records(await store.pruned())) == before:
            break
    return states, pruned


async def _all(stream: str, page_of: Callable[[str, str], Awaitable[list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    pages = Pages[tuple[str, str]](lambda last: page_of(stream, last[0] if last else ""))
    return [item async for page in pages for item in page]


async def _pending(stream: str, ledger: RedisLedger) -> list[str]:
    pages = Pages[str](lambda last: ledger.pending(stream, last or ""))
    return [entry_id async for page in pages for entry_id in page]
