"""`emit`: alerts from a file to the stream."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import trio

from trio_alerts.backends.redis.producer import open_producer
from trio_alerts.commands.alert_input import HELP, describe, read_input
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.commands.output import print_json, print_note
from trio_alerts.errors import SettingsError, StartError
from trio_alerts.operations.alert_file import FoundAlert, read_alerts
from trio_alerts.operations.emit import Emitted, emit
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    alerts, problems = read_alerts(read_input(arguments.file))
    if problems:
        report = describe(problems, arguments.file, of=len(alerts) + len(problems))
        if not (arguments.skip_bad and alerts):
            hint = "; --skip-bad sends the others" if alerts else ""
            raise SettingsError(f"{report}\nnothing was sent{hint}")
        print_note(report, as_json=arguments.json, problems=problems)
    if arguments.dry_run:
        _print_valid(alerts, as_json=arguments.json)
        return 0
    emitted, reason = trio.run(_emit, settings, alerts)
    for one in emitted:
        if one.entry_id:
            _print(one, as_json=arguments.json)
    if reason:
        sys.stdout.flush()
        raise StartError(_cut_short(reason, emitted))
    if arguments.json:
        return 0
    counts = Counter(one.stream for one in emitted)
    for stream in settings.stream_names:
        sys.stdout.write(f"emitted {counts[stream]:,} alerts to {stream}\n")
    if len(settings.stream_names) > 1:
        sys.stdout.write("(an alert's stream follows from the CRC-32 of its alert_id)\n")
    return 0


async def _emit(settings: Settings, alerts: Sequence[FoundAlert]) -> tuple[list[Emitted], str]:
    async with open_producer(settings) as producer:
        return await emit(producer, alerts, settings.stream_names)


def _print_valid(alerts: Sequence[FoundAlert], *, as_json: bool) -> None:
    if as_json:
        for one in alerts:
            print_json({"alert_id": one.alert_id, "place": one.place})
    else:
        sys.stdout.write(f"{len(alerts):,} alerts are valid; nothing was sent (--dry-run)\n")


def _print(one: Emitted, *, as_json: bool) -> None:
    alert_id = one.alert.alert_id
    if as_json:
        names = {"record_id": one.record_id, "alert_id": alert_id, "stream": one.stream, "entry_id": one.entry_id}
        print_json(names)
    else:
        sys.stdout.write(f"{one_line(one.record_id)}\t{one_line(alert_id)}\n")


def _cut_short(reason: str, emitted: Sequence[Emitted]) -> str:
    """Say how far it got. Nothing is repeated: an alert that is sent twice is two alerts."""
    count = Counter(one.result for one in emitted)
    first = next(one.alert for one in emitted if one.result != "added")
    return (
        f"{reason}\n"
        f"{count['added']:,} of {len(emitted):,} alerts are in the stream for certain; {count['unknown']:,} may be, "
        f"nobody saw the answer; {count['not added']:,} are not\n"
        f"the first that is not certain: {first.place} (alert_id {first.alert_id!r})"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=HELP)
    add_flag(parser, "--dry-run", "only validate, connect to nothing")
    add_flag(parser, "--skip-bad", "send the valid alerts even if others are not")


COMMAND = Command(
    execute=_execute,
    about="""\
Each alert becomes one entry, with the alert's JSON in the field `event`: a line of JSON lines as it is, an item of an
array without the space around its tokens. With several --streams, the CRC-32 of the alert_id picks one.
Prints the ID that each alert's record will have (what `show` takes) and its alert_id, separated by a tab.

If one is not valid, nothing is sent, the problems are listed by line or item, and the exit code is 2; with --skip-bad
it is 2 only if none is valid. If Redis cannot be reached or stops answering, the exit code is 4 and the command reports
what is certain: nothing is sent a second time.""",
    examples=(
        "emit examples/alerts.jsonl",
        "emit --dry-run alerts.json",
        "emit --stream Alerts --skip-bad - < alerts.jsonl",
        "emit --json alerts.jsonl | jq -r .record_id",
    ),
    json="one object per line, of an alert",
    operands=("FILE|-",),
    add_options=_add_options,
    settings=("Redis", "log_format"),
)
