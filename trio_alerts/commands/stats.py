"""`stats`: how things stand."""

import argparse
import sys
from collections.abc import Iterator, Sequence

import msgspec
import trio
from msgspec import Struct

from trio_alerts.backends.record_ids import RecordIds
from trio_alerts.backends.redis_ledger import RedisLedger, Standing, open_ledger
from trio_alerts.clock import ServerClock
from trio_alerts.commands.command import Command
from trio_alerts.commands.evidence import look_up
from trio_alerts.commands.operating import SETTINGS
from trio_alerts.commands.reading import open_records
from trio_alerts.duration import in_words
from trio_alerts.errors import Unavailable
from trio_alerts.ports import AlertStore, Vitals
from trio_alerts.printable import one_line
from trio_alerts.settings import Settings

MOST_DELETED = 1000  # of entries deleted while pending are looked up; more of them are one fault, not many


class Stats(Struct, frozen=True):
    """What `stats` tells; the names are those of its JSON.

    `not_read`, `pending`, `quarantined`, `dropped`, `lost_upstream` are sums over the streams. `in_flight` counts
    records that say `sending`. `oldest_undelivered_s` is the age of what waits longest, to be read, sent or retried, or
    for a human who knows what became of it. `repeated_alert_ids` is None where it takes the store too long to count.
    """

    not_read: int
    pending: int
    in_flight: int
    states: dict[str, int]
    quarantined: int
    dropped: int
    lost_upstream: int
    overdue: int
    oldest_undelivered_s: float | None
    repeated_alert_ids: int | None
    streams: Sequence[Standing]


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    stats = trio.run(_ask, settings)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(stats) + b"\n")  # UTF-8 in every locale
    else:
        sys.stdout.writelines(f"{line}\n" for line in _page(stats))
    return 0


async def _ask(settings: Settings) -> Stats:
    async with open_records(settings) as store, open_ledger(settings) as ledger:
        standings = [await ledger.standing(stream) for stream in settings.stream_names]
        clock = ServerClock()
        clock.set(await ledger.time())
        now = clock.now()
        counts = await store.counts(now)
        vitals = await _vitals(store)
        waiting = [standing.waiting_since_s for standing in standings if standing.waiting_since_s is not None]
        if vitals is not None and vitals.waiting_since is not None:
            waiting.append(vitals.waiting_since.timestamp())
        return Stats(
            not_read=sum(one.not_read for one in standings),
            pending=sum(one.pending for one in standings),
            in_flight=counts.by_state.get("sending", 0),
            states=dict(sorted(counts.by_state.items())),
            quarantined=sum(one.quarantined for one in standings),
            dropped=sum(one.dropped for one in standings),
            lost_upstream=sum(one.lost_unread for one in standings)
            + await _deleted_without_record(ledger, store, settings),
            overdue=counts.overdue,
            oldest_undelivered_s=max(round(now.timestamp() - min(waiting), 3), 0.0) if waiting else None,
            repeated_alert_ids=None if vitals is None else vitals.repeated,
            streams=standings,
        )


async def _vitals(store: AlertStore) -> Vitals | None:
    try:
        return await store.vitals()
    except Unavailable:
        return None  # a very large store: everything else is told


async def _deleted_without_record(ledger: RedisLedger, store: AlertStore, settings: Settings) -> int:
    """Count what was deleted from the streams while it was pending, before anybody had made a record of it."""
    ids = RecordIds(settings.stream_names)
    deleted: set[str] = set()
    for stream in settings.stream_names:
        after = ""
        while len(deleted) < MOST_DELETED and (page := await ledger.deleted(stream, after)):
            after = page[-1][0]
            deleted |= {ids.of(stream, entry_id) for _, entry_id in page}
    return len(deleted) - len(await look_up(store, deleted))


def _page(stats: Stats) -> Iterator[str]:
    facts: dict[str, object] = {
        "not read yet": stats.not_read,
        "pending": stats.pending,
        "in flight": stats.in_flight,
        **{state: count for state, count in stats.states.items() if state not in ("sending", "quarantined")},
        "quarantined": stats.quarantined,
        "dropped": stats.dropped,
        "lost upstream": stats.lost_upstream,
        "overdue retries": stats.overdue,
        "oldest undelivered": "-" if stats.oldest_undelivered_s is None else in_words(stats.oldest_undelivered_s),
        "repeated alert_ids": "-" if stats.repeated_alert_ids is None else stats.repeated_alert_ids,
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        yield f"{name:<{width}}  {value:>12,}" if isinstance(value, int) else f"{name:<{width}}  {value:>12}"
    for stream in stats.streams:
        yield ""
        yield f"stream {one_line(stream.stream)}: {stream.length:,} entries, {stream.not_read:,} not read yet"
        if stream.taken_away:
            yield f"  taken away, replaced or moved {stream.taken_away:,} times; see `audit`"
        for consumer in stream.consumers:
            yield (
                f"  consumer {one_line(consumer.name)}: {consumer.pending:,} pending, "
                f"last seen {in_words(consumer.idle_s)} ago"
            )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=False, help="one object, on one line")


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
each alert. Nothing is changed. Exit codes 3 and 4 as with `list`, of Redis too.""",
    examples=("stats", "stats --json | jq .oldest_undelivered_s"),
    add_options=_add_options,
    settings=SETTINGS,
)
