"""OpenSearch's client on trio, its requests carried by a script in place of a network."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import pytest
import trio
from opensearchpy import AsyncOpenSearch, ConflictError, NotFoundError, RequestError, TransportError
from trio.testing import MockClock

from tests.contracts.store import record
from tests.support.fakes.opensearch import INFO, SHARDS, error
from tests.support.raw_receiver import answering, raw_receiver
from trio_alerts.backends.opensearch.answers import AccessDenied, Blocked, ForeignAnswer
from trio_alerts.backends.opensearch.bulk import BulkItem, ItemError, bulk, write_of
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.connection import MAX_UNDER_WAY
from trio_alerts.backends.opensearch.documents import Target, read_document, search_documents
from trio_alerts.backends.opensearch.nodes import Nodes
from trio_alerts.errors import SettingsError, StartError, Unavailable
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import OpenSearchAddress

Answer = httpx.Response | Exception


class Network(httpx.AsyncBaseTransport):
    """Answers by a script and remembers what was asked; without a script, every node is a healthy OpenSearch."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], Answer] = lambda request: httpx.Response(200, json=INFO)
        self.delay_s = 0.0
        self.under_way = 0
        self.most_under_way = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(self.delay_s)
            answer = self.answer(request)
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hosts(self) -> list[str]:
        return [request.url.host for request in self.asked]


@pytest.fixture
def network() -> Network:
    return Network()


@asynccontextmanager
async def opened(
    network: Network, *hosts: str, user: str | None = None, password: Secret | None = None, timeout_s: float = 10.0
) -> AsyncIterator[AsyncOpenSearch]:
    address = OpenSearchAddress(tuple(f"http://{host}:9200" for host in hosts or ("a",)), user, password)
    async with open_opensearch(address, http=network, timeout_s=timeout_s) as client:
        network.asked.clear()
        yield client


def failing(status: int, error_type: str = "some_exception") -> Callable[[httpx.Request], Answer]:
    return lambda request: error(status, error_type)


def on(host: str, answer: Answer) -> Callable[[httpx.Request], Answer]:
    return lambda request: answer if request.url.host == host else httpx.Response(200, json=INFO)


async def write(client: AsyncOpenSearch) -> object:
    return await client.index(index="i", id="1", body={"a": 1})


# --- where it is -----------------------------------------------------------------------------------------------------


def test_healthy_nodes_take_turns_and_ill_ones_come_last() -> None:
    """A node that failed is asked last while it rests: 5 s, then twice as long each time, at most 60 s."""
    nodes = Nodes(["a", "b", "c"])
    first = nodes.in_order(0)
    assert {"a", "b", "c"} == {node.url for node in first}
    assert first[0] is not nodes.in_order(0)[0]

    ill = first[0]
    for after_s, rest_s in [(0, 5), (100, 10), (200, 20), (300, 40), (400, 60), (500, 60)]:
        nodes.failed(ill, after_s)
        assert [ill] * 3 == [nodes.in_order(after_s + rest_s - 0.1)[-1] for _ in range(3)]
        assert ill in [nodes.in_order(after_s + rest_s)[0] for _ in range(3)]

    nodes.worked(ill)
    nodes.failed(ill, 1000)
    assert ill in [nodes.in_order(1005)[0] for _ in range(3)]


def test_with_every_node_ill_the_longest_rested_is_asked_first() -> None:
    """Resting is no refusal: with no healthy node each request still tries them all."""
    nodes = Nodes(["a", "b"])
    a, b = sorted(nodes.in_order(0), key=lambda node: node.url)
    nodes.failed(b, 0)
    nodes.failed(a, 1)

    assert [[b, a]] * 2 == [nodes.in_order(2), nodes.in_order(2)]


