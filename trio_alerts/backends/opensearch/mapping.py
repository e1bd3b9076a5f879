"""The index that this program trusts: its mapping, its settings, its alias and its owner. Pure, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

OWNER = "trio_alerts"
MAPPING_VERSION = 2
SEARCH_PAGE = 1000  # records a search: a few MB

# A term may have 32,766 bytes and a character up to four: a longer value stays stored, but no filter finds it. `view`
# and `scope` have no such limit: they are at most 512 characters, so they are always found.
IGNORE_ABOVE = 8191
DEFAULT_DATES = "strict_date_optional_time||epoch_millis"

Properties = dict[str, dict[str, Any]]

# Most of what an alert costs OpenSearch is its fields, at each write: in an index of terms, and in doc values. Nearly
# all have doc values, by which they are sorted, counted, and found, too, if slowly: such a filter looks at each record.
# What our own filters name, and what people look for, has an index as well. Hashes and the like have nothing else,
# since nobody sorts by them.
_EXACT: dict[str, Any] = {"type": "keyword", "ignore_above": IGNORE_ABOVE}
_COUNTED: dict[str, Any] = {**_EXACT, "index": False}
_ALWAYS_FOUND: dict[str, Any] = {"type": "keyword"}
_ANY_CASE: dict[str, Any] = {**_EXACT, "normalizer": "lowercase"}  # built into OpenSearch, needs no setting
_HASH: dict[str, Any] = {**_ANY_CASE, "doc_values": False}
# Parsing takes long for whatever may be left out of a time, so the two forms that we write come before the default. The
# one format that is quicker still refuses others, such as `epoch_millis`, unless a query names its own: people ask for
# `occurred_at` in many ways.
_ASKED_DATE: dict[str, Any] = {
    "type": "date",
    "format": f"strict_date_time_no_millis||strict_date_time||{DEFAULT_DATES}",
}
_DATE: dict[str, Any] = {"type": "date", "format": "rfc3339_lenient"}
_COUNTED_DATE: dict[str, Any] = {**_DATE, "index": False}
_BYTE: dict[str, Any] = {"type": "byte", "index": False}
_LONG: dict[str, Any] = {"type": "long", "index": False}
_INTEGER: dict[str, Any] = {"type": "integer", "index": False}
_DOUBLE: dict[str, Any] = {"type": "double", "index": False}  # a `float` refuses large ones, and the alert with them
_TEXT: dict[str, Any] = {"type": "text", "norms": False}
_KEPT_TEXT: dict[str, Any] = {"type": "text", "index": False}
_KEPT_JSON: dict[str, Any] = {"type": "object", "enabled": False}

FIELDS: Properties = {
    **dict.fromkeys(("view", "scope"), _ALWAYS_FOUND),
    **dict.fromkeys(("alert_id", "rule_id", "severity", "status", "fingerprint", "record_id", "entry_order"), _EXACT),
    **dict.fromkeys(("source", "type", "rule_version", "schema_version", "group_key", "stream"), _COUNTED),
    **dict.fromkeys(("supersedes", "network", "finality", "protocol"), _COUNTED),
    **dict.fromkeys(("value_raw", "links", "content_sha256", "stream_id"), _COUNTED),
    "trace_id": {**_EXACT, "doc_values": False},
    **dict.fromkeys(("addresses", "contract"), _ANY_CASE),
    **dict.fromkeys(("block_hash", "tx_hash"), _HASH),
    "occurred_at": _ASKED_DATE,
    **dict.fromkeys(("emitted_at", "expires_at", "ingested_at"), _COUNTED_DATE),
    **dict.fromkeys(("chain_id", "block_number", "log_index"), _LONG),
    **dict.fromkeys(("value_usd", "threshold", "confidence"), _DOUBLE),
    **dict.fromkeys(("details", "extra"), _KEPT_TEXT),
    "severity_rank": _BYTE,
    "title": {**_TEXT, "fields": {"raw": _COUNTED}},
    "description": _TEXT,
    "labels": {"type": "flat_object"},
    "risk": {"properties": {"score": _DOUBLE, "method": _COUNTED, "factors": _KEPT_TEXT}},
    "delivered": {"type": "boolean"},
    "delivery": {
        "properties": {
            **dict.fromkeys(("state", "last_error", "reason", "suppressed_by"), _EXACT),
            **dict.fromkeys(("failed_channels", "retrying_channels", "in_doubt_channels", "queues"), _EXACT),
            "owner": _COUNTED,
            **dict.fromkeys(("lease_until", "next_attempt_at"), _DATE),
            **dict.fromkeys(("first_at", "last_at", "delivered_at"), _COUNTED_DATE),
            **dict.fromkeys(("attempts", "in_doubt", "cuts", "last_status"), _INTEGER),
            "channels": {
                "properties": {
                    "name": _EXACT,
                    **dict.fromkeys(("state", "last_error", "fallback_of"), _COUNTED),
                    **dict.fromkeys(("attempts", "attempts_before", "in_doubt", "last_status"), _INTEGER),
                    **dict.fromkeys(("next_attempt_at", "since", "unconfigured_since"), _COUNTED_DATE),
                    "log": _KEPT_JSON,
                }
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Which index this program wants: its alias, and the streams and the group that it serves."""

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
        settings = {setting.name: setting.wanted for setting in SETTINGS if setting.stated} | _overruling(templates)
        settings[IDLE_AFTER] = f"{IDLE_AFTER_S}s"
        mappings = {"dynamic": "false", "_meta": self.meta(), "properties": FIELDS}
        aliases = {"aliases": {self.alias: {"is_write_index": True}}} if with_alias else {}
        return {"settings": settings, "mappings": mappings, **aliases}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it must be, and what would go wrong otherwise.

    If `live`, it can be changed on a live index; if `stated`, it is in the request that creates one, default or not.
    """

    name: str
    wanted: str
    why: str
    live: bool = True
    stated: bool = False


SETTINGS = (
    Setting("index.translog.durability", "request", "a crash would lose writes that were answered", stated=True),
    Setting("index.default_pipeline", "_none", "a pipeline can change, redirect or drop a record", stated=True),
    Setting("index.final_pipeline", "_none", "a pipeline can change, redirect or drop a record", stated=True),
    Setting("index.search.default_pipeline", "_none", "a pipeline can change what a search finds"),
    Setting("index.mapping.ignore_malformed", "false", "a malformed value would be stored and never found", live=False),
    Setting("index.append_only.enabled", "false", "no record could ever be updated", live=False),
    Setting("index.derived_source.enabled", "false", "what is not indexed would be lost", live=False),
)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: the least that we need, OpenSearch's default, and what would go wrong below."""

    name: str
    least: int
    default: int
    why: str

    def is_above(self, value: object) -> bool:
        """Tell whether a value that OpenSearch gives is too low; None: it gives none."""
        text = "" if value is None else as_text(value)
        return text.isascii() and text.isdecimal() and int(text) < self.least


