"""How things stand, in Redis and in the store."""

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from loguru import logger
from msgspec import Struct

from trio_alerts.backends.redis.standing import RedisLedger, Standing
from trio_alerts.delivery import StoredState
from trio_alerts.deployment import refuse_contradiction
from trio_alerts.errors import Unavailable
from trio_alerts.operations.records import look_up
from trio_alerts.pages import Pages
from trio_alerts.ports.store import AlertStore, Counts, Vitals, pruned_records
from trio_alerts.record_ids import RecordIds
from trio_alerts.text import one_line

MOST_DELETED = 1000  # of entries deleted while pending are looked up; more of them are one fault, not many


class Stats(Struct, frozen=True):
    """How things stand; the names are those of the JSON that `stats` prints.

    `not_read`, `pending`, `quarantined`, `dropped`, `lost_upstream` are sums over the streams. `in_flight` counts
    records that say `sending`. `oldest_undelivered_s` is the age of what waits longest, to be read, sent or retried, or
    for a human who knows what became of it. `repeated_alert_ids` is None where it takes the store too long to count.
    `in_doubt` counts the records with a channel in doubt, whatever their state; `states` those that are called so.
    `pruned` counts the records that retention deleted.
    `missing` names the backends, `redis` or `store`, that could not be asked: what only they know is None.
    """

    not_read: int | None
    pending: int | None
    in_flight: int | None
    states: dict[str, int] | None
    in_doubt: int | None
    quarantined: int | None
    dropped: int | None
    lost_upstream: int | None
    overdue: int | None
    oldest_undelivered_s: float | None
    repeated_alert_ids: int | None
    pruned: int | None
    streams: Sequence[Standing] | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class RedisFigures:
    """What Redis knows: how the streams stand, its time, what was deleted while it was pending, and whose they are."""

    standings: Sequence[Standing]
    now: dt.datetime
    deleted: frozenset[str]
    deployment: str | None


@dataclass(frozen=True)
class StoreFigures:
    """What the store knows; `recorded` are entries that were deleted, and have a record; `pruned` records have gone."""

    counts: Counts
    vitals: Vitals | None
    recorded: frozenset[str]
    pruned: int


async def look_at_redis(ledger: RedisLedger, streams: Sequence[str]) -> RedisFigures:
    """Ask Redis.

    Raises:
        SchemaError: The streams belong to two deployments.
        Unavailable: It does not answer.
    """
    ids = RecordIds(streams)
    standings = [await ledger.standing(stream) for stream in streams]
    deleted: set[str] = set()
    for stream in streams:
        async for page in Pages(partial(_deleted, ledger, stream)):
            deleted |= {ids.of(stream, entry_id) for _, entry_id in page}
            if len(deleted) >= MOST_DELETED:
                break
    now = dt.datetime.fromtimestamp(await ledger.time(), dt.UTC)
    return RedisFigures(standings, now, frozenset(deleted), await ledger.deployment())


async def _deleted(ledger: RedisLedger, stream: str, last: tuple[str, str] | None) -> list[tuple[str, str]]:
    return await ledger.deleted(stream, last[0] if last else "")


async def look_at_store(store: AlertStore, redis: RedisFigures | None) -> StoreFigures:
    """Ask the store.

    Raises:
        SchemaError: It belongs to another deployment than this Redis.
        Unavailable: It does not answer.
    """
    if redis:
        refuse_contradiction(await store.deployment(), redis.deployment)
    deleted = redis.deleted if redis else frozenset()
    counts = _with_unknown(await store.counts(_now(redis)))
    vitals = None
    with suppress(Unavailable):  # a very large store: everything else is known
        vitals = await store.vitals()
    recorded = frozenset(await look_up(store, deleted))
    return StoreFigures(counts, vitals, recorded, pruned_records(await store.pruned()))


def _with_unknown(counts: Counts) -> Counts:
    """Count together, as `unknown`, the records in states of a newer version, and name these in the log."""
    unknown = {state: count for state, count in counts.by_state.items() if state not in get_args(StoredState)}
    if not unknown:
        return counts
    logger.error(
        "records are in a state that only a newer version, or somebody else, writes: {_states}",
        states=unknown,
        _states=", ".join(f"{count:,} {one_line(state)!r}" for state, count in unknown.items()),
    )
    known = {state: count for state, count in counts.by_state.items() if state not in unknown}
    return replace(counts, by_state={**known, "unknown": sum(unknown.values())})


def stats_of(redis: RedisFigures | None, store: StoreFigures | None) -> Stats:
    """Put together what each of them knows; None: it could not be asked."""
    standings = redis.standings if redis else ()
    waiting = [one.waiting_since_s for one in standings if one.waiting_since_s is not None]
    if store and store.vitals and store.vitals.waiting_since:
        waiting.append(store.vitals.waiting_since.timestamp())
    lost = None
    if redis and store:
        lost = sum(one.lost_unread for one in standings) + len(redis.deleted - store.recorded)
    return Stats(
        not_read=sum(one.not_read for one in standings) if redis else None,
        pending=sum(one.pending for one in standings) if redis else None,
        in_flight=store.counts.by_state.get("sending", 0) if store else None,
        states=dict(sorted(store.counts.by_state.items())) if store else None,
        in_doubt=store.counts.in_doubt if store else None,
        quarantined=sum(one.dead_letters for one in standings) if redis else None,
        dropped=sum(one.dropped for one in standings) if redis else None,
        lost_upstream=lost,
        overdue=store.counts.overdue if store else None,
        oldest_undelivered_s=max(round(_now(redis).timestamp() - min(waiting), 3), 0.0) if waiting else None,
        repeated_alert_ids=store.vitals.repeated if store and store.vitals else None,
        pruned=store.pruned if store else None,
        streams=standings if redis else None,
        missing=tuple(name for name, part in (("redis", redis), ("store", store)) if part is None),
    )


def _now(redis: RedisFigures | None) -> dt.datetime:
    """Return the server's time, or ours as long as it does not say."""
    return redis.now if redis else dt.datetime.now(dt.UTC)
