"""`demo`: everything embedded and real, to look at."""

import argparse
from functools import partial

import trio

from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag, value_of
from trio_alerts.demo.run import MOST_ALERTS, run_demo
from trio_alerts.demo.samples import MALFORMED
from trio_alerts.settings.settings import Settings
from trio_alerts.times import count


def _execute(arguments: argparse.Namespace, _: Settings) -> int:
    alerts, seed, kill, keep = arguments.alerts, arguments.seed, not arguments.no_kill, arguments.keep
    return trio.run(partial(run_demo, alerts=alerts, seed=seed, kill=kill, keep=keep, as_json=arguments.json))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--alerts",
        type=value_of(count(MOST_ALERTS)),
        default=600,
        metavar="N",
        help=f"how many alerts to emit, beside {MALFORMED} malformed entries (default: 600)",
    )
    add_flag(parser, "--no-kill", "kill no worker process in the middle")
    add_flag(parser, "--keep", "leave the console open until Ctrl-C, and keep the folder: settings, logs and records")
    parser.add_argument(
        "--seed",
        type=int,
        default=2,
        metavar="N",
        help="decides which alerts the flaky receiver refuses (default: 2)",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Starts a Valkey server, three receivers (quick, slow, flaky) and two worker processes with the SQLite store, emits
some hundred alerts, kills one of the workers in the middle, and ends with a ledger that must balance: exit code 0, or
5 if it does not. Needs the extra `embedded`. Your own settings are not used, and nothing is left behind.""",
    examples=("demo", "demo --alerts 2000 --keep"),
    json="the ledger at the end, as one object; the show goes to standard error",
    add_options=_add_options,
    settings=(),
)
