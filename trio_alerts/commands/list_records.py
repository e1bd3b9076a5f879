"""`list`: records, filtered, page by page or as they come."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import trio

from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_filters, add_flag, chosen_records, value_of
from trio_alerts.commands.output import print_json, print_lines, print_note, print_rows
from trio_alerts.errors import SettingsError, Unavailable
from trio_alerts.operations.cursors import cursor_behind, read_cursor
from trio_alerts.operations.following import Follower
from trio_alerts.operations.records import Found, newest_records
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import one_line
from trio_alerts.times import count

MOST = 1_000_000  # they are held in memory
LOOK_PAUSE_S = 1.0  # a search and a refresh a second are nothing to a server that carries alerts
COLUMNS = ("id", "occurred", "severity", "state", "view", "scope", "title", "attempts", "last error")
MAY_BE_CUT = {"view": 2, "scope": 2, "title": 5, "last error": 4}


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.follow:
        if arguments.after is not None:
            raise SettingsError(
                "--follow begins with the newest records, and --after behind old ones: give one of them"
            )
        try:
            trio.run(_follow, settings, arguments)
        except* KeyboardInterrupt:
            pass  # that is how one stops following
        return 0
    found = trio.run(_find, settings, _chosen(arguments), arguments)
    _print(found.records, as_json=arguments.json)
    if found.more:
        cursor = cursor_behind(found.records[-1])
        note = f"{len(found.records):,} of {found.matching:,}; --after {cursor} shows the next"
        print_note(note, as_json=arguments.json, shown=len(found.records), matching=found.matching, after=cursor)
    return 0


def _chosen(arguments: argparse.Namespace) -> RecordFilter:
    return replace(chosen_records(arguments), canaries=arguments.canaries)


async def _find(settings: Settings, wanted: RecordFilter, arguments: argparse.Namespace) -> Found:
    async with open_records(settings) as store:
        return await newest_records(store, wanted, arguments.limit, arguments.after)


async def _follow(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print records as they come, until interrupted; of an outage, one line."""
    async with open_records(settings) as store:
        follower = Follower(store, _chosen(arguments))
        if not arguments.json:
            print_lines([COLUMNS])
        news, answers = await follower.begin(arguments.limit), True
        while True:
            if arguments.json:
                _print(news, as_json=True)
            else:
                print_lines(map(_cells, news))
            sys.stdout.flush()
            await trio.sleep(LOOK_PAUSE_S)
            try:
                news, answers = await follower.look(), True
            except Unavailable as fault:
                if answers:
                    print_note(f"{fault}; what comes meanwhile is shown when it answers again", as_json=arguments.json)
                news, answers = [], False


def _print(records: Sequence[Record], *, as_json: bool) -> None:
    if as_json:
        for record in records:
            print_json(msgspec.Raw(record.to_json()))
    else:
        print_rows(COLUMNS, [_cells(record) for record in records], MAY_BE_CUT, ("record", "records"))


def _cells(record: Record) -> tuple[str, ...]:
    fields, delivery = record.fields(), record.delivery
    cells = (
        record.id,
        _to_the_second(fields.get("occurred_at")),
        fields.get("severity"),
        delivery.state,
        fields.get("view"),
        fields.get("scope"),
        fields.get("title"),
        delivery.attempts,
        delivery.suppressed_by if delivery.state == "suppressed" else delivery.last_error or delivery.reason,
    )
    return tuple("-" if cell in (None, "") else one_line(str(cell)) for cell in cells)


def _to_the_second(time: object) -> str | None:
    """Shorten a time of a record, which is in UTC."""
    return f"{str(time)[:19]}Z" if time else None


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_filters(parser)
    parser.add_argument(
        "--limit", default=50, type=value_of(count(MOST)), metavar="N", help="at most this many (default: 50)"
    )
    parser.add_argument(
        "--after", default=None, type=value_of(read_cursor), metavar="CURSOR", help="the records behind this one"
    )
    add_flag(parser, "--canaries", "canaries too, which no list has otherwise")
    add_flag(parser, "--follow", "then those that come, and those whose state changes, until interrupted")


COMMAND = Command(
    execute=_execute,
    about="""\
Filters are combined with "and"; an option that is repeated offers alternatives. A TIME is RFC 3339
(2026-11-16T08:00:00Z), or how long ago: 30m, 1h, 7d. Prints a table in a terminal, and tab-separated lines with a
header elsewhere, the newest entry first. If more than `--limit` match, a line on standard error says how many, and ends
with what shows the next ones: --after and a cursor, which stays good while new alerts come in. With --json that line is
an object, with the cursor in `after`.

With --follow, the newest come last, a line each, and then what comes, within a second. Of the newest 500 that match, a
record whose state changes is printed again. If the store goes away, one line says so, and it goes on when it is back.
Ctrl-C ends it, with exit code 0.

Needs only the store: neither Redis nor a channel. Exit code 3: the store does not exist yet or cannot be trusted to
answer filters; 4: it cannot be reached or refuses us.""",
    examples=(
        "list --severity high --severity critical --since 1h",
        "list --state failed --state in_doubt --view lending-risk",
        "list --json --limit 1000 | jq .title",
        "list --follow --severity critical",
    ),
    json="whole documents, one per line",
    add_options=_add_options,
    settings=("Store", "log_format"),
)
