"""An OpenSearch in memory, behind httpx's transport: its answers to every request that this program makes.

Only what is asked is there, in the form of 3.4.0: whoever wants something else in place of an answer puts it there.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """A document; `seq_no` is its version."""

    source: dict[str, Any]
    seq_no: int


class FakeOpenSearch(httpx.AsyncBaseTransport):
    """Answers like an OpenSearch that has one index, or none yet.

    Args:
        wanted: Which index it makes, or has.
        exists: Whether it is there already.

    Attributes:
        documents: By ID.
        asked: Every request, by the kind that `kind_of` names.
        delay_s: How long every answer takes, in virtual seconds.
        template: The one composable index template, if there is one.
        legacy_templates: By name.
    """

    def __init__(self, wanted: IndexSpec, *, exists: bool = True) -> None:
        self.wanted = wanted
        self.documents: dict[str, Kept] = {}
        self.asked: list[tuple[str, httpx.Request]] = []
        self.delay_s = 0.0
        self.template: dict[str, Any] | None = None
        self.legacy_templates: dict[str, Any] = {}
        self._index: dict[str, Any] = {}
        if exists:
            self._create(msgspec.json.decode(msgspec.json.encode(wanted.body())))

    def forget_field(self, name: str) -> None:
        """Take a field from the mapping, as if an older release had made it."""
        del self._index["mappings"]["properties"][name]

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
        if kind == "create":
            self._create(body)
            return answer({"acknowledged": True, "shards_acknowledged": True, "index": name})
        if name not in (self.wanted.alias, self.wanted.first_index) or not self._index:
            if request.url.params.get("ignore_unavailable") == "true":
                return answer({})
            return error(404, "index_not_found_exception", f"no such index [{name}]")
        if kind == "look":
            return answer({self.wanted.first_index: self._index})
        if kind == "mapping":
            self._index["mappings"]["properties"] |= body.get("properties", {})
            self._index["mappings"]["_meta"] = body["_meta"]
            return answer({"acknowledged": True})
        if kind == "refresh":
            return answer({"_shards": SHARDS})
        if kind == "count":
            return answer({"count": len(self.documents), "_shards": SHARDS})
        if kind == "bulk":
            lines = [msgspec.json.decode(line) for line in reversed(request.content.splitlines())]
            items = []
            while lines:
                action = lines.pop()
                items.append(self._delete(action["delete"]) if "delete" in action else self._write(action, lines.pop()))
            return answer({"items": items})
        if kind == "mget":
            return answer({"docs": [self._found(record_id) for record_id in body["ids"]]})
        if kind == "get":
            return self._get(rest.removeprefix("_doc/"))
        return self._search(body)

    def _create(self, body: dict[str, Any]) -> None:
        settings = {**body["settings"], "index.uuid": "u1", "index.provided_name": self.wanted.first_index}
        self._index = {"aliases": body["aliases"], "mappings": body["mappings"], "settings": settings}

    def _write(self, line: dict[str, dict[str, Any]], source: dict[str, Any]) -> dict[str, Any]:
        ((action, condition),) = line.items()
        record_id = condition["_id"]
        named = {"_index": self.wanted.first_index, "_id": record_id}
        there = self.documents.get(record_id)
        if (there.seq_no if there else None) != condition.get("if_seq_no"):
            reason = {"type": "version_conflict_engine_exception", "reason": f"[{record_id}]: version conflict"}
            return {action: {**named, "status": 409, "error": {**reason, "shard": "0", "index_uuid": "u1"}}}
        self.documents[record_id] = Kept(source, 1 + max((one.seq_no for one in self.documents.values()), default=6))
        done = {"status": 201 if action == "create" else 200, "_primary_term": 1}
        return {action: {**named, **done, "_seq_no": self.documents[record_id].seq_no}}

    def _delete(self, condition: dict[str, Any]) -> dict[str, Any]:
        record_id = condition["_id"]
        named = {"_index": self.wanted.first_index, "_id": record_id}
        there = self.documents.get(record_id)
        if there is None or there.seq_no != condition["if_seq_no"]:
            reason = {"type": "version_conflict_engine_exception", "reason": f"[{record_id}]: version conflict"}
            return {"delete": {**named, "status": 409, "error": {**reason, "shard": "0", "index_uuid": "u1"}}}
        del self.documents[record_id]
        return {"delete": {**named, "status": 200, "_seq_no": 99, "_primary_term": 1}}

    def _get(self, record_id: str) -> httpx.Response:
        found = self._found(record_id)
        return answer(found, 200 if found["found"] else 404)

    def _found(self, record_id: str) -> dict[str, Any]:
        named = {"_index": self.wanted.first_index, "_id": record_id}
        there = self.documents.get(record_id)
        if there is None:
            return {**named, "found": False}
        version = {"_version": 1, "_seq_no": there.seq_no, "_primary_term": 1}
        return {**named, **version, "found": True, "_source": there.source}

    def _search(self, body: Mapping[str, Any]) -> httpx.Response:
        whole = {"took": 3, "timed_out": False, "_shards": SHARDS}
        if aggregations := body.get("aggs"):
            channels = {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": []}
            results: dict[str, Any] = {"doc_count": 0, "since": {"value": 1.7e12}}
            results |= {"channels": channels, "states": channels}
            buckets = {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": self._buckets()}
            told = {name: buckets if "terms" in how else results for name, how in aggregations.items()}
            return answer({**whole, "hits": {"max_score": None, "hits": []}, "aggregations": told})
        ((_, order),) = body["sort"][-1].items()  # all fields in one direction; what is missing comes last
        fields = [field for one in body["sort"] for field in one]
        places = {one: self._place(one, fields) for one in self._matching(body["query"])}
        found = sorted(places, key=lambda one: [value or "" for value in places[one]], reverse=order == "desc")
        hits = [self._hit(one, places[one], source=body.get("_source", True)) for one in found[: body["size"]]]
        return answer({**whole, "hits": {"max_score": None, "hits": hits}})

    def _buckets(self) -> list[dict[str, Any]]:
        states = [str(_value(kept.source, "delivery.state")) for kept in self.documents.values()]
        return [{"key": state, "doc_count": states.count(state)} for state in sorted(set(states))]

    def _matching(self, query: Mapping[str, Any]) -> list[str]:
        return [record_id for record_id, kept in self.documents.items() if _matches(kept.source, query)]

    def _place(self, record_id: str, fields: Sequence[str]) -> list[Any]:
        return [_value(self.documents[record_id].source, field) for field in fields]

    def _hit(self, record_id: str, place: Sequence[Any], *, source: bool) -> dict[str, Any]:
        kept = self.documents[record_id]
        version = {"_seq_no": kept.seq_no, "_primary_term": 1, "_score": None, "sort": place}
        named = {"_index": self.wanted.first_index, "_id": record_id, **version}
        return {**named, "_source": kept.source} if source else named


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
    if how == "exists":
        return _value(source, what["field"]) is not None
    ((path, wanted),) = what.items()
    value = _value(source, path)
    if how == "term":
        return bool(value == wanted)
    if how == "terms":
        return value in wanted
    return value is not None and all(_BOUNDS[bound](str(value), limit) for bound, limit in wanted.items())


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
    if rest:
        paths = {"_mget": "mget"} | {
            "_bulk": "bulk",
            "_search": "search",
            "_count": "count",
            "_refresh": "refresh",
            "_mapping": "mapping",
        }
        return "get" if rest.startswith("_doc/") else paths[rest]
    if not name:
        return "info"
    return "create" if request.method == "PUT" else "look"
