"""The schema guard on real servers: what it makes, what it fixes, and what ends the program."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio

from tests.contracts.store import record
from tests.support.obtain import obtain
from tests.support.servers import OpenSearch, OpenSearchServer
from trio_alerts.backends.opensearch.answers import AccessDenied
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.guard import SchemaGuard
from trio_alerts.backends.opensearch.mapping import MAPPING_VERSION, IndexSpec
from trio_alerts.errors import SchemaError, StartError, Unavailable
from trio_alerts.settings.addresses import OpenSearchAddress

BOUND_S = 60
Break = Callable[[OpenSearch, IndexSpec], None]


@pytest.fixture
def wanted(fresh_index: str) -> IndexSpec:
    return IndexSpec(fresh_index, ("AlertStream",), "alert-processor")


@asynccontextmanager
async def guarding(server: OpenSearch, wanted: IndexSpec, timeout_s: float = 10) -> AsyncIterator[SchemaGuard]:
    with trio.fail_after(BOUND_S):
        async with open_opensearch(OpenSearchAddress((server.url,))) as client:
            yield SchemaGuard(client, wanted, timeout_s)


def indices(server: OpenSearch, wanted: IndexSpec) -> list[str]:
    return sorted(server.request("GET", f"/{wanted.alias}*?expand_wildcards=all")[1])


def do(server: OpenSearch, method: str, path: str, body: object = None) -> Any:
    status, answer = server.request(method, path, body)
    assert status in (200, 201), answer
    return answer


def obey(server: OpenSearch, message: str, *endings: str) -> None:
    """Do what a message tells a human to do: the requests whose path ends in one of these."""
    for line in message.splitlines():
        words = line.strip().split(" ", 2)
        if words[0] in ("PUT", "POST") and words[1].rpartition("/")[2] in endings:
            do(server, words[0], words[1], msgspec.json.decode(words[2]))


@contextmanager
def template_at(server: OpenSearch, path: str, body: dict[str, Any]) -> Iterator[None]:
    """Put a template there for a while; afterwards the one that a message told to put is removed too."""
    do(server, "PUT", path, body)
    try:
        yield
    finally:
        do(server, "DELETE", path)
        server.request("DELETE", f"/_index_template/{body['index_patterns'][0].removesuffix('*')}")


# --- at start --------------------------------------------------------------------------------------------------------


async def test_a_fresh_index_is_made(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """What `inspect` names is what `prepare` makes; a second start finds it right and changes nothing."""
    async with guarding(opensearch_server, wanted) as guard:
        assert [f"would create index '{wanted.alias}-000001' with alias '{wanted.alias}'"] == await guard.inspect()
        assert [] == indices(opensearch_server, wanted)
        with pytest.raises(SchemaError, match="There is no index behind alias"):
            await guard.compare()
        assert [] == indices(opensearch_server, wanted)

        await guard.prepare()
        assert [wanted.first_index] == indices(opensearch_server, wanted)
        assert wanted.first_index == guard.index
        assert [] == await guard.inspect()
        document = {"view": "v", "delivery": {"state": "sending", "channels": [{"name": "hook"}]}, "unknown": {"a": 1}}
        do(opensearch_server, "PUT", f"/{wanted.alias}/_doc/1?require_alias=true", document)
        await guard.compare()
        await guard.prepare()
        assert [wanted.first_index] == indices(opensearch_server, wanted)


async def test_processes_that_start_together_agree(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Of several that find nothing, one creates the index, and all go on with it."""
    async with (
        guarding(opensearch_server, wanted) as one,
        guarding(opensearch_server, wanted) as two,
        trio.open_nursery() as nursery,
    ):
        for guard in (one, two, one, two):
            nursery.start_soon(guard.prepare)

    assert [wanted.first_index] == indices(opensearch_server, wanted)


