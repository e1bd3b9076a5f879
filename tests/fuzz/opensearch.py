"""Generated answers to every request that is made of OpenSearch, through the real store and client.

Half of them are OpenSearch's own with something changed, half are what else might answer. Each promise is stated once
more here, from the bytes of the answer: a record is missing, in conflict, stored or refused only if OpenSearch said so.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import httpx
import trio
from trio.testing import MockClock

from tests.contracts.store import NOW, record, retrying
from tests.fuzz.target import Target
from tests.support.at_once import results_of
from tests.support.fakes.opensearch import FakeOpenSearch, answer, error
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.migration import OpenSearchMigration
from trio_alerts.backends.opensearch.store import OpenSearchStore
from trio_alerts.errors import AlertError, NewerRecord, RefusedContent, SchemaError, StartError, Unavailable
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.ports.store import Conflict, Counts, RecordFilter, Stored, Vitals
from trio_alerts.settings.addresses import OpenSearchAddress

WANTED = IndexSpec("alerts", ("AlertStream",), "alert-processor")
INDEX, ALIAS = WANTED.first_index, WANTED.alias
BOUND_S = 600.0  # virtual: what is not done by then hangs
DONE = {"create": 201, "index": 200}

STATUSES = (
    *(200, 200, 200, 201, 202, 204, 206, 301, 302, 400, 401, 403, 404, 405),
    *(409, 410, 413, 429, 500, 502, 503, 599),
)
TYPES = ("application/json; charset=UTF-8", "application/json", "text/html", "text/plain; charset=utf-8", "", "\x7f")
PAGES = (
    b"",
    b"<html><head><title>Sign in</title></head></html>",
    b"OK",
    b"{}",
    b"[]",
    b"null",
    b'{"items":[]}',
    b'{"status":404}',
    b'{"error":"not found","status":404}',
    b'{"error":{"type":"x"},"status":400}',
    b'{"_index":"other","_id":"other","found":false}',
    b'{"hits":{"hits":[]}}',
    b'{"acknowledged":false}',
    b"[" * 5000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"1" * 5000,
    b"\xff\xfe",
    b'"\xed\xa0\x80"',
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, -2, 7, 200, 201, 400, 404, 409, 2**63 - 1, 2**63, 10**40, 1.5, 1e300),
    *("", "x", ALIAS, INDEX, "1-0", "mapper_parsing_exception", "version_conflict_engine_exception", "\x00"),
    *([], {}, [[]], [{}], {"type": "x"}, {"create": {}}, ["a"]),
)
TEMPLATE_BODY: dict[str, Any] = {
    "settings": {"index": {"refresh_interval": "5s", "mapping": {"total_fields": {"limit": "50"}}}},
    "mappings": {"properties": {"view": {"type": "text"}, "delivery": {"properties": {"state": {"type": "text"}}}}},
    "aliases": {"theirs": {}},
}
TEMPLATE: dict[str, Any] = {
    "name": "theirs",
    "index_template": {"index_patterns": ["alerts*"], "priority": 1, "template": TEMPLATE_BODY},
}
ERRORS = (
    ("version_conflict_engine_exception", 409),
    ("mapper_parsing_exception", 400),
    ("index_not_found_exception", 404),
    ("security_exception", 403),
    ("illegal_argument_exception", 400),
    ("rejected_execution_exception", 429),
    ("cluster_block_exception", 503),
    ("content_too_long_exception", 413),
)


class Distorted(FakeOpenSearch):
    """Sends a generated answer in place of every answer of one kind; the others are right."""

    def __init__(self, random: Random, kind: str, *, exists: bool) -> None:
        super().__init__(WANTED, exists=exists)
        self.sent: list[httpx.Response] = []
        self._random = random
        self._kind = kind
        self.distorting = False

    def substitute(self, kind: str, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if kind != self._kind or not self.distorting:
            return answer
        self.sent.append(_distorted(self._random, answer))
        return self.sent[-1]


# --- cases -----------------------------------------------------------------------------------------------------------


def _case(kind: str, random: Random) -> None:
    trio.run(_judge, kind, random, clock=MockClock(autojump_threshold=0))


async def _judge(kind: str, random: Random) -> None:
    new = kind in ("create", "templates", "simulated", "legacy")
    server = Distorted(random, kind, exists=not new)
    if kind == "simulated" or (kind == "templates" and random.random() < 0.5):
        server.template = TEMPLATE
    if kind == "legacy":
        server.legacy_templates = {"theirs": {"order": 1, "index_patterns": ["al*"], **TEMPLATE_BODY}}
    with trio.fail_after(BOUND_S):
        if kind in START:
            await _start(kind, server)
            return
        async with (
            open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client,
            trio.open_nursery() as tasks,
        ):
            store = OpenSearchStore(client, WANTED, timeout_s=10)
            for task in store.tasks()[:-1]:  # without the guard's: what it raises is asked for here
                tasks.start_soon(task)
            await store.prepare()
            for number in range(3):
                await store.create(record(number, retrying(NOW)))
            server.distorting = True
            await ASK[kind](store, server, random)
            tasks.cancel_scope.cancel()


async def _start(kind: str, server: Distorted) -> None:
    """Whatever is answered at start, it is right, or the start is refused with a message."""
    if kind in ("mapping", "refresh", "count", "info"):
        server.forget_field("links")
    server.distorting = True
    try:
        async with open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client:
            await OpenSearchStore(client, WANTED, timeout_s=10).prepare()
    except StartError as fault:
        _see_clean(fault)
    except SchemaError as fault:
        _see_justified(fault, kind, server)


def _see_justified(fault: SchemaError, kind: str, server: Distorted) -> None:
    if kind == "look":
        assert any(map(_describes_an_index, server.sent))
    else:
        assert kind in ("templates", "simulated", "legacy")
        assert "because of index template" in str(fault)


async def _ask_bulk(store: OpenSearchStore, server: Distorted, random: Random) -> None:
    found = await store.get(record(0).id)
    assert found is not None
    writes = [
        ("create", record(1), partial(store.create, record(1))),
        *[
            ("create", record(number), partial(store.create, record(number)))
            for number in range(5, random.randint(6, 9))
        ],
        ("index", record(0), partial(store.replace, record(0), found.version)),
    ]
    results = await results_of([ask for _, _, ask in writes])
    batches = [_own(one) for one in server.sent]
    whole = [_error_of(one) for one in server.sent]
    for (action, one, _), result in zip(writes, results, strict=True):
        items = [item for batch in batches for item in _items(batch, action, one.id)]
        if isinstance(result, Stored):
            assert result.version in [
                (item["_seq_no"], item["_primary_term"]) for item in items if _is_done(item, action)
            ]
        elif isinstance(result, Conflict):
            assert "version_conflict_engine_exception" in [_type(item) for item in items if item.get("status") == 409]
        elif isinstance(result, RefusedContent):
            reasons = [_type(item) for item in items if item.get("status") == 400]
            its_own = {"mapper_parsing_exception", "illegal_argument_exception"}.intersection(map(str, reasons))
            assert its_own or {400, 413}.intersection(whole)
        else:
            _see_clean(result)


async def _ask_get(store: OpenSearchStore, server: Distorted, random: Random) -> None:
    record_id = record(random.choice((0, 9))).id
    (result,) = await results_of([partial(store.get, record_id)])
    *_, sent = server.sent  # it is asked again if the alias had moved
    said = _json(sent)
    if result is None:
        assert sent.status_code == 404
        assert _is_json(sent)
        assert (said["found"], said["_id"], said["_index"]) == (False, record_id, INDEX)
    elif isinstance(result, Stored | NewerRecord | RefusedContent):
        assert _own(sent) is not None
        assert (said["found"], said["_id"], said["_index"]) == (True, record_id, INDEX)
        assert isinstance(said["_source"], dict)
        if isinstance(result, Stored):
            assert (said["_seq_no"], said["_primary_term"]) == result.version
    else:
        _see_clean(result)


async def _ask_search(store: OpenSearchStore, server: Distorted, random: Random) -> None:
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: store.search(RecordFilter(), 2),
        lambda: store.search(RecordFilter(), 2, record(3)),
        lambda: store.due(NOW, 2),
        lambda: store.count(RecordFilter()),
        lambda: store.counts(NOW),
        store.vitals,
        store.waiting,
    ]
    (result,) = await results_of([random.choice(asks)])
    if isinstance(result, list | int | Counts | Vitals | Mapping):
        for said in map(_own, server.sent):
            assert said is not None
            assert said["timed_out"] is False
            assert said["_shards"]["failed"] == 0
        if isinstance(result, list):
            hits = [hit for said in map(_own, server.sent) for hit in said["hits"]["hits"]]
            assert {hit["_index"] for hit in hits} <= {INDEX}
            assert len(result) <= 2
        if isinstance(result, Counts):
            assert all(isinstance(name, str) and count >= 0 for name, count in result.by_state.items())
    else:
        _see_clean(result)


async def _ask_guard(store: OpenSearchStore, server: Distorted, random: Random) -> None:
    try:
        await store.guard()
    except SchemaError:
        missing = [one for one in server.sent if _error_of(one) == 404]
        assert any(map(_describes_an_index, server.sent)) or (missing and _own(server.sent[0]) == {})
    except Unavailable as fault:
        _see_clean(fault)
    else:
        assert any(map(_describes_an_index, server.sent))


ASK: Mapping[str, Callable[[OpenSearchStore, Distorted, Random], Awaitable[None]]] = {
    "bulk": _ask_bulk,
    "get": _ask_get,
    "search": _ask_search,
    "look": _ask_guard,
}
START = ("info", "create", "mapping", "refresh", "count", "templates", "simulated", "legacy")


def _case_at_start(random: Random) -> None:
    _case(random.choice(START), random)


# Not what describes an index or a record: a wrong word in it is what it says, and nobody could know.
MIGRATING = ("create", "mapping", "refresh", "count", "stats", "bulk", "block", "settings", "close", "open", "aliases")


def _case_of_a_migration(random: Random) -> None:
    trio.run(_migrate, random, clock=MockClock(autojump_threshold=0))


async def _migrate(random: Random) -> None:
    """Whatever is answered, it is done or ends with a message, and no record is lost; after an abort, writes go on."""
    server = Distorted(random, random.choice(MIGRATING), exists=True)
    with trio.fail_after(10 * BOUND_S):
        async with (
            open_opensearch(OpenSearchAddress(("http://store:9200",)), http=server) as client,
            trio.open_nursery() as tasks,
        ):
            store = OpenSearchStore(client, WANTED, timeout_s=10)
            for task in store.tasks()[:-1]:
                tasks.start_soon(task)
            for number in range(3):
                await store.create(record(number, retrying(NOW)))
            before = {record_id: kept.source for record_id, kept in server.documents.items()}
            migration = OpenSearchMigration(client, WANTED, 10, FaultPoint().reach)
            server.distorting = True
            refused: AlertError | None = None
            try:
                await migration.run(lambda _: None)
            except AlertError as fault:
                refused = fault
            assert not isinstance(refused, Unavailable), refused
            assert len(str(refused)) < 1000, refused
            server.distorting = False
            await migration.abort()
            assert before == {record_id: kept.source for record_id, kept in server.documents.items()}
            assert isinstance(await store.create(record(9)), Stored)
            tasks.cancel_scope.cancel()


TARGETS = [
    *(Target(f"OpenSearch {kind}", partial(_case, kind)) for kind in ASK),
    Target("OpenSearch at start", _case_at_start),
    Target("OpenSearch in a migration", _case_of_a_migration),
]


# --- what was answered -----------------------------------------------------------------------------------------------


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content.decode())
    except (ValueError, RecursionError):
        return None


def _is_json(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).lower().startswith("application/json")


def _own(response: httpx.Response) -> Any:
    """Return what a good answer says; None if it cannot be OpenSearch's."""
    return _json(response) if response.status_code == 200 and _is_json(response) else None


