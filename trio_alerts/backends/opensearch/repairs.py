"""What puts an index right: requests that the guard makes itself, and those that it asks a human for. Pure, no I/O."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trio_alerts.backends.opensearch.differences import Difference, Remedy
from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import FIELDS, MAPPING_VERSION, OWNER, IndexSpec, as_request, as_text

MIGRATE = "python -m trio_alerts migrate"


def addition(found: Sequence[Difference], index: LiveIndex, wanted: IndexSpec) -> dict[str, Any] | None:
    """Return the body of `PUT /<index>/_mapping` that adds what may be added; None if something else is wrong too.

    A field that is added to an index with documents finds only what is written from then on.
    """
    if not found or any(difference.remedy is not Remedy.ADD for difference in found):
        return None
    fields = _missing(index.fields, FIELDS)
    return {"_meta": joined_meta(index, wanted), **({"properties": fields} if fields else {})}


def ownership(index: LiveIndex, identity: str) -> dict[str, Any]:
    """Return the body of `PUT /<index>/_mapping` that notes to which deployment an index belongs."""
    return {"_meta": {**index.meta, "deployment": identity}}


def takeover(index: LiveIndex, wanted: IndexSpec, identity: str) -> dict[str, Any]:
    """Return the body of `PUT /<index>/_mapping` that gives an index to another deployment, group and streams."""
    return {"_meta": {**joined_meta(index, wanted), "deployment": identity}}


def report(found: Sequence[Difference], indices: Sequence[LiveIndex], wanted: IndexSpec) -> str:
    """Tell a human what is wrong and how to fix it: one line per difference, then the commands, once each.

    Of an index that is not ours at all it says only that.
    """
    if len(indices) == 1 and _is_foreign(indices[0]):
        owner = f"_meta: owner is {as_text(indices[0].meta.get('owner'))}, must be {OWNER}"
        return (
            f"Index {indices[0].name} belongs to something else ({owner}) and holds documents; nothing was changed.\n"
            f"Choose another `index` than {wanted.alias!r}, or move that index away."
        )
    names = ", ".join(index.name for index in indices) or "no index"
    lines = [f"The index cannot be trusted: alias {wanted.alias}, {names}."]
    lines += [f"  {difference}" for difference in found]
    lines.append("To fix it, with every trio_alerts process stopped:")
    commands = dict.fromkeys(difference.command for difference in found if difference.command)
    lines += [f"  {command}" for command in commands]
    by_hand = any(difference.remedy is Remedy.MANUAL and not difference.command for difference in found)
    if len(indices) == 1 and by_hand:
        index = indices[0]
        can_migrate = index.is_ours and wanted.alias in index.aliases
        lines += [f"  {one}" for one in ([MIGRATE] if can_migrate else new_index_commands(index, wanted))]
    return "\n".join(lines)


def new_index_commands(index: LiveIndex, wanted: IndexSpec) -> list[str]:
    """Return the requests that move everything into a right index, and the alias to it, without a gap."""
    new = next_name(index.name, wanted)
    add = {"add": {"index": new, "alias": wanted.alias, "is_write_index": True}}
    if index.name == wanted.alias:
        # The name is taken by an index: it must go in the same step in which the alias gets the name.
        actions = [{"remove_index": {"index": index.name}}, add]
    elif wanted.alias in index.aliases:
        actions = [{"remove": {"index": index.name, "alias": wanted.alias}}, add]
    else:
        actions = [add]
    copy = {"source": {"index": index.name}, "dest": {"index": new, "op_type": "create"}}
    body = wanted.body(with_alias=False)
    if index.is_ours:
        body["mappings"]["_meta"] = joined_meta(index, wanted)  # whose it is stays so
    return [
        as_request("PUT", f"/{new}", body),
        *([] if index.empty else [as_request("POST", "/_reindex?refresh=true", copy)]),
        as_request("POST", "/_aliases", {"actions": actions}),
    ]


def joined_meta(index: LiveIndex, wanted: IndexSpec) -> dict[str, Any]:
    """Return the `_meta` of an index with ours in it.

    It is replaced as a whole: what others keep in it must be sent along, and so must a newer release's version.
    """
    version = index.meta.get("mapping_version")
    newest = max(version, MAPPING_VERSION) if isinstance(version, int) else MAPPING_VERSION
    return {**index.meta, **wanted.meta(), "mapping_version": newest}


def next_name(name: str, wanted: IndexSpec) -> str:
    """Return the name of the index after one."""
    numbered = re.fullmatch(r"(.*-)([0-9]{6})", name)
    return f"{numbered[1]}{int(numbered[2]) + 1:06}" if numbered else wanted.first_index


def _is_foreign(index: LiveIndex) -> bool:
    """Tell whether it is not ours at all. One that a first write of an alert made has its fields, if no `_meta`."""
    holds_alerts = not index.fields.keys().isdisjoint({"view", "scope"})
    return not index.may_be_changed and (index.meta.get("owner") is not None or not holds_alerts)


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
