"""The index that this program trusts: what it must look like, and how a live one differs from that. Pure, no I/O.

The danger is a filter that silently finds nothing. A `text` field takes every document and answers a `term` filter with
an empty page; so does a value above `ignore_above`, a `nested` object, a filtered alias, a refresh that is switched
off. So the live index is compared field by field and parameter by parameter before anything is consumed.

`differences` says what is wrong and what may be done about it; `report` says it to a human with the commands that
mend it. OpenSearch leaves defaults out when it gives a mapping back, and gives settings back as text: both sides are
brought to one form first.
"""

import enum
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from trio_alerts.backends.opensearch.templates import Foreseen, joined
from trio_alerts.deployment import ADOPT

OWNER = "trio_alerts"
MAPPING_VERSION = 1
SEARCH_PAGE = 1000  # records a search: a few MB

# A term may have 32,766 bytes and a character up to four: a longer value stays stored, but no filter finds it. `view`
# and `scope` have no such limit: they are at most 512 characters, so they are always found.
IGNORE_ABOVE = 8191

Properties = dict[str, dict[str, Any]]

_EXACT: dict[str, Any] = {"type": "keyword", "ignore_above": IGNORE_ABOVE}
_ALWAYS_FOUND: dict[str, Any] = {"type": "keyword"}
_ANY_CASE: dict[str, Any] = {**_EXACT, "normalizer": "lowercase"}  # built into OpenSearch, needs no setting
_DATE: dict[str, Any] = {"type": "date"}
_LONG: dict[str, Any] = {"type": "long"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_DOUBLE: dict[str, Any] = {"type": "double"}  # a `float` refuses what does not fit it, and the alert with it
_KEPT_TEXT: dict[str, Any] = {"type": "text", "index": False}
_KEPT_JSON: dict[str, Any] = {"type": "object", "enabled": False}

FIELDS: Properties = {
    **dict.fromkeys(("view", "scope"), _ALWAYS_FOUND),
    **dict.fromkeys(("alert_id", "rule_id", "rule_version", "schema_version", "source", "type", "severity"), _EXACT),
    **dict.fromkeys(("status", "fingerprint", "group_key", "supersedes", "network", "finality", "protocol"), _EXACT),
    **dict.fromkeys(("value_raw", "links", "trace_id"), _EXACT),
    **dict.fromkeys(("stream", "stream_id", "record_id", "entry_order", "content_sha256"), _EXACT),
    **dict.fromkeys(("block_hash", "tx_hash", "addresses", "contract"), _ANY_CASE),
    **dict.fromkeys(("occurred_at", "emitted_at", "expires_at", "ingested_at"), _DATE),
    **dict.fromkeys(("chain_id", "block_number", "log_index"), _LONG),
    **dict.fromkeys(("value_usd", "threshold", "confidence"), _DOUBLE),
    **dict.fromkeys(("details", "extra"), _KEPT_TEXT),
    "severity_rank": {"type": "byte"},
    "title": {"type": "text", "fields": {"raw": _EXACT}},
    "description": {"type": "text"},
    "labels": {"type": "flat_object"},
    "risk": {"properties": {"score": _DOUBLE, "method": _EXACT, "factors": _KEPT_TEXT}},
    "delivered": {"type": "boolean"},
    "delivery": {
        "properties": {
            **dict.fromkeys(("state", "owner", "last_error", "reason", "suppressed_by"), _EXACT),
            **dict.fromkeys(("failed_channels", "retrying_channels", "in_doubt_channels"), _EXACT),
            **dict.fromkeys(("lease_until", "next_attempt_at", "first_at", "last_at", "delivered_at"), _DATE),
            **dict.fromkeys(("attempts", "in_doubt", "cuts", "last_status"), _INTEGER),
            "channels": {
                "properties": {
                    **dict.fromkeys(("name", "state", "last_error"), _EXACT),
                    **dict.fromkeys(("attempts", "attempts_before", "in_doubt", "last_status"), _INTEGER),
                    "next_attempt_at": _DATE,
                    "log": _KEPT_JSON,
                }
            },
        }
    },
}


class Kind(enum.Enum):
    """What may be done about a difference."""

    CREATE = "create"  # nothing is there: it may be created at start
    ADD = "add"  # something harmless is missing: `addition` may be put to the mapping
    WAIT = "wait"  # the index is right, but closed or blocked: an outage
    FATAL = "fatal"  # answers would be wrong: only a human may change it


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be.

    Args:
        where: The field, setting or alias, such as `view` or `delivery.state`.
        what: The parameter of it, such as `type`; empty for the thing as a whole.
        found: What it is.
        wanted: What it must be.
        why: What would go wrong.
        kind: What may be done about it.
        command: What mends it, in the form of a request; empty if only a new index does.
    """

    where: str
    what: str
    found: str
    wanted: str
    why: str
    kind: Kind = Kind.FATAL
    command: str = ""

    def __str__(self) -> str:
        """Say it on one line."""
        what = f" {self.what}" if self.what else ""
        return f"{self.where}:{what} is {self.found}, must be {self.wanted} ({self.why})"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which index is wanted: its alias, and the streams and the group that it serves."""

    alias: str
    streams: tuple[str, ...]
    group: str

    @property
    def first_index(self) -> str:
        """The name of the index behind a new alias."""
        return f"{self.alias}-000001"

    def meta(self) -> dict[str, Any]:
        """Return the `_meta` that makes an index ours."""
        return {
            "owner": OWNER,
            "mapping_version": MAPPING_VERSION,
            "streams": sorted(self.streams),
            "group": self.group,
        }

    def body(self, *, with_alias: bool = True, templates: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """Return the request that creates the index. It says also what is default: a template may say otherwise.

        Args:
            with_alias: Give it the alias, too.
            templates: The settings that templates would give it, by their flat names: what would do harm is overruled.
        """
        settings = {
            "index.translog.durability": "request",
            "index.default_pipeline": "_none",
            "index.final_pipeline": "_none",
            **_overruling(templates),
        }
        mappings = {"dynamic": "false", "_meta": self.meta(), "properties": FIELDS}
        aliases = {"aliases": {self.alias: {"is_write_index": True}}} if with_alias else {}
        return {"settings": settings, "mappings": mappings, **aliases}


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """An index as OpenSearch describes it; settings by their flat names, `empty` if it holds no document at all."""

    name: str
    aliases: Mapping[str, Mapping[str, Any]]
    mappings: Mapping[str, Any]
    settings: Mapping[str, Any]
    empty: bool


def live_indices(answer: Mapping[str, Mapping[str, Any]], empty: Collection[str]) -> list[LiveIndex]:
    """Read the answer of `GET /<alias>?flat_settings=true`; `empty` names the indices that hold no document."""
    return [
        LiveIndex(name, info.get("aliases", {}), info.get("mappings", {}), info.get("settings", {}), name in empty)
        for name, info in sorted(answer.items())
    ]


def differences(found: Sequence[LiveIndex], wanted: Wanted) -> list[Difference]:
    """Compare what is behind the alias with what must be there; empty if it can be trusted.

    Args:
        found: Every index that the alias leads to, or the index that has the alias's name.
        wanted: What must be there.
    """
    if not found:
        missing = f"an alias of one index, such as {wanted.first_index}"
        return [Difference(wanted.alias, "", "missing", missing, "there is nowhere to write", Kind.CREATE)]
    if len(found) > 1:
        names = ", ".join(index.name for index in found)
        others = [{"remove": {"index": index.name, "alias": wanted.alias}} for index in found[:-1]]
        why = "an alert could be recorded once in each, and nothing can be read by its ID"
        command = _request("POST", "/_aliases", {"actions": others})
        return [Difference(f"alias {wanted.alias}", "", f"over {names}", "over one index", why, command=command)]
    index = found[0]
    return [
        *_in_alias(index, wanted),
        *_in_meta(index, wanted),
        *_in_settings(index),
        *_in_root(index),
        *_in_fields("", index.mappings.get("properties", {}), FIELDS, _may_add(index)),
    ]


def foreseen_differences(foreseen: Foreseen, wanted: Wanted) -> list[Difference]:
    """Compare what would come of creating the index among these templates with what must be there."""
    name, command = wanted.first_index, foreseen.remedy(wanted.alias)
    if foreseen.data_stream:
        why = "an index of this name cannot be created"
        return [Difference(name, "", "to be a data stream", "an index", why, command=command)]
    body = wanted.body(templates=foreseen.body.settings)
    index = LiveIndex(
        name,
        {**foreseen.body.aliases, **body["aliases"]},
        joined(foreseen.body.mappings, body["mappings"]),
        {**foreseen.body.settings, **body["settings"]},
        empty=True,
    )
    return [replace(difference, command=command) for difference in differences([index], wanted)]


def addition(found: Sequence[Difference], index: LiveIndex, wanted: Wanted) -> dict[str, Any] | None:
    """Return the body of `PUT /<index>/_mapping` that adds what may be added; None if something else is wrong too.

    A field that is added to an index with documents finds only what is written from then on.
    """
    if not found or any(difference.kind is not Kind.ADD for difference in found):
        return None
    fields = _missing(index.mappings.get("properties", {}), FIELDS)
    return {"_meta": _joined_meta(index, wanted), **({"properties": fields} if fields else {})}


def deployment_of(index: LiveIndex, wanted: Wanted) -> str | None:
    """Return the identity of the deployment that an index belongs to; None: it belongs to nobody, or may be ours.

    An index from before there were identities tells of its group and streams, and these may not be ours.
    """
    if _owner(index) != OWNER:
        return None
    meta = index.mappings["_meta"]
    if isinstance(identity := meta.get("deployment"), str):
        return identity
    if any(difference.kind is Kind.FATAL for difference in _in_meta(index, wanted)):
        return f"of group {_text(meta.get('group'))} and streams {_text(meta.get('streams'))}"
    return None


def is_ours(index: LiveIndex) -> bool:
    """Tell whether an index was made by this program, for whatever deployment."""
    return _owner(index) == OWNER


def kept_by(index: LiveIndex, identity: str) -> dict[str, Any]:
    """Return the body of `PUT /<index>/_mapping` that makes a deployment keep its index."""
    return {"_meta": {**index.mappings["_meta"], "deployment": identity}}


def taken_by(index: LiveIndex, wanted: Wanted, identity: str) -> dict[str, Any]:
    """Return the body of `PUT /<index>/_mapping` that gives an index to another deployment, group and streams."""
    return {"_meta": {**_joined_meta(index, wanted), "deployment": identity}}


def report(found: Sequence[Difference], indices: Sequence[LiveIndex], wanted: Wanted) -> str:
    """Say to a human what is wrong and how to mend it: one line a difference, then the commands, once each.

    About an index that is not ours at all it says only that.
    """
    if len(indices) == 1 and _is_foreign(indices[0]):
        owner = f"_meta: owner is {_text(_owner(indices[0]))}, must be {OWNER}"
        return (
            f"Index {indices[0].name} belongs to something else ({owner}) and holds documents; nothing was changed.\n"
            f"Choose another `index` than {wanted.alias!r}, or move that index away."
        )
    names = ", ".join(index.name for index in indices) or "no index"
    lines = [f"The index cannot be trusted: alias {wanted.alias}, {names}."]
    lines += [f"  {difference}" for difference in found]
    lines.append("To mend it, with every trio_alerts process stopped:")
    commands = dict.fromkeys(difference.command for difference in found if difference.command)
    lines += [f"  {command}" for command in commands]
    if len(indices) == 1 and any(difference.kind is Kind.FATAL and not difference.command for difference in found):
        lines += [f"  {command}" for command in new_index_commands(indices[0], wanted)]
    return "\n".join(lines)


def new_index_commands(index: LiveIndex, wanted: Wanted) -> list[str]:
    """Return the requests that move everything into a right index, and the alias to it, without a gap."""
    new = _next_name(index.name, wanted)
    add = {"add": {"index": new, "alias": wanted.alias, "is_write_index": True}}
    if index.name == wanted.alias:
        # The name is taken by an index: it must go in the same step in which the alias gets the name.
        actions = [{"remove_index": {"index": index.name}}, add]
    else:
        actions = [{"remove": {"index": index.name, "alias": wanted.alias}}, add]
        if wanted.alias not in index.aliases:
            actions = [add]
    copy = (
        []
        if index.empty
        else [
            _request(
                "POST",
                "/_reindex?refresh=true",
                {"source": {"index": index.name}, "dest": {"index": new, "op_type": "create"}},
            )
        ]
    )
    body = wanted.body(with_alias=False)
    if _owner(index) == OWNER:
        body["mappings"]["_meta"] = _joined_meta(index, wanted)  # whose it is stays so
    return [
        _request("PUT", f"/{new}", body),
        *copy,
        _request("POST", "/_aliases", {"actions": actions}),
    ]


# --- alias and owner -------------------------------------------------------------------------------------------------


def _in_alias(index: LiveIndex, wanted: Wanted) -> Iterator[Difference]:
    alias = f"alias {wanted.alias}"
    entry = index.aliases.get(wanted.alias)
    if entry is None:
        is_index = index.name == wanted.alias
        found = "an index of that name" if is_index else f"not an alias of {index.name}"
        why = "writes go through an alias only, so that none of them can create an index"
        add = [{"add": {"index": index.name, "alias": wanted.alias, "is_write_index": True}}]
        command = "" if is_index else _request("POST", "/_aliases", {"actions": add})
        yield Difference(alias, "", found, "an alias", why, command=command)
        return
    again = _request(
        "POST",
        "/_aliases",
        {
            "actions": [
                {"remove": {"index": index.name, "alias": wanted.alias}},
                {"add": {"index": index.name, "alias": wanted.alias, "is_write_index": True}},
            ]
        },
    )
    for what in ("filter", "index_routing", "search_routing"):
        if what in entry:
            why = "it hides records from searches" if what == "filter" else "one ID could then exist twice"
            yield Difference(alias, what, _text(entry[what]), "none", why, command=again)
    if _text(entry.get("is_write_index", True)) == "false":
        yield Difference(alias, "is_write_index", "false", "true", "every write would be refused", command=again)


def _may_add(index: LiveIndex) -> bool:
    return index.empty or _owner(index) == OWNER


def _is_foreign(index: LiveIndex) -> bool:
    """Tell whether it is not ours at all. One that a first write of an alert made has its fields, if no `_meta`."""
    alerts = not index.mappings.get("properties", {}).keys().isdisjoint({"view", "scope"})
    return not _may_add(index) and (_owner(index) is not None or not alerts)


def _owner(index: LiveIndex) -> object:
    meta = index.mappings.get("_meta")
    return meta.get("owner") if isinstance(meta, Mapping) else None


def _in_meta(index: LiveIndex, wanted: Wanted) -> Iterator[Difference]:
    meta = index.mappings.get("_meta")
    claim = _request("PUT", f"/{index.name}/_mapping", {"_meta": wanted.meta()})
    if not isinstance(meta, Mapping) or _owner(index) != OWNER:
        why = f"it may belong to something else; choose another `index`, or make it ours with: {claim}"
        yield Difference("_meta", "owner", _text(_owner(index)), OWNER, why, Kind.ADD if index.empty else Kind.FATAL)
        return
    # Also when it is empty: whoever made it may be about to write.
    advice = f"its records belong to other entries; choose another `index`, or take it over with: {ADOPT}"
    if meta.get("group") != wanted.group:
        yield Difference("_meta", "group", _text(meta.get("group")), wanted.group, advice)
    streams = meta.get("streams")
    if isinstance(streams, list) and not all(isinstance(stream, str) for stream in streams):
        streams = None  # no names of streams
    if not isinstance(streams, list) or not set(wanted.streams) <= set(streams):
        # With several streams a record's ID begins with its stream: one more changes no ID. From one to several does.
        grows = isinstance(streams, list) and len(streams) > 1 and set(streams) < set(wanted.streams)
        text = _text(sorted(wanted.streams))
        yield Difference("_meta", "streams", _text(streams), text, advice, Kind.ADD if grows else Kind.FATAL)
    elif len(streams) > 1 and len(wanted.streams) == 1:
        yield Difference("_meta", "streams", _text(streams), _text(sorted(wanted.streams)), advice)
    version = meta.get("mapping_version")
    if not isinstance(version, int) or version < MAPPING_VERSION:
        why = "it was made by an older release"
        yield Difference("_meta", "mapping_version", _text(version), str(MAPPING_VERSION), why, Kind.ADD)


def _joined_meta(index: LiveIndex, wanted: Wanted) -> dict[str, Any]:
    # `_meta` is replaced as a whole: what others keep in it must be sent along, and so must a newer release's version.
    live = index.mappings.get("_meta")
    live = live if isinstance(live, Mapping) else {}
    version = live.get("mapping_version")
    newest = max(version, MAPPING_VERSION) if isinstance(version, int) else MAPPING_VERSION
    return {**live, **wanted.meta(), "mapping_version": newest}


# --- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """One setting: what it must be, whether it can be changed on a live index, and what would go wrong."""

    name: str
    wanted: str
    why: str
    live: bool = True


_SETTINGS = (
    _Rule("index.translog.durability", "request", "a crash would lose writes that were answered"),
    _Rule("index.default_pipeline", "_none", "a pipeline can change, redirect or drop a record"),
    _Rule("index.final_pipeline", "_none", "a pipeline can change, redirect or drop a record"),
    _Rule("index.search.default_pipeline", "_none", "a pipeline can change what a search finds"),
    _Rule("index.mapping.ignore_malformed", "false", "a malformed value would be stored and never found", live=False),
    _Rule("index.append_only.enabled", "false", "no record could ever be updated", live=False),
    _Rule("index.derived_source.enabled", "false", "what is not indexed would be lost", live=False),
)


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit: the least that we need, OpenSearch's default, and what would go wrong below."""

    name: str
    least: int
    default: int
    why: str


_RESULT_WINDOW = _Limit(
    "index.max_result_window", SEARCH_PAGE, 10_000, "searches would be refused: no retry would be sent, nothing listed"
)
_LIMITS = (  # what our mapping needs, but for the first only when it is made
    _RESULT_WINDOW,
    _Limit("index.mapping.total_fields.limit", 300, 1000, "the mapping would be refused"),
    _Limit("index.mapping.depth.limit", 5, 20, "the mapping would be refused"),
    _Limit("index.mapping.field_name_length.limit", 100, 2**63 - 1, "the mapping would be refused"),
)
LONGEST_REFRESH_S = 60.0  # a retry that is found a minute late is overdue
_BLOCKS = ("read", "write", "read_only", "read_only_allow_delete", "metadata")


def _overruling(templates: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings to ask for, so that those of templates do no harm."""
    rules = {
        rule.name: rule.wanted
        for rule in _SETTINGS
        if rule.name in templates and _text(templates[rule.name]).lower() != rule.wanted
    }
    limits = {limit.name: str(limit.default) for limit in _LIMITS if _is_below(templates.get(limit.name), limit)}
    return {**rules, **limits}


def _is_below(value: object, limit: _Limit) -> bool:
    text = "" if value is None else _text(value)
    return text.isascii() and text.isdecimal() and int(text) < limit.least


def _seconds(interval: str) -> float:
    """Read a time as OpenSearch writes it, such as `1s` or `500ms`; whatever else it may be is too long."""
    time = re.fullmatch(r"([0-9]{1,18})(nanos|micros|ms|s|m|h|d)", interval.lower())
    return float(time[1]) * _UNITS_S[time[2]] if time else math.inf


_UNITS_S = {"nanos": 1e-9, "micros": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _in_settings(index: LiveIndex) -> Iterator[Difference]:
    def change(name: str, value: str | None) -> str:
        return _request("PUT", f"/{index.name}/_settings", {name: value})

    for rule in _SETTINGS:
        found = _text(index.settings.get(rule.name, rule.wanted))
        if found.lower() != rule.wanted:
            command = change(rule.name, rule.wanted) if rule.live else ""
            yield Difference(rule.name, "", found, rule.wanted, rule.why, command=command)
    refresh = "index.refresh_interval"
    interval = _text(index.settings.get(refresh, "1s"))
    if interval.startswith("-"):
        why = "no search would ever find a record, and no retry would ever be due"
        yield Difference(refresh, "", interval, "a time, or unset", why, command=change(refresh, None))
    elif _seconds(interval) > LONGEST_REFRESH_S:
        why = "retries, `list` and `stats` would be that late"
        yield Difference(refresh, "", interval, "at most 60s, or unset", why, command=change(refresh, None))
    if _is_below(window := index.settings.get(_RESULT_WINDOW.name), _RESULT_WINDOW):
        command = change(_RESULT_WINDOW.name, None)
        least = f"at least {_RESULT_WINDOW.least}, or unset"
        yield Difference(_RESULT_WINDOW.name, "", _text(window), least, _RESULT_WINDOW.why, command=command)
    for name in sorted(index.settings):
        if name.startswith("index.analysis.normalizer.lowercase."):
            why = "addresses and hashes would be compared by another rule"
            yield Difference(name, "", _text(index.settings[name]), "unset", why)
    yield from _in_blocks(index)


def _in_blocks(index: LiveIndex) -> Iterator[Difference]:
    for block in _BLOCKS:
        name = f"index.blocks.{block}"
        if _text(index.settings.get(name, False)) == "true":
            yield Difference(
                name,
                "",
                "true",
                "false",
                "it refuses us",
                Kind.WAIT,
                _request("PUT", f"/{index.name}/_settings", {name: None}),
            )
    if _text(index.settings.get("index.verified_before_close", False)) == "true":
        command = f"POST /{index.name}/_open"
        yield Difference(index.name, "", "closed", "open", "it refuses us", Kind.WAIT, command)


# --- mapping ---------------------------------------------------------------------------------------------------------

# What a parameter is when OpenSearch leaves it out. Any other that is left out is simply absent.
_DEFAULTS: Mapping[str, str] = {
    "type": "object",
    "index": "true",
    "doc_values": "true",
    "enabled": "true",
    "coerce": "true",
    "ignore_malformed": "false",
    "ignore_above": "2147483647",
    "format": "strict_date_optional_time||epoch_millis",
    "analyzer": "standard",
    "dynamic": "false",  # of an object inside; the root's own is compared apart
}
_ABSENT = "absent"

# What may differ without changing an answer: cost, order by relevance, notes.
_HARMLESS = frozenset(
    ("meta", "boost", "store", "norms", "similarity", "eager_global_ordinals", "skip_list", "term_vector")
)
_NESTED = frozenset(("fields", "properties"))

_WHY = {
    "type": "filters and sorts on it would silently find nothing, or the wrong records",
    "ignore_above": "longer values would be stored and never found",
    "normalizer": "upper and lower case would decide about a match",
    "index": "it could not be searched, or would refuse long values",
    "doc_values": "it could not be sorted by or counted",
    "enabled": "what is in it would be stored and never found, or be searched where it must not be",
    "dynamic": "whatever a producer writes there would become a field",
    "ignore_malformed": "a malformed value would be stored and never found",
    "copy_to": "a filter on the other field would find records by this one's value",
}


def _in_root(index: LiveIndex) -> Iterator[Difference]:
    dynamic = _text(index.mappings.get("dynamic", True))
    if dynamic != "false":
        why = "an unknown field would lose an alert" if dynamic == "strict" else _WHY["dynamic"]
        command = _request("PUT", f"/{index.name}/_mapping", {"dynamic": "false"})
        yield Difference("dynamic", "", dynamic, "false", why, command=command)
    source = index.mappings.get("_source", {})
    if source not in ({}, {"enabled": True}):
        yield Difference("_source", "", _text(source), "kept whole", "records could not be read back")
    if _text(index.mappings.get("_routing", {}).get("required", False)) == "true":
        yield Difference("_routing", "required", "true", "false", "every write would be refused")


def _in_fields(prefix: str, live: Mapping[str, Any], wanted: Mapping[str, Any], may_add: bool) -> Iterator[Difference]:
    for name, parameters in sorted(wanted.items()):
        path = prefix + name
        if name in live:
            yield from _in_field(path, live[name], parameters, may_add)
        else:
            kind = Kind.ADD if may_add else Kind.FATAL
            why = "filters on it would silently find nothing"
            yield Difference(path, "", "missing", _type(parameters), why, kind)


def _in_field(path: str, live: Mapping[str, Any], wanted: Mapping[str, Any], may_add: bool) -> Iterator[Difference]:
    if _type(live) != _type(wanted):
        # The other parameters then say nothing of use.
        yield Difference(path, "type", _type(live), _type(wanted), _WHY["type"])
        return
    for parameter in sorted((live.keys() | wanted.keys()) - _NESTED - _HARMLESS - {"type"}):
        default = _DEFAULTS.get(parameter, _ABSENT)
        is_, must_be = _text(live.get(parameter, default)), _text(wanted.get(parameter, default))
        if is_ != must_be:
            why = _WHY.get(parameter, "it would not answer as expected")
            yield Difference(path, parameter, is_, must_be, why)
    for inside in _NESTED:
        # What the live index has besides is never written to, or only costs.
        yield from _in_fields(f"{path}.", live.get(inside, {}), wanted.get(inside, {}), may_add)


def _missing(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, parameters in wanted.items():
        if name not in live:
            fields[name] = parameters
        elif "properties" in parameters:
            inside = _missing(live[name].get("properties", {}), parameters["properties"])
            fields |= {name: {"properties": inside}} if inside else {}
        elif parameters.get("fields", {}).keys() - live[name].get("fields", {}).keys():
            fields[name] = parameters
    return fields


def _type(parameters: Mapping[str, Any]) -> str:
    return _text(parameters.get("type", _DEFAULTS["type"]))


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _request(method: str, path: str, body: object) -> str:
    return f"{method} {path} {msgspec.json.encode(body).decode()}"


def _next_name(name: str, wanted: Wanted) -> str:
    numbered = re.fullmatch(r"(.*-)([0-9]{6})", name)
    return f"{numbered[1]}{int(numbered[2]) + 1:06}" if numbered else wanted.first_index