async def test_the_trap_of_dynamic_mapping_is_found(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """An index that a first write made has `view` as text: a filter on it finds nothing, and no start trusts it."""
    document = msgspec.json.decode(record(view="Lending Risk", scope="aave v3").to_json())
    do(opensearch_server, "PUT", f"/{wanted.first_index}/_doc/1-0?refresh=true", document)
    do(opensearch_server, "PUT", f"/{wanted.first_index}/_alias/{wanted.alias}", {"is_write_index": True})
    search = {"query": {"term": {"view": "Lending Risk"}}}
    assert [] == do(opensearch_server, "POST", f"/{wanted.alias}/_search", search)["hits"]["hits"]  # the trap

    async with guarding(opensearch_server, wanted) as guard:
        with pytest.raises(SchemaError) as caught:
            await guard.prepare()
        with pytest.raises(SchemaError):
            await guard.inspect()

    message = str(caught.value)
    assert 3 == caught.value.exit_code
    for name in ("view", "scope", "alert_id", "delivery.state"):
        assert (
            f"  {name}: type is text, must be keyword (filters and sorts on it would silently find nothing" in message
        )
    for command in (f"PUT /{wanted.alias}-000002 ", "POST /_reindex?refresh=true ", "POST /_aliases "):
        assert f"\n  {command}" in message
    assert "" == guard.index


async def test_what_an_older_release_lacks_is_added(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """Fields that are missing in an index of ours are named by `inspect` and added by `prepare`, not by `compare`."""
    body = msgspec.json.decode(msgspec.json.encode(wanted.body()))
    fields = body["mappings"]["properties"]
    del fields["links"], fields["title"]["fields"], fields["delivery"]["properties"]["reason"]
    body["mappings"]["_meta"] |= {"mapping_version": 0, "note": "by a human"}
    do(opensearch_server, "PUT", f"/{wanted.first_index}", body)
    do(opensearch_server, "PUT", f"/{wanted.alias}/_doc/1-0", {"view": "v"})

    async with guarding(opensearch_server, wanted) as guard:
        assert [
            f"would add {name} to the mapping of index '{wanted.first_index}'"
            for name in ("_meta", "delivery.reason", "links", "title.raw")
        ] == await guard.inspect()
        with pytest.raises(SchemaError, match=r"lacks fields.*delivery\.reason, links, title\.raw"):
            await guard.compare()
        await guard.prepare()
        assert [] == await guard.inspect()
        await guard.compare()
    meta = do(opensearch_server, "GET", f"/{wanted.alias}/_mapping")[wanted.first_index]["mappings"]["_meta"]
    assert ("by a human", MAPPING_VERSION) == (meta["note"], meta["mapping_version"])


@pytest.mark.parametrize("empty", [True, False])
async def test_an_index_of_somebody_else_is_left_alone(
    opensearch_server: OpenSearch, wanted: IndexSpec, empty: bool
) -> None:
    """An index without our `_meta` becomes ours if there is nothing in it, unrefreshed documents included."""
    do(
        opensearch_server,
        "PUT",
        f"/{wanted.first_index}",
        {"aliases": {wanted.alias: {}}, "mappings": {"dynamic": False}},
    )
    if not empty:
        do(opensearch_server, "PUT", f"/{wanted.alias}/_doc/1-0", {"view": "v"})

    async with guarding(opensearch_server, wanted) as guard:
        if empty:
            await guard.prepare()
            return
        with pytest.raises(SchemaError, match="_meta: owner is null, must be trio_alerts"):
            await guard.prepare()
    mappings = do(opensearch_server, "GET", f"/{wanted.alias}/_mapping")[wanted.first_index]["mappings"]
    assert {"dynamic": "false"} == mappings


async def test_an_index_that_lost_its_alias_gets_it_back(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """The name for the new index is taken: the message has the command, and after it all is well."""
    body = wanted.body(with_alias=False)
    do(opensearch_server, "PUT", f"/{wanted.first_index}", body)

    async with guarding(opensearch_server, wanted) as guard:
        for look in (guard.inspect, guard.prepare, guard.compare):
            with pytest.raises(SchemaError, match=f"is not an alias of {wanted.first_index}") as caught:
                await look()
        obey(opensearch_server, str(caught.value), "_aliases")
        await guard.prepare()


async def test_a_template_that_we_may_not_see_is_found_after_the_creation(
    opensearch_server: OpenSearch, wanted: IndexSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least privilege may forbid the look: that is said, and what was created is compared before any write."""

    async def forbidden(**_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise AccessDenied("OpenSearch forbids GET /_index_template (403)", 403)

    template = {"index_patterns": [f"{wanted.alias}*"], "template": {"settings": {"index.refresh_interval": "-1"}}}
    with template_at(opensearch_server, f"/_index_template/{wanted.alias}", template):
        async with guarding(opensearch_server, wanted) as guard:
            monkeypatch.setattr(guard._indices._client.indices, "get_index_template", forbidden)
            (line,) = await guard.inspect()
            assert "our user may not read index templates" in line
            with pytest.raises(SchemaError, match=r"index\.refresh_interval: is -1") as caught:
                await guard.prepare()
            obey(opensearch_server, str(caught.value), "_settings")
            await guard.prepare()


def composable(wanted: IndexSpec, **template: Any) -> tuple[str, dict[str, Any]]:
    about = {"index_patterns": [f"{wanted.alias}*"], "priority": 3, "template": template}
    return f"/_index_template/theirs-{wanted.alias}", about


def legacy(wanted: IndexSpec, **template: Any) -> tuple[str, dict[str, Any]]:
    return f"/_template/theirs-{wanted.alias}", {"index_patterns": [f"{wanted.alias}*"], "order": 3, **template}


@pytest.mark.parametrize("kind", [composable, legacy])
async def test_what_templates_set_is_overruled(
    opensearch_server: OpenSearch, wanted: IndexSpec, kind: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    """Limits, pipelines, a small window, fields of other types: `check` says whose, and `run` makes a right index."""
    path, template = kind(
        wanted,
        settings={
            "index.mapping.total_fields.limit": 5,
            "index.mapping.depth.limit": 1,
            "index.max_result_window": 10,
            "index.search.default_pipeline": "theirs",
            "index.final_pipeline": "theirs",
            "index.translog.durability": "async",
            "index.refresh_interval": "5s",
        },
        mappings={
            "dynamic": "true",
            "dynamic_templates": [{"theirs": {"match": "*", "mapping": {"type": "keyword"}}}],
            "properties": {"view": {"type": "text", "fields": {"raw": {"type": "keyword"}}}, "more": {"type": "text"}},
        },
        aliases={f"{wanted.alias}-theirs": {}},
    )
    with template_at(opensearch_server, path, template):
        async with guarding(opensearch_server, wanted) as guard:
            (line,) = await guard.inspect()
            assert f"index template theirs-{wanted.alias} adds: alias {wanted.alias}-theirs, " in line
            assert "index.search.default_pipeline" in line
            await guard.prepare()
            await guard.compare()


@pytest.mark.parametrize("kind", [composable, legacy])
@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"settings": {"index.refresh_interval": "-1"}}, r"index\.refresh_interval: is -1"),
        ({"settings": {"index.refresh_interval": "1h"}}, r"index\.refresh_interval: is 1h"),
        ({"settings": {"index.blocks.write": True}}, r"index\.blocks\.write: is true"),
        ({"mappings": {"_source": {"enabled": False}}}, r"_source: is "),
    ],
    ids=str,
)
async def test_what_no_request_overrules_is_refused_before_the_first_start(
    opensearch_server: OpenSearch,
    wanted: IndexSpec,
    kind: Callable[..., tuple[str, dict[str, Any]]],
    template: dict[str, Any],
    says: str,
) -> None:
    """Named with its template by `check` and by `run`; nothing is created, and the command puts it right."""
    path, body = kind(wanted, **template)
    with template_at(opensearch_server, path, body):
        await assert_refused(opensearch_server, wanted, says)


async def test_a_data_stream_of_that_name_is_refused(opensearch_server: OpenSearch, wanted: IndexSpec) -> None:
    """OpenSearch creates no index under such a template; the command keeps it away from our indices alone."""
    path = f"/_index_template/theirs-{wanted.alias}"
    body = {"index_patterns": [f"{wanted.alias}*"], "data_stream": {}, "priority": 5}
    with template_at(opensearch_server, path, body):
        await assert_refused(opensearch_server, wanted, "is to be a data stream, must be an index")


async def assert_refused(server: OpenSearch, wanted: IndexSpec, says: str) -> None:
    async with guarding(server, wanted) as guard:
        for look in (guard.inspect, guard.prepare):
            with pytest.raises(SchemaError, match=says) as caught:
                await look()
            assert f"because of index template theirs-{wanted.alias}." in str(caught.value)
        assert [] == indices(server, wanted)
        obey(server, str(caught.value), wanted.alias)
        await guard.prepare()
        await guard.compare()


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("_close", None, "closed, must be open .*_open"),
        ("_block/write", None, "index.blocks.write: is true, must be false .*_settings"),
        ("_block/read_only", None, "index.blocks.read_only: is true, must be false .*_settings"),
        ("_block/read", None, "index.blocks.read: is true, must be false .*_settings"),
    ],
    ids=str,
)
async def test_an_index_that_refuses_is_an_outage(
    opensearch_server: OpenSearch, wanted: IndexSpec, path: str, body: object, says: str
) -> None:
    """Closed or blocked, the records are right: a start ends with code 4 and the command, a running process waits."""
    async with guarding(opensearch_server, wanted) as guard:
        await guard.prepare()
        do(opensearch_server, "PUT" if path.startswith("_block") else "POST", f"/{wanted.first_index}/{path}", body)

        with pytest.raises(Unavailable, match=says):
            await guard.compare()
        for look in (guard.inspect, guard.prepare):
            with pytest.raises(StartError, match=says):
                await look()


class Recovering(OpenSearchServer):
    """A node that waits for a second one before it finds out what it holds."""

    def __init__(self, version: str) -> None:
        super().__init__(version, settings={"gateway.recover_after_data_nodes": 2})

    def is_ready(self) -> bool:
        try:
            return bool(self.request("GET", "/")[1]["name"] == self.folder.name)
        except (httpx.HTTPError, KeyError, TypeError):
            return False


@pytest.mark.parametrize("version", ["3.4.0", "2.19.1"])
async def test_a_node_that_is_still_recovering_is_believed_in_nothing(version: str) -> None:
    """It says 404 to any name, of an index that exists too: a start ends with code 4, a running process waits."""
    wanted = IndexSpec("alerts", ("AlertStream",), "alert-processor")
    with obtain(lambda: Recovering(version)) as server:
        assert 404 == server.request("GET", f"/{wanted.alias}")[0]

        async with guarding(server, wanted, timeout_s=1) as guard:
            with pytest.raises(Unavailable, match=r"503 .*state not recovered"):
                await guard.compare()
            for look in (guard.inspect, guard.prepare):
                with pytest.raises(StartError, match=r"503 .*state not recovered"):
                    await look()


# --- while running ---------------------------------------------------------------------------------------------------


def drop(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "DELETE", f"/{wanted.first_index}")


def drop_the_alias(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "DELETE", f"/{wanted.first_index}/_alias/{wanted.alias}")


def make_again(server: OpenSearch, wanted: IndexSpec) -> None:
    drop(server, wanted)
    do(server, "PUT", f"/{wanted.first_index}", wanted.body())


def move(server: OpenSearch, wanted: IndexSpec) -> None:
    drop_the_alias(server, wanted)
    do(server, "PUT", f"/{wanted.alias}-000002", wanted.body())


def double(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.alias}-000002", {"aliases": {wanted.alias: {}}})


def put_an_index_in_its_place(server: OpenSearch, wanted: IndexSpec) -> None:
    drop(server, wanted)
    do(server, "PUT", f"/{wanted.alias}")


def make_dynamic(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_mapping", {"dynamic": True})


def shrink_the_window(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_settings", {"index.max_result_window": 10})


def never_refresh(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_settings", {"index.refresh_interval": "-1"})


def put_a_pipeline_before_searches(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_settings", {"index.search.default_pipeline": "theirs"})


def make_lazy(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_settings", {"index.translog.durability": "async"})


def hand_over(server: OpenSearch, wanted: IndexSpec) -> None:
    do(server, "PUT", f"/{wanted.first_index}/_doc/1-0", {})
    do(server, "PUT", f"/{wanted.first_index}/_mapping", {"_meta": {**wanted.meta(), "group": "another"}})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, "There is no index behind alias"),
        (drop_the_alias, "is not an alias of"),
        (make_again, r"pointed to index .* before, and points to .*-000001"),
        (move, r"pointed to index .* before, and points to .*-000002"),
        (double, "must be over one index"),
        (put_an_index_in_its_place, "is an index of that name, must be an alias"),
        (make_dynamic, "dynamic: is true, must be false"),
        (shrink_the_window, "index.max_result_window: is 10, must be at least 1000"),
        (never_refresh, "index.refresh_interval: is -1, must be a time"),
        (put_a_pipeline_before_searches, "index.search.default_pipeline: is theirs, must be _none"),
        (make_lazy, "index.translog.durability: is async, must be request"),
        (hand_over, "_meta: group is another, must be alert-processor"),
    ],
)
async def test_an_index_that_goes_bad_while_running_is_found(
    opensearch_server: OpenSearch, wanted: IndexSpec, change: Break, says: str
) -> None:
    """Deleted, made again, moved or changed: `compare` says which, and puts nothing right by itself."""
    async with guarding(opensearch_server, wanted) as guard:
        await guard.prepare()
        await guard.compare()
        change(opensearch_server, wanted)
        before = indices(opensearch_server, wanted)

        with pytest.raises(SchemaError, match=says):
            await guard.compare()
        assert before == indices(opensearch_server, wanted)
