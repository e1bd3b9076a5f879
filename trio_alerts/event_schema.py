"""The JSON Schema of an alert, for producers: made from `AlertEvent`, with what its parser checks by hand. Pure."""

import sys
from typing import Any

import msgspec
from msgspec import Struct

from trio_alerts.event import MAX_PAYLOAD_BYTES, AlertEvent, Number, Risk

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_LARGEST = sys.float_info.max
_NUMBER = {"type": ["number", "null"], "minimum": -_LARGEST, "maximum": _LARGEST}


def event_schema() -> dict[str, Any]:
    """Return the schema; what it accepts in at most `MAX_PAYLOAD_BYTES`, the program accepts."""
    return {
        "$schema": DIALECT,
        "title": "AlertEvent",
        "description": f"An alert: the JSON in the field `event` of an entry, at most {MAX_PAYLOAD_BYTES:,} bytes. "
        "Fields that are not named here are kept with the record.",
        **_object(AlertEvent),
    }


def _object(kind: type[Struct]) -> dict[str, Any]:
    fields = [one for one in msgspec.structs.fields(kind) if one.name != "extra"]  # there what is unknown is kept
    return {
        "type": "object",
        "properties": {one.name: _property(one.name, one.type) for one in fields},
        "required": [one.name for one in fields if one.required],
    }


def _property(name: str, kind: Any) -> dict[str, Any]:
    if kind is Number and name in ("value_usd", "threshold", "confidence", "score"):
        return _NUMBER
    if kind == Risk | None:
        return {"anyOf": [_object(Risk), {"type": "null"}]}
    schema = msgspec.json.schema(kind)
    if name == "value_raw":  # a whole number is taken for its digits
        schema["anyOf"].append({"type": "integer"})
    return schema
