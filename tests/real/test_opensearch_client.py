"""OpenSearch's client on trio, and the wanted index, on real servers of both versions."""

import socket
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import trio
from opensearchpy import AsyncOpenSearch, ConflictError, NotFoundError, RequestError

from tests.support.servers import OpenSearch
from tests.support.tls import TlsFiles, serve_tls_front
from trio_alerts.backends.opensearch.answers import error_type
from trio_alerts.backends.opensearch.bulk import BulkItem, BulkWrite, ItemError, bulk
from trio_alerts.backends.opensearch.client import ServerInfo, open_opensearch
from trio_alerts.backends.opensearch.differences import Difference, differences
from trio_alerts.backends.opensearch.documents import Target, read_document, search_documents
from trio_alerts.backends.opensearch.live_index import IndexDescription, LiveIndex, live_indices
from trio_alerts.backends.opensearch.mapping import DEFAULT_DATES, FIELDS, IndexSpec
from trio_alerts.backends.opensearch.repairs import new_index_commands
from trio_alerts.delivery import Delivery
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.record import Record
from trio_alerts.settings.addresses import OpenSearchAddress

BOUND_S = 60  # generous: a test that hangs must end


@pytest.fixture
def wanted(opensearch_server: OpenSearch, fresh_index: str) -> IndexSpec:
    """Make a right index, and say what is wanted of it."""
    wanted = IndexSpec(fresh_index, ("AlertStream",), "alert-processor")
    assert 200 == opensearch_server.request("PUT", f"/{wanted.first_index}", wanted.body())[0]
    return wanted


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def write(client: AsyncOpenSearch, alias: str, lines: bytes) -> list[BulkItem]:
    """Send ready lines; what they are about is read from the lines themselves."""
    parts, writes = lines.splitlines(keepends=True), []
    for line, document in zip(parts[::2], parts[1::2], strict=True):
        ((action, condition),) = msgspec.json.decode(line).items()
        writes.append(BulkWrite(Record(condition["_id"], document, Delivery(state="sending")), action, line + document))
    return await bulk(client, alias, writes, timeout_s=10)


def error_of(item: BulkItem) -> ItemError:
    assert item.error is not None
    return item.error


def indices_of(server: OpenSearch, alias: str, *, empty: bool = False) -> list[LiveIndex]:
    status, answer = server.request("GET", f"/{alias}?flat_settings=true")
    assert 200 == status
    return live_indices(msgspec.convert(answer, dict[str, IndexDescription]), answer if empty else ())


def found_on(server: OpenSearch, wanted: IndexSpec, *, empty: bool = False) -> list[Difference]:
    return differences(indices_of(server, wanted.alias, empty=empty), wanted)


# --- the client ------------------------------------------------------------------------------------------------------


async def test_create_conditional_update_get_and_search(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """The four things the store needs work on trio, and each answer names the index behind the alias."""
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((opensearch_server.url,))) as client:
            lines = b'{"create":{"_id":"%s"}}\n{"view":"Lending Risk","value_usd":0.10000000000000000001}\n'
            created, odd = await write(client, wanted.alias, lines % b"1-0" + lines % b"a|1/2,* ?")
            assert [(201, wanted.first_index)] * 2 == [(item.status, item.index) for item in (created, odd)]
            (conflict,) = await write(client, wanted.alias, lines % b"1-0")
            assert (409, "version_conflict_engine_exception") == (conflict.status, error_of(conflict).type)

            changed = b'{"view":"Lending Risk","value_usd":0.10000000000000000001,"block_number":7,"scope":"x"}'
            line = b'{"index":{"_id":"1-0","if_seq_no":%d,"if_primary_term":%d}}\n%b\n'
            line %= created.seq_no, created.primary_term, changed
            (updated,) = await write(client, wanted.alias, line)
            (late,) = await write(client, wanted.alias, line)
            assert (200, 409) == (updated.status, late.status)

            document = await read_document(client, Target(wanted.alias), "1-0")
            assert document is not None
            assert (updated.seq_no, wanted.first_index) == (document.seq_no, document.index)
            assert changed == document.source
            assert None is not await read_document(client, Target(wanted.alias), "a|1/2,* ?")
            assert None is await read_document(client, Target(wanted.alias), "2-0")

            await client.indices.refresh(index=wanted.alias)
            (found,) = await search_documents(
                client, Target(wanted.alias), {"term": {"scope": "x"}}, size=10, sort=[{"view": "asc"}]
            )
            assert (document.source, document.seq_no, ("Lending Risk",)) == (found.source, found.seq_no, found.sort)


