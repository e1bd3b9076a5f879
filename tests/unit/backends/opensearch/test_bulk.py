"""What an answer to `_bulk` means for each record, and how a request that is refused as a whole is split."""

from collections.abc import Callable

import httpx
import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.contracts.store import record
from tests.support.fakes.opensearch import INFO, error
from tests.unit.backends.opensearch.test_client import Network, opened
from trio_alerts.backends.opensearch.bulk import BulkItem, Cause, ItemError, WriteResult, result_of, write_all, write_of
from trio_alerts.backends.opensearch.documents import Target
from trio_alerts.delivery import Delivery
from trio_alerts.errors import RefusedContent, Unavailable
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record

TARGET = Target("alerts", "alerts-000001")
REFUSED_AS_A_WHOLE = error(400, "parse_exception")
TOO_LARGE = httpx.Response(413, text="<html>Too Large</html>")
CREATE = write_of(record(), None)


def item(status: int, kind: str = "", index: str = "alerts-000001", reason: str = "", cause: str = "") -> BulkItem:
    fault = ItemError(kind, reason, Cause(cause)) if kind else None
    version = (7, 2) if fault is None else (None, None)
    return BulkItem(status=status, id=record().id, index=index, seq_no=version[0], primary_term=version[1], error=fault)


# --- one item --------------------------------------------------------------------------------------------------------


def test_a_written_record_has_its_version() -> None:
    """Created or replaced, the answer's numbers are the version for the next conditional write."""
    for write, status in ((CREATE, 201), (write_of(record(), (6, 2)), 200)):
        assert Stored(record(), (7, 2)) == result_of(write, item(status), TARGET)


def test_a_conflict_is_a_conflict() -> None:
    """The document is there already, has moved on, or has vanished."""
    assert Conflict() == result_of(CREATE, item(409, "version_conflict_engine_exception"), TARGET)


@pytest.mark.parametrize(
    "refusal",
    [
        item(400, "mapper_parsing_exception"),
        item(400, "illegal_argument_exception", cause="max_bytes_length_exceeded_exception"),
    ],
)
def test_content_is_refused_for_two_reasons_only(refusal: BulkItem) -> None:
    """A document that the mapping cannot take, or a term that no index can hold."""
    assert isinstance(result_of(CREATE, refusal, TARGET), RefusedContent)


@pytest.mark.parametrize(
    "outage",
    [
        item(400, "illegal_argument_exception", "alerts", "pipeline with id [p] does not exist"),
        item(400, "illegal_argument_exception", "alerts", "no write index is defined for alias [alerts]"),
        item(400, "index_closed_exception", "alerts"),
        item(400, "strict_dynamic_mapping_exception"),
        item(400, "routing_missing_exception"),
        item(400, "validation_exception"),
        item(403, "cluster_block_exception", "alerts"),
        item(404, "index_not_found_exception", "alerts"),
        item(429, "cluster_block_exception"),
        item(429, "rejected_execution_exception"),
        item(503, "unavailable_shards_exception"),
        item(500, "something_new"),
        item(500, "mapper_parsing_exception"),
        item(409, "resource_already_exists_exception"),
        item(409),
        item(400),
        item(200),
        item(202),
        item(201, "version_conflict_engine_exception"),
        msgspec.structs.replace(item(201), seq_no=None),
        msgspec.structs.replace(item(201), primary_term=None),
    ],
)
def test_every_other_error_is_an_outage(outage: BulkItem) -> None:
    """Whatever an index in trouble answers, with whatever status, nobody's entry goes to quarantine for it."""
    assert isinstance(result_of(CREATE, outage, TARGET), Unavailable)


@pytest.mark.parametrize("status", [201, 409, 400])
def test_another_index_s_answer_means_nothing(status: int) -> None:
    """An ID is unique in one index only: neither a success, nor a conflict, nor a refusal of another one counts."""
    kinds = {400: "mapper_parsing_exception", 409: "version_conflict_engine_exception"}
    answer = item(status, kinds.get(status, ""), "alerts-000002")

    assert isinstance(result_of(CREATE, answer, TARGET), Unavailable)


def test_a_refusal_does_not_repeat_the_value() -> None:
    """The message goes to the log and to the dead-letter stream; what a producer wrote stays out of it."""
    reason = "failed to parse field [threshold] of type [double]. Preview of field's value: 'sesame'"
    refused = result_of(CREATE, item(400, "mapper_parsing_exception", reason=reason), TARGET)

    assert "failed to parse field [threshold] of type [double]" in str(refused)
    assert "sesame" not in str(refused)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_a_write_is_two_lines() -> None:
    """Whatever an alert holds, its write is one action and one document, each on one line."""
    nasty = record(title='a\n{"delete":{"_id":"x"}}\r\n\u2028')
    for version, action in (
        (None, {"create": {"_id": nasty.id}}),
        ((7, 2), {"index": {"_id": nasty.id, "if_seq_no": 7, "if_primary_term": 2}}),
    ):
        first, second, end = write_of(nasty, version).lines.split(b"\n")
        assert action == msgspec.json.decode(first)
        assert (nasty.to_json(), b"") == (second, end)


