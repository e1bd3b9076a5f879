"""`demo`: everything embedded and real, to look at."""

import argparse

import trio

from trio_alerts.commands.command import Command
from trio_alerts.demo.run import add_arguments, demo_options, run_demo
from trio_alerts.settings.settings import Settings


def _execute(arguments: argparse.Namespace, _: Settings) -> int:
    return trio.run(run_demo, demo_options(arguments))


COMMAND = Command(
    execute=_execute,
    about="""\
Starts a Valkey server, three receivers (quick, slow, flaky) and two worker processes with the SQLite store, emits
some hundred alerts, kills one of the workers in the middle, and ends with a ledger that must balance: exit code 0, or
5 if it does not. Needs the extra `embedded`. Your own settings are not used, and nothing is left behind.""",
    examples=("demo", "demo --alerts 2000 --keep"),
    add_options=add_arguments,
    settings=(),
)
