"""The index that takes over from another one: its name, what it is made of, and the steps of its aliases. Pure, no I/O.

Who stands behind which alias decides everything, since aliases change in one step. `alerts` leads to the index that
has the records. A door, such as `alerts-migration-1f3c5a7b`, leads to the one that is being made: copies are written
through it, and the step in which that index takes over closes it, as does the step in which it is removed. So of a
hand-over and an abort only one happens, and who comes too late with a copy finds no door.
"""

import re
from collections.abc import Mapping
from typing import Any

from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.repairs import joined_meta

# What an operator, or a template, has decided for the index, and what the new one therefore has, too.
KEPT_SETTINGS = re.compile(
    r"index\.(number_of_shards|number_of_replicas|auto_expand_replicas|refresh_interval|codec|priority"
    r"|routing\.allocation\.(?!initial_recovery).*|mapping\..*limit|max_result_window|.*slowlog.*)"
)

Action = dict[str, dict[str, Any]]


def door_of(target: LiveIndex, wanted: IndexSpec) -> str:
    """Return the alias through which copies are written to an index; empty if there is none."""
    return next((alias for alias in sorted(target.aliases) if alias.startswith(f"{wanted.alias}-migration-")), "")


def new_door(wanted: IndexSpec, token: str) -> str:
    """Return the name of a door that there has never been."""
    return f"{wanted.alias}-migration-{token}"


def body_of(source: LiveIndex, wanted: IndexSpec, door: str, templates: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that creates the index that takes over from `source`."""
    body = wanted.body(with_alias=False, templates=templates)
    kept = {name: value for name, value in source.settings.items() if KEPT_SETTINGS.fullmatch(name)}
    if "index.number_of_shards" in templates:  # the one decision that nobody could carry out before
        del kept["index.number_of_shards"]
    body["settings"] = kept | body["settings"]
    body["mappings"]["_meta"] = meta_of(source, wanted)
    return {**body, "aliases": {door: {"is_write_index": True}}}


def meta_of(
    source: LiveIndex, wanted: IndexSpec, copied: Mapping[int, int] | None = None, *, whole: bool = False
) -> dict[str, Any]:
    """Return the `_meta` of the index that takes over: whose the records are stays so; see `LiveIndex.migration`."""
    notes = {
        "from": source.name,
        "ancestors": [*source.migration.get("ancestors", ()), source.uuid],
        "copied": {str(shard): number for shard, number in (copied or {}).items()},
        "whole": whole,
    }
    return {**joined_meta(source, wanted), "streams": source.meta.get("streams"), "migration": notes}


def named_successor(source: LiveIndex, name: str) -> dict[str, Any]:
    """Return the body of `PUT /<index>/_mapping` that notes which index is being made; empty: none is."""
    notes = {key: value for key, value in source.migration.items() if key != "to"} | ({"to": name} if name else {})
    return {"_meta": {**source.meta, "migration": notes}}


def hand_over(source: str, target: str, door: str, alias: str) -> list[Action]:
    """Return the step in which the new index takes over."""
    return [
        {"remove": {"index": source, "alias": alias, "must_exist": True}},
        {"remove": {"index": target, "alias": door, "must_exist": True}},
        {"add": {"index": target, "alias": alias, "is_write_index": True}},
    ]


def open_door(source: str, target: str, door: str, alias: str) -> list[Action]:
    """Return the step that opens a door, if the new index has not taken over."""
    return [
        {"remove": {"index": source, "alias": alias, "must_exist": True}},
        {"add": {"index": source, "alias": alias, "is_write_index": True}},
        {"add": {"index": target, "alias": door, "is_write_index": True}},
    ]


def close_door(target: str, door: str) -> list[Action]:
    """Return the step after which no hand-over through that door can happen any more."""
    return [{"remove": {"index": target, "alias": door, "must_exist": True}}]


def remove_target(source: str, target: str, alias: str) -> list[Action]:
    """Return the step that removes the new index, if it has not taken over."""
    return [
        {"remove": {"index": source, "alias": alias, "must_exist": True}},
        {"add": {"index": source, "alias": alias, "is_write_index": True}},
        {"remove_index": {"index": target}},
    ]
