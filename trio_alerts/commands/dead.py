"""`dead`: the quarantine, where entries lie that can never be processed as they are."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import trio

from trio_alerts.backends.redis.dead_letters import Quarantined, RedisQuarantine, open_quarantine
from trio_alerts.commands.command import Command
from trio_alerts.commands.dead_pages import print_entries, print_entry
from trio_alerts.commands.operating import operator
from trio_alerts.errors import AlertError, SettingsError
from trio_alerts.pages import Pages
from trio_alerts.record_ids import RecordIds
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line

SETTINGS = ("redis_url", "redis_ca_file", "redis_timeout_s", "stream", "streams", "log_format")
PAGE = 200  # entries a script: it reads them whole, and the answer has only what was noted about them


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    _refuse_nonsense(arguments)
    return trio.run(_run, arguments, settings)


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    async with open_quarantine(settings) as quarantine:
        desk = _Desk(quarantine, settings)
        match arguments.action:
            case "list":
                entries = await desk.find(arguments.reason, arguments.limit)
                print_entries([(desk.name_of(one), one) for one in entries], as_json=arguments.json)
                return 0
            case "show":
                await desk.show(arguments.ids[0], as_json=arguments.json)
                return 0
        chosen = await desk.choose(arguments.ids, arguments.reason)
        if arguments.action == "drop":
            if len(chosen) > 1 and not arguments.yes:
                raise SettingsError(f"{len(chosen):,} entries would be dropped for good; add --yes if that is meant")
            return await desk.drop(chosen)
        return await desk.replay(chosen, as_new=arguments.as_new)


class _Desk:
    """An operator at the quarantine. An entry is named as records are: with several streams, `<stream>|<ID>`."""

    def __init__(self, quarantine: RedisQuarantine, settings: Settings) -> None:
        self._quarantine = quarantine
        self._streams = settings.stream_names
        self._ids = RecordIds(settings.stream_names)

    def name_of(self, entry: Quarantined) -> str:
        """Return what a command calls an entry."""
        return self._ids.of(entry.stream, entry.id)

    async def find(self, reasons: Sequence[str], limit: int | None) -> list[Quarantined]:
        """Return what is there now, the oldest of each stream first."""
        found: list[Quarantined] = []
        for stream in self._streams:
            async for page in Pages(partial(self._page, stream)):
                found += [one for one in page if not reasons or one.reason in reasons]
                if limit is not None and len(found) >= limit:
                    return found[:limit]
        return found

    async def _page(self, stream: str, last: Quarantined | None) -> list[Quarantined]:
        return await self._quarantine.page(stream, PAGE, last.id if last else "")

    async def choose(self, names: Sequence[str], reasons: Sequence[str]) -> list[tuple[str, str]]:
        """Return stream and ID of each entry that is meant: by name, or all that are there now."""
        if names:
            return [self._place(name) for name in dict.fromkeys(names)]
        return [(one.stream, one.id) for one in await self.find(reasons, None)]

    async def show(self, name: str, *, as_json: bool) -> None:
        """Print one entry, whole."""
        stream, dead_id = self._place(name)
        found = await self._quarantine.get(stream, dead_id)
        if found is None:
            raise AlertError(f"{name} is not in quarantine; `dead list` shows what is")
        print_entry(name, *found, as_json=as_json)

    async def replay(self, chosen: Sequence[tuple[str, str]], *, as_new: bool) -> int:
        """Put entries back, and say what became of each."""
        done = 0
        for stream, dead_id in chosen:
            new_id = await self._quarantine.replay(stream, dead_id, as_new=as_new)
            done += new_id is not None
            what = f"put back into {stream} as {new_id}" if new_id is not None else "not in quarantine (any more)"
            sys.stdout.write(f"{self._ids.of(stream, dead_id)}\t{one_line(what)}\n")
        sys.stdout.write(f"{done:,} of {len(chosen):,} put back\n")
        return 0 if done == len(chosen) else 1

    async def drop(self, chosen: Sequence[tuple[str, str]]) -> int:
        """Delete entries for good, and say what became of each."""
        done = 0
        for stream, dead_id in chosen:
            dropped = await self._quarantine.drop(stream, dead_id, operator())
            done += dropped
            what = "dropped" if dropped else "not in quarantine (any more)"
            sys.stdout.write(f"{self._ids.of(stream, dead_id)}\t{what}\n")
        sys.stdout.write(f"{done:,} of {len(chosen):,} dropped\n")
        return 0 if done == len(chosen) else 1

    def _place(self, name: str) -> tuple[str, str]:
        place = self._ids.place(name)
        if place is None:
            raise SettingsError(f"{name!r} is no ID of an entry in quarantine; `dead list` shows them")
        return place


def _refuse_nonsense(arguments: argparse.Namespace) -> None:
    """Refuse options that do not belong to the action: a filter that is overlooked could drop everything."""
    action, ids = arguments.action, arguments.ids
    given = {
        "IDs": bool(ids),
        "--reason": bool(arguments.reason),
        "--all": arguments.all,
        "--yes": arguments.yes,
        "--as-new": arguments.as_new,
        "--json": arguments.json,
        "--limit": arguments.limit is not None,
    }
    allowed = {
        "list": {"--reason", "--json", "--limit"},
        "show": {"IDs", "--json"},
        "replay": {"IDs", "--reason", "--all", "--as-new"},
        "drop": {"IDs", "--reason", "--all", "--yes"},
    }
    for name in (name for name, is_given in given.items() if is_given):
        if name not in allowed[action]:
            raise SettingsError(f"`dead {action}` takes no {name}; see `trio-alerts dead --help`")
    if action == "show" and len(ids) != 1:
        raise SettingsError("name one entry, as in `dead show 1763251506275-0`; `dead list` shows their IDs")
    if action in ("replay", "drop") and bool(ids) + bool(arguments.reason) + arguments.all != 1:
        raise SettingsError(f"say which entries to {action}: their IDs, --reason REASON, or --all")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "show", "replay", "drop"), help="what to do")
    parser.add_argument("ids", metavar="DEAD_ID", nargs="*", default=[], help="entries, by the IDs that `list` shows")
    parser.add_argument(
        "--reason", action="append", default=[], metavar="REASON", help="all of this reason, such as bad_event"
    )
    parser.add_argument("--all", action="store_true", default=False, help="replay, drop: all that are there now")
    parser.add_argument("--yes", action="store_true", default=False, help="drop: more than one at once")
    parser.add_argument(
        "--as-new", action="store_true", default=False, help="replay: as new alerts, with new IDs (for id_reused)"
    )
    parser.add_argument("--limit", default=None, type=_count, metavar="N", help="list: at most so many")
    parser.add_argument("--json", action="store_true", default=False, help="list, show: one object a line")


COMMAND = Command(
    execute=_execute,
    about="""\
  dead list    what lies there: when it came, why, which record it belongs to
  dead show    one entry: all that was noted about it, and every field that its producer wrote
  dead replay  puts entries back into their stream, in one step each, as the alerts that they were: record and
               webhook-id stay the same, so that a repeated replay sends nothing twice
  dead drop    deletes entries for good; the log of drops, which `audit` reads, keeps ID, reason, time and who did it

`replay` and `drop` take IDs, --reason or --all (what is there when the command begins). More than one entry is dropped
only with --yes. Mend the cause before a replay: else the entry is back in quarantine at once. An entry of the reason
id_reused can only be replayed --as-new: its old ID belongs to another alert.

Exit code 1: an entry that was named is not there (any more); 2: bad usage; 4: Redis cannot be reached or refuses us:
what was not said is not certain then, and it does no harm to call again.""",
    examples=(
        "dead list --reason bad_event",
        "dead show 1763251506275-0",
        "dead replay --reason max_deliveries",
        "dead drop 1763251506275-0 1763251506275-1 --yes",
    ),
    operands=("list|show|replay|drop", "[DEAD_ID…]"),
    add_options=_add_options,
    settings=SETTINGS,
)