# --- at start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.ConnectError("all attempts failed"), "http://a:9200.*cannot be reached: all attempts failed"),
        (httpx.Response(401, text="Unauthorized"), "refuses the user name or password.*http://a:9200"),
        (error(503, "cluster_manager_not_discovered"), "503.*cluster_manager"),
        (httpx.Response(503, text="busy"), r"not answer like OpenSearch: 503 text/plain to GET / \('busy'"),
        (httpx.Response(403, json={"Message": "denied"}), "not answer like OpenSearch: 403"),
        (httpx.Response(302, headers={"location": "http://b"}), "redirect"),
        (httpx.Response(404, text="nothing"), "does not answer like OpenSearch"),
        (httpx.Response(200, text="<html>", headers={"content-type": "text/html"}), "not answer like OpenSearch"),
        (httpx.Response(200, text="{", headers={"content-type": "application/json"}), "not JSON"),
        (httpx.Response(200, json=[]), "not answer like OpenSearch"),
        (httpx.Response(200, json={}), "not answer like OpenSearch.*missing required field `version`"),
        (error(404), "not answer like OpenSearch"),
        (httpx.Response(200, json={"version": {"number": "8.1.0"}}), "not OpenSearch, or is too old: version 8.1.0"),
        (httpx.Response(200, json={"version": {"number": "2.6.9", "distribution": "opensearch"}}), "too old"),
        (httpx.Response(200, json={"version": {"number": "1.9", "distribution": "opensearch"}}), "too old"),
    ],
)
async def test_a_server_that_cannot_be_used_is_refused_at_start(network: Network, answer: Answer, message: str) -> None:
    """What cannot be reached, refuses us, or is no OpenSearch of 2.7 or newer is a StartError."""
    network.answer = lambda request: answer

    with pytest.raises(StartError, match=message):
        async with opened(network):
            pass


@pytest.mark.parametrize("number", ["2.7.0", "2.19.1", "3.4.0", "4.0.0-SNAPSHOT", "10.0.0"])
async def test_every_opensearch_since_2_7_is_accepted(network: Network, number: str) -> None:
    """Versions are compared as numbers."""
    network.answer = lambda request: httpx.Response(
        200, json={"version": {"number": number, "distribution": "opensearch"}}
    )

    async with opened(network):
        pass


async def test_a_user_who_may_not_ask_for_the_version_is_accepted(network: Network) -> None:
    """A 403 to the greeting says nothing about the index, so the index itself decides."""
    network.answer = failing(403)

    async with opened(network):
        pass


async def test_a_ca_file_that_cannot_be_read_is_named() -> None:
    """A wrong store_ca_file stops the start with its name."""
    with pytest.raises(SettingsError, match=r"nowhere\.pem"):
        async with open_opensearch(OpenSearchAddress(("https://a",)), ca_file=Path("nowhere.pem")):
            pass


# --- secrets and headers ---------------------------------------------------------------------------------------------


async def test_credentials_go_into_a_header_and_nowhere_else(network: Network) -> None:
    """User and password are sent as basic authentication; no repr, URL or message holds them."""
    async with opened(network, "a", "b", user="al", password=Secret("se same")) as client:
        await write(client)
        network.answer = failing(401)
        with pytest.raises(AccessDenied) as refusal:
            await write(client)
        network.answer = lambda request: httpx.ReadError("gone")
        with pytest.raises(Unavailable) as loss:
            await write(client)
        shown = f"{client!r} {client.transport.connection_pool!r} {refusal.value!r} {loss.value!r}"

    assert "Basic YWw6c2Ugc2FtZQ==" == network.asked[0].headers["authorization"]
    assert "http://b:9200" in shown
    for secret in ("se same", "se%20same", "YWw6"):
        assert secret not in shown + "".join(str(request.url) for request in network.asked)


async def test_a_warning_of_the_server_is_no_warning_of_ours(network: Network) -> None:
    """Deprecation headers do not become Python warnings, which would end a process that treats them as errors."""
    network.answer = lambda request: httpx.Response(200, json=INFO, headers={"warning": '299 OpenSearch "old"'})

    async with opened(network) as client:
        await write(client)


# --- another node ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("silence")])
async def test_a_write_of_which_nothing_was_sent_goes_to_the_next_node(network: Network, error: Exception) -> None:
    """Without a connection not a byte was sent, so even a write is tried elsewhere, and the node rests."""
    network.answer = on("a", error)
    async with opened(network, "a", "b") as client:
        for _ in range(4):
            await write(client)

    assert ["b"] * 4 == [host for host in network.hosts() if host == "b"]
    assert network.hosts().count("a") <= 1


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.WriteError(""), httpx.RemoteProtocolError("cut")])
async def test_a_write_that_may_have_arrived_is_sent_once(network: Network, error: Exception) -> None:
    """A connection that broke after the request went out ends a write: whoever wrote must look."""
    async with opened(network, "a", "b") as client:
        network.answer = lambda request: error
        with pytest.raises(Unavailable):
            await write(client)

    assert 1 == len(network.asked)


