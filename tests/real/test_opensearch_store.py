"""What is OpenSearch's own in the store: outages that look like refusals, refusals that look like outages."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio

from tests.contracts.store import NOW, SECOND, delivered, record, retrying
from tests.support.at_once import results_of
from tests.support.servers import OpenSearch
from trio_alerts.backends.opensearch.answers import Blocked
from trio_alerts.backends.opensearch.documents import AliasMoved
from trio_alerts.backends.opensearch.mapping import IDLE_AFTER_S
from trio_alerts.backends.opensearch.store import OpenSearchStore, open_opensearch_store
from trio_alerts.backoff import RetryPolicy
from trio_alerts.channels.registry import channel_settings
from trio_alerts.errors import RefusedContent, SchemaError, Unavailable
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.pages import Pages
from trio_alerts.ports.store import RecordFilter, Stored, Vitals
from trio_alerts.record import Record
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.sources import load_settings
from trio_alerts.transitions import first_attempt, settled, suppressed

BOUND_S = 60


@pytest.fixture
def settings(opensearch_server: OpenSearch, fresh_index: str) -> Settings:
    return load_settings({"store_url": opensearch_server.url, "index": fresh_index}, {}, None, channel_settings)


@asynccontextmanager
async def prepared(settings: Settings) -> AsyncIterator[OpenSearchStore]:
    assert isinstance(settings.store_url, OpenSearchAddress)
    with trio.fail_after(BOUND_S):
        async with open_opensearch_store(settings.store_url, settings) as store:
            await store.prepare()
            yield store


def with_body(number: int, extra: bytes) -> Record:
    """Return a record with fields that no alert could bring into it."""
    return msgspec.structs.replace(record(number), body=record(number).body[:-1] + extra + b"}")


REFUSED = [
    with_body(901, b',"block_number":"sesame"'),
    with_body(902, b',"expires_at":"soon"'),
    with_body(903, b',"labels":{"k":"%b"}' % (b"x" * 40_000)),
    msgspec.structs.replace(record(904), id="x" * 513),
]


async def test_one_bad_document_does_not_fail_its_batch(settings: Settings) -> None:
    """Refused for its content is that record alone, created or replaced; every neighbour is written."""
    async with prepared(settings) as store:
        old = await store.create(record(99))
        assert isinstance(old, Stored)
        good = [record(number) for number in range(40)]
        mixed = [one for pair in itertools.zip_longest(good, REFUSED) for one in pair if one is not None]
        found = await results_of(
            [
                *[lambda one=one: store.create(one) for one in mixed],
                lambda: store.replace(with_body(99, b',"chain_id":"sesame"'), old.version),
            ]
        )

        for one, result in zip([*mixed, REFUSED[0]], found, strict=True):
            assert isinstance(result, RefusedContent if one in REFUSED else Stored), (one.id, result)
            assert "sesame" not in str(result)
        for one in good:
            assert None is not await store.get(one.id)
        assert old == await store.get(record(99).id)
        assert None is await store.get(REFUSED[0].id)


async def test_bulk_actions_inside_an_alert_do_nothing(settings: Settings, opensearch_server: OpenSearch) -> None:
    """Line breaks and actions in what a producer wrote stay data: no other record is deleted, changed or made."""
    delete = msgspec.json.encode({"delete": {"_id": record(1).id}}).decode()
    actions = f'\n{delete}\n{{"index":{{"_id":"forged"}}}}\n{{"view":"forged"}}\n'
    async with prepared(settings) as store:
        victim = await store.create(record(1))
        nasty = record(2, title=actions, details={"a": actions, actions: [actions]}, labels={actions: actions})
        written = await store.create(nasty)
        assert isinstance(written, Stored)
        await store.replace(delivered(nasty), written.version)

        assert victim == await store.get(record(1).id)
        assert None is await store.get("forged")
        opensearch_server.request("POST", f"/{settings.index}/_refresh")
        assert [nasty.id, record(1).id] == [found.id for found in await store.search(RecordFilter(), 10)]


@pytest.mark.parametrize(
    ("outage", "repair"),
    [
        (("POST", "_close", None), ("POST", "_open", None)),
        (("PUT", "_block/write", None), ("PUT", "_settings", {"index.blocks.write": None})),
        (("PUT", "_block/read_only", None), ("PUT", "_settings", {"index.blocks.read_only": None})),
        (
            ("PUT", "_settings", {"index.blocks.read_only_allow_delete": True}),
            ("PUT", "_settings", {"index.blocks.read_only_allow_delete": None}),
        ),
    ],
    ids=lambda request: request[1],
)
async def test_an_index_that_refuses_is_waited_for(
    settings: Settings, opensearch_server: OpenSearch, outage: tuple[str, str, object], repair: tuple[str, str, object]
) -> None:
    """Closed or read-only is an outage for every record, a bad one included; once it is fixed, all goes on."""
    index = f"/{settings.index}-000001"
    async with prepared(settings) as store:
        old = await store.create(record(1))
        assert isinstance(old, Stored)
        assert 200 == opensearch_server.request(outage[0], f"{index}/{outage[1]}", outage[2])[0]
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: store.create(record(2)),
            lambda: store.create(REFUSED[0]),
            lambda: store.replace(delivered(record(1)), old.version),
        ]
        assert [Unavailable] * 3 == [type(result) for result in await results_of(writes)]

        assert 200 == opensearch_server.request(repair[0], f"{index}/{repair[1]}", repair[2])[0]
        assert [Stored, RefusedContent, Stored] == [type(result) for result in await results_of(writes)]


async def test_an_index_that_may_not_be_read_is_waited_for(settings: Settings, opensearch_server: OpenSearch) -> None:
    """Nobody lacks a right: the block holds for all, and once it is gone, all goes on."""
    index = f"/{settings.index}-000001"
    async with prepared(settings) as store:
        assert isinstance(await store.create(record(1)), Stored)
        assert 200 == opensearch_server.request("PUT", f"{index}/_block/read", None)[0]
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: store.get(record(1).id),
            lambda: store.search(RecordFilter(), 10),
            lambda: store.due(NOW, 10),
            store.vitals,
        ]
        assert [Blocked] * 4 == [type(result) for result in await results_of(reads)]
        assert 200 == opensearch_server.request("PUT", f"{index}/_settings", {"index.blocks.read": None})[0]
        assert [Stored, list, list, Vitals] == [type(result) for result in await results_of(reads)]


def delete(server: OpenSearch, alias: str) -> None:
    server.request("DELETE", f"/{alias}-000001")


def name_a_missing_pipeline(server: OpenSearch, alias: str) -> None:
    server.request("PUT", f"/{alias}-000001/_settings", {"index.default_pipeline": "missing"})


def take_the_write_index(server: OpenSearch, alias: str) -> None:
    action = {"add": {"index": f"{alias}-000001", "alias": alias, "is_write_index": False}}
    server.request("POST", "/_aliases", {"actions": [action]})


def make_strict(server: OpenSearch, alias: str) -> None:
    server.request("PUT", f"/{alias}-000001/_mapping", {"dynamic": "strict"})


@pytest.mark.parametrize("change", [delete, name_a_missing_pipeline, take_the_write_index, make_strict])
async def test_an_index_gone_bad_ends_the_process_at_once(
    settings: Settings, opensearch_server: OpenSearch, change: Callable[[OpenSearch, str], None]
) -> None:
    """A write that meets it is an outage, not a refusal, and makes nothing; the guard looks before its next minute."""
    found: list[object] = []
    with pytest.RaisesGroup(SchemaError):
        async with prepared(settings) as store:
            await store.create(record(1))
            change(opensearch_server, settings.index)
            unknown = with_body(2, b',"unknown":1')  # what a strict mapping refuses
            found += await results_of([lambda: store.create(unknown)])
            await trio.sleep_forever()

    assert [Unavailable] == [type(result) for result in found]
    made = opensearch_server.request("GET", f"/{settings.index}*?expand_wildcards=all")[1]
    assert set(made) <= {f"{settings.index}-000001"}
    assert bool(made) == (change is not delete)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.create(record(2)),
        lambda store: store.create(record(1)),
        lambda store: store.create(REFUSED[0]),
        lambda store: store.get(record(1).id),
        lambda store: store.search(RecordFilter(), 10),
        lambda store: store.due(NOW, 10),
    ],
    ids=["write", "conflict", "refusal", "get", "search", "due"],
)
async def test_an_answer_of_another_index_counts_for_nothing(
    settings: Settings, opensearch_server: OpenSearch, ask: Callable[[OpenSearchStore], Awaitable[object]]
) -> None:
    """With the alias moved to a second right index, nothing that comes through it is believed, and the process ends."""
    alias, first, second = settings.index, f"{settings.index}-000001", f"{settings.index}-000002"
    request = opensearch_server.request
    found: list[object] = []
    with pytest.RaisesGroup(pytest.RaisesExc(SchemaError, match=f"pointed to index {first}.*points to {second}")):
        async with prepared(settings) as store:
            mappings = request("GET", f"/{first}")[1][first]["mappings"]
            assert 200 == request("PUT", f"/{second}", {"mappings": mappings})[0]
            document = msgspec.json.decode(record(1, retrying(NOW)).to_json())
            assert 201 == request("PUT", f"/{second}/_doc/{record(1).id}?refresh=true", document)[0]
            moves = [{"remove": {"index": first, "alias": alias}}, {"add": {"index": second, "alias": alias}}]
            assert 200 == request("POST", "/_aliases", {"actions": moves})[0]
            found += await results_of([lambda: ask(store)])
            await trio.sleep_forever()
    assert [AliasMoved] == [type(result) for result in found]


async def test_a_refusal_by_a_wrong_index_condemns_nobody(settings: Settings, opensearch_server: OpenSearch) -> None:
    """An index made anew with another mapping refuses good records: that is its fault, not theirs."""
    first = f"/{settings.index}-000001"
    found: list[object] = []
    with pytest.RaisesGroup(SchemaError):
        async with prepared(settings) as store:
            opensearch_server.request("DELETE", first)
            wrong = {"aliases": {settings.index: {}}, "mappings": {"properties": {"view": {"type": "long"}}}}
            assert 200 == opensearch_server.request("PUT", first, wrong)[0]
            found += await results_of([lambda: store.create(record(1))])
            await trio.sleep_forever()
    assert [Unavailable] == [type(result) for result in found]
    assert "view: type is long, must be keyword" in str(found[0])


async def test_a_missing_index_is_no_missing_record(settings: Settings, opensearch_server: OpenSearch) -> None:
    """`None` means that the record does not exist; without an index nobody can tell."""
    with trio.fail_after(BOUND_S):
        async with open_opensearch_store(OpenSearchAddress((opensearch_server.url,)), settings) as store:
            for ask in (
                lambda: store.get("1-0"),
                lambda: store.search(RecordFilter(), 10),
                lambda: store.due(NOW, 10),
                lambda: store.counts(NOW),
            ):
                (result,) = await results_of([ask])
                assert isinstance(result, Unavailable)
            await store.prepare()
            for record_id in ("1-0", "", "x" * 513, "\ud800"):
                assert None is await store.get(record_id)


async def test_a_record_that_somebody_broke_hides_no_other(settings: Settings, opensearch_server: OpenSearch) -> None:
    """It cannot be read by its ID, is left out of searches, and neither pages nor retries stop at it."""
    async with prepared(settings) as store:
        for number in range(6):
            await store.create(record(number, retrying(NOW)))
        delivery = {"state": "retrying", "next_attempt_at": NOW}
        broken = {"record_id": record(3).id, "delivery": {**delivery, "attempts": []}}
        nameless = {"delivery": delivery}
        for number, document in ((3, broken), (2, {**broken, "record_id": record(2).id}), (5, nameless)):
            path = f"/{settings.index}/_doc/{record(number).id}?refresh=true"
            assert 200 == opensearch_server.request("PUT", path, document)[0]

        with pytest.raises(RefusedContent, match="changed by somebody else") as caught:
            await store.get(record(3).id)
        assert "unreadable_record" == caught.value.reason
        good = [record(number).id for number in (4, 1, 0)]
        for count in (3, 6, 10):
            assert good == [found.id for found in await store.search(RecordFilter(), count)]
        assert good == [found.id async for page in Pages(partial(store.search, RecordFilter(), 1)) for found in page]
        assert [record(number).id for number in (0, 1, 2, 3, 4)] == [due.id for due in await store.due(NOW, 10)]


async def test_counters_are_summed_and_channels_asked_for(
    settings: Settings, opensearch_server: OpenSearch, fresh_index: str
) -> None:
    """`sum(attempts)` and `in_doubt: 0` see every record; "pager and failed" finds none whose desk failed."""
    two = first_attempt(["pager", "desk"], "owner", NOW, 60)
    refused: dict[str, tuple[Outcome, float]] = {"pager": (Accepted(200), 0.1), "desk": (Refused("no", 410), 0.1)}
    later: dict[str, tuple[Outcome, float]] = {
        "pager": (Refused("no", 410), 0.1),
        "desk": (Retry("lost", unseen=True), 0.1),
    }
    deliveries = [two, settled(two, refused, NOW, RetryPolicy((5,))), settled(two, later, NOW, RetryPolicy((5,)))]

    def found(*terms: dict[str, object]) -> list[int]:
        query = {"query": {"bool": {"filter": [{"term": term} for term in terms]}}, "sort": "record_id"}
        hits = opensearch_server.request("POST", f"/{fresh_index}/_search", query)[1]["hits"]["hits"]
        return [int(hit["_id"][-4:]) for hit in hits]

    async with prepared(settings) as store:
        for number, delivery in enumerate([suppressed("night"), *deliveries]):
            await store.create(record(number, delivery))
    opensearch_server.request("POST", f"/{fresh_index}/_refresh")
    sums = {name: {"sum": {"field": f"delivery.{name}"}} for name in ("attempts", "channels.attempts", "in_doubt")}
    answer = opensearch_server.request("POST", f"/{fresh_index}/_search", {"size": 0, "aggs": sums})[1]

    assert [3, 6, 1] == [answer["aggregations"][name]["value"] for name in sums]
    assert [0, 1, 2] == found({"delivery.in_doubt": 0})
    assert [3] == found({"delivery.in_doubt": 1})
    assert [2, 3] == found({"delivery.channels.name": "pager"}, {"delivery.channels.state": "failed"})  # the trap
    assert [3] == found({"delivery.failed_channels": "pager"})
    assert [2] == found({"delivery.failed_channels": "desk"})
    assert [3] == found({"delivery.retrying_channels": "desk"}, {"delivery.failed_channels": "pager"})


async def test_records_of_an_older_release_are_listed_last(
    settings: Settings, opensearch_server: OpenSearch, fresh_index: str
) -> None:
    """They have no `entry_order`: after all others, the highest ID, as a string, first, page by page and counted."""
    async with prepared(settings) as store:
        for record_id in ("1-9", "1-20", "1-3"):
            document = msgspec.json.decode(record(1, record_id=record_id).to_json())
            del document["entry_order"]
            opensearch_server.request("PUT", f"/{fresh_index}/_doc/{record_id}", document)
        for record_id in ("0-9", "0-20", "2-1"):
            await store.create(record(1, record_id=record_id))
        opensearch_server.request("POST", f"/{fresh_index}/_refresh")

        expected = ["2-1", "0-20", "0-9", "1-9", "1-3", "1-20"]
        assert len(expected) == await store.count(RecordFilter())
        for size in (1, 2, 4, 10):
            paged: list[Record] = []
            for _ in expected:
                paged += await store.search(RecordFilter(), size, paged[-1] if paged else None)
            assert expected == [found.id for found in paged]


async def test_what_the_block_raises_comes_out_as_it_is(settings: Settings) -> None:
    """Nobody has to look for an error of the program in a group that the store's own tasks made."""

    async def fail(*, cancelled: bool) -> None:
        with trio.CancelScope() as scope:
            async with prepared(settings):
                if cancelled:
                    scope.cancel()
                raise RefusedContent("mine")

    for cancelled in (False, True):
        with pytest.raises(RefusedContent, match="mine"):
            await fail(cancelled=cancelled)


async def test_an_index_that_nobody_searches_is_not_refreshed(
    settings: Settings, opensearch_server: OpenSearch
) -> None:
    """A second after the last search no refresh is made for what is written; the next search waits for one."""

    def refreshes() -> int:
        _, stats = opensearch_server.request("GET", f"/{settings.index}/_stats/refresh")
        return int(stats["_all"]["total"]["refresh"]["external_total"])

    async with prepared(settings) as store:
        await trio.sleep(IDLE_AFTER_S + 1.5)
        before = refreshes()
        await store.create(record(1))
        await trio.sleep(2.5)
        assert before == refreshes()
        assert [record(1).id] == [one.id for one in await store.due(NOW + 120 * SECOND, 10)]