async def test_a_partial_update_rounds_numbers_that_it_does_not_touch(
    opensearch_server: OpenSearch, wanted: IndexSpec
) -> None:
    """Why a record is always written whole: OpenSearch merges a partial document in doubles."""
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((opensearch_server.url,))) as client:
            await write(client, wanted.alias, b'{"create":{"_id":"1"}}\n{"value_usd":0.10000000000000000001}\n')
            assert 200 == opensearch_server.request("POST", f"/{wanted.alias}/_update/1", {"doc": {"view": "v"}})[0]
            document = await read_document(client, Target(wanted.alias), "1")

    assert document is not None
    assert b'{"value_usd":0.1,"view":"v"}' == document.source


async def test_a_deleted_index_is_never_created_by_a_write(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Writes need the alias: without it, or with an index in its place, every item fails and nothing appears."""
    line = b'{"create":{"_id":"1-0"}}\n{"view":"v"}\n'
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((opensearch_server.url,))) as client:
            await client.indices.delete(index=wanted.first_index)
            (gone,) = await write(client, wanted.alias, line)
            assert 404 == opensearch_server.request("GET", f"/{wanted.alias}")[0]
            with pytest.raises(Unavailable, match="index_not_found"):
                await read_document(client, Target(wanted.alias), "1-0")
            with pytest.raises(Unavailable, match="index_not_found"):
                await search_documents(client, Target(wanted.alias), {"match_all": {}}, size=1)
            await client.indices.create(index=wanted.alias)
            (taken,) = await write(client, wanted.alias, line)
            await client.indices.delete(index=wanted.alias)

    assert [(404, "index_not_found_exception")] * 2 == [(item.status, error_of(item).type) for item in (gone, taken)]


async def test_errors_of_the_request_keep_their_class(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """What the caller asked for is not an outage."""
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((opensearch_server.url,))) as client:
            with pytest.raises(RequestError) as exists:
                await client.indices.create(index=wanted.first_index, body=wanted.body())
            with pytest.raises(NotFoundError):
                await client.indices.get(index="alerts-nowhere")
            assert 201 == opensearch_server.request("PUT", f"/{wanted.alias}/_create/1-0", {"view": "v"})[0]
            with pytest.raises(ConflictError):
                await client.create(index=wanted.alias, id="1-0", body={"view": "v"})

    assert "resource_already_exists_exception" == error_type(exists.value)


async def test_many_at_once_get_their_own_answers(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Concurrent requests, some of them cancelled, never see each other's answer."""
    answers: dict[int, bytes] = {}
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((opensearch_server.url,))) as client:
            lines = b"".join(b'{"create":{"_id":"%d-0"}}\n{"log_index":%d}\n' % (n, n) for n in range(100))
            assert {201} == {item.status for item in await write(client, wanted.alias, lines)}

            async def read(number: int) -> None:
                with trio.move_on_after(0.02 if number % 3 == 0 else BOUND_S):
                    document = await read_document(client, Target(wanted.alias), f"{number}-0")
                    assert document is not None
                    answers[number] = document.source

            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(read, number)

    assert {number for number in range(100) if number % 3} <= answers.keys()
    assert {number: b'{"log_index":%d}' % number for number in answers} == answers


async def test_a_dead_node_is_passed_over(opensearch_server: OpenSearch, wanted: IndexSpec, closed_port: int) -> None:
    """With one of two hosts down, reads and writes go on."""
    address = OpenSearchAddress((f"http://127.0.0.1:{closed_port}", opensearch_server.url))
    with trio.fail_after(BOUND_S):
        async with open_opensearch(address) as client:
            for number in range(6):
                line = b'{"create":{"_id":"%d-0"}}\n{"view":"v"}\n' % number
                assert [201] == [item.status for item in await write(client, wanted.alias, line)]
                assert None is not await read_document(client, Target(wanted.alias), f"{number}-0")


