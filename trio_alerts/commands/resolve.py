"""`resolve`: an operator says whether an alert that is in doubt arrived."""

import argparse
import sys

import trio

from trio_alerts.commands.backends import SETTINGS, open_operator
from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json
from trio_alerts.errors import AlertError
from trio_alerts.operations.records import Skip
from trio_alerts.operations.resolve import resolve
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line
from trio_alerts.transitions import Resolution


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    state = trio.run(_resolve, settings, arguments.id, arguments.resolution)
    if arguments.json:
        print_json({"record_id": arguments.id, "resolution": arguments.resolution, "state": state})
    else:
        sys.stdout.write(f"{one_line(arguments.id)}: settled as {arguments.resolution}; the record is {state}\n")
    return 0


async def _resolve(settings: Settings, record_id: str, resolution: Resolution) -> str:
    async with open_operator(settings) as operator:
        result = await resolve(operator, record_id, resolution)
    if isinstance(result, Skip):
        raise AlertError(f"{record_id}: left alone: {result.reason}")
    return result.delivery.state


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the record's ID, as `list --state in_doubt` shows it")
    parser.add_argument("resolution", choices=("delivered", "failed"), help="what you found out at the receiver")


COMMAND = Command(
    execute=_execute,
    about="""\
For a record that is `in_doubt`: the outcome of an attempt is unknown, and the channel's policy is to hold it. Ask the
receiver whether the alert arrived, by its webhook-id, which is the record's ID, then settle it. Every channel of the
record that is in doubt is settled; the others keep their state. The record's `reason` and the channel's log say who
settled it, and when. (`redeliver ID` is the third way: send it once more.)

Exit code 1: there is no such record, or nothing of it is in doubt; 2: bad usage; 3 and 4 as for `list`, and for Redis
as well.""",
    examples=("resolve 1763251506275-0 delivered",),
    json="one object, of the record",
    operands=("ID", "delivered|failed"),
    add_options=_add_options,
    settings=SETTINGS,
)
