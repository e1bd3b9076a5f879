"""Retention over many old records: how long they take to go, and what alerts that arrive meanwhile notice of it."""

import datetime as dt
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from bench.console import RATE, alerts_arriving, fill, settings_of
from bench.places import StoreKind
from bench.plan import Latency, Plan, VoidRunError
from bench.processes import WorkersFailedError
from bench.run import latency_of
from bench.stage import Stage, open_stage
from tests.support.servers import OpenSearchServer
from trio_alerts.channels.registry import channel_settings
from trio_alerts.ports.store import pruned_records
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store

KEPT_S = 60.0  # nothing is deleted for so long: by then the alerts that meet no retention have arrived
ALONE_S = 50.0
AGE = dt.timedelta(hours=1)  # of the youngest of the old records
LOOK_EVERY_S = 1.0
SETTINGS = {
    "keep_records_s": f"{KEPT_S:g}",
    "retry_schedule_s": "5,5",
    "keepalive_s": "2",
    "claim_idle_s": "6",
}


@dataclass(frozen=True)
class Pruning:
    """What came of one store.

    Attributes:
        took_s: From the first record that was gone to the last.
        alone: How long alerts took from when they were due to the receiver, while nothing was deleted.
        meanwhile: The same while records went.
    """

    took_s: float
    alone: Latency
    meanwhile: Latency


def prune(store: StoreKind, opensearch: OpenSearchServer | None, records: int) -> Pruning:
    """Fill a store with old records, let alerts arrive, and wait until the old ones are gone and counted.

    Raises:
        VoidRunError: Something else is gone, or the count or the ledger does not balance.
    """
    plan = Plan("trio_alerts", store, 16, 0, rate=RATE, settings=SETTINGS)
    with open_stage(plan, opensearch) as stage:
        trio.run(fill, stage, records, dt.datetime.now(dt.UTC) - AGE)
        try:
            with stage.workers() as workers, _watching(stage) as went:
                stage.until_read(workers)
                ends_s = time.monotonic() + ALONE_S
                with alerts_arriving(stage) as alone:
                    stage.until(lambda: time.monotonic() > ends_s, "the alerts before retention", workers)
                if went:
                    raise VoidRunError(f"{plan}: records went before {ALONE_S:g} s were over")
                with alerts_arriving(stage) as meanwhile:
                    stage.until(lambda: bool(went) and went[-1][1] >= records, "all old records are gone", workers)
                stage.until_accepted(len(alone) + len(meanwhile), workers)
                received = stage.receiver.report()
                reports, log = workers.stop(), workers.log()
        except WorkersFailedError as fault:
            raise VoidRunError(f"{plan}: {fault}") from None
        stage.balance([*alone, *meanwhile], [received], reports, log)
        if (counted := trio.run(_pruned, stage)) != records:
            raise VoidRunError(f"{plan}: {counted:,} records are counted as deleted, of {records:,}")
    arrived_s = dict(zip(received.ids, received.arrivals_s, strict=True))
    first_s, last_s = went[0][0], next(at_s for at_s, count in went if count >= records)
    under_way = {one: at_s for one, at_s in meanwhile.items() if first_s <= at_s <= last_s}
    waits = [latency_of(arrived_s[one] - at_s for one, at_s in each.items()) for each in (alone, under_way)]
    return Pruning(last_s - first_s, *waits)


@contextmanager
def _watching(stage: Stage) -> Iterator[list[tuple[float, int]]]:
    """Look how many records are deleted until the block ends; it gets when how many were, once the first is gone."""
    went: list[tuple[float, int]] = []
    ended = threading.Event()

    async def watch() -> None:
        async with open_store(load_settings({}, settings_of(stage), None, channel_settings)) as store:
            while not ended.is_set():
                if count := pruned_records(await store.pruned()):
                    went.append((time.monotonic(), count))
                await trio.sleep(LOOK_EVERY_S)

    thread = threading.Thread(target=trio.run, args=(watch,))
    thread.start()
    try:
        yield went
    finally:
        ended.set()
        thread.join()


async def _pruned(stage: Stage) -> int:
    async with open_store(load_settings({}, settings_of(stage), None, channel_settings)) as store:
        return pruned_records(await store.pruned())
