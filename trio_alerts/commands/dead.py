"""`dead`: dead letters, entries that can never be processed as they are."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence

import msgspec
import trio

from trio_alerts.backends.redis.dead_letters import open_dead_letters
from trio_alerts.commands.backends import operator_name
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag, value_of
from trio_alerts.commands.output import print_json, print_rows
from trio_alerts.errors import NotFound, SettingsError
from trio_alerts.operations.dead import DeadLetters, NamedDeadLetter, WholeDeadLetter
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line
from trio_alerts.times import count

COLUMNS = ("dead id", "record", "since", "reason", "deliveries", "bytes", "error")
MAY_BE_CUT = {"error": 1}
NOT_THERE = "not in the dead-letter stream (any more)"


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    _refuse_wrong_options(arguments)
    return trio.run(_run, arguments, settings)


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    async with open_dead_letters(settings) as backend:
        letters = DeadLetters(backend, settings.stream_names)
        match arguments.action:
            case "list":
                entries = await letters.find(arguments.reason, arguments.limit)
                if arguments.json:
                    for entry in entries:
                        print_json(entry)
                else:
                    print_rows(COLUMNS, [_cells(one) for one in entries], MAY_BE_CUT, ("entry", "entries"))
                return 0
            case "show":
                return await _show(letters, arguments.ids[0], as_json=arguments.json)
        names = list(dict.fromkeys(arguments.ids)) or [one.dead_id for one in await letters.find(arguments.reason)]
        if arguments.action == "replay":
            return await _replay(letters, names, arguments)
        if len(names) > 1 and not arguments.yes:
            raise SettingsError(f"{len(names):,} entries would be dropped for good; add --yes if that is meant")
        return await _drop(letters, names, as_json=arguments.json)


async def _show(letters: DeadLetters, name: str, *, as_json: bool) -> int:
    found = await letters.get(name)
    if found is None:
        raise NotFound(f"{name} is not in the dead-letter stream; `dead list` shows what is")
    _print_entry(found, as_json=as_json)
    return 0


async def _replay(letters: DeadLetters, names: Sequence[str], arguments: argparse.Namespace) -> int:
    done = 0
    async for name, stream, new_id in letters.replay(names, as_new=arguments.as_new):
        done += new_id is not None
        if arguments.json:
            print_json({"dead_id": name, "stream": stream, "entry_id": new_id})
            continue
        what = f"put back into {stream} as {new_id}" if new_id is not None else NOT_THERE
        sys.stdout.write(f"{name}\t{one_line(what)}\n")
    if not arguments.json:
        sys.stdout.write(f"{done:,} of {len(names):,} put back\n")
    return 0 if done == len(names) else 1


async def _drop(letters: DeadLetters, names: Sequence[str], *, as_json: bool) -> int:
    done = 0
    async for name, was_there in letters.drop(names, operator_name()):
        done += was_there
        if as_json:
            print_json({"dead_id": name, "dropped": was_there})
        else:
            sys.stdout.write(f"{name}\t{'dropped' if was_there else NOT_THERE}\n")
    if not as_json:
        sys.stdout.write(f"{done:,} of {len(names):,} dropped\n")
    return 0 if done == len(names) else 1


def _print_entry(entry: WholeDeadLetter, *, as_json: bool) -> None:
    """Print one entry: what was noted about it, and every field as its producer wrote it."""
    if as_json:
        print_json(entry)
        return
    noted = {name: getattr(entry, name) for name in NamedDeadLetter.__struct_fields__}
    width = max(map(len, noted))
    for key, value in noted.items():
        sys.stdout.write(f"{key:<{width}}  {one_line(str(value))}\n")
    for field, text in entry.fields:
        sys.stdout.write(f"\nfield {one_line(field)}:\n")
        sys.stdout.writelines(f"  {line}\n" for line in _readable(text))


def _cells(entry: NamedDeadLetter) -> tuple[str, ...]:
    cells = (entry.dead_id, entry.record_id, entry.at, entry.reason, entry.deliveries, entry.size, entry.error)
    return tuple(one_line(str(cell)) if cell != "" else "-" for cell in cells)


def _readable(text: str) -> Iterator[str]:
    """Lay JSON out over lines; show anything else as it is, line by line."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        text = msgspec.json.format(text, indent=2)
    for line in text.splitlines() or [""]:
        yield one_line(line)


def _refuse_wrong_options(arguments: argparse.Namespace) -> None:
    """Refuse options that do not belong to the action: ignoring a filter could drop everything."""
    action, ids = arguments.action, arguments.ids
    given = {
        "IDs": bool(ids),
        "--reason": bool(arguments.reason),
        "--all": arguments.all,
        "--yes": arguments.yes,
        "--as-new": arguments.as_new,
        "--limit": arguments.limit is not None,
    }
    allowed = {
        "list": {"--reason", "--limit"},
        "show": {"IDs"},
        "replay": {"IDs", "--reason", "--all", "--as-new"},
        "drop": {"IDs", "--reason", "--all", "--yes"},
    }
    for name in (name for name, is_given in given.items() if is_given):
        if name not in allowed[action]:
            raise SettingsError(f"`dead {action}` does not take {name}; see `trio-alerts dead --help`")
    if action == "show" and len(ids) != 1:
        raise SettingsError("name one entry, as in `dead show 1763251506275-0`; `dead list` shows the IDs")
    if action in ("replay", "drop") and bool(ids) + bool(arguments.reason) + arguments.all != 1:
        raise SettingsError(f"say which entries to {action}: their IDs, --reason REASON, or --all")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "show", "replay", "drop"), help="what to do")
    parser.add_argument("ids", metavar="DEAD_ID", nargs="*", default=[], help="entries, by the IDs that `list` shows")
    parser.add_argument(
        "--reason", action="append", default=[], metavar="REASON", help="those with this reason, such as bad_event"
    )
    add_flag(parser, "--all", "replay, drop: everything that is there now")
    add_flag(parser, "--yes", "drop: more than one at once")
    add_flag(parser, "--as-new", "replay: as new alerts, with new IDs (for id_reused)")
    parser.add_argument("--limit", default=None, type=value_of(count()), metavar="N", help="list: at most this many")


COMMAND = Command(
    execute=_execute,
    about="""\
  dead list    lists entries: since when, why, and which record they belong to
  dead show    shows one entry: what was noted about it, and every field that its producer wrote
  dead replay  puts entries back into their stream, in one step each, as the same alerts: record and webhook-id stay
               the same, so that replaying an entry again sends nothing twice
  dead drop    deletes entries for good; the log of drops, which `audit` reads, keeps ID, reason, time and who did it

`replay` and `drop` take IDs, --reason or --all (what is there when the command starts). More than one entry is dropped
only with --yes. Fix the cause before a replay, or it is quarantined again at once. An entry with the
reason id_reused can only be replayed --as-new: its old ID belongs to another alert.

Exit code 1: a named entry is not there (any more); 2: bad usage; 4: Redis cannot be reached or refuses us. What became
of entries that were not reported is uncertain then; it is safe to run the command again.""",
    examples=(
        "dead list --reason bad_event",
        "dead show 1763251506275-0",
        "dead replay --reason max_deliveries",
        "dead drop 1763251506275-0 1763251506275-1 --yes",
    ),
    json="one object per line, of an entry",
    operands=("list|show|replay|drop", "[DEAD_ID…]"),
    add_options=_add_options,
    settings=("Redis", "log_format"),
)
