"""Old records are counted exactly, wherever whoever deletes them dies, and however late his requests arrive."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import httpx
import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.contracts.retention import BEFORE, STREAM, nothing
from tests.contracts.store import delivered, record
from tests.support.fakes.opensearch import FakeOpenSearch, Kept, answer, error, kind_of
from trio_alerts.backends.opensearch.answers import Blocked
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.queries import JOURNAL_ID, NO_RECORD
from trio_alerts.backends.opensearch.store import OpenSearchStore
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.ports.store import pruned_records
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", (STREAM,), "alert-processor")
RECORDS, STEP = 6, 4
REQUESTS = 7  # of one step: read the journal and the records, name them, delete, look, count; and one spare
How = Literal["before", "after", "late"]


class Died(BaseException):
    """The process is dead."""


class Server(FakeOpenSearch):
    """An OpenSearch at whose request number `dies_at` the process dies: before it arrives, after, or long before."""

    def __init__(self) -> None:
        super().__init__(WANTED)
        self.dies_at, self.how = 0, "before"
        self.late: list[tuple[str, httpx.Request]] = []
        for number in range(RECORDS):
            one = delivered(record(number))
            self.documents[one.id] = Kept(msgspec.json.decode(one.to_json()), number)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.dies_at -= 1
        if self.dies_at == 0:
            if self.how == "after":
                await super().handle_async_request(request)
            elif self.how == "late":
                self.late.append((kind_of(request), request))
            raise Died
        return await super().handle_async_request(request)

    def arrive(self) -> None:
        """Let come what was under way when its sender died."""
        for kind, request in self.late:
            self.answer(kind, request)

    @property
    def left(self) -> int:
        return len(self.documents.keys() - {JOURNAL_ID})


@asynccontextmanager
async def opened(server: FakeOpenSearch) -> AsyncIterator[OpenSearchStore]:
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        await store.prepare()
        yield store


async def _prune(store: OpenSearchStore, numbers: Sequence[int]) -> int:
    ids = [record(number).id for number in numbers]
    return await store.prune(STREAM, ids, lambda _: True, nothing)


@pytest.mark.parametrize("how", ["before", "after", "late"])
@pytest.mark.parametrize("dies_at", range(1, REQUESTS + 1))
@pytest.mark.parametrize("arrives", ["first", "last"])
async def test_the_count_is_exact_wherever_somebody_dies(
    dies_at: int, how: How, arrives: str, autojump_clock: MockClock
) -> None:
    """At every moment what is gone is counted; what was begun is finished by the next one, and counted once."""
    server = Server()
    async with opened(server) as store:
        await store.raise_pruned_before(STREAM, BEFORE)
        server.dies_at, server.how = dies_at, how
        try:
            await _prune(store, range(STEP))
        except Died:
            pass
        else:
            assert dies_at == REQUESTS
        server.dies_at = 0
        if arrives == "first":
            server.arrive()
        assert RECORDS == server.left + pruned_records(await store.pruned())
        await _prune(store, range(STEP))
        assert RECORDS - STEP == server.left
        if arrives == "last":
            server.arrive()
        assert RECORDS == server.left + pruned_records(await store.pruned())
        await _prune(store, range(RECORDS))
        assert (0, RECORDS) == (server.left, pruned_records(await store.pruned()))


@pytest.mark.parametrize("between", range(REQUESTS - 1))
async def test_two_at_once_count_once(between: int, autojump_clock: MockClock) -> None:
    """A second process does the whole of it between any two requests of the first."""
    server = Server()
    async with opened(server) as store, opened(server) as other:
        await store.raise_pruned_before(STREAM, BEFORE)
        server.asked.clear()
        held = server.handle_async_request

        async def meanwhile(request: httpx.Request) -> httpx.Response:
            if len(server.asked) == between:
                server.handle_async_request = held  # type: ignore[method-assign]
                await _prune(other, range(1, RECORDS))
            return await held(request)

        server.handle_async_request = meanwhile  # type: ignore[method-assign]
        await _prune(store, range(STEP))
        assert RECORDS == server.left + pruned_records(await store.pruned())
        await _prune(store, range(RECORDS))
        assert (0, RECORDS) == (server.left, pruned_records(await store.pruned()))


async def test_what_changed_in_the_middle_of_it_stays(autojump_clock: MockClock) -> None:
    """Somebody redelivers a record after it was named: it is neither deleted nor counted."""
    server = Server()
    async with opened(server) as store:
        await store.raise_pruned_before(STREAM, BEFORE)

        async def redeliver(point: str) -> None:
            await trio.lowlevel.checkpoint()
            if point == "before_prune":
                kept = server.documents[record(1).id]
                server.documents[record(1).id] = Kept(kept.source, kept.seq_no + 100)

        ids = [record(number).id for number in range(STEP)]
        assert STEP - 1 == await store.prune(STREAM, ids, lambda _: True, redeliver)
        assert record(1).id in server.documents
        assert STEP - 1 == pruned_records(await store.pruned())


async def test_what_was_begun_in_one_index_is_counted_in_its_copy(autojump_clock: MockClock) -> None:
    """There the versions are others: what was not deleted before the copy was made stays, and is not counted."""
    server = Server()
    async with opened(server) as store:
        await store.raise_pruned_before(STREAM, BEFORE)
        server.dies_at, server.how = 4, "before"  # before the records are deleted
        with pytest.raises(Died):
            await _prune(store, range(STEP))
        del server.documents[record(0).id]
        for kept in server.documents.values():
            kept.seq_no += 1000
        assert 1 == await _prune(store, ())
        assert RECORDS == server.left + pruned_records(await store.pruned())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: answer({"items": []}),
        lambda _: answer({"docs": []}),
        lambda _: error(400),
        lambda _: httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"}),
    ],
)
@pytest.mark.parametrize("kind", ["mget", "bulk", "get"])
async def test_an_unexpected_answer_is_an_outage(
    kind: str, spoil: Callable[[httpx.Response], httpx.Response], autojump_clock: MockClock
) -> None:
    """Whatever comes in place of an answer, no record is counted that is there."""

    class Fronted(Server):
        front = False

        def substitute(self, kind_: str, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
            return spoil(answer) if self.front and kind_ == kind else answer

    server = Fronted()
    async with opened(server) as store:
        await store.raise_pruned_before(STREAM, BEFORE)
        server.front = True
        with pytest.raises(Unavailable):
            await _prune(store, range(STEP))
        server.front = False
        assert RECORDS == server.left + pruned_records(await store.pruned())


async def test_a_journal_that_somebody_changed_is_named(autojump_clock: MockClock) -> None:
    """It is not begun anew: the count would be lost."""
    server = Server()
    async with opened(server) as store:
        server.documents[JOURNAL_ID] = Kept({"retention": {"streams": 7}}, 50)
        with pytest.raises(Unavailable, match="changed by somebody else"):
            await store.pruned()


class Denying(FakeOpenSearch):
    """Gives its user all rights but one."""

    def __init__(self, right: str) -> None:
        super().__init__(WANTED)
        self.right = right

    def substitute(self, kind: str, request: httpx.Request, answered: httpx.Response) -> httpx.Response:
        denied = {"type": "security_exception", "reason": f"no permissions for [{self.right}]"}
        item = {"_index": WANTED.first_index, "_id": NO_RECORD, "error": denied}
        if self.right == "indices:data/read/mget[shard]" and kind == "mget":
            return answer({"docs": [item]})
        if self.right == "indices:data/write/delete" and b'{"delete":' in request.content:
            return answer({"items": [{"delete": {**item, "status": 403}}]})
        return answered


@pytest.mark.parametrize("right", ["indices:data/write/delete", "indices:data/read/mget[shard]"])
async def test_who_may_not_delete_does_not_start(right: str, autojump_clock: MockClock) -> None:
    """If records are to go: it is said at start, not by records that stay."""
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=Denying(right)) as client:
        await OpenSearchStore(client, WANTED, timeout_s=10).prepare()
        with pytest.raises(StartError, match=re.escape(right)):
            await OpenSearchStore(client, WANTED, timeout_s=10, removes=True).prepare()


@pytest.mark.parametrize("kind", ["get", "search"])
async def test_a_block_at_start_is_waited_for(kind: str, autojump_clock: MockClock) -> None:
    """It came after the look at the index: no right is missing, and who looks again will say what it is."""

    class Blocking(FakeOpenSearch):
        def substitute(self, asked: str, request: httpx.Request, answered: httpx.Response) -> httpx.Response:
            return error(403, "cluster_block_exception") if asked == kind else answered

    server = Blocking(WANTED)
    async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
        store = OpenSearchStore(client, WANTED, timeout_s=10, removes=True)
        await store.prepare()
        with pytest.raises(Blocked, match=r"answers 403 to .*cluster_block_exception"):
            await (store.get("1-1") if kind == "get" else store.vitals())
    assert kind in [asked for asked, _ in server.asked]
