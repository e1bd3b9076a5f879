"""The bounds of the OpenSearch store, in virtual time, its requests carried by a script."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.contracts.store import record
from tests.support.fakes.opensearch import INFO, error
from tests.unit.backends.opensearch.test_client import Network, opened
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.store import MAX_BULK_ITEMS, OpenSearchStore
from trio_alerts.errors import StartError, Unavailable

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
LIVE = {WANTED.first_index: {**WANTED.body(), "settings": {**WANTED.body()["settings"], "index.uuid": "u"}}}


def answer(request: httpx.Request) -> httpx.Response:
    """Be an OpenSearch with a right index that takes no writes."""
    if request.method == "GET":
        return httpx.Response(200, json=LIVE if request.url.path == "/alerts" else INFO)
    ids = [msgspec.json.decode(line)["create"]["_id"] for line in request.content.splitlines()[::2]]
    blocked = {"_index": "alerts", "status": 403, "error": {"type": "cluster_block_exception", "reason": "blocked"}}
    return httpx.Response(200, json={"items": [{"create": {**blocked, "_id": one}} for one in ids]})


@asynccontextmanager
async def running(network: Network) -> AsyncIterator[OpenSearchStore]:
    async with opened(network) as client, trio.open_nursery() as nursery:
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        for task in store.tasks():
            nursery.start_soon(task)
        yield store
        nursery.cancel_scope.cancel()


async def test_a_server_that_hangs_is_waited_for_once(autojump_clock: MockClock) -> None:
    """However many writes wait behind a request that is not answered, all are told with it, at the time-out."""
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

    assert {10: 5 * MAX_BULK_ITEMS} == waited_s


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


async def test_a_cluster_that_does_not_know_its_indices_yet_is_an_outage(autojump_clock: MockClock) -> None:
    """A node that comes back says 404 to a plain look at any name: nothing is fatal, and nothing is created."""
    network = Network()
    network.answer = answer
    waited: list[str] = []

    def recovering(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("ignore_unavailable") != "true":
            return error(404, "index_not_found_exception")
        waited.append(request.url.params["cluster_manager_timeout"])
        return error(503, "cluster_manager_not_discovered_exception", "blocked by: state not recovered")

    async with running(network) as store:
        await store.prepare()
        network.answer = recovering
        with pytest.raises(Unavailable, match="state not recovered"):
            await store.guard()
        with pytest.raises(StartError, match="state not recovered"):
            await store.prepare()

    assert {"GET"} == {request.method for request in network.asked}
    assert ["7000ms", "7000ms"] == waited  # its own bound comes before ours, so that the reason is heard
