"""`run`: the worker."""

import argparse

import trio
from loguru import logger

from trio_alerts.assembly import open_pipeline
from trio_alerts.commands.command import Command
from trio_alerts.service import serve, watch_signals
from trio_alerts.settings import Settings, require_channels, warnings_about


def _execute(_: argparse.Namespace, settings: Settings) -> int:
    require_channels(settings)
    for warning in warnings_about(settings):
        logger.warning("{}", warning)
    trio.run(_run, settings)
    return 0


async def _run(settings: Settings) -> None:
    async with open_pipeline(settings) as pipeline, trio.open_nursery() as nursery:
        await nursery.start(watch_signals, pipeline)
        await serve(pipeline)
        nursery.cancel_scope.cancel()  # nobody waits for signals any more


COMMAND = Command(
    execute=_execute,
    about="""\
Runs until SIGTERM or SIGINT: then nothing new is read, what is being sent gets --grace-s to finish, and the exit
code is 0. A second signal stops at once, exit code 1; other processes take over what was cut.

It needs Redis, a store and somebody to notify. What is wrong with them ends it before anything is consumed:
2 settings, 3 the index, 4 a backend cannot be reached or refuses us. Exit code 1: a fault while running; 5: too many
entries in a row were quarantined.""",
    examples=(
        "run --webhook-url https://example.org/alerts",
        "run --config /etc/trio-alerts.toml --log-format json",
        "run --redis-url redis://10.0.0.5:6379/0 --store-url sqlite:///alerts.db --webhook-url http://10.0.0.9/hook",
    ),
    service=True,
)
