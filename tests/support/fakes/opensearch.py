"""An OpenSearch in memory, behind httpx's transport: its answers to every request that this program makes.

Only what is asked is there, in the form of 3.4.0: whoever wants something else in place of an answer puts it there.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import trio

from trio_alerts.backends.opensearch.mapping import IndexSpec

INFO = {
    "name": "node-1",
    "cluster_name": "opensearch",
    "version": {"distribution": "opensearch", "number": "3.4.0", "build_type": "tar"},
    "tagline": "The OpenSearch Project: https://opensearch.org/",
}
SHARDS = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}


@dataclass
class Kept:
    """A document; `seq_no` and `term` are its version, `number` the one that counts its writes."""

    source: dict[str, Any]
    seq_no: int
    term: int = 1
    number: int = 1


@dataclass
class FakeIndex:
    """An index: what describes it, its documents by ID, and those that a search sees, if it lags behind."""

    name: str
    body: dict[str, Any]
    documents: dict[str, Kept] = field(default_factory=dict)
    searchable: dict[str, Kept] = field(default_factory=dict)
    term: int = 1
    writes: int = 6
    closed: bool = False

    @property
    def aliases(self) -> dict[str, Any]:
        """Its aliases."""
        aliases: dict[str, Any] = self.body["aliases"]
        return aliases

    @property
    def is_blocked(self) -> bool:
        """Whether it takes no writes."""
        return bool(self.body["settings"].get("index.blocks.write"))


class FakeOpenSearch(httpx.AsyncBaseTransport):
    """Answers like an OpenSearch that has one index, or none yet.

    Args:
        wanted: Which index it makes, or has.
        exists: Whether it is there already.
        lagging: Searches and counts see only what was there at the last `_refresh`.

    Attributes:
        indices: By name.
        asked: Every request, by the kind that `kind_of` names.
        delay_s: How long every answer takes, in virtual seconds.
        template: The one composable index template, if there is one.
        legacy_templates: By name.
    """

    def __init__(self, wanted: IndexSpec, *, exists: bool = True, lagging: bool = False) -> None:
        self.wanted = wanted
        self.lagging = lagging
        self.indices: dict[str, FakeIndex] = {}
        self.asked: list[tuple[str, httpx.Request]] = []
        self.delay_s = 0.0
        self.template: dict[str, Any] | None = None
        self.legacy_templates: dict[str, Any] = {}
        self._made = 0
        if exists:
            self._create(wanted.first_index, msgspec.json.decode(msgspec.json.encode(wanted.body())))

    @property
    def index(self) -> FakeIndex:
        """The one behind the alias."""
        (index,) = self.named(self.wanted.alias)
        return index

    @property
    def documents(self) -> dict[str, Kept]:
        """Those of the index behind the alias, by ID."""
        return self.index.documents

    def named(self, name: str) -> list[FakeIndex]:
        """Return the indices of a name: one, or those behind an alias."""
        return [one for one in self.indices.values() if name in (one.name, *one.aliases)]

    def forget_field(self, name: str) -> None:
        """Take a field from the mapping, as if an older release had made it."""
        del self.index.body["mappings"]["properties"][name]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        kind = kind_of(request)
        self.asked.append((kind, request))
        await trio.sleep(self.delay_s)
        return self.substitute(kind, request, self.answer(kind, request))

    def substitute(self, kind: str, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        """Return what is sent in place of an answer; others override it."""
        return answer

    def answer(self, kind: str, request: httpx.Request) -> httpx.Response:
        """Do what is asked, and say so."""
        name, _, rest = unquote(request.url.raw_path.split(b"?")[0].decode()).strip("/").partition("/")
        body = msgspec.json.decode(request.content) if request.content and kind != "bulk" else {}
        if kind == "info":
            return answer(INFO)
        if kind == "templates":
            return answer({"index_templates": []} if self.template is None else {"index_templates": [self.template]})
        if kind == "simulated":
            assert self.template is not None
            return answer({"template": self.template["index_template"]["template"], "overlapping": []})
        if kind == "legacy":
            return answer(self.legacy_templates)
        if kind == "aliases":
            return self._change_aliases(body["actions"])
        if kind == "create":
            if self.named(name):
                return error(400, "resource_already_exists_exception", f"index [{name}] already exists")
            self._create(name, body)
            return answer({"acknowledged": True, "shards_acknowledged": True, "index": name})
        indices = self.named(name)
        if kind == "bulk":
            lines = [msgspec.json.decode(line) for line in request.content.splitlines()]
            return answer({"items": self._bulk(name, indices, lines)})
        if not indices:
            if request.url.params.get("ignore_unavailable") == "true":
                return answer({})
            return error(404, "index_not_found_exception", f"no such index [{name}]")
        if kind == "look":
            return answer({one.name: one.body for one in indices})
        (index,) = indices
        if index.closed and kind in ("refresh", "count", "search", "get", "stats"):
            return error(400, "index_closed_exception", "closed")
        if kind in _CHANGES:
            return self._change(kind, index, body)
        if kind == "refresh":
            index.searchable = dict(index.documents)
            return answer({"_shards": SHARDS})
        if kind == "count":
            return answer({"count": len(self._seen(index)), "_shards": SHARDS})
        if kind == "stats":
            copy = {"routing": {"primary": True}, "seq_no": {"global_checkpoint": index.writes}}
            return answer({"indices": {index.name: {"shards": {"0": [copy]}}}})
        if kind == "mget":
            return answer({"docs": [_found(index, record_id) for record_id in body["ids"]]})
        if kind == "get":
            found = _found(index, rest.removeprefix("_doc/"))
            return answer(found, 200 if found["found"] else 404)
        return self._search(index, body)

    def _create(self, name: str, body: dict[str, Any]) -> None:
        self._made += 1
        settings = {**body["settings"], "index.uuid": f"u{self._made}", "index.provided_name": name}
        described = {"aliases": body["aliases"], "mappings": body["mappings"], "settings": settings}
        self.indices[name] = FakeIndex(name, described)

    def _change(self, kind: str, index: FakeIndex, body: dict[str, Any]) -> httpx.Response:
        settings = index.body["settings"]
        match kind:
            case "mapping":
                index.body["mappings"]["properties"] |= body.get("properties", {})
                index.body["mappings"]["_meta"] = body["_meta"]
            case "block":
                named = [] if index.is_blocked else [{"name": index.name, "blocked": True}]
                settings["index.blocks.write"] = "true"
                return answer({"acknowledged": True, "shards_acknowledged": bool(named), "indices": named})
            case "settings":
                assert body == {"index.blocks.write": None}
                settings.pop("index.blocks.write", None)
            case _:
                index.closed = kind == "close"
                index.term += 1  # each time its shards start anew
                settings["index.verified_before_close"] = str(index.closed).lower()
        return answer({"acknowledged": True})

    def _change_aliases(self, actions: Sequence[dict[str, dict[str, Any]]]) -> httpx.Response:
        """Do all of it, or nothing."""
        for action in actions:
            ((how, what),) = action.items()
            index = self.indices.get(what["index"])
            if index is None:
                return error(404, "index_not_found_exception", f"no such index [{what['index']}]")
            if how == "remove" and what["alias"] not in index.aliases:
                return error(404, "aliases_not_found_exception", f"aliases [{what['alias']}] missing")
        for action in actions:
            ((how, what),) = action.items()
            if how == "remove_index":
                del self.indices[what["index"]]
            elif how == "remove":
                del self.indices[what["index"]].aliases[what["alias"]]
            else:
                self.indices[what["index"]].aliases[what["alias"]] = {"is_write_index": True}
        return answer({"acknowledged": True})

    def _bulk(self, name: str, indices: list[FakeIndex], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items, left = [], list(reversed(lines))
        while left:
            ((action, condition),) = left.pop().items()
            source = {} if action == "delete" else left.pop()
            record_id = condition["_id"]
            if not indices or name in self.indices:  # as `require_alias` has it
                kind, reason, status = "index_not_found_exception", f"no such index [{name}]", 404
                item = {"_index": name, "status": status, "error": {"type": kind, "reason": reason}}
            elif indices[0].closed or indices[0].is_blocked:
                kind, status = (
                    ("index_closed_exception", 400) if indices[0].closed else ("cluster_block_exception", 403)
                )
                item = {"_index": name, "status": status, "error": {"type": kind, "reason": "blocked"}}
            else:
                item = {"_index": indices[0].name, **self._write(indices[0], action, condition, source)}
            items.append({action: {"_id": record_id, **item}})
        return items

    def _write(
        self, index: FakeIndex, action: str, condition: dict[str, Any], source: dict[str, Any]
    ) -> dict[str, Any]:
        record_id = condition["_id"]
        there = index.documents.get(record_id)
        number = condition.get("version")
        if number is not None:  # of another index
            fits = there is None or there.number < number + (condition["version_type"] == "external_gte")
        elif action == "delete" and "if_seq_no" not in condition:
            fits = True
        else:
            expected = (condition.get("if_seq_no"), condition.get("if_primary_term"))
            fits = ((there.seq_no, there.term) if there else (None, None)) == expected
        if not fits:
            reason = {"type": "version_conflict_engine_exception", "reason": f"[{record_id}]: version conflict"}
            return {
                "status": 409,
                "error": {**reason, "shard": "0", "index_uuid": index.body["settings"]["index.uuid"]},
            }
        index.writes += 1
        if action == "delete":
            index.documents.pop(record_id, None)
        else:
            number = number or (there.number + 1 if there else 1)
            index.documents[record_id] = Kept(source, index.writes, index.term, number)
        done = 200 if there else 404 if action == "delete" else 201
        return {"status": done, "_primary_term": index.term, "_seq_no": index.writes}

    def _seen(self, index: FakeIndex) -> dict[str, Kept]:
        return index.searchable if self.lagging else index.documents

    def _search(self, index: FakeIndex, body: Mapping[str, Any]) -> httpx.Response:
        whole = {"took": 3, "timed_out": False, "_shards": SHARDS}
        kept = self._seen(index)
        if aggregations := body.get("aggs"):
            channels = {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": []}
            results: dict[str, Any] = {"doc_count": 0, "since": {"value": 1.7e12}}
            results |= {"channels": channels, "states": channels}
            buckets = {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": _buckets(kept)}
            told = {name: buckets if "terms" in how else results for name, how in aggregations.items()}
            return answer({**whole, "hits": {"max_score": None, "hits": []}, "aggregations": told})
        order = {name: how for one in body.get("sort", ()) for name, how in one.items()}
        places = {
            record_id: [one.seq_no if name == "_seq_no" else _value(one.source, name) for name in order]
            for record_id, one in kept.items()
            if _matches({**one.source, "_seq_no": one.seq_no, "_id": record_id}, body["query"])
        }
        found = sorted(
            places,
            key=lambda one: [value or ("" if value is None else value) for value in places[one]],
            reverse="desc" in order.values(),  # all fields in one direction; what is missing comes last
        )
        hits = [self._hit(index, one, kept[one], places[one], body) for one in found[: body["size"]]]
        return answer({**whole, "hits": {"max_score": None, "hits": hits}})

    def _hit(
        self, index: FakeIndex, record_id: str, one: Kept, place: Sequence[Any], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        version: dict[str, Any] = {"_seq_no": one.seq_no, "_primary_term": one.term, "_score": None}
        if place:
            version["sort"] = place
        if body.get("version"):
            version["_version"] = one.number
        named = {"_index": index.name, "_id": record_id, **version}
        return {**named, "_source": one.source} if body.get("_source", True) else named


def _found(index: FakeIndex, record_id: str) -> dict[str, Any]:
    named = {"_index": index.name, "_id": record_id}
    there = index.documents.get(record_id)
    if there is None:
        return {**named, "found": False}
    version = {"_version": there.number, "_seq_no": there.seq_no, "_primary_term": there.term}
    return {**named, **version, "found": True, "_source": there.source}


_CHANGES = ("mapping", "block", "settings", "close", "open")


def _buckets(kept: Mapping[str, Kept]) -> list[dict[str, Any]]:
    states = [str(_value(one.source, "delivery.state")) for one in kept.values()]
    return [{"key": state, "doc_count": states.count(state)} for state in sorted(set(states))]


def _matches(source: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    ((how, what),) = query.items()
    if how == "bool":
        alternatives = what.get("should", [])
        refused = "must_not" in what and _matches(source, what["must_not"])
        return (
            not refused
            and all(_matches(source, one) for one in what.get("filter", []))
            and (not alternatives or any(_matches(source, one) for one in alternatives))
        )
    if how == "ids":
        return source["_id"] in what["values"]
    if how == "exists":
        return _value(source, what["field"]) is not None
    ((path, wanted),) = what.items()
    value = _value(source, path)
    if how == "prefix":
        return str(value or "").startswith(wanted)
    if how == "term":
        return bool(value == wanted)
    if how == "terms":
        return value in wanted
    return value is not None and all(
        _BOUNDS[bound](value if isinstance(limit, int) else str(value), limit) for bound, limit in wanted.items()
    )


_BOUNDS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def _value(source: Any, path: str) -> Any:
    for name in path.split("."):
        source = source.get(name) if isinstance(source, dict) else None
    return source


def answer(body: object, status: int = 200) -> httpx.Response:
    """Render an answer as OpenSearch does."""
    return httpx.Response(
        status, content=msgspec.json.encode(body), headers={"content-type": "application/json; charset=UTF-8"}
    )


def error(status: int, kind: str = "some_exception", reason: str = "because") -> httpx.Response:
    """Render a refusal as OpenSearch does."""
    cause = {"type": kind, "reason": reason}
    return answer({"error": {"root_cause": [cause], **cause}, "status": status}, status)


def kind_of(request: httpx.Request) -> str:
    """Name the kind of a request: every one that this program makes has a name here."""
    name, _, rest = request.url.path.strip("/").partition("/")
    if name == "_template":
        return "legacy"
    if name == "_index_template":
        return "simulated" if rest else "templates"
    if name == "_aliases":
        return "aliases"
    if rest:
        return "get" if rest.startswith("_doc/") else rest.split("/")[0].removeprefix("_")
    if not name:
        return "info"
    return "create" if request.method == "PUT" else "look"
