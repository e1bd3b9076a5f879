"""`emit`: alerts from a file to the stream."""

import argparse
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from trio_alerts.backends.redis.producer import Emission, Fate, open_producer
from trio_alerts.commands.alert_file import FoundAlert, Problem, read_alerts
from trio_alerts.commands.command import Command
from trio_alerts.errors import SettingsError, StartError
from trio_alerts.record_ids import RecordIds
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line

SHOWN_PROBLEMS = 20  # enough to see the pattern; the rest is counted


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    source = "standard input" if arguments.file == "-" else arguments.file
    alerts, problems = read_alerts(_read(arguments.file))
    if problems:
        told = _told(problems, source, of=len(alerts) + len(problems))
        if not (arguments.skip_bad and alerts):
            hint = "; --skip-bad sends the others" if alerts else ""
            raise SettingsError(f"{told}\nnothing was sent{hint}")
        sys.stderr.write(f"{told}\n")
    if arguments.dry_run:
        sys.stdout.write(f"{len(alerts):,} alerts are valid; nothing was sent (--dry-run)\n")
        return 0
    streams = [stream_of(alert, settings.stream_names) for alert in alerts]
    emission = trio.run(_send, settings, [(stream, one.payload) for stream, one in zip(streams, alerts, strict=True)])
    show = _show_json if arguments.json else _show_lines
    show(
        _Emitted(RecordIds(settings.stream_names).of(stream, entry_id), alert.alert_id, stream, entry_id)
        for stream, entry_id, alert in zip(streams, emission.entry_ids, alerts, strict=True)
        if entry_id
    )
    if emission.reason:
        sys.stdout.flush()
        raise StartError(_cut_short(emission.reason, emission.fates, alerts))
    if arguments.json:
        return 0
    for stream in settings.stream_names:
        sys.stdout.write(f"emitted {streams.count(stream):,} alerts to {stream}\n")
    if len(settings.stream_names) > 1:
        sys.stdout.write("(an alert's stream follows from the CRC-32 of its alert_id)\n")
    return 0


def stream_of(alert: FoundAlert, streams: Sequence[str]) -> str:
    """Return the stream for an alert: the same `alert_id` always goes to the same of several."""
    return streams[zlib.crc32(alert.alert_id.encode()) % len(streams)]


class _Emitted(Struct):
    """Where an alert went; `record_id` is what `show` and `redeliver` take, and its `webhook-id`."""

    record_id: str
    alert_id: str
    stream: str
    entry_id: str


def _show_json(emitted: Iterable[_Emitted]) -> None:
    for one in emitted:
        sys.stdout.write(f"{msgspec.json.encode(one).decode('utf-8')}\n")


def _show_lines(emitted: Iterable[_Emitted]) -> None:
    for one in emitted:
        sys.stdout.write(f"{one_line(one.record_id)}\t{one_line(one.alert_id)}\n")


async def _send(settings: Settings, entries: Sequence[tuple[str, bytes]]) -> Emission:
    async with open_producer(settings) as producer:
        return await producer.add(entries)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None


def _told(problems: Sequence[Problem], source: str, of: int) -> str:
    lines = [f"{source}: {len(problems):,} of {of:,} are no valid alerts:"]
    lines += [f"  {problem.place}: {problem.reason}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  … and {len(problems) - SHOWN_PROBLEMS:,} more")
    return "\n".join(lines)


def _cut_short(reason: str, fates: Sequence[Fate], alerts: Sequence[FoundAlert]) -> str:
    """Say how far it got. Nothing is repeated: an alert that is sent twice is two alerts."""
    count = Counter(fates)
    first = next(alert for fate, alert in zip(fates, alerts, strict=True) if fate != "added")
    return (
        f"{reason}\n"
        f"{count['added']:,} of {len(alerts):,} alerts are in the stream for certain; {count['unknown']:,} may be, "
        f"nobody saw the answer; {count['not added']:,} are not\n"
        f"the first that is not certain: {first.place} (alert_id {first.alert_id!r})"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a JSON array, one JSON object, or JSON lines; -: standard input")
    parser.add_argument("--dry-run", action="store_true", default=False, help="validate only, connect nowhere")
    parser.add_argument(
        "--skip-bad", action="store_true", default=False, help="send the valid ones although others are not"
    )
    parser.add_argument(
        "--json", action="store_true", default=False, help="an object for each alert, one a line, and nothing else"
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Each alert becomes one entry, with the alert's JSON in the field `event`: a line of JSON lines as it is, an item of an
array without the space around its tokens. With several --streams, the CRC-32 of the alert_id picks one.
Prints the ID that each alert's record will have (what `show` takes) and its alert_id, separated by a tab.

If one is not valid, nothing is sent, the problems are listed by line or item, and the exit code is 2; with --skip-bad
it is 2 only if none is valid. If Redis cannot be reached or stops answering the exit code is 4, and what is certain
is told: nothing is sent a second time.""",
    examples=(
        "emit examples/alerts.jsonl",
        "emit --dry-run alerts.json",
        "emit --stream Alerts --skip-bad - < alerts.jsonl",
        "emit --json alerts.jsonl | jq -r .record_id",
    ),
    operands=("FILE|-",),
    add_options=_add_options,
    settings=("redis_url", "redis_ca_file", "redis_timeout_s", "stream", "streams", "log_format"),
)
