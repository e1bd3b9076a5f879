"""`silence`: alerts recorded and not sent, for a time."""

import argparse
import datetime as dt
import sys

import trio

from trio_alerts.backends.redis.silences import open_silences
from trio_alerts.commands.backends import operator_name
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag, value_of
from trio_alerts.commands.output import print_json, print_rows
from trio_alerts.errors import SettingsError
from trio_alerts.event import SEVERITIES
from trio_alerts.operations.silences import (
    ListedSilence,
    MatchedAlert,
    Preview,
    add_silence,
    end_silence,
    list_silences,
    matchers_of,
    preview,
    to_the_second,
)
from trio_alerts.ports.silences import Silence
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import in_words, one_line
from trio_alerts.times import duration, point_in_time

COLUMNS = ("id", "state", "until", "by", "why", "matchers")
MAY_BE_CUT = {"by": 1, "why": 3, "matchers": 5}
NEWEST = ("id", "occurred", "severity", "view", "scope", "title")
NEWEST_MAY_BE_CUT = {"view": 1, "scope": 2, "title": 3}


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    _refuse_wrong_options(arguments)
    match arguments.action:
        case "add":
            matchers_of(arguments.operands, all_alerts=arguments.all_alerts)
            silence = trio.run(_add, arguments, settings)
            lasts = in_words((silence.until - silence.since).total_seconds())
            until = f"{to_the_second(silence.until)} ({lasts}); `silence end {silence.id}` ends it"
            _tell(silence, f"{_matched(silence)} until {until}", as_json=arguments.json)
        case "end":
            silence = trio.run(_end, arguments.operands[0], settings)
            resend = f"`redeliver --suppressed-by silence:{silence.id}` sends what it kept back"
            _tell(silence, f"ended; {resend}", as_json=arguments.json)
        case "list":
            trio.run(_list, arguments, settings)
        case "preview":
            found = trio.run(_preview, arguments, settings)
            if arguments.json:
                print_json(found)
            else:
                _print_preview(found)
    return 0