async def test_tls_is_verified(opensearch_server: OpenSearch, tls_files: TlsFiles, nursery: trio.Nursery) -> None:
    """The right authority and name get through; a wrong authority, a wrong name and no authority are refused."""
    target = urlsplit(opensearch_server.url).port
    right = await nursery.start(serve_tls_front, target, tls_files.server_context())
    wrong = await nursery.start(serve_tls_front, target, tls_files.server_context(wrong_name=True))
    with trio.fail_after(BOUND_S):
        for host in ("127.0.0.1", "localhost"):
            async with open_opensearch(OpenSearchAddress((f"https://{host}:{right}",)), ca_file=tls_files.ca) as client:
                assert "opensearch" == (await client.info()).read(ServerInfo).version.distribution
        for port, ca_file in ((right, tls_files.wrong_ca), (right, None), (wrong, tls_files.ca)):
            with pytest.raises(StartError, match="certificate verify failed"):
                async with open_opensearch(OpenSearchAddress((f"https://127.0.0.1:{port}",)), ca_file=ca_file):
                    pass
    nursery.cancel_scope.cancel()


# --- the wanted index ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled_out", "names"),
    [
        ({"view": {"type": "keyword", "index": "true", "doc_values": True, "ignore_above": 2147483647}}, []),
        ({"occurred_at": {"type": "date", "format": "strict_date_optional_time||epoch_millis"}}, []),
        ({"chain_id": {"type": "long", "coerce": True, "ignore_malformed": "false"}}, []),
        ({"title": {**FIELDS["title"], "analyzer": "standard", "norms": True}}, []),
        ({"delivery": {**FIELDS["delivery"], "type": "object", "enabled": True, "dynamic": False}}, []),
        ({"view": {"type": "text"}}, ["view"]),
        ({"view": {"type": "keyword", "ignore_above": 256}}, ["view"]),
        ({"view": {"type": "keyword", "index": False}}, ["view"]),
        ({"view": {"type": "keyword", "doc_values": "false"}}, ["view"]),
        ({"tx_hash": {"type": "keyword", "ignore_above": 8191}}, ["tx_hash"]),
        ({"occurred_at": {"type": "date", "format": "epoch_millis"}}, ["occurred_at"]),
        ({"delivery": {**FIELDS["delivery"], "type": "nested"}}, ["delivery"]),
        ({"labels": {"type": "object"}}, ["labels"]),
        ({"title": {"type": "text"}}, ["title.raw"]),
    ],
)
def test_each_rendering_of_a_mapping_is_understood(
    opensearch_server: OpenSearch, fresh_index: str, spelled_out: dict[str, Any], names: list[str]
) -> None:
    """Defaults that are spelled out, in any spelling, are no difference; real differences are found as rendered."""
    wanted = IndexSpec(fresh_index, ("AlertStream",), "alert-processor")
    body = wanted.body()
    body["mappings"]["properties"] = {**FIELDS, **spelled_out}
    status, answer = opensearch_server.request("PUT", f"/{wanted.first_index}", body)
    assert 200 == status, answer

    assert names == [difference.where for difference in found_on(opensearch_server, wanted)]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"index.translog.durability": "async"}, "index.translog.durability"),
        ({"index.default_pipeline": "p"}, "index.default_pipeline"),
        ({"index.final_pipeline": "p"}, "index.final_pipeline"),
        ({"index.search.default_pipeline": "p"}, "index.search.default_pipeline"),
        ({"index.refresh_interval": -1}, "index.refresh_interval"),
        ({"index.blocks.write": True}, "index.blocks.write"),
        ({"index.blocks.read": True}, "index.blocks.read"),
        ({"index.blocks.read_only": True}, "index.blocks.read_only"),
        ({"index.blocks.read_only_allow_delete": True}, "index.blocks.read_only_allow_delete"),
    ],
)
def test_the_named_command_fixes_a_setting(
    opensearch_server: OpenSearch, wanted: IndexSpec, settings: dict[str, Any], where: str
) -> None:
    """A setting that was changed behind our back is found, and the command of the message puts it right."""
    assert 200 == opensearch_server.request("PUT", f"/{wanted.first_index}/_settings", settings)[0]
    (difference,) = found_on(opensearch_server, wanted)
    assert where == difference.where

    obey(opensearch_server, difference.command)
    assert [] == found_on(opensearch_server, wanted)


