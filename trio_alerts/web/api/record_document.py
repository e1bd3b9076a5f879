"""The document of a record, as a type: made from the types that write it, so that it has their fields and no others."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, defstruct, structs

from trio_alerts.delivery import Delivery
from trio_alerts.event import AlertEvent, Risk
from trio_alerts.exact_json import Json
from trio_alerts.record import Origin

Field = tuple[str, Any, Any]


def _fields(kind: type[msgspec.Struct]) -> list[Field]:
    """Return the fields of a type as a record has them: none need be there, and JSON of any shape is text."""
    return [(one.name, (str if one.type is Json else one.type) | UnsetType, UNSET) for one in structs.fields(kind)]


_RISK = defstruct("Risk", _fields(Risk))
_EVENT: list[Field] = [
    ("risk", _RISK | UnsetType, UNSET) if name == "risk" else (name, kind, default)
    for name, kind, default in _fields(AlertEvent)
]

RecordDocument = defstruct(
    "Record",
    [("delivered", bool), ("delivery", Delivery), *_EVENT, *_fields(Origin)],
    namespace={"__doc__": "A record; that of a dead letter has no alert. What producers shape freely is JSON as text."},
)
