"""Something answers in place of OpenSearch, a proxy, a sign-in page, a firewall: whole processes, in virtual time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.opensearch import FakeOpenSearch, answer, error
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.store import OpenSearchStore
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.outcome import Accepted, Outcome, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", (STREAM,), GROUP)
KINDS = ("bulk", "get", "search", "look")  # what a running process asks
FRONT_S = 40.0
PAGE = b"<html><head><title>Sign in</title></head></html>"

Substitute = Callable[[httpx.Response], httpx.Response]


def page(status: int, content: bytes = PAGE, content_type: str = "text/html") -> Substitute:
    headers = {"content-type": content_type} if content_type else {}
    return lambda _: httpx.Response(status, content=content, headers=headers)


def cut_short(real: httpx.Response) -> httpx.Response:
    return httpx.Response(real.status_code, content=real.content[: len(real.content) // 2], headers=real.headers)


FRONTS: dict[str, Substitute] = {
    "html": page(200),
    "text": page(200, b"OK", "text/plain"),
    "nothing": page(200, b"", ""),
    "{}": page(200, b"{}", "application/json"),
    "[]": page(200, b"[]", "application/json"),
    "another program": page(200, b'{"status":"ok","items":[],"hits":{"hits":[]}}', "application/json"),
    "html called json": page(200, PAGE, "application/json"),
    "cut short": cut_short,
    "json called html": lambda real: httpx.Response(200, content=real.content, headers={"content-type": "text/html"}),
    **{f"accepted {status}": page(status, b"{}", "application/json") for status in (201, 202, 203, 204, 206)},
    **{f"page {status}": page(status) for status in (302, 400, 401, 403, 404, 405, 409, 410, 413, 429, 500, 502, 503)},
    **{f"json {status}": page(status, b'{"error":"no","status":1}', "application/json") for status in (400, 404, 409)},
    "another index": lambda _: answer({"x-1": {"aliases": {"x": {}}, "mappings": {}, "settings": {"index.uuid": "x"}}}),
    "found nothing": lambda _: answer({"_index": "other", "_id": "other", "found": False}, 404),
    "its own 409": lambda _: error(409, "version_conflict_engine_exception"),
}


class Fronted(FakeOpenSearch):
    """An OpenSearch behind a front that answers some kinds of requests itself."""

    def __init__(self, *, exists: bool = True) -> None:
        super().__init__(WANTED, exists=exists)
        self.kinds: tuple[str, ...] = ()
        self.front: Substitute = page(200)

    def substitute(self, kind: str, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        return self.front(answer) if kind in self.kinds else answer


@asynccontextmanager
async def served(world: World, server: Fronted) -> AsyncIterator[OpenSearchStore]:
    """Serve one process whose store is this server."""
    async with (
        open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client,
        trio.open_nursery() as tasks,
    ):
        store = OpenSearchStore(client, WANTED, timeout_s=10)
        for task in store.tasks():
            tasks.start_soon(task)
        async with world.serving(world.pipeline(store=store)):
            yield store
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS], ids="-".join)
async def test_a_front_costs_nothing_but_time(kinds: tuple[str, ...], autojump_clock: MockClock) -> None:
    """It answers one kind of request, or all: no process ends, and nothing is lost, quarantined or doubled."""
    world, server = World(retry_schedule_s=(2.0,)), Fronted()

    ids: list[str] = []

    def often_second_time(message: Message) -> Outcome:  # so that the redriver has work, too
        sent = sum(send.id == message.id for send in world.channel.sends)
        return Accepted(200) if sent == 2 or ids.index(message.id) % 2 else Retry("busy", 503)

    world.channel.decide = often_second_time
    async with served(world, server) as store:
        server.kinds = kinds
        for name, server.front in FRONTS.items():
            ids.append(world.emit(alert_id=name))
            if "look" in kinds:  # the guard's own minute, and no end of the process
                with pytest.raises(Unavailable):
                    await store.guard()
            await trio.sleep(6)
        server.kinds = ()
        await trio.sleep(120)  # more than a look of the guard, and than the lease of an attempt that was cut

    assert [] == world.dead
    assert {} == world.pending
    assert dict.fromkeys(ids, "delivered") == {
        record_id: kept.source["delivery"]["state"] for record_id, kept in server.documents.items()
    }
    assert dict.fromkeys(ids, 1) == world.channel.accepted
    assert len(server.asked) < 10 * (6 * len(FRONTS) + 120)  # no loop without a pause


@pytest.mark.parametrize("kinds", [("bulk",), KINDS], ids="-".join)
async def test_a_sign_in_page_for_40_s_is_one_line(
    kinds: tuple[str, ...], autojump_clock: MockClock, lines: list[str]
) -> None:
    """The outage is told once, by what answered; then all goes on."""
    world, server = World(), Fronted()
    async with served(world, server):
        server.kinds = kinds
        for number in range(20):
            world.emit(alert_id=f"a-{number}")
        await trio.sleep(FRONT_S)
        assert {} == world.channel.accepted
        server.kinds = ()
        await trio.sleep(10)

    assert 20 == len(world.channel.accepted)
    (line,) = [line for line in lines if "does not answer" in line]
    assert "the store does not answer: http://store:9200 does not answer like OpenSearch: 200 text/html to " in line
    assert "'Sign in'" in line


@pytest.mark.parametrize("front", [name for name in FRONTS if name != "its own 409"])
@pytest.mark.parametrize("kind", ["info", "look", "create", "mapping", "refresh", "count"])
async def test_a_front_at_start_is_named(kind: str, front: str) -> None:
    """Nothing is believed on its word, created or added: exit code 4, and one line says what answered."""
    server = Fronted(exists=kind != "create")
    if kind in ("mapping", "refresh", "count"):  # a field is missing, so an empty index gets it
        server.forget_field("links")
    server.kinds, server.front = (kind,), FRONTS[front]

    with pytest.raises(StartError) as caught:
        async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
            await OpenSearchStore(client, WANTED, timeout_s=10).prepare()

    assert 1 == len(str(caught.value).splitlines())
    if front in ("html", "page 404", "{}", "accepted 204"):
        assert "http://store:9200 does not answer like OpenSearch: " in str(caught.value)