def _tell(silence: Silence, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": silence.id, "until": silence.until, "matchers": silence.matchers, "why": silence.why})
    else:
        sys.stdout.write(f"{silence.id}: {what}\n")


async def _add(arguments: argparse.Namespace, settings: Settings) -> Silence:
    until: dt.datetime | dt.timedelta = arguments.until or arguments.lasting
    async with open_silences(settings) as silences:
        return await add_silence(silences, arguments.operands, until, arguments.why, arguments.by or operator_name())


async def _end(silence_id: str, settings: Settings) -> Silence:
    async with open_silences(settings) as silences:
        return await end_silence(silences, silence_id, operator_name())


async def _list(arguments: argparse.Namespace, settings: Settings) -> None:
    async with open_silences(settings) as silences:
        now, shown = await silences.now(), await list_silences(silences, ended=arguments.all)
    if arguments.json:
        for silence in shown:
            print_json(silence)
    else:
        print_rows(COLUMNS, [_cells(silence, now) for silence in shown], MAY_BE_CUT, ("silence", "silences"))


async def _preview(arguments: argparse.Namespace, settings: Settings) -> Preview:
    matchers = matchers_of(arguments.operands, all_alerts=arguments.all_alerts)
    async with open_records(settings) as store:
        return await preview(store, matchers, dt.datetime.now(dt.UTC))


def _print_preview(found: Preview) -> None:
    sys.stdout.write(f"{found.matching:,} of {found.seen:,} alerts that occurred in the last 24 h match")
    counts = [f"{found.by_severity[one]:,} {one}" for one in reversed(SEVERITIES) if one in found.by_severity]
    sys.stdout.write(f": {', '.join(counts)}\n" if counts else "\n")
    if found.newest:
        noun = ("alert, the newest", "alerts, the newest")
        print_rows(NEWEST, [_cells_of_alert(one) for one in found.newest], NEWEST_MAY_BE_CUT, noun)


def _cells_of_alert(one: MatchedAlert) -> tuple[str, ...]:
    occurred = to_the_second(one.occurred_at)
    return tuple(map(one_line, (one.record_id, occurred, one.severity, one.view, one.scope, one.title)))


def _cells(silence: ListedSilence, now: dt.datetime) -> tuple[str, ...]:
    state: str = silence.state
    if state == "active":
        state = f"{in_words((silence.until - now).total_seconds())} left"
    cells = (silence.id, state, to_the_second(silence.until), silence.by, silence.why, _matched(silence))
    return tuple(map(one_line, cells))


def _matched(silence: Silence | ListedSilence) -> str:
    return " and ".join(silence.matchers) or "all alerts"


def _refuse_wrong_options(arguments: argparse.Namespace) -> None:
    """Refuse options that do not belong to the action, and an action that lacks what it needs."""
    action, operands = arguments.action, arguments.operands
    given = {
        "MATCHER": bool(operands) and action != "end",
        "ID": bool(operands) and action == "end",
        "--until": arguments.until is not None,
        "--for": arguments.lasting is not None,
        "--why": arguments.why is not None,
        "--by": arguments.by is not None,
        "--all-alerts": arguments.all_alerts,
        "--all": arguments.all,
    }
    allowed = {
        "add": {"MATCHER", "--until", "--for", "--why", "--by", "--all-alerts"},
        "list": {"--all"},
        "end": {"ID"},
        "preview": {"MATCHER", "--all-alerts"},
    }
    for name in (name for name, is_given in given.items() if is_given):
        if name not in allowed[action]:
            raise SettingsError(f"`silence {action}` does not take {name}; see `trio-alerts silence --help`")
    if action == "end" and len(operands) != 1:
        raise SettingsError("name one silence, as in `silence end 1a2b3c4d`; `silence list` shows the IDs")
    if action == "add" and given["--until"] == given["--for"]:
        raise SettingsError("say when it ends: --until TIME or --for DURATION, one of them")
    if action == "add" and not (arguments.why or "").strip():
        raise SettingsError("say why, as in --why 'maintenance of node 4': whoever looks for an alert is told")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("add", "list", "end", "preview"), help="what to do")
    parser.add_argument(
        "operands", metavar="MATCHER|ID", nargs="*", default=[], help="matchers, as in routes; end: a silence's ID"
    )
    parser.add_argument(
        "--until",
        type=value_of(point_in_time),
        default=None,
        metavar="TIME",
        help="add: when it ends (2026-11-16T08:00:00Z)",
    )
    parser.add_argument(
        "--for",
        dest="lasting",
        type=value_of(duration),
        default=None,
        metavar="DURATION",
        help="add: how long (30m, 2h, 7d)",
    )
    parser.add_argument("--why", default=None, metavar="TEXT", help="add: the reason, kept in each record")
    parser.add_argument("--by", default=None, metavar="WHO", help="add: who wants it (default: USER@HOST)")
    add_flag(parser, "--all-alerts", "add, preview: every alert, in place of matchers")
    add_flag(parser, "--all", "list: those that are over as well, for 30 days")


COMMAND = Command(
    execute=_execute,
    about="""\
  silence add      keeps matching alerts from being sent: they are recorded as suppressed, with silence and reason
  silence list     lists the silences that are active, those that end first at the top
  silence end      ends one at once
  silence preview  counts the alerts of the last 24 h that one would have matched, and shows the newest

All matchers of a silence must hold; they are written as in routes: 'severity >= high', 'view = "Lending"',
'scope != "staging*"', 'labels.team in [treasury, "risk desk"]'. Every process knows a change within 1 s. A silence is
looked at before each attempt, so that a retry is not sent either; an attempt that has begun goes on. If Redis loses
the silences, or cannot be asked for 2 s, alerts are sent.

What a mistaken silence kept back is sent by `redeliver --suppressed-by silence:ID`, once it has ended.

Exit code 1: there is no such silence, or it is over; 2: bad usage; 3 and 4 as for `list` (preview), 4: Redis cannot be
reached or refuses us.""",
    examples=(
        "silence preview 'view = Lending' 'severity <= medium'",
        "silence add 'view = Lending' 'severity <= medium' --for 2h --why 'oracle maintenance'",
        "silence add --all-alerts --until 2026-11-16T08:00:00Z --why 'migration' --by ann",
        "silence list --all --json",
        "silence end 1a2b3c4d",
    ),
    json="one object per line, of a silence; preview: one object",
    operands=("add|list|end|preview", "[MATCHER…|ID]"),
    add_options=_add_options,
    settings=("Redis", "group", "Store", "log_format"),
)
