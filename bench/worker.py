"""One worker process of the program under measurement: `python -m bench.worker --report FILE`, settings as for `run`.

It is what `run` starts, with two additions: the store of a run without a store, and a count of the batches that were
written. At its end it writes both into the report.
"""

import argparse
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from bench.remembering_store import RememberingStore
from trio_alerts.channels.registry import channel_settings
from trio_alerts.log import set_up_logging
from trio_alerts.ports.store import AlertStore
from trio_alerts.processes import work
from trio_alerts.reloads import Reloads
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store

if TYPE_CHECKING:  # OpenSearch's client would count as memory of a run without it
    from trio_alerts.backends.opensearch.store import OpenSearchStore
    from trio_alerts.backends.sqlite.store import SqliteStore


class WorkerReport(msgspec.Struct):
    """What a worker process reports at its end.

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
    sizes: Counter[int] = Counter()

    def count(size: int) -> None:
        sizes[size] += 1

    @asynccontextmanager
    async def open_measured(settings: Settings) -> AsyncIterator[AlertStore]:
        if options.remember:
            yield memory
            return
        async with open_store(settings) as store:
            cast("SqliteStore | OpenSearchStore", store).writes.on_batch.append(count)
            yield store

    read = partial(load_settings, {}, os.environ, None, channel_settings)
    work(Reloads(read, read()), open_measured)
    options.report.write_bytes(msgspec.json.encode(WorkerReport(dict(sizes), memory.delivered_ids())))


if __name__ == "__main__":
    main()
