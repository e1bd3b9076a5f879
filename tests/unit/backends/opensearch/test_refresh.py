"""Who asks for a refresh before a search, and what happens if there is none."""

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.contracts.store import NOW, record
from tests.support.fakes.opensearch import FakeOpenSearch, answer, error
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.store import OpenSearchStore
from trio_alerts.errors import Unavailable
from trio_alerts.ports.store import RecordFilter
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
EVERYTHING = RecordFilter()


class Server(FakeOpenSearch):
    """An OpenSearch whose answers to `_refresh` are scripted."""

    refresh_answer: httpx.Response | None = None

    def substitute(self, kind: str, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        return self.refresh_answer if kind == "refresh" and self.refresh_answer else answer

    def kinds(self) -> list[str]:
        """Return what was asked since the last call."""
        asked = [kind for kind, _ in self.asked]
        self.asked.clear()
        return asked


@pytest.fixture
def server(autojump_clock: MockClock) -> Server:
    return Server(WANTED)


@pytest.fixture
async def store(server: Server) -> AsyncIterator[OpenSearchStore]:
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        await store.prepare()
        server.kinds()
        yield store


async def test_what_people_ask_for_is_refreshed_first(server: Server, store: OpenSearchStore) -> None:
    """Of a search the first page alone: a refresh between two pages would be paid for and show nothing new."""
    await store.search(EVERYTHING, 2)
    assert ["refresh", "search"] == server.kinds()
    await store.count(EVERYTHING)
    await store.search(EVERYTHING, 2, after=record(1))
    assert ["search", "search"] == server.kinds()


async def test_a_page_that_is_turned_later_is_refreshed_too(server: Server, store: OpenSearchStore) -> None:
    """Meanwhile nobody searched, so nothing is refreshed: the search would wait up to a second for it."""
    await store.search(EVERYTHING, 2)
    await trio.sleep(1)
    server.kinds()
    await store.search(EVERYTHING, 2, after=record(1))
    assert ["refresh", "search"] == server.kinds()


async def test_what_processes_ask_for_is_not(server: Server, store: OpenSearchStore) -> None:
    """The sweep and the counts of each minute take what there is: a refresh makes a segment, and costs the writers."""
    await store.due(NOW, 10)
    await store.counts(NOW)
    await store.waiting()
    await store.vitals()
    assert 4 * ["search"] == server.kinds()


@pytest.mark.parametrize("kind", ["security_exception", "cluster_block_exception"])
async def test_without_permission_it_goes_on(kind: str, server: Server, store: OpenSearchStore) -> None:
    """A user who may only read, or an index that is read-only: the answer may be a second old, and that is all."""
    server.refresh_answer = error(403, kind)
    await store.search(EVERYTHING, 2)
    assert ["refresh", "search"] == server.kinds()


@pytest.mark.parametrize(
    "refused",
    [
        error(401),
        error(400, "index_closed_exception"),
        error(503, "unavailable_shards_exception"),
        answer({"_shards": {"total": 2, "successful": 1, "failed": 1}}),
        answer({}),
    ],
    ids=["401", "closed", "503", "a shard failed", "foreign"],
)
async def test_any_other_answer_is_an_outage(refused: httpx.Response, server: Server, store: OpenSearchStore) -> None:
    """It is said, as that of a search would be: nobody is shown a page that may lack what was just written."""
    server.refresh_answer = refused
    with pytest.raises(Unavailable):
        await store.search(EVERYTHING, 2)
    assert ["refresh"] == server.kinds()
