"""How a live index differs from the one that this program trusts, and what may be done about it. Pure, no I/O.

The danger is a filter that silently finds nothing. A `text` field takes every document and answers a `term` filter with
an empty page; so does a value above `ignore_above`, a `nested` object, a filtered alias, a refresh that is switched
off. So the live index is compared field by field and parameter by parameter before anything is consumed.

OpenSearch leaves defaults out when it gives a mapping back, and gives settings back as text: both sides are brought to
one form first.
"""

import enum
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import (
    DEFAULT_DATES,
    FIELDS,
    LATE_REFRESH_S,
    LONGEST_REFRESH_S,
    MAPPING_VERSION,
    OWNER,
    RESULT_WINDOW,
    SETTINGS,
    IndexSpec,
    as_request,
    as_text,
)
from trio_alerts.backends.opensearch.templates import TemplateEffect, joined
from trio_alerts.deployment import ADOPT


class Remedy(enum.Enum):
    """What may be done about a difference."""

    CREATE = "create"  # nothing is there: it may be created at start
    ADD = "add"  # something harmless is missing: `addition` may be put to the mapping
    WAIT = "wait"  # the index is right, but closed or blocked: an outage
    MANUAL = "manual"  # answers would be wrong: only a human may change it


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be, and why it must.

    Args:
        where: The field, setting or alias, such as `view` or `delivery.state`.
        what: The parameter of it, such as `type`; empty for the thing as a whole.
        command: What fixes it, in the form of a request; empty if only a new index does.
    """

    where: str
    what: str
    found: str
    wanted: str
    why: str
    remedy: Remedy = Remedy.MANUAL
    command: str = ""

    def __str__(self) -> str:
        """Return it on one line."""
        what = f" {self.what}" if self.what else ""
        return f"{self.where}:{what} is {self.found}, must be {self.wanted} ({self.why})"


def differences(found: Sequence[LiveIndex], wanted: IndexSpec) -> list[Difference]:
    """Compare what is behind the alias with what must be there; empty if it can be trusted.

    What is found is every index that the alias points to, or the index that has the alias's name.
    """
    if not found:
        missing = f"an alias of one index, such as {wanted.first_index}"
        return [Difference(wanted.alias, "", "missing", missing, "there is nowhere to write", Remedy.CREATE)]
    if len(found) > 1:
        names = ", ".join(index.name for index in found)
        others = [{"remove": {"index": index.name, "alias": wanted.alias}} for index in found[:-1]]
        why = "an alert could be recorded once in each, and nothing can be read by its ID"
        command = as_request("POST", "/_aliases", {"actions": others})
        return [Difference(f"alias {wanted.alias}", "", f"over {names}", "over one index", why, command=command)]
    index = found[0]
    return [
        *_in_alias(index, wanted),
        *_in_meta(index, wanted),
        *_in_settings(index),
        *_in_root(index),
        *_in_fields("", index.fields, FIELDS, index.may_be_changed),
    ]


def template_differences(effect: TemplateEffect, wanted: IndexSpec) -> list[Difference]:
    """Compare what would come of creating the index among these templates with what must be there."""
    name, command = wanted.first_index, effect.override(wanted.alias)
    if effect.data_stream:
        why = "an index of this name cannot be created"
        return [Difference(name, "", "to be a data stream", "an index", why, command=command)]
    body = wanted.body(templates=effect.body.settings)
    index = LiveIndex(
        name,
        {**effect.body.aliases, **body["aliases"]},
        joined(effect.body.mappings, body["mappings"]),
        {**effect.body.settings, **body["settings"]},
        empty=True,
    )
    return [replace(difference, command=command) for difference in differences([index], wanted)]


def deployment_of(index: LiveIndex, wanted: IndexSpec) -> str | None:
    """Return the identity of the deployment that an index belongs to; None: to none, or perhaps to ours.

    An index from before there were identities names its group and streams, which may not be ours.
    """
    if not index.is_ours:
        return None
    meta = index.meta
    if isinstance(identity := meta.get("deployment"), str):
        return identity
    if any(difference.remedy is Remedy.MANUAL for difference in _in_meta(index, wanted)):
        return f"of group {as_text(meta.get('group'))} and streams {as_text(meta.get('streams'))}"
    return None


# --- alias and owner -------------------------------------------------------------------------------------------------


def _in_alias(index: LiveIndex, wanted: IndexSpec) -> Iterator[Difference]:
    alias = f"alias {wanted.alias}"
    add = {"add": {"index": index.name, "alias": wanted.alias, "is_write_index": True}}
    entry = index.aliases.get(wanted.alias)
    if entry is None:
        is_index = index.name == wanted.alias
        found = "an index of that name" if is_index else f"not an alias of {index.name}"
        why = "writes go through an alias only, so that none of them can create an index"
        command = "" if is_index else as_request("POST", "/_aliases", {"actions": [add]})
        yield Difference(alias, "", found, "an alias", why, command=command)
        return
    remove = {"remove": {"index": index.name, "alias": wanted.alias}}
    again = as_request("POST", "/_aliases", {"actions": [remove, add]})
    for what in ("filter", "index_routing", "search_routing"):
        if what in entry:
            why = "it hides records from searches" if what == "filter" else "one ID could then exist twice"
            yield Difference(alias, what, as_text(entry[what]), "none", why, command=again)
    if as_text(entry.get("is_write_index", True)) == "false":
        yield Difference(alias, "is_write_index", "false", "true", "every write would be refused", command=again)


def _in_meta(index: LiveIndex, wanted: IndexSpec) -> Iterator[Difference]:
    meta = index.meta
    if not index.is_ours:
        claim = as_request("PUT", f"/{index.name}/_mapping", {"_meta": wanted.meta()})
        why = f"it may belong to something else; choose another `index`, or make it ours with: {claim}"
        remedy = Remedy.ADD if index.empty else Remedy.MANUAL
        yield Difference("_meta", "owner", as_text(meta.get("owner")), OWNER, why, remedy)
        return
    # Also when it is empty: whoever made it may be about to write.
    advice = f"its records belong to other entries; choose another `index`, or take it over with: {ADOPT}"
    if meta.get("group") != wanted.group:
        yield Difference("_meta", "group", as_text(meta.get("group")), wanted.group, advice)
    streams = meta.get("streams")
    is_named = isinstance(streams, list) and all(isinstance(stream, str) for stream in streams)
    live: set[str] = set(streams or ()) if is_named else set()
    if not set(wanted.streams) <= live or len(wanted.streams) == 1 < len(live):
        # With several streams a record's ID begins with its stream: one more changes no ID. From one to several does.
        remedy = Remedy.ADD if len(live) > 1 and live < set(wanted.streams) else Remedy.MANUAL
        text = as_text(sorted(wanted.streams))
        yield Difference("_meta", "streams", as_text(streams), text, advice, remedy)
    version = meta.get("mapping_version")
    if not isinstance(version, int) or version < MAPPING_VERSION:
        why = "it was made by an older release"
        yield Difference("_meta", "mapping_version", as_text(version), str(MAPPING_VERSION), why, Remedy.ADD)


# --- settings --------------------------------------------------------------------------------------------------------

_BLOCKS = ("read", "write", "read_only", "read_only_allow_delete", "metadata")
_UNITS_S = {"nanos": 1e-9, "micros": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _in_settings(index: LiveIndex) -> Iterator[Difference]:
    def change(name: str, value: str | None) -> str:
        return as_request("PUT", f"/{index.name}/_settings", {name: value})

    for setting in SETTINGS:
        found = as_text(index.settings.get(setting.name, setting.wanted))
        if found.lower() != setting.wanted:
            command = change(setting.name, setting.wanted) if setting.live else ""
            yield Difference(setting.name, "", found, setting.wanted, setting.why, command=command)
    refresh = "index.refresh_interval"
    interval = as_text(index.settings.get(refresh, "1s"))
    if interval.startswith("-"):
        why = "no search would ever find a record, and no retry would ever be due"
        yield Difference(refresh, "", interval, "a time, or unset", why, command=change(refresh, None))
    elif _seconds(interval) > LONGEST_REFRESH_S:
        why = "retries, `list` and `stats` would be that late"
        yield Difference(refresh, "", interval, "at most 60s, or unset", why, command=change(refresh, None))
    if RESULT_WINDOW.is_above(window := index.settings.get(RESULT_WINDOW.name)):
        command = change(RESULT_WINDOW.name, None)
        least = f"at least {RESULT_WINDOW.least}, or unset"
        yield Difference(RESULT_WINDOW.name, "", as_text(window), least, RESULT_WINDOW.why, command=command)
    for name in sorted(index.settings):
        if name.startswith("index.analysis.normalizer.lowercase."):
            why = "addresses and hashes would be compared by another rule"
            yield Difference(name, "", as_text(index.settings[name]), "unset", why)
    yield from _in_blocks(index)


def late_searches(index: LiveIndex) -> str | None:
    """Return what to say of an index whose searches lag behind by more than anybody expects; None if they do not."""
    interval = as_text(index.settings.get("index.refresh_interval", "1s"))
    if _seconds(interval) <= LATE_REFRESH_S:
        return None
    return (
        f"index {index.name} is refreshed every {interval}: `stats` and the search for retries whose hint was lost are "
        f"that late; more than {LATE_REFRESH_S:g}s is seldom meant"
    )


def _in_blocks(index: LiveIndex) -> Iterator[Difference]:
    for block in _BLOCKS:
        name = f"index.blocks.{block}"
        if as_text(index.settings.get(name, False)) == "true":
            why, command = "requests are refused", as_request("PUT", f"/{index.name}/_settings", {name: None})
            if block == "write" and (target := index.migration.get("to")):
                # Whoever let writes through by hand would lose what the migration has copied already.
                why, command = f"{target} is taking over", "`migrate --status` says how far it is"
            yield Difference(name, "", "true", "false", why, Remedy.WAIT, command)
    if index.is_closed:
        command = f"POST /{index.name}/_open"
        yield Difference(index.name, "", "closed", "open", "requests are refused", Remedy.WAIT, command)


def _seconds(interval: str) -> float:
    """Read a time as OpenSearch writes it, such as `1s` or `500ms`; whatever else it may be is too long."""
    time = re.fullmatch(r"([0-9]{1,18})(nanos|micros|ms|s|m|h|d)", interval.lower())
    return float(time[1]) * _UNITS_S[time[2]] if time else math.inf


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
    "format": DEFAULT_DATES,
    "analyzer": "standard",
    "dynamic": "false",  # of an object inside; the root's own is compared apart
}
_ABSENT = "absent"

# What may differ without changing an answer: cost, order by relevance, notes.
_HARMLESS = frozenset(
    ("meta", "boost", "store", "norms", "similarity", "eager_global_ordinals", "skip_list", "term_vector")
)
# What may be at its default where we ask for less: it costs more and answers the same, and older releases made it so.
# Not of a text: one that is kept only would be searched, and long ones refused.
_LEAVABLE = frozenset(("index", "doc_values", "format"))
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
    dynamic = as_text(index.mappings.get("dynamic", True))
    if dynamic != "false":
        why = "an unknown field would lose an alert" if dynamic == "strict" else _WHY["dynamic"]
        command = as_request("PUT", f"/{index.name}/_mapping", {"dynamic": "false"})
        yield Difference("dynamic", "", dynamic, "false", why, command=command)
    source = index.mappings.get("_source", {})
    if source not in ({}, {"enabled": True}):
        yield Difference("_source", "", as_text(source), "kept whole", "records could not be read back")
    if as_text(index.mappings.get("_routing", {}).get("required", False)) == "true":
        yield Difference("_routing", "required", "true", "false", "every write would be refused")


def _in_fields(prefix: str, live: Mapping[str, Any], wanted: Mapping[str, Any], may_add: bool) -> Iterator[Difference]:
    for name, parameters in sorted(wanted.items()):
        path = prefix + name
        if name in live:
            yield from _in_field(path, live[name], parameters, may_add)
        else:
            why = "filters on it would silently find nothing"
            remedy = Remedy.ADD if may_add else Remedy.MANUAL
            yield Difference(path, "", "missing", _type(parameters), why, remedy)


def _in_field(path: str, live: Mapping[str, Any], wanted: Mapping[str, Any], may_add: bool) -> Iterator[Difference]:
    if _type(live) != _type(wanted):
        # The other parameters then say nothing of use.
        yield Difference(path, "type", _type(live), _type(wanted), _WHY["type"])
        return
    for parameter in sorted((live.keys() | wanted.keys()) - _NESTED - _HARMLESS - {"type"}):
        default = _DEFAULTS.get(parameter, _ABSENT)
        is_, must_be = as_text(live.get(parameter, default)), as_text(wanted.get(parameter, default))
        if is_ != must_be and not (is_ == default and parameter in _LEAVABLE and _type(live) != "text"):
            why = _WHY.get(parameter, "it would not answer as expected")
            yield Difference(path, parameter, is_, must_be, why)
    for inside in _NESTED:
        # What the live index has besides is never written to, or only costs.
        yield from _in_fields(f"{path}.", live.get(inside, {}), wanted.get(inside, {}), may_add)


def _type(parameters: Mapping[str, Any]) -> str:
    return as_text(parameters.get("type", _DEFAULTS["type"]))