def _error_of(response: httpx.Response) -> int | None:
    """Return the status of a refusal in OpenSearch's own form."""
    said = _json(response)
    if not (_is_json(response) and isinstance(said, dict) and isinstance(said.get("error"), dict)):
        return None
    own = said.get("status") == response.status_code and isinstance(said["error"].get("root_cause"), list)
    return response.status_code if own and response.status_code >= 400 else None


def _items(batch: Any, action: str, record_id: str) -> list[dict[str, Any]]:
    items = batch.get("items") if isinstance(batch, dict) else None
    found = [one.get(action) for one in items if isinstance(one, dict)] if isinstance(items, list) else []
    return [
        item
        for item in found
        if isinstance(item, dict) and item.get("_id") == record_id and item.get("_index") in (INDEX, ALIAS)
    ]


def _is_done(item: dict[str, Any], action: str) -> bool:
    version = item.get("_seq_no"), item.get("_primary_term")
    numbers = all(type(number) is int and number >= 0 for number in version)
    return item.get("status") == DONE[action] and item.get("error") is None and numbers


def _type(item: dict[str, Any]) -> object:
    fault = item.get("error")
    return fault.get("type") if isinstance(fault, dict) else None


def _describes_an_index(response: httpx.Response) -> bool:
    said = _own(response)
    return isinstance(said, dict) and any(
        isinstance(info, dict)
        and isinstance(info.get("settings"), dict)
        and isinstance(info["settings"].get("index.uuid"), str)
        and isinstance(info.get("mappings"), dict)
        and isinstance(info.get("aliases"), dict)
        for info in said.values()
    )