async def test_a_read_is_tried_on_every_node(network: Network) -> None:
    """A search or a get does no harm twice."""
    async with opened(network, "a", "b", "c") as client:
        network.answer = lambda request: httpx.ReadError("reset")
        with pytest.raises(Unavailable, match=r"http://a:9200, http://b:9200.*reset"):
            await client.search(index="i", body={})
        assert ["a", "b", "c"] == sorted(network.hosts())
        with pytest.raises(Unavailable):
            await client.get(index="i", id="1")
        assert 6 == len(network.asked)


async def test_an_ill_node_rests_without_a_repeat(network: Network) -> None:
    """A 503 is the caller's to judge, but the next requests go to the other node first."""
    async with opened(network, "a", "b") as client:
        network.answer = on("a", httpx.Response(503))
        for _ in range(2):  # one of them meets the ill node
            try:
                await write(client)
            except Unavailable:
                break
        else:
            pytest.fail("the ill node was not asked")
        network.asked.clear()
        for _ in range(4):
            await write(client)

    assert ["b"] * 4 == network.hosts()


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_every_request_is_bounded_as_a_whole(network: Network, autojump_clock: MockClock) -> None:
    """A node that never answers costs exactly the time-out, one try, and its turn."""
    async with opened(network, "a", "b", timeout_s=7.0) as client:
        network.delay_s = 1e6
        start_s = trio.current_time()
        with pytest.raises(Unavailable, match="no answer within 7 s"):
            await client.search(index="i", body={})
        assert 7.0 == trio.current_time() - start_s
        hung = network.hosts()
        network.delay_s = 0.0
        await write(client)
        await write(client)

    assert 1 == len(hung)
    assert hung[0] not in network.hosts()[1:]


async def test_a_request_may_bring_its_own_bound(network: Network, autojump_clock: MockClock) -> None:
    """`request_timeout` replaces the time-out of the client."""
    async with opened(network) as client:
        network.delay_s = 1e6
        start_s = trio.current_time()
        with pytest.raises(Unavailable):
            await client.search(index="i", body={}, request_timeout=2.5)

        assert 2.5 == trio.current_time() - start_s


