"""`route`: where alerts from a file would go."""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator

from trio_alerts.commands.alert_input import HELP, describe, read_input
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag, value_of
from trio_alerts.commands.output import print_json
from trio_alerts.errors import SettingsError
from trio_alerts.event import parse_event
from trio_alerts.operations.alert_file import FoundAlert, read_alerts
from trio_alerts.routing.routes import Decision, Deliver, Routing, Suppress
from trio_alerts.settings.settings import Settings, require_channels
from trio_alerts.text import one_line
from trio_alerts.times import moment


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    require_channels(settings)
    routing = Routing(settings)
    alerts, problems = read_alerts(read_input(arguments.file))
    now = arguments.at or dt.datetime.now(dt.UTC)
    for alert in alerts:
        if arguments.json:
            print_json(_document(alert, routing, now, explained=arguments.explain))
        else:
            sys.stdout.writelines(f"{line}\n" for line in _lines(alert, routing, now, explained=arguments.explain))
    if problems:
        sys.stdout.flush()
        raise SettingsError(describe(problems, arguments.file, of=len(alerts) + len(problems)))
    return 0


def _lines(alert: FoundAlert, routing: Routing, now: dt.datetime, *, explained: bool) -> Iterator[str]:
    event = parse_event(alert.payload)
    decision = routing.decide(event, now)
    verdicts = list(routing.verdicts(event, now))
    taken = ", ".join(verdict.route.name for verdict in verdicts if not verdict.why_not)
    yield f"{one_line(alert.alert_id)}\t{_where(decision)}\t{taken}"
    if explained:
        width = max(len(verdict.route.name) for verdict in verdicts)
        for verdict in verdicts:
            yield f"  {verdict.route.name:<{width}}  {verdict.why_not or 'matches'}"


def _where(decision: Decision) -> str:
    if isinstance(decision, Suppress):
        return "suppressed"
    fallbacks = (
        f"; {one.channel} unless {' or '.join(one.primaries)} accepts it within {one.after_s:g} s"
        for one in decision.fallbacks
    )
    return ", ".join(decision.channels) + "".join(fallbacks)


def _document(alert: FoundAlert, routing: Routing, now: dt.datetime, *, explained: bool) -> dict[str, object]:
    event = parse_event(alert.payload)
    decision = routing.decide(event, now)
    verdicts = list(routing.verdicts(event, now))
    document: dict[str, object] = {
        "alert_id": alert.alert_id,
        "channels": decision.channels if isinstance(decision, Deliver) else (),
        "fallbacks": decision.fallbacks if isinstance(decision, Deliver) else (),
        "suppressed_by": None if isinstance(decision, Deliver) else decision.rule,
        "routes": [verdict.route.name for verdict in verdicts if not verdict.why_not],
    }
    if explained:
        document["verdicts"] = [{"route": one.route.name, "why_not": one.why_not or None} for one in verdicts]
    return document


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=HELP)
    add_flag(parser, "--explain", "show what each route says of each alert, and why")
    parser.add_argument(
        "--at", type=value_of(moment), default=None, metavar="TIME", help="route as at this time (default: now)"
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Prints each alert's alert_id, the channels that it would go to (or "suppressed") with their fallbacks, and the routes
that say so, separated by tabs. Nothing is sent, recorded or connected to. A time is RFC 3339, or how long ago (30m, 1h,
7d).

If some alerts are not valid, the problems are listed at the end, and the exit code is 2; so it is with routes that
`run` would refuse.""",
    examples=(
        "route --config /etc/trio-alerts.toml alerts.jsonl",
        "route --explain --at 2026-12-24T22:00:00Z - < alert.json",
    ),
    json="one object per line, of an alert",
    operands=("FILE|-",),
    add_options=_add_options,
    settings=("webhook_url",),
)
