"""`stats`: how things stand."""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import msgspec
import trio
from loguru import logger
from msgspec import Struct

from trio_alerts.backends.redis.standing import RedisLedger, Standing, open_ledger
from trio_alerts.commands.command import Command
from trio_alerts.commands.evidence import look_up
from trio_alerts.commands.operating import SETTINGS
from trio_alerts.commands.reading import open_records
from trio_alerts.commands.thresholds import COUNTED_STATES, NAMES, exceeded, thresholds
from trio_alerts.delivery import State
from trio_alerts.deployment import refuse_contradiction
from trio_alerts.errors import AlertError, SchemaError, StartError, Unavailable
from trio_alerts.ports.store import AlertStore, Counts, Vitals
from trio_alerts.record_ids import RecordIds
from trio_alerts.settings.settings import Settings
from trio_alerts.text import in_words, one_line

MOST_DELETED = 1000  # of entries deleted while pending are looked up; more of them are one fault, not many


class Stats(Struct, frozen=True):
    """What `stats` tells; the names are those of its JSON.

    `not_read`, `pending`, `quarantined`, `dropped`, `lost_upstream` are sums over the streams. `in_flight` counts
    records that say `sending`. `oldest_undelivered_s` is the age of what waits longest, to be read, sent or retried, or
    for a human who knows what became of it. `repeated_alert_ids` is None where it takes the store too long to count.
    `missing` names the backends, `redis` or `store`, that could not be asked: what only they know is None.
    """

    not_read: int | None
    pending: int | None
    in_flight: int | None
    states: dict[str, int] | None
    quarantined: int | None
    dropped: int | None
    lost_upstream: int | None
    overdue: int | None
    oldest_undelivered_s: float | None
    repeated_alert_ids: int | None
    streams: Sequence[Standing] | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _InRedis:
    """What Redis knows: how the streams stand, its time, what was deleted while it was pending, and whose they are."""

    standings: Sequence[Standing]
    time_s: float
    deleted: frozenset[str]
    deployment: str | None


@dataclass(frozen=True)
class _InStore:
    """What the store knows; `recorded` are those that were deleted, and have a record."""

    counts: Counts
    vitals: Vitals | None
    recorded: frozenset[str]


@dataclass
class _Look:
    """One look at both backends, each apart: one that is away keeps nobody from what the other knows."""

    redis: _InRedis | None = None
    store: _InStore | None = None
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))  # until Redis says the time
    faults: list[AlertError] = field(default_factory=list)


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    look = trio.run(_look, settings)
    if look.redis is None and look.store is None:
        raise ExceptionGroup("no backend can be asked", look.faults)
    stats = _stats(look)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(stats) + b"\n")  # UTF-8 in every locale
    else:
        sys.stdout.writelines(f"{line}\n" for line in _page(stats))
    faults = [*look.faults, *exceeded(_figures(stats), arguments.fail_over)]
    if faults:
        raise ExceptionGroup("stats", faults)
    return 0


async def _look(settings: Settings) -> _Look:
    look = _Look()
    try:
        async with open_ledger(settings) as ledger:
            look.redis = await _look_at_redis(ledger, settings)
        look.now = dt.datetime.fromtimestamp(look.redis.time_s, dt.UTC)
    except StartError as fault:
        look.faults.append(fault)
    try:
        async with open_records(settings) as store:
            look.store = await _look_at_store(store, look)
    except (StartError, SchemaError) as fault:
        look.faults.append(fault)
    return look


async def _look_at_redis(ledger: RedisLedger, settings: Settings) -> _InRedis:
    ids = RecordIds(settings.stream_names)
    standings = [await ledger.standing(stream) for stream in settings.stream_names]
    deleted: set[str] = set()
    for stream in settings.stream_names:
        after = ""
        while len(deleted) < MOST_DELETED and (page := await ledger.deleted(stream, after)):
            after = page[-1][0]
            deleted |= {ids.of(stream, entry_id) for _, entry_id in page}
    return _InRedis(standings, await ledger.time(), frozenset(deleted), await ledger.deployment())


async def _look_at_store(store: AlertStore, look: _Look) -> _InStore:
    if look.redis:
        refuse_contradiction(await store.deployment(), look.redis.deployment)
    deleted = look.redis.deleted if look.redis else frozenset()
    counts = await store.counts(look.now)
    if unknown := {state: count for state, count in counts.by_state.items() if state not in get_args(State)}:
        found = ", ".join(f"{count:,} {one_line(state)!r}" for state, count in unknown.items())
        logger.error("records are in a state that only somebody else can have written: {states}", states=found)
    return _InStore(counts, await _vitals(store), frozenset(await look_up(store, deleted)))


