"""`list`: records, filtered."""

import argparse
import sys

import msgspec
import trio

from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_filters, add_flag, chosen_records, count
from trio_alerts.commands.output import print_json, print_rows
from trio_alerts.operations.records import newest_records
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import one_line

MOST = 1_000_000  # they are held in memory
COLUMNS = ("id", "occurred", "severity", "state", "view", "scope", "title", "attempts", "last error")
MAY_BE_CUT = {"view": 2, "scope": 2, "title": 5, "last error": 4}


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    records, matching = trio.run(_find, settings, chosen_records(arguments), arguments.limit)
    if arguments.json:
        for record in records:
            print_json(msgspec.Raw(record.to_json()))
    else:
        print_rows(COLUMNS, [_cells(record) for record in records], MAY_BE_CUT, ("record", "records"))
    if matching > len(records):
        sys.stdout.flush()
        sys.stderr.write(f"{len(records):,} of {matching:,}; --limit shows more\n")
    return 0


async def _find(settings: Settings, wanted: RecordFilter, limit: int) -> tuple[list[Record], int]:
    async with open_records(settings) as store:
        return await newest_records(store, wanted, limit)


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
    parser.add_argument("--limit", default=50, type=count(MOST), metavar="N", help="at most this many (default: 50)")
    add_flag(parser, "--json", "whole documents, one per line")


COMMAND = Command(
    execute=_execute,
    about="""\
Filters are combined with "and"; an option that is repeated offers alternatives. A TIME is RFC 3339
(2026-11-16T08:00:00Z), or how long ago: 30m, 1h, 7d. Prints a table in a terminal, and tab-separated lines with a
header elsewhere, the newest entry first. If more than `--limit` match, a line on standard error says how many.

Needs only the store: neither Redis nor a channel. Exit code 3: the store does not exist yet or cannot be trusted to
answer filters; 4: it cannot be reached or refuses us.""",
    examples=(
        "list --severity high --severity critical --since 1h",
        "list --state failed --state in_doubt --view lending-risk",
        "list --json --limit 1000 | jq .title",
    ),
    add_options=_add_options,
    settings=("Store", "log_format"),
)