async def test_only_so_many_requests_are_under_way(network: Network, autojump_clock: MockClock) -> None:
    """A burst queues within its own bound; places come back when requests end, time out or are cancelled."""
    async with opened(network) as client:
        network.delay_s = 1e6
        with trio.move_on_after(3):
            async with trio.open_nursery() as nursery:
                for _ in range(3 * MAX_UNDER_WAY):
                    nursery.start_soon(write, client)
        assert MAX_UNDER_WAY == network.most_under_way
        with pytest.RaisesGroup(*[Unavailable] * (MAX_UNDER_WAY + 1), flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                for _ in range(MAX_UNDER_WAY + 1):
                    nursery.start_soon(_unbothered, client, nursery)
        network.delay_s = 0.1
        async with trio.open_nursery() as nursery:
            for _ in range(3 * MAX_UNDER_WAY):
                nursery.start_soon(write, client)

    assert MAX_UNDER_WAY == network.most_under_way


async def _unbothered(client: AsyncOpenSearch, nursery: trio.Nursery) -> None:
    with trio.CancelScope(shield=True):
        await write(client)


# --- answers ---------------------------------------------------------------------------------------------------------


def refused_by_a_shard(kind: str) -> httpx.Response:
    shards = {"total": 1, "successful": 0, "failed": 1, "failures": [{"reason": {"type": kind, "reason": "because"}}]}
    return httpx.Response(403, json={"_shards": shards})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(403, "cluster_block_exception"), Blocked),
        (refused_by_a_shard("cluster_block_exception"), Blocked),
        (error(403, "security_exception"), AccessDenied),
        (refused_by_a_shard("security_exception"), AccessDenied),
    ],
)
async def test_a_block_is_no_missing_right(network: Network, answer: httpx.Response, expected: type[Exception]) -> None:
    """Both are answered with 403: of the index as a whole, or of a shard. A block holds for everybody, and may pass."""
    async with opened(network) as client:
        network.answer = lambda request: answer
        with pytest.raises(expected) as caught:
            await write(client)

    assert expected is type(caught.value)
    assert "403" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RequestError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, TransportError),
        (401, AccessDenied),
        (403, AccessDenied),
        (201, ForeignAnswer),
        (204, ForeignAnswer),
        (206, ForeignAnswer),
        (299, ForeignAnswer),
        (429, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
async def test_each_status_becomes_the_error_of_who_must_act(
    network: Network, status: int, expected: type[Exception]
) -> None:
    """What waiting may fix is Unavailable; what the caller asked for keeps opensearch-py's own class."""
    async with opened(network) as client:
        network.answer = failing(status)
        with pytest.raises(expected) as caught:
            await write(client)

    assert expected is type(caught.value)
    assert 1 == len(network.asked)


PAGE = "<html><head><style>p {}</style></head><body><h1>Sign in</h1> to Example Gateway</body></html>"
HTML = {"content-type": "text/html; charset=utf-8"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 302, 307, 400, 403, 404, 405, 409, 413, 429, 500, 503])
@pytest.mark.parametrize("headers", [HTML, JSON, {}], ids=["html", "json", "none"])
async def test_a_page_in_place_of_an_answer_is_an_outage(
    network: Network, status: int, headers: dict[str, str]
) -> None:
    """With whatever status, it is no document, no missing one, no conflict and no refusal; the message shows it."""
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(status, text=PAGE, headers={"x": "y", **headers})
        with pytest.raises(ForeignAnswer) as caught:
            await read_document(client, Target("i"), "1")

    assert status == caught.value.status
    assert f"like OpenSearch: {status} " in str(caught.value)
    assert "to GET /i/_doc/1 ('Sign in to Example Gateway'" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"1e999",
        b"{}",
        b'{"found":true}',
        b'"\xff"',
        b"\xff",
        "\ud800".encode("utf-8", "surrogatepass"),
        *(
            b'{"_index":"i","_id":"1","_seq_no":7,"_primary_term":2,"found":true,%b}' % rest
            for rest in (
                b'"a":1',
                b'"_source":null',
                b'"_source":"{}"',
                b'"_source":[1]',
                b'"_source":{"a":"\xff"}',
                b'"_source":{"a":1},"_id":1',
                b'"_source":{"a":1},"_id":"2"',
                b'"_source":{"a":1},"_index":"other"',
                b'"_source":{"a":1},"_seq_no":-2',
                b'"_source":{"a":1},"_seq_no":7.5',
                b'"_source":{"a":1},"_seq_no":99999999999999999999',
                b'"_source":{"a":1},"_primary_term":0',
                b'"_source":{"a":1},"found":false',
                b'"_source":{"a":1},"found":"true"',
                b'"_source":{"a":1}}{',
            )
        ),
    ],
)
async def test_json_of_another_kind_is_an_outage(network: Network, content: bytes) -> None:
    """An answer that is cut, not JSON, of other types, or about something else: nothing of it is believed."""
    async with opened(network) as client:
        for status in (200,) if content.endswith(b'"found":false}') else (200, 404):
            network.answer = lambda request, status=status: httpx.Response(  # type: ignore[misc]
                status, content=content, headers=JSON
            )
            with pytest.raises(Unavailable):
                await read_document(client, Target("i", "i"), "1")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"root_cause": [], "type": "x", "reason": "r"}, "status": 400},
        {"error": {"root_cause": [], "type": "x", "reason": "r"}},
        {"error": {"type": "x", "reason": "r"}, "status": 404},
        {"error": {"root_cause": [], "type": ""}, "status": 404},
        {"error": "x", "status": 404},
    ],
)
async def test_a_refusal_in_the_name_of_another_status_is_none(network: Network, body: object) -> None:
    """OpenSearch says the status in the error, too: an API gateway's JSON looks alike, and decides nothing."""
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(404, json=body)
        with pytest.raises(ForeignAnswer):
            await write(client)