RESULT_WINDOW = Limit(
    "index.max_result_window", SEARCH_PAGE, 10_000, "searches would be refused: no retry would be sent, nothing listed"
)
# How long after a search a shard goes on being refreshed every second. Then the next search waits for a refresh, and a
# shard that nobody searches makes none: at 3,700 alerts/s they cost OpenSearch a seventh of its CPU. Its default is 30.
IDLE_AFTER, IDLE_AFTER_S = "index.search.idle.after", 1
LATE_REFRESH_S = 5.0  # beyond that, what no hint tells of is found noticeably late
LONGEST_REFRESH_S = 60.0  # a retry that is found a minute late is overdue
LIMITS = (  # what our mapping needs, but for the first only when it is made
    RESULT_WINDOW,
    Limit("index.mapping.total_fields.limit", 300, 1000, "the mapping would be refused"),
    Limit("index.mapping.depth.limit", 5, 20, "the mapping would be refused"),
    Limit("index.mapping.field_name_length.limit", 100, 2**63 - 1, "the mapping would be refused"),
)


def _overruling(templates: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings to ask for, so that those of templates do no harm."""
    settings = {
        setting.name: setting.wanted
        for setting in SETTINGS
        if setting.name in templates and as_text(templates[setting.name]).lower() != setting.wanted
    }
    limits = {limit.name: str(limit.default) for limit in LIMITS if limit.is_above(templates.get(limit.name))}
    return settings | limits


def as_text(value: object) -> str:
    """Return a value in the form in which OpenSearch gives all settings, and some parameters."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def as_request(method: str, path: str, body: object) -> str:
    """Return a request as a human writes it."""
    return f"{method} {path} {msgspec.json.encode(body).decode()}"