@pytest.mark.parametrize(
    "entry", [{"filter": {"term": {"view": "x"}}}, {"routing": "1"}, {"is_write_index": False}], ids=str
)
def test_the_named_command_fixes_an_alias(
    opensearch_server: OpenSearch, wanted: IndexSpec, entry: dict[str, Any]
) -> None:
    """An alias that hides, routes or refuses is found, and the command of the message puts it right."""
    action = {"add": {"index": wanted.first_index, "alias": wanted.alias, **entry}}
    assert 200 == opensearch_server.request("POST", "/_aliases", {"actions": [action]})[0]
    found = found_on(opensearch_server, wanted)
    assert found

    obey(opensearch_server, found[0].command)
    assert [] == found_on(opensearch_server, wanted)


@pytest.mark.parametrize("in_place_of_the_alias", [True, False])
def test_the_named_commands_make_a_right_index_of_a_wrong_one(
    opensearch_server: OpenSearch, fresh_index: str, in_place_of_the_alias: bool
) -> None:
    """A first write made `view` text, and a term filter on it finds nothing; after the commands it finds the record."""
    wanted = IndexSpec(fresh_index, ("AlertStream",), "alert-processor")
    wrong = fresh_index if in_place_of_the_alias else f"{fresh_index}-000007"
    record = {"view": "Lending Risk: Ünï", "scope": "a b"}
    assert 201 == opensearch_server.request("PUT", f"/{wrong}/_doc/1-0?refresh=true", record)[0]
    if not in_place_of_the_alias:
        obey(opensearch_server, f'PUT /{wrong}/_alias/{wanted.alias} {{"is_write_index":true}}')
    assert 0 == hits(opensearch_server, fresh_index, record["view"])

    (index,) = indices_of(opensearch_server, fresh_index)
    found = differences([index], wanted)
    assert {"text"} == {difference.found for difference in found if difference.where in ("view", "scope")}
    for command in new_index_commands(index, wanted):
        if command.startswith("POST /_reindex"):
            # The published core lacks the module that serves this one; what it does is done by hand.
            new = msgspec.json.decode(command.split(" ", 2)[2])["dest"]["index"]
            assert 201 == opensearch_server.request("PUT", f"/{new}/_create/1-0?refresh=true", record)[0]
        else:
            obey(opensearch_server, command)

    assert [] == found_on(opensearch_server, wanted)
    assert 1 == hits(opensearch_server, fresh_index, record["view"])


@pytest.mark.parametrize(
    "value", ["plain", "two words", "a:b", "UPPER", "Ünïcödé 中文 🜁", " edge ", "🜁" * 512, "*", "a\nb", '"quoted"']
)
def test_a_term_filter_on_view_and_scope_finds_exactly_the_value(
    opensearch_server: OpenSearch, wanted: IndexSpec, value: str
) -> None:
    """Any text of 1 to 512 characters is found as a whole, and nothing else is."""
    for number, view in enumerate([value, value + "x", "x" + value, value.swapcase() + "?"]):
        document = {"view": view, "scope": view}
        assert 201 == opensearch_server.request("PUT", f"/{wanted.alias}/_doc/{number}?refresh=true", document)[0]

    for field in ("view", "scope"):
        query = {"query": {"term": {field: value}}}
        found = opensearch_server.request("POST", f"/{wanted.alias}/_search", query)[1]["hits"]["hits"]
        assert ["0"] == [hit["_id"] for hit in found]


