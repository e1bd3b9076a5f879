"""`adopt`: a store taken over by a Redis that it did not belong to."""

import argparse
import sys
from collections.abc import Iterator

import trio

from trio_alerts.backends.redis.standing import open_ledger
from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.commands.backends import SETTINGS
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.commands.output import print_json
from trio_alerts.errors import SettingsError
from trio_alerts.operations.adopt import Contradiction, adopt, find_contradiction
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records
from trio_alerts.text import in_words, one_line

UNDERWAY = ("sending", "retrying", "waiting")  # what `run` goes on with by itself
ALIVE_S = 60.0  # a process that carries alerts asks for some every few seconds


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.json and not arguments.yes:
        raise SettingsError("with --json nobody is asked; add --yes to adopt the store")
    found = trio.run(_find, settings)
    if found is None:
        if arguments.json:
            print_json({"adopted": False, "deployment": None})
        else:
            sys.stdout.write("There is nothing to adopt: the store belongs to this deployment, or to none yet.\n")
        return 0
    if not arguments.json:
        sys.stdout.writelines(f"{line}\n" for line in _page(found, settings))
    if not (arguments.yes or _confirmed()):
        sys.stdout.write("Nothing was changed.\n")
        return 1
    identity = trio.run(_adopt, settings)
    if arguments.json:
        print_json({"adopted": True, "deployment": identity})
    else:
        sys.stdout.write(f"Both belong to deployment {one_line(identity)} now.\n")
    return 0


async def _find(settings: Settings) -> Contradiction | None:
    async with open_records(settings, guarded=False) as store, open_ledger(settings) as ledger:
        return await find_contradiction(store, ledger, settings.stream_names)


async def _adopt(settings: Settings) -> str:
    async with open_records(settings, guarded=False) as store, open_redis_stream(settings) as stream:
        return await adopt(store, stream, settings.group)


def _page(found: Contradiction, settings: Settings) -> Iterator[str]:
    by_state = found.counts.by_state
    yield f"store  {settings.store_url!r}"
    yield f"       belongs to {_whose(found.theirs)}"
    yield "       records: " + (", ".join(f"{state} {count:,}" for state, count in sorted(by_state.items())) or "none")
    yield f"redis  {settings.redis_url!r}, group {one_line(settings.group)}"
    yield f"       belongs to {_whose(found.ours)}"
    for one in found.standings:
        waiting = f"{one.not_read:,} not read yet, {one.pending:,} pending"
        yield f"       stream {one_line(one.stream)}: {one.length:,} entries, {waiting}"
        for consumer in one.consumers:
            if consumer.idle_s < ALIVE_S:
                yield f"       consumer {one_line(consumer.name)}: last seen {in_words(consumer.idle_s)} ago, will stop"
    yield "Both get a new identity. Whatever else uses either of them stops with exit code 3, within a minute."
    if underway := sum(by_state.get(state, 0) for state in UNDERWAY):
        states = f"{', '.join(UNDERWAY[:-1])} or {UNDERWAY[-1]}"
        yield f"`run` then sends the alerts that are {states} ({underway:,}) to the channels of these settings."


def _whose(identity: str | None) -> str:
    return "no deployment yet" if identity is None else f"deployment {one_line(identity)}"


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise SettingsError("there is no terminal to ask at; add --yes to adopt the store")
    sys.stdout.write("Adopt the store? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--yes", "do not ask")


COMMAND = Command(
    execute=_execute,
    about="""\
A store belongs to one deployment: one Redis and one group. `run` exits with code 3 if the store belongs to another one,
or if Redis lost its data (docs/operations.md says what to do then). This command shows which deployment each of them
belongs to and what is in them, asks, and makes them one deployment. First stop everything else that uses the store:
its alerts may be in progress.

Exit code 1: not adopted; 0: adopted, or there was nothing to adopt.""",
    examples=("adopt", "adopt --yes --config /etc/trio-alerts.toml"),
    json="one object",
    add_options=_add_options,
    settings=SETTINGS,
)
