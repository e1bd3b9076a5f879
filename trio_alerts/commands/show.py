"""`show`: one record, whole."""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator

import msgspec
import trio

from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json
from trio_alerts.delivery import Attempt, ChannelDelivery, Delivery
from trio_alerts.errors import NotFound
from trio_alerts.exact_json import encode
from trio_alerts.ports.store import Stored
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import in_words, one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    stored = trio.run(_get, settings, arguments.id)
    if stored is None:
        raise NotFound(
            f"there is no record {arguments.id!r} in {settings.store_url!r}\n"
            "`list` shows the newest IDs, `emit` those that it sends; an entry that was not read yet has no record"
        )
    if arguments.json:
        print_json(msgspec.Raw(stored.record.to_json()))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _page(stored.record))
    return 0


async def _get(settings: Settings, record_id: str) -> Stored | None:
    async with open_records(settings) as store:
        return await store.get(record_id)


def _page(record: Record) -> Iterator[str]:
    fields = record.fields()
    yield one_line(f"{fields.pop('title', '')}")
    yield ""
    texts = {name: fields.pop(name) for name in ("details", "extra") if name in fields}
    yield from _rows(fields)
    for name, text in texts.items():
        yield f"{name}:"
        yield from _json_lines(text)
    yield ""
    yield "delivery:"
    yield from _rows(_facts(record.delivery), indent=2)
    for channel in record.delivery.channels:
        yield ""
        yield f"channel {one_line(channel.name)}:"
        if said := _in_words(channel):
            yield f"  {said}"
        yield from _rows(_facts(channel), indent=2)
        for attempt in channel.log:
            yield f"  {_attempt(attempt)}"
            if attempt.answer:
                yield f"      answer: {one_line(attempt.answer)}"
            if attempt.reference:
                yield f"      reference: {one_line(attempt.reference)}"


def _in_words(channel: ChannelDelivery) -> str:
    """Say why nothing is sent through a channel now, where its state alone does not."""
    due = channel.next_attempt_at and f"{channel.next_attempt_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}"
    match channel.state:
        case "standby":
            return f"stands by for {one_line(' or '.join(channel.fallback_of))}, due {due}"
        case "waiting" if channel.unconfigured_since:
            return f"waits for a process that knows this channel, to {due} at the longest"
        case "waiting":
            return f"waits until the service takes more alerts, to {due} at the longest"
        case "suppressed" if channel.since and channel.next_attempt_at:
            left = in_words((channel.next_attempt_at - channel.since).total_seconds())
            return f"suppressed with its primaries; sent after all, they have {left} before it is due"
        case "spared":
            return "needed no more: another channel made it good"
    return ""


def _facts(part: Delivery | ChannelDelivery) -> dict[str, object]:
    """Return what is set, without what has lines of its own."""
    facts = {name: getattr(part, name) for name in part.__struct_fields__ if name not in ("name", "log", "channels")}
    facts |= {name: ", ".join(names) for name, names in facts.items() if isinstance(names, tuple)}
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _rows(fields: dict[str, object], indent: int = 0) -> Iterator[str]:
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        yield f"{'':<{indent}}{one_line(name):<{width}}  {one_line(_text(value))}"


def _text(value: object) -> str:
    match value:
        case dt.datetime():
            return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        case list() if all(isinstance(one, str) for one in value):
            return ", ".join(value)
        case list() | dict():
            return encode(value).decode()
    return str(value)


def _json_lines(text: str) -> Iterator[str]:
    for line in msgspec.json.format(text, indent=2).splitlines():
        yield f"  {one_line(line)}"


def _attempt(attempt: Attempt) -> str:
    parts = [_text(attempt.at), f"{attempt.duration_s:g} s", attempt.result]
    if attempt.status is not None:
        parts.append(str(attempt.status))
    if attempt.error:
        parts.append(one_line(attempt.error))
    if attempt.unseen:
        parts.append("(outcome unseen)")
    return "  ".join(parts)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the record's ID, as `list` shows it; it is also the webhook-id")


COMMAND = Command(
    execute=_execute,
    about="""\
Shows the alert's fields, the state of its delivery, and for each channel its state and its last 10 attempts: the record
as it is now, not as a search sees it.

Exit code 1: there is no such record; 3 and 4 as for `list`.""",
    examples=("show 1763251506275-0", "show --json 'Alerts-2|1763251506275-0' | jq .delivery"),
    json="the whole document, on one line",
    operands=("ID",),
    add_options=_add_options,
    settings=("Store", "log_format"),
)
