"""`schema`: JSON Schema, for producers and editors."""

import argparse
import sys

import msgspec

from trio_alerts.channels.registry import KINDS, channel_settings
from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json
from trio_alerts.event_schema import event_schema
from trio_alerts.routing.windows import window_schema
from trio_alerts.settings.json_schema import settings_schema
from trio_alerts.settings.settings import Settings


def _execute(arguments: argparse.Namespace, _: Settings) -> int:
    if arguments.of == "event":
        schema = event_schema()
    else:
        schema = settings_schema(((kind, channel_settings(kind)) for kind in KINDS), window_schema())
    if arguments.json:
        print_json(schema)
    else:
        sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(schema)).decode()}\n")
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "of", metavar="event|settings", choices=("event", "settings"), help="an alert, or the file of settings"
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Prints JSON Schema (2020-12). `event` is what a producer may write: an alert that it accepts is accepted, if it has at
most 256 KiB. `settings` is the TOML file, for editors, with what each setting means: it sees each value by itself;
`check` finds what does not go together, and what cannot be reached. Nothing is read or connected to.""",
    examples=("schema event", "schema settings --json | jq .properties.workers"),
    json="the same, on one line",
    operands=("event|settings",),
    add_options=_add_options,
    settings=(),
)