def _see_clean(fault: object) -> None:
    assert isinstance(fault, Unavailable | StartError), fault
    text = str(fault)
    assert text.isprintable() or "\n" in text, text
    assert len(text) < 1000, text


# --- distortion ------------------------------------------------------------------------------------------------------


def _distorted(random: Random, real: httpx.Response) -> httpx.Response:
    how = random.random()
    if how < 0.25:
        return _response(random.choice(STATUSES), random.choice(PAGES), random.choice(TYPES))
    if how < 0.35:
        kind, status = random.choice(ERRORS)
        return (
            _mutated(random, error(random.choice((status, status, 400, 404)), kind))
            if random.random() < 0.5
            else error(status, kind)
        )
    if how < 0.5:
        return _cut(random, real)
    return _mutated(random, real)


def _response(status: int, content: bytes, content_type: str) -> httpx.Response:
    return httpx.Response(status, content=content, headers={"content-type": content_type} if content_type else {})


def _mutated(random: Random, real: httpx.Response) -> httpx.Response:
    value = json.loads(real.content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        value = _mutate(random, value)
    status = random.choice(STATUSES) if random.random() < 0.1 else real.status_code
    sent = answer(value, status)
    if random.random() < 0.1:
        sent = _response(status, sent.content, random.choice(TYPES))
    return sent


def _mutate(random: Random, value: Any) -> Any:
    """Return a copy that differs in one place, anywhere in it."""
    if random.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return random.choice(VALUES)
    if isinstance(value, list):
        copy = list(value)
        place = random.randrange(len(copy))
        match random.randrange(5):
            case 0:
                del copy[place]
            case 1:
                copy.insert(place, random.choice(copy))
            case 2:
                random.shuffle(copy)
            case _:
                copy[place] = _mutate(random, copy[place])
        return copy
    name = random.choice(list(value))
    match random.randrange(6):
        case 0:
            return {key: one for key, one in value.items() if key != name}
        case 1:
            return {
                **value,
                random.choice(("x", "", "create", "index", "_id", "error", "found")): random.choice(VALUES),
            }
        case 2:
            return {(f"{name}x" if key == name else key): one for key, one in value.items()}
        case _:
            return {**value, name: _mutate(random, value[name])}


def _cut(random: Random, real: httpx.Response) -> httpx.Response:
    """Change bytes: cut, doubled, flipped, a key given twice, depth."""
    content = real.content
    place = random.randrange(len(content) + 1)
    match random.randrange(5):
        case 0:
            content = content[:place]
        case 1:
            content = content + content[place:]
        case 2:
            content = content[:place] + bytes([random.randrange(256)]) + content[place + 1 :]
        case 3:
            content = content.replace(b'"_id":', b'"_id":"x","_id":', 1).replace(b"}", b',"found":false}', 1)
        case _:
            content = content.replace(b":{", b":" + b'{"a":' * 500 + b"{", 1)
    return _response(real.status_code, content, "application/json; charset=UTF-8")