async def test_a_page_is_shown_without_what_we_sent(network: Network) -> None:
    """A page may repeat the request: credentials and what an alert holds are not shown, and neither is what is odd."""
    written = write_of(record(title="Whale moved sesame"), None)
    async with opened(network, "a", user="alibaba", password=Secret("open sesame")) as client:
        for text in (
            f"Whale sesame alibaba open sesame {network.asked} YWxpYmFiYTpvcGVuIHNlc2FtZQ== denied",
            f'<p title="sesame">denied</p> {written.lines.decode()}',
            msgspec.json.encode({"denied": "sesame", "Basic YWxpYmFiYTpvcGVuIHNlc2FtZQ==": "Whale"}).decode(),
            "denied \x1b[2J\x07 7f3a9c2e" + "x" * 100_000,
        ):
            network.answer = lambda request, text=text: httpx.Response(200, text=text)  # type: ignore[misc]
            with pytest.raises(ForeignAnswer, match="denied") as caught:
                await bulk(client, "i", [written], timeout_s=10)
            assert not any(word in str(caught.value) for word in ("sesame", "alibaba", "YWxp", "Whale", "7f3a", "\x1b"))
            assert len(str(caught.value)) < 300


async def test_a_node_with_something_else_in_front_rests(network: Network) -> None:
    """A sign-in page of one node's proxy costs one request: the next ones go to the others."""
    async with opened(network, "a", "b") as client:
        network.answer = on("a", httpx.Response(200, text=PAGE, headers=HTML))
        for _ in range(2):  # one of them meets the page
            with suppress(ForeignAnswer):
                await write(client)
        network.asked.clear()
        for _ in range(4):
            await write(client)

    assert ["b"] * 4 == network.hosts()


async def test_a_bulk_request_carries_the_ready_bytes_and_cannot_create_an_index(network: Network) -> None:
    """The lines are sent as they are; require_alias is on, and the server gives up before we do."""
    writes = [write_of(record(1, title="\xe9"), None), write_of(record(2), (7, 1))]
    items = [
        {"create": {"_index": "i-000001", "_id": record(1).id, "status": 201, "_seq_no": 3, "_primary_term": 1}},
        {"index": {"_index": "i-000001", "_id": record(2).id, "status": 409, "error": {"type": "conflict"}}},
    ]
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(200, json={"items": items})
        created, refused = await bulk(client, "i", writes, timeout_s=10.0)

    assert writes[0].lines + writes[1].lines == network.asked[0].content
    assert "/i/_bulk" == network.asked[0].url.path
    parameters = network.asked[0].url.params
    assert ("true", "7000ms") == (parameters["require_alias"], parameters["timeout"])
    assert "application/json" == network.asked[0].headers["content-type"]
    assert BulkItem(status=201, id=record(1).id, index="i-000001", seq_no=3, primary_term=1) == created
    assert (409, ItemError("conflict")) == (refused.status, refused.error)


async def test_an_answer_is_read_whole_however_long() -> None:
    """A page of records is longer than what is kept of a receiver's answer; its connection carries the next request."""
    source = b'{"a":"%b"}' % (b"x" * 3_000_000)
    found = b'{"_index":"i","_id":"1","_seq_no":7,"_primary_term":2,"found":true,"_source":%b}' % source
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    answers = [head % len(body) + body for body in (msgspec.json.encode(INFO), found, found)]
    with trio.fail_after(60):
        async with (
            raw_receiver(answering(*answers)) as server,
            open_opensearch(OpenSearchAddress((f"http://127.0.0.1:{server.port}",))) as client,
        ):
            for _ in range(2):
                document = await read_document(client, Target("i"), "1")
                assert document is not None
                assert source == document.source

    assert 1 == server.connections


async def test_a_store_may_live_at_any_address() -> None:
    """Addresses that no receiver may have are no matter of the store's: who set it is who runs the program."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    info = msgspec.json.encode(INFO)
    with trio.fail_after(60):
        async with (
            raw_receiver(answering(head % len(info) + info)) as server,
            open_opensearch(OpenSearchAddress((f"http://0.0.0.0:{server.port}",))),
        ):
            assert 1 == len(server.requests)


async def test_a_missing_document_is_said_as_json(network: Network) -> None:
    """The words of a missing document under another content type are a page's: no record is missing for that."""
    body = b'{"_index":"i","_id":"1","found":false}'
    async with opened(network) as client:
        network.answer = lambda _: httpx.Response(404, content=body, headers={"content-type": "text/plain"})
        with pytest.raises(ForeignAnswer):
            await read_document(client, Target("i"), "1")


