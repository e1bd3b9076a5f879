"""`migrate`: a new index behind the alias, with every process running."""

import argparse
import os
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict

import trio

from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.commands.output import print_json, print_note
from trio_alerts.errors import Interrupted, SettingsError
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.ports.migration import Migrated, Migration, Progress
from trio_alerts.settings.settings import Settings
from trio_alerts.stop_signals import stop_signals
from trio_alerts.store import open_migration

TOLD_EVERY_S = 2.0


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.status and arguments.abort:
        raise SettingsError("--status and --abort exclude each other")
    what = _show if arguments.status else _abort if arguments.abort else _migrate
    line, document = trio.run(what, settings, arguments.json)
    if arguments.json:
        print_json(document)
    else:
        sys.stdout.write(f"{line}\n")
    return 0


async def _migrate(settings: Settings, as_json: bool) -> tuple[str, object]:
    told = _Teller(as_json=as_json)
    async with _opened(settings) as migration:
        if migration is None:
            return _NOTHING
        done = await _until_stopped(migration, told)
    waited = f"writes waited for {done.waited_s:.1f} s" if done.waited_s else "another `migrate` did the last step"
    line = (
        f"Done: {done.records:,} records are in {done.target} now, behind alias {settings.index}; {waited}. "
        f"{done.source} is kept and takes no writes: delete it when you need it no more."
    )
    return line, {"migrated": True, **asdict(done)}


async def _until_stopped(migration: Migration, told: "_Teller") -> Migrated:
    """Migrate. A signal stops that softly, so that writes go on; a second one does what it does by default.

    Raises:
        Interrupted: It was stopped.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_at_a_signal, scope)
            done = await migration.run(told.tell)
            nursery.cancel_scope.cancel()
        return done
    progress = await migration.status()
    raise Interrupted(f"Stopped. {_sentence(progress)}" if progress else "Stopped before anything was done.")


async def _stop_at_a_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*stop_signals()) as signals:
        task_status.started()
        await anext(signals)
    scope.cancel()


async def _abort(settings: Settings, as_json: bool) -> tuple[str, object]:  # noqa: ARG001 - as the others
    async with _opened(settings) as migration:
        if migration is None:
            return _NOTHING
        removed = await migration.abort()
    if not removed:
        return "There is no migration to abort.", {"aborted": False, "target": None}
    return f"Aborted: {removed} is gone, and writes go on as before.", {"aborted": True, "target": removed}


async def _show(settings: Settings, as_json: bool) -> tuple[str, object]:  # noqa: ARG001 - as the others
    async with _opened(settings) as migration:
        if migration is None:
            return _NOTHING
        progress = await migration.status()
    if progress is None:
        return f"There was never a migration of {settings.index}.", {"step": None}
    return _sentence(progress), asdict(progress)


def _opened(settings: Settings) -> AbstractAsyncContextManager[Migration | None]:
    return open_migration(settings, FaultPoint(os.environ.get("TRIO_ALERTS_FAULT", "")).reach)


_NOTHING = "There is nothing to migrate: `run` brings an SQLite file up to date when it starts.", {"migrated": False}


def _sentence(progress: Progress) -> str:
    if progress.step == "done":
        return f"Done: {progress.target} has taken over from {progress.source}, which is kept and takes no writes."
    waits = "; writes WAIT" if progress.blocked else ""
    return f"{_line(progress)}{waits}. `migrate` goes on with it, `migrate --abort` undoes it."


def _line(progress: Progress) -> str:
    match progress.step:
        case "create":
            return f"creating {progress.target or 'a new index'}"
        case "copy":
            share = 100 * progress.copied // max(progress.records, 1)
            return f"copying to {progress.target}: {progress.copied:,} of {progress.records:,} records ({share} %)"
        case _:
            return f"handing over to {progress.target}: {progress.copied:,} records copied"


class _Teller:
    """Says on standard error how far it is: each new step at once, and pages every two seconds."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._step = ""
        self._told_at_s = 0.0

    def tell(self, progress: Progress) -> None:
        now_s = trio.current_time()
        if progress.step != self._step or now_s - self._told_at_s > TOLD_EVERY_S:
            self._step, self._told_at_s = progress.step, now_s
            print_note(_line(progress), as_json=self._as_json, **asdict(progress))


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--status", "say how far a migration is, and change nothing")
    add_flag(parser, "--abort", "remove the new index, and let writes go on")


COMMAND = Command(
    execute=_execute,
    about="""\
Makes a new index with the mapping of this version, copies all records to it while every process goes on, and lets the
alias lead to it. Writes wait for a moment at the end; processes then go over to the new index by themselves. The old
index is kept, and takes no writes any more. Use it when the mapping of the index is wrong or from an older version: in
a new index filters find old records by every field (docs/upgrading.md).

Stopped by a signal, it lets writes go on; killed, they may wait until it is called again. It then goes on where it was;
`--abort` undoes it instead.

Exit code 3: there is no index of ours, or the new one refuses a record; 4: OpenSearch does not answer or refuses;
5: the new index does not hold what the old one holds. The old one is still in use then, and takes writes.""",
    examples=("migrate", "migrate --status", "migrate --abort"),
    json="one object; progress as objects on standard error",
    add_options=_add_options,
    settings=("stream", "streams", "group", "Store", "log_format"),
)
