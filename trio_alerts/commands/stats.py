"""`stats`: how things stand."""

import argparse
import sys
from collections.abc import Iterator, Mapping

import msgspec
import trio

from trio_alerts.backends.redis.standing import open_ledger
from trio_alerts.commands.backends import SETTINGS
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.commands.output import print_json
from trio_alerts.commands.thresholds import FIGURES, exceeded, thresholds
from trio_alerts.errors import AlertError, SchemaError, StartError
from trio_alerts.operations.canaries import whereabouts
from trio_alerts.operations.stats import Stats, look_at_redis, look_at_store, stats_of
from trio_alerts.ports.canaries import Sighting
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import in_words, one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    stats, canaries, faults = trio.run(_gather, settings, arguments.canaries)
    if arguments.json:
        of_canaries = {"canaries": canaries} if arguments.canaries else {}
        print_json(msgspec.structs.asdict(stats) | of_canaries)
    else:
        sys.stdout.writelines(f"{line}\n" for line in (*_page(stats), *_lines_about(canaries)))
    faults += exceeded(stats, arguments.fail_over)
    if faults:
        raise ExceptionGroup("stats", faults)
    return 0


async def _gather(settings: Settings, with_canaries: bool) -> tuple[Stats, dict[str, Sighting], list[AlertError]]:
    """Look at each backend on its own: if one is down, the figures of the other are still there."""
    redis = store = None
    canaries: dict[str, Sighting] = {}
    faults: list[AlertError] = []
    try:
        async with open_ledger(settings) as ledger:
            redis = await look_at_redis(ledger, settings.stream_names)
            if with_canaries:
                canaries = {stream: await ledger.canary(stream) for stream in settings.stream_names}
    except StartError as fault:
        faults.append(fault)
    try:
        async with open_records(settings) as records:
            store = await look_at_store(records, redis)
    except (StartError, SchemaError) as fault:
        faults.append(fault)
    if redis is None and store is None:
        raise ExceptionGroup("no backend can be asked", faults)
    return stats_of(redis, store), canaries, faults


def _page(stats: Stats) -> Iterator[str]:
    states = {"records by state": None} if stats.states is None else stats.states
    facts: dict[str, int | str | None] = {
        "not read yet": stats.not_read,
        "pending": stats.pending,
        "in flight": stats.in_flight,
        **{state: count for state, count in states.items() if state not in ("sending", "in_doubt", "quarantined")},
        "in_doubt": stats.in_doubt,
        "quarantined": stats.quarantined,
        "dropped": stats.dropped,
        "lost upstream": stats.lost_upstream,
        "overdue retries": stats.overdue,
        "oldest undelivered": None if stats.oldest_undelivered_s is None else in_words(stats.oldest_undelivered_s),
        "repeated alert_ids": stats.repeated_alert_ids,
        "pruned": stats.pruned,
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


def _lines_about(canaries: Mapping[str, Sighting]) -> Iterator[str]:
    for stream, seen in canaries.items():
        yield ""
        yield f"canary of stream {one_line(stream)}: {whereabouts(seen)}"
        if seen.through_s is None:
            yield "  none has come through yet"
        else:
            yield f"  the last one that came through was written {in_words(seen.now_s - seen.through_s)} ago"


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--canaries", "also where the canary of each stream is")
    parser.add_argument(
        "--fail-over",
        metavar="NAME=N,…",
        type=thresholds,
        default={},
        help=f"exit with code 5 if one of these is over its number: {', '.join(FIGURES)}",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
  not read yet        entries that the group has not read
  pending             entries that a consumer has and did not acknowledge
  in flight           records with an attempt running
  delivered, …        records by their state
  in_doubt            records with a channel in doubt, also while another one is retried
  quarantined         entries in the dead-letter streams; `dead list` shows them
  dropped             entries that operators dropped from there
  lost upstream       entries that were trimmed or deleted before they were processed
  overdue retries     retries that should have started more than a minute ago: is a process running?
  oldest undelivered  how long it has waited: to be read, sent or retried, or in doubt
  repeated alert_ids  records whose alert_id another one has: the producer wrote the alert more than once
  pruned              records that were deleted because they were settled and old (keep_records_s)

The figures are taken one after the other, so they need not add up while processes run; `audit` accounts for each alert.
Nothing is changed.

If Redis or the store is down, the figures of the other are printed, missing ones are "-", and the exit code is that of
the error: 3 and 4 as for `list`, and for Redis as well. Exit code 5: a figure is over its --fail-over; `oldest` is in
seconds.""",
    examples=("stats", "stats --json | jq .oldest_undelivered_s", "stats --fail-over oldest=60,overdue=0"),
    json="one object, on one line",
    add_options=_add_options,
    settings=SETTINGS,
)
