"""The JSON Schema of the file of settings, for editors: made from what the settings say of themselves. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from trio_alerts.event_schema import DIALECT
from trio_alerts.settings.settings import DEFAULT_KIND, ChannelSettings, RouteSettings, Settings
from trio_alerts.settings.tables import Setting, describe


def settings_schema(kinds: Iterable[tuple[str, type[ChannelSettings]]], window: Mapping[str, object]) -> dict[str, Any]:
    """Return the schema. It sees each value; what does not go together, and what is not there, `check` finds.

    Args:
        kinds: The kinds of channels, and the settings of each.
        window: The schema of a time window of a route.
    """
    whole, route = _table(Settings), _table(RouteSettings)
    route["properties"]["active"]["items"] = window
    whole["properties"] |= {
        "channels": {"type": "array", "items": _channel(dict(kinds))},
        "routes": {"type": "array", "items": route},
    }
    return {"$schema": DIALECT, "title": "Settings of trio-alerts", **whole}


def _channel(kinds: dict[str, type[ChannelSettings]]) -> dict[str, Any]:
    """Return what a channel may be: the keys that are allowed follow from its kind."""
    rules = []
    for name, settings in kinds.items():
        is_it = {"properties": {"kind": {"const": name}}, **({} if name == DEFAULT_KIND else {"required": ["kind"]})}
        rules.append({"if": is_it, "then": _table(settings)})
    return {"type": "object", "properties": {"kind": {"enum": list(kinds)}}, "allOf": rules}


def _table(table: type[Any]) -> dict[str, Any]:
    described = describe(table).values()
    once = [{"not": {"required": list(one.spellings)}} for one in described if len(one.spellings) > 1]
    given = [{"anyOf": [{"required": [name]} for name in one.spellings]} for one in described if one.default is None]
    return {
        "type": "object",
        "properties": {name: _property(one, name) for one in described for name in one.spellings},
        "additionalProperties": False,
        **({"allOf": once + given} if once or given else {}),
    }


def _property(one: Setting, name: str) -> dict[str, Any]:
    if name != one.name:
        return {"type": "string", "description": f"The path of a file that holds `{one.name}`."}
    default = "Required." if one.default is None else f"Default: {one.default}."
    return {"description": f"{one.meaning} It must be {one.kind.allowed}. {default}", **one.kind.schema}