def test_an_action_cannot_be_broken_out_of() -> None:
    """A record's ID is data, too: a stream's name may hold quotes."""
    record_id = 'a"},"x":{"|1-0\n{"delete":{"_id":"y"}}'
    line = write_of(Record(record_id, b'{"record_id":"x"}', Delivery(state="sending")), None).lines.split(b"\n")[0]

    assert {"create": {"_id": record_id}} == msgspec.json.decode(line)


@pytest.mark.parametrize("record_id", ["", "x" * 513, "é" * 257, "\ud800"])
def test_an_impossible_id_is_refused_before_it_is_sent(record_id: str) -> None:
    """It would refuse the whole request, and every record in it."""
    with pytest.raises(RefusedContent):
        write_of(Record(record_id, b"{}", Delivery(state="sending")), None)


# --- one request -----------------------------------------------------------------------------------------------------


async def results_on(network: Network, count: int) -> list[WriteResult]:
    writes = [write_of(record(number), None) for number in range(count)]
    async with opened(network) as client:
        return await write_all(client, TARGET, writes, deadline_s=trio.current_time() + 10)


def scripted(judge: Callable[[list[str]], httpx.Response | None]) -> Network:
    """Return a network that creates everything, unless `judge` says otherwise of the IDs of a request."""
    network = Network()

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/_bulk"):
            return httpx.Response(200, json=INFO)
        ids = [msgspec.json.decode(line)["create"]["_id"] for line in request.content.split(b"\n")[:-1:2]]
        created = {"status": 201, "_index": "alerts-000001", "_seq_no": 7, "_primary_term": 2}
        return judge(ids) or httpx.Response(200, json={"items": [{"create": {**created, "_id": one}} for one in ids]})

    network.answer = answer
    return network


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [(REFUSED_AS_A_WHOLE, RefusedContent), (error(413), RefusedContent), (TOO_LARGE, Unavailable)],
    ids=["400", "413", "a page that says 413"],
)
async def test_a_request_refused_as_a_whole_is_split(
    refusal: httpx.Response, expected: type[Exception], autojump_clock: MockClock
) -> None:
    """Halves of halves, until the guilty record stands alone; all its neighbours are written, in few requests.

    That one is refused if OpenSearch refuses it; a proxy's limit can be raised, so it is waited for.
    """
    guilty = record(5).id
    network = scripted(lambda ids: refusal if guilty in ids else None)
    results = await results_on(network, 32)

    assert isinstance(results[5], expected)
    assert 31 == sum(isinstance(result, Stored) for result in results)
    assert 11 == len(network.asked)  # the first try, five halves with the guilty one, and five without


async def test_a_request_that_is_merely_too_large_goes_in_parts(autojump_clock: MockClock) -> None:
    """A proxy's limit costs requests, no records."""
    network = scripted(lambda ids: httpx.Response(413) if len(ids) > 10 else None)

    assert all(isinstance(result, Stored) for result in await results_on(network, 64))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500, 502, 503, 302])
async def test_a_proxy_is_no_judge_of_content(status: int, autojump_clock: MockClock) -> None:
    """A status without OpenSearch's own error is an outage, and is not asked for again item by item."""
    network = scripted(lambda ids: httpx.Response(status, text="<html>no</html>"))
    results = await results_on(network, 8)

    assert all(isinstance(result, Unavailable) for result in results)
    assert 1 == len(network.asked)


async def test_a_split_keeps_to_its_time(autojump_clock: MockClock) -> None:
    """However often a request is split, nothing is sent after the deadline; who is left over hears of an outage."""
    network = scripted(lambda ids: REFUSED_AS_A_WHOLE)
    network.delay_s = 2
    started_s = trio.current_time()
    results = await results_on(network, 8)

    assert started_s + 2 + 10 == trio.current_time()
    assert {RefusedContent, Unavailable} == {type(result) for result in results}
    assert isinstance(results[-1], Unavailable)


def created(record_id: str, action: str = "create", **more: object) -> dict[str, object]:
    item = {"_index": "alerts-000001", "_id": record_id, "status": 201, "_seq_no": 7, "_primary_term": 2}
    return {action: {**item, **more}}


@pytest.mark.parametrize(
    "items",
    [
        [],
        [created(record(0).id)],
        [created(record(1).id), created(record(0).id)],
        [created(record(number).id) for number in (0, 1, 2)],
        [created(record(0).id), created(record(2).id)],
        [created(record(0).id), created(record(1).id, "index")],
        [created(record(0).id), created(record(1).id, "update")],
        [created(record(0).id), {}],
        [created(record(0).id), "done"],
        [created(record(0).id), created(record(1).id, _seq_no=-2)],
        [created(record(0).id), created(record(1).id, _seq_no=2**63)],
        [created(record(0).id), created(record(1).id, _primary_term=0)],
        [created(record(0).id), created(record(1).id, status="201")],
        [created(record(0).id), created(record(1).id, error="none")],
        [created(record(0).id), created(record(1).id, _index=None)],
    ],
)
async def test_an_answer_about_something_else_is_an_outage(items: object, autojump_clock: MockClock) -> None:
    """Items that are missing, in another order, of another kind or of wrong types: none of them says anything."""
    network = scripted(lambda ids: httpx.Response(200, json={"items": items}))

    assert all(isinstance(result, Unavailable) for result in await results_on(network, 2))
