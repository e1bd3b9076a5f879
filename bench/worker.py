"""One worker process of the program under measurement: `python -m bench.worker --report FILE`, settings as for `run`.

It is what `run` starts, with two additions: the store of a run without a store, and a count of the batches that were
written. At its end it writes both into the report.
"""

import argparse
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from bench.remembering_store import RememberingStore
from trio_alerts import assembly
from trio_alerts.batcher import Batcher
from trio_alerts.channels.registry import channel_settings
from trio_alerts.commands import run
from trio_alerts.log import set_up_logging
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.sources import load_settings


class Report(msgspec.Struct):
    """What a worker process tells at its end.

    Args:
        batches: How many batches of each size were written to the store.
        remembered: The IDs that were recorded as delivered, if the store is in the process's own memory.
    """

    batches: dict[int, int] = {}
    remembered: list[str] = []


def main() -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=main.__doc__)
    parser.add_argument("--report", type=Path, required=True, help="where to write what was counted")
    parser.add_argument("--remember", action="store_true", help="without a store")
    options = parser.parse_args()
    set_up_logging("text", "warning")
    memory = RememberingStore()
    if options.remember:
        assembly.open_store = _opened(memory)  # type: ignore[assignment, attr-defined]  # what it yields is all that is asked of it
    pipelines: list[tuple[Pipeline, Counter[int]]] = []
    run.open_pipeline = _noted(assembly.open_pipeline, pipelines)  # type: ignore[attr-defined,assignment]
    run.COMMAND.execute(options, load_settings({}, os.environ, None, channel_settings))
    [(_, batches)] = pipelines
    report = Report(dict(batches), memory.delivered_ids())
    options.report.write_bytes(msgspec.json.encode(report))


def _opened(store: RememberingStore) -> Callable[[Settings], AbstractAsyncContextManager[AlertStore]]:
    @asynccontextmanager
    async def open_store(_: Settings) -> AsyncIterator[AlertStore]:
        yield cast("AlertStore", store)  # nobody lists, searches or audits during a run

    return open_store


def _noted(
    open_pipeline: Callable[[Settings], AbstractAsyncContextManager[Pipeline]],
    pipelines: list[tuple[Pipeline, Counter[int]]],
) -> Callable[[Settings], AbstractAsyncContextManager[Pipeline]]:
    @asynccontextmanager
    async def open_and_note(settings: Settings) -> AsyncIterator[Pipeline]:
        async with open_pipeline(settings) as pipeline:
            pipelines.append((pipeline, _count_batches(pipeline.store)))
            yield pipeline

    return open_and_note


def _count_batches(store: AlertStore) -> Counter[int]:
    """Count the sizes of what every batcher of the store sends from now on."""
    sizes: Counter[int] = Counter()

    def counted(flush: Any) -> Any:
        async def count_and_flush(items: Sequence[Any]) -> Any:
            sizes[len(items)] += 1
            return await flush(items)

        return count_and_flush

    for batcher in vars(store).values():
        if isinstance(batcher, Batcher):
            batcher._flush = counted(batcher._flush)  # noqa: SLF001 - a count that the program itself has no use for
    return sizes


if __name__ == "__main__":
    main()
