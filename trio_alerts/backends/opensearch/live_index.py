"""What OpenSearch says of an index, and of a template of one. Pure, no I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trio_alerts.backends.opensearch.mapping import OWNER


class _Field(Struct):
    """A field, or the root, of a mapping: whatever else it has, these are what is walked through."""

    type: str = "object"
    properties: dict[str, "_Field"] = {}
    fields: dict[str, "_Field"] = {}


class _Mappings(_Field):
    """Of an index that has no field yet, an empty object."""

    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)
    source: dict[str, Any] = msgspec.field(name="_source", default_factory=dict)
    routing: dict[str, Any] = msgspec.field(name="_routing", default_factory=dict)


class IndexBody(Struct):
    """What an index consists of, or what a template gives to it."""

    settings: dict[str, Any] = {}
    mappings: dict[str, Any] = {}
    aliases: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        msgspec.convert(self.mappings, _Mappings)  # raises a ValueError for what is none


class _Settings(Struct):
    uuid: Annotated[str, Meta(min_length=1)] = msgspec.field(name="index.uuid")


class IndexDescription(IndexBody, kw_only=True):
    """One index of the answer to `GET /<name>?flat_settings=true`."""

    settings: dict[str, Any]
    mappings: dict[str, Any]
    aliases: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.convert(self.settings, _Settings)


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """An index as OpenSearch describes it; settings by their flat names, `empty` if it holds no document at all."""

    name: str
    aliases: Mapping[str, Mapping[str, Any]]
    mappings: Mapping[str, Any]
    settings: Mapping[str, Any]
    empty: bool

    @property
    def uuid(self) -> str:
        """Its `index.uuid`, which no other index ever has, not even one of the same name."""
        return str(self.settings["index.uuid"])

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its `_meta`; empty if there is none."""
        meta: Mapping[str, Any] = self.mappings.get("_meta", {})
        return meta

    @property
    def migration(self) -> Mapping[str, Any]:
        """What its `_meta` says of migrations.

        `to`: the index that is made from it. Of an index that was made from another one: `from`, `ancestors` (the UUIDs
        of all that it comes from), `copied` (up to which `_seq_no` of each shard it was), and `whole`, once it was
        found to hold what that one held, which took no writes any more.
        """
        notes = self.meta.get("migration")
        return notes if isinstance(notes, dict) else {}

    @property
    def shards(self) -> int:
        """How many primary shards it has."""
        return int(self.settings.get("index.number_of_shards", 1))

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return str(self.settings.get("index.verified_before_close", False)).lower() == "true"

    @property
    def takes_no_writes(self) -> bool:
        """Whether writes to it are blocked."""
        return str(self.settings.get("index.blocks.write", False)).lower() == "true"

    def succeeds(self, uuid: str) -> bool:
        """Whether all records of the index of that UUID were migrated to this one."""
        return bool(self.migration.get("whole")) and uuid in self.migration.get("ancestors", ())

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of its mapping."""
        fields: Mapping[str, Any] = self.mappings.get("properties", {})
        return fields

    @property
    def is_ours(self) -> bool:
        """Whether this program made it, for whatever deployment."""
        return bool(self.meta.get("owner") == OWNER)

    @property
    def may_be_changed(self) -> bool:
        """Whether what is missing may be added: it is ours, or empty."""
        return self.empty or self.is_ours


def live_indices(described: Mapping[str, IndexDescription], empty: Collection[str]) -> list[LiveIndex]:
    """Return the indices of an answer in the order of their names; `empty` names those that hold no document."""
    return [
        LiveIndex(name, one.aliases, one.mappings, one.settings, name in empty)
        for name, one in sorted(described.items())
    ]
