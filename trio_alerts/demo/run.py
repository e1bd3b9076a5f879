"""The demo's story, from the first process to the verdict."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from trio_alerts.backends.redis.client import RedisClient, open_redis
from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.demo.console import open_console
from trio_alerts.demo.counts import STREAM
from trio_alerts.demo.crew import open_crew, write_settings
from trio_alerts.demo.embedded_valkey import find_valkey, open_valkey
from trio_alerts.demo.folder import DATABASE, demo_folder
from trio_alerts.demo.receiver_server import serve_receiver
from trio_alerts.demo.receivers import make_receivers
from trio_alerts.demo.samples import MALFORMED, Fields, read_examples, sample_entries
from trio_alerts.demo.screen import open_screen
from trio_alerts.demo.story import Story
from trio_alerts.demo.tables import summary_document, summary_view
from trio_alerts.exact_json import encode
from trio_alerts.settings.addresses import parse_redis_url

UNBALANCED = 5  # as LedgerError's
MOST_ALERTS = 100_000
EMIT_AT_ONCE, EMIT_EVERY_S = 50, 0.1  # 500 alerts/s: three times what the workers can do, so that they are never idle
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_demo(*, alerts: int, seed: int, kill: bool, keep: bool, as_json: bool = False) -> int:
    """Run the demo and return its exit code: 0, 5 if the ledger does not balance, 128 + n after signal n.

    Args:
        alerts: How many valid alerts are emitted.
        seed: Decides which alerts the flaky receiver refuses.
        kill: Kill one of the worker processes in the middle.
        keep: Leave the console open until the first signal, and then the folder with settings, logs and records.
        as_json: Print the ledger as one object, and the show on stderr.

    Raises:
        StartError: Something it needs is not installed; the message says how to get it.
        WorkerDied: A worker process ended by itself; the message has the end of its log. (In a group.)

    Cancellation: all processes are killed; the folder is removed, unless it is to be kept.
    """
    binary = find_valkey()
    exit_code, interrupted_by = 0, 0
    look = Look() if keep else None
    async with trio.open_nursery() as nursery:

        async def watch_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal interrupted_by
            with trio.open_signal_receiver(*SIGNALS) as signals:
                task_status.started()
                async for number in signals:
                    if look is not None and look.is_on:
                        look.end.set()
                    else:
                        interrupted_by = number
                        nursery.cancel_scope.cancel()

        await nursery.start(watch_signals)
        exit_code = await _play(binary, alerts, seed, kill=kill, look=look, as_json=as_json)
        nursery.cancel_scope.cancel()
    if interrupted_by:
        sys.stderr.write(
            f"the demo was interrupted by {signal.Signals(interrupted_by).name}; its processes are ended\n"
        )
        return 128 + interrupted_by
    return exit_code


@dataclass
class Look:
    """A look around at the end: whether it is on, and what ends it."""

    is_on: bool = False
    end: trio.Event = field(default_factory=trio.Event)


async def _play(binary: Path, alerts: int, seed: int, *, kill: bool, look: Look | None, as_json: bool) -> int:
    examples = read_examples()
    receivers = make_receivers(seed)
    with demo_folder(alerts, keep=look is not None) as folder:
        database = folder / DATABASE
        async with open_valkey(binary, folder) as redis_url, trio.open_nursery() as serving:
            channels = {one.name: one.service.settings(await serving.start(serve_receiver, one)) for one in receivers}
            settings = write_settings(folder, redis_url, f"sqlite:///{database}", channels)
            async with open_redis(parse_redis_url(redis_url)) as redis, open_sqlite_store(database) as store:
                await store.prepare()
                emitted: list[str] = []
                with open_screen(Console(stderr=as_json, highlight=False)) as screen:
                    async with open_crew(settings) as crew, trio.open_nursery() as emitting:
                        emitting.start_soon(emit, redis, sample_entries(alerts, examples), emitted)
                        story = Story(
                            total=alerts + MALFORMED,
                            redis=redis,
                            store=store,
                            crew=crew,
                            receivers=receivers,
                            emitted=emitted,
                            screen=screen,
                        )
                        summary = await story.run(kill=kill)
            if as_json:
                sys.stdout.write(f"{encode(summary_document(summary)).decode()}\n")
            else:
                screen.console.print(summary_view(summary))
            if look is not None:
                async with open_console(settings) as address:
                    screen.console.print(f"\nThe console is at {address} ; Ctrl-C closes it.")
                    look.is_on = True
                    await look.end.wait()
            serving.cancel_scope.cancel()
    return UNBALANCED if summary.faults else 0


async def emit(redis: RedisClient, entries: Iterator[Fields], emitted: list[str]) -> None:
    """Write entries to the stream, some at a time, and note the ID of each: a rule engine at work."""
    for count, fields in enumerate(entries, 1):
        entry_id: Any = await redis.xadd(STREAM, fields)
        emitted.append(entry_id.decode())
        if count % EMIT_AT_ONCE == 0:
            await trio.sleep(EMIT_EVERY_S)