async def test_a_document_that_is_not_there_differs_from_an_index_that_is_not_there(network: Network) -> None:
    """The first is None, the second an outage: taking it for None would record an alert twice."""
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(404, json={"_index": "i", "_id": "1", "found": False})
        assert None is await read_document(client, Target("i"), "1")
        with pytest.raises(Unavailable, match="alias a points to i now"):
            await read_document(client, Target("a", "another"), "1")
        network.answer = failing(404, "index_not_found_exception")
        with pytest.raises(Unavailable, match="index_not_found"):
            await read_document(client, Target("i"), "1")
        network.answer = failing(400, "index_closed_exception")
        with pytest.raises(Unavailable, match="index_closed"):
            await read_document(client, Target("i"), "1")
        with pytest.raises(Unavailable, match="index_closed"):
            await search_documents(client, Target("i"), {"match_all": {}}, size=1)


async def test_numbers_of_a_document_keep_every_digit(network: Network) -> None:
    """Neither a uint256 nor a long fraction is rounded on its way back."""
    source = b'{"a":%d,"b":0.10000000000000000001}' % (2**256 - 1)
    answer = b'{"_index":"i-1","_id":"a|1/2,* ?","_seq_no":7,"_primary_term":2,"found":true,"_source":%b}' % source
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(
            200, content=answer, headers={"content-type": "application/json; charset=UTF-8"}
        )
        document = await read_document(client, Target("i"), "a|1/2,* ?")

    assert document is not None
    assert (source, 7, 2) == (document.source, document.seq_no, document.primary_term)
    assert b"/i/_doc/a%7C1%2F2,*%20%3F" == network.asked[0].url.raw_path.partition(b"?")[0]


async def test_a_search_never_takes_a_page_with_shards_missing(network: Network) -> None:
    """Partial results are forbidden, and the page comes with what a conditional update needs."""
    hit = {"_index": "i-1", "_id": "1", "_seq_no": 7, "_primary_term": 2, "_source": {"a": 1}, "sort": [5, "1"]}
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(200, json=page([hit]))
        (found,) = await search_documents(
            client, Target("i"), {"term": {"view": "v"}}, size=2, sort=[{"at": "desc"}, {"record_id": "desc"}]
        )

    assert "false" == network.asked[0].url.params["allow_partial_search_results"]
    asked = msgspec.json.decode(network.asked[0].content)
    assert ([{"at": "desc"}, {"record_id": "desc"}], True) == (asked["sort"], asked["seq_no_primary_term"])
    assert (b'{"a":1}', (5, "1")) == (found.source, found.sort)


def page(hits: list[object], **more: object) -> dict[str, object]:
    """Return the answer to a search."""
    return {"took": 1, "timed_out": False, "_shards": SHARDS, "hits": {"max_score": None, "hits": hits}} | more


HIT = {"_index": "i-1", "_id": "1", "_seq_no": 7, "_primary_term": 2, "_score": None, "_source": {}, "sort": ["1"]}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"hits": {"hits": []}},
        page([], timed_out=True),
        page([], _shards={**SHARDS, "failed": 1}),
        page([], _shards={**SHARDS, "total": 2}),
        page([]) | {"hits": {}},
        page([]) | {"hits": {"hits": {}}},
        page([{**HIT, "_index": "i-2"}]),
        page([{**HIT, "_source": "{}"}]),
        page([{**HIT, "sort": []}]),
        page([{**HIT, "sort": None}]),
        page([{name: value for name, value in HIT.items() if name != "_source"}]),
        page([{name: value for name, value in HIT.items() if name != "_seq_no"}]),
        page([HIT, {**HIT, "_id": "2"}, {**HIT, "_id": "3"}]),
    ],
)
async def test_a_search_that_is_answered_otherwise_is_an_outage(network: Network, answer: object) -> None:
    """A page that lacks something, or has what was not asked for, is no page: least of all an empty one."""
    async with opened(network) as client:
        network.answer = lambda request: httpx.Response(200, json=page([HIT]))
        query = {"term": {"view": "v"}}
        assert 1 == len(await search_documents(client, Target("i", "i-1"), query, size=2, sort=[{"at": "desc"}]))
        network.answer = lambda request: httpx.Response(200, json=answer)
        with pytest.raises(Unavailable):
            await search_documents(client, Target("i", "i-1"), query, size=2, sort=[{"at": "desc"}])


async def test_a_decimal_is_sent_as_a_number(network: Network) -> None:
    """What was read with all its digits can be written back."""
    async with opened(network) as client:
        await client.index(index="i", id="1", body={"a": Decimal("0.10"), "b": 2**200})

    assert b'{"a":0.10,"b":%d}' % 2**200 == network.asked[0].content