def test_the_other_fields_answer_as_the_design_says(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Addresses match in any case, labels by key and value, unknown and kept JSON not at all, nothing refuses."""
    document = {
        "view": "v",
        "tx_hash": "0xAbCdEF",
        "addresses": ["0xA1", "0xB2"],
        "labels": {"chain.id": "Main Net", "k" * 256: "🜁" * 1024},
        "details": "x" * 250_000,
        "extra": '{"delivery.state":"delivered"}',
        "risk": {"score": 1e300, "factors": '[{"": 1}, "a", {"a..b": null}]'},
        "rule_id": "r" * 40_000,
        "value_usd": 10**40,
        "delivery": {"state": "sending", "last_error": "e" * 40_000, "channels": [{"name": "hook", "log": [{}]}]},
    }
    assert 201 == opensearch_server.request("PUT", f"/{wanted.alias}/_doc/1?refresh=true", document)[0]

    def finds(field: str, value: object) -> bool:
        query = {"query": {"term": {field: value}}}
        status, answer = opensearch_server.request("POST", f"/{wanted.alias}/_search", query)
        return bool(status == 200 and answer["hits"]["hits"])

    assert finds("tx_hash", "0xabcdef")
    assert finds("tx_hash", "0XABCDEF")
    assert finds("addresses", "0xB2")
    assert finds("labels.chain.id", "Main Net")
    assert finds("labels." + "k" * 256, "🜁" * 1024)
    assert finds("delivery.channels.name", "hook")
    assert finds("delivery.state", "sending")
    assert not finds("delivery.state", "delivered")
    assert not finds("labels.chain.id", "Main")
    assert not finds("details", "x" * 250_000)
    assert not finds("risk.factors", "a")


VALUES: dict[str, Any] = {  # one of each type
    "keyword": "Some text",
    "text": "Some text",
    "boolean": True,
    "byte": 3,
    "integer": 503,
    "long": 526899874,
    "double": 1594080.5,
    "date": "2026-11-23T10:00:00.250000Z",
    "flat_object": {"a": "b"},
    "object": None,
}


def test_what_has_no_index_is_found_all_the_same(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Every field finds what it holds and no other, and all but hashes are sorted by.

    Without an index, a filter reads doc values, on each version of OpenSearch.
    """
    fields = dict(leaves(FIELDS))
    for number, record in enumerate(({name: VALUES[one["type"]] for name, one in fields.items()}, {"view": "other"})):
        document: dict[str, Any] = {}
        for name, value in record.items():
            *way, last = name.split(".")
            reduce(lambda part, one: part.setdefault(one, {}), way, document)[last] = value
        path = f"/{wanted.alias}/_doc/{number}?refresh=true"
        assert 201 == opensearch_server.request("PUT", path, document)[0]

    def found(request: dict[str, Any]) -> list[str] | None:
        status, answer = opensearch_server.request("POST", f"/{wanted.alias}/_search", request)
        return [hit["_id"] for hit in answer["hits"]["hits"]] if status == 200 else None

    simple = {
        name: one
        for name, one in fields.items()
        if one["type"] in {"keyword", "date", "byte", "integer", "long", "double"}
    }
    unsorted = {name for name in simple if found({"query": {"match_all": {}}, "sort": [name]}) is None}
    assert {"block_hash", "trace_id", "tx_hash"} == unsorted
    for name, one in simple.items():
        value = VALUES[one["type"]]
        assert ["0"] == found({"query": {"term": {name: value}}}), name
        assert ["0"] == found({"query": {"range": {name: {"gte": value, "lte": value}}}}), name
        assert ["0"] == found({"query": {"exists": {"field": name}}}) or name == "view", name
    for name in (name for name, one in simple.items() if one["type"] == "date"):
        for bounds in (
            {"gte": "2026-11-23", "lte": "2026-11-23"},
            {"lt": "now+9999d", "gte": "2026-11-23T12:00:00.25+02:00"},
            {"gt": 1795427999999, "format": "epoch_millis"},
        ):
            assert ["0"] == found({"query": {"range": {name: bounds}}}), (name, bounds)
    assert fields["occurred_at"]["format"].endswith(DEFAULT_DATES)  # in whatever form people ask
    for time in (1795428000000, "2026-11-23T10:00:00", "2026-11-23T10:00Z"):
        assert ["0"] == found({"query": {"range": {"occurred_at": {"gte": time}}}}), time


def leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each field that holds a value, by its whole name."""
    for name, one in fields.items():
        if "properties" in one:
            yield from leaves(one["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name, one


def obey(server: OpenSearch, command: str) -> None:
    """Do what a message tells a human to do."""
    method, path, *body = command.split(" ", 2)
    status, answer = server.request(method, path, msgspec.json.decode(body[0]) if body else None)
    assert 200 == status, answer


def hits(server: OpenSearch, index: str, view: str) -> int:
    """Count what a term filter on `view` finds."""
    answer = server.request("POST", f"/{index}/_search", {"query": {"term": {"view": view}}})[1]
    return len(answer["hits"]["hits"])