async def _vitals(store: AlertStore) -> Vitals | None:
    try:
        return await store.vitals()
    except Unavailable:
        return None  # a very large store: everything else is told


def _stats(look: _Look) -> Stats:
    redis, store = look.redis, look.store
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
        quarantined=sum(one.quarantined for one in standings) if redis else None,
        dropped=sum(one.dropped for one in standings) if redis else None,
        lost_upstream=lost,
        overdue=store.counts.overdue if store else None,
        oldest_undelivered_s=max(round(look.now.timestamp() - min(waiting), 3), 0.0) if waiting else None,
        repeated_alert_ids=store.vitals.repeated if store and store.vitals else None,
        streams=standings if redis else None,
        missing=tuple(name for name, part in (("redis", redis), ("store", store)) if part is None),
    )


def _figures(stats: Stats) -> Mapping[str, float | None]:
    """Return what `--fail-over` can name; None is what nobody could say."""
    oldest_s = stats.oldest_undelivered_s
    if oldest_s is None and not stats.missing:
        oldest_s = 0.0  # nothing waits
    states = {} if stats.states is None else dict.fromkeys(COUNTED_STATES, 0) | stats.states
    return {
        "lag": stats.not_read,
        "pending": stats.pending,
        "in_flight": stats.in_flight,
        **{state: states.get(state) for state in COUNTED_STATES},
        "quarantined": stats.quarantined,
        "dropped": stats.dropped,
        "lost": stats.lost_upstream,
        "overdue": stats.overdue,
        "oldest": oldest_s,
        "repeated": stats.repeated_alert_ids,
    }


def _page(stats: Stats) -> Iterator[str]:
    states = {"records by state": None} if stats.states is None else stats.states
    facts: dict[str, int | str | None] = {
        "not read yet": stats.not_read,
        "pending": stats.pending,
        "in flight": stats.in_flight,
        **{state: count for state, count in states.items() if state not in ("sending", "quarantined")},
        "quarantined": stats.quarantined,
        "dropped": stats.dropped,
        "lost upstream": stats.lost_upstream,
        "overdue retries": stats.overdue,
        "oldest undelivered": None if stats.oldest_undelivered_s is None else in_words(stats.oldest_undelivered_s),
        "repeated alert_ids": stats.repeated_alert_ids,
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        text = "-" if value is None else f"{value:,}" if isinstance(value, int) else value
        yield f"{name:<{width}}  {text:>12}"
    for stream in stats.streams or ():
        yield ""
        yield f"stream {one_line(stream.stream)}: {stream.length:,} entries, {stream.not_read:,} not read yet"
        if stream.taken_away:
            yield f"  taken away, replaced or moved {stream.taken_away:,} times; see `audit`"
        for consumer in stream.consumers:
            yield (
                f"  consumer {one_line(consumer.name)}: {consumer.pending:,} pending, "
                f"last seen {in_words(consumer.idle_s)} ago"
            )
    for name in stats.missing:
        yield ""
        yield f"missing: what {'Redis' if name == 'redis' else 'the store'} knows; the error says why"


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=False, help="one object, on one line")
    parser.add_argument(
        "--fail-over",
        metavar="NAME=N,…",
        type=thresholds,
        default={},
        help=f"end with exit code 5 if one of these is over its number: {', '.join(NAMES)}",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
  not read yet        entries that the group has not been given
  pending             entries that a consumer has, and did not acknowledge
  in flight           records of which an attempt is running
  delivered, …        records by their state
  quarantined         entries in the dead-letter streams; `dead list` shows them
  dropped             entries that operators dropped from there
  lost upstream       entries that somebody trimmed or deleted before they were dealt with
  overdue retries     retries that should have begun more than a minute ago: does a process run?
  oldest undelivered  for how long it waits: to be read, to be sent, for its retry, or in doubt
  repeated alert_ids  records whose alert_id another one has: the producer wrote the alert more than once

The figures are taken one after the other, so that they need not add up while alerts are carried; `audit` accounts for
each alert. Nothing is changed.

With Redis or the store away, what the other knows is printed, what is missing is "-", and the exit code is that of the
error: 3 and 4 as with `list`, of Redis too. Exit code 5: a number is over its --fail-over; `oldest` is in seconds.""",
    examples=("stats", "stats --json | jq .oldest_undelivered_s", "stats --fail-over oldest=60,overdue=0"),
    add_options=_add_options,
    settings=SETTINGS,
)
