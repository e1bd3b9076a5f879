"""The bounds of the OpenSearch store, in virtual time, its requests carried by a script."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.store_contract import record
from tests.test_opensearch_client import INFO, Network, opened
from trio_alerts.backends.index_schema import Wanted
from trio_alerts.backends.opensearch_store import MAX_BULK_ITEMS, OpenSearchStore
from trio_alerts.errors import Unavailable

WANTED = Wanted("alerts", ("AlertStream",), "alert-processor")
LIVE = {WANTED.first_index: {**WANTED.body(), "settings": {**WANTED.body()["settings"], "index.uuid": "u"}}}


def answer(request: httpx.Request) -> httpx.Response:
    """Be an OpenSearch with a right index that takes no writes."""
    if request.method == "GET":
        return httpx.Response(200, json=LIVE if request.url.path == "/alerts" else INFO)
    blocked = {"_index": "alerts", "status": 403, "error": {"type": "cluster_block_exception", "reason": "blocked"}}
    return httpx.Response(200, json={"items": [{"create": blocked}] * (request.content.count(b"\n") // 2)})


@asynccontextmanager
async def running(network: Network) -> AsyncIterator[OpenSearchStore]:
    async with opened(network) as client, trio.open_nursery() as nursery:
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        for task in store.tasks():
            nursery.start_soon(task)
        yield store
        nursery.cancel_scope.cancel()


async def test_a_write_waits_at_most_twice_the_time_out(autojump_clock: MockClock) -> None:
    """A server that hangs keeps nobody longer than the request under way and one's own, however many wait."""
    network = Network()
    waited_s: Counter[float] = Counter()

    async def write(number: int) -> None:
        started_s = trio.current_time()
        with pytest.raises(Unavailable):
            await store.create(record(number))
        waited_s[round(trio.current_time() - started_s)] += 1

    async with running(network) as store:
        network.delay_s = 1000
        async with trio.open_nursery() as writers:
            for number in range(5 * MAX_BULK_ITEMS):
                writers.start_soon(write, number)

    assert {10, 20} == waited_s.keys()
    assert 5 * MAX_BULK_ITEMS == waited_s.total()


async def test_an_outage_does_not_make_a_storm_of_looks(autojump_clock: MockClock) -> None:
    """However many writes an outage meets, the guard looks at the index once a second at most."""
    network = Network()
    network.answer = answer

    async def write() -> None:
        while True:
            with pytest.raises(Unavailable, match="cluster_block_exception"):
                await store.create(record())
            await trio.sleep(0.1)

    async with running(network) as store:
        await store.prepare()
        network.asked.clear()
        with trio.move_on_after(9.95):
            async with trio.open_nursery() as writers:
                for _ in range(20):
                    writers.start_soon(write)

    assert 10 == sum(request.method == "GET" for request in network.asked)
