"""The document kept for an alert: rendered once, then read back as whatever the store made of it.

What a producer may shape freely (`details`, `risk.factors`, unknown fields) is JSON text inside a string, so that none
of it can be taken for structure.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from trio_alerts.delivery import Delivery, read_delivery, unknown_parts
from trio_alerts.errors import NewerRecord, RefusedContent
from trio_alerts.event import AlertEvent, Risk, parse_event
from trio_alerts.exact_json import Json, Timestamp, decode_object, decode_value, encode


class Origin(Struct, frozen=True):
    """What the program adds to the alert; never sent to a receiver."""

    severity_rank: int
    record_id: str
    entry_order: str
    stream: str
    stream_id: str
    content_sha256: str
    ingested_at: dt.datetime


class Record(Struct, frozen=True):
    """The document kept for an alert.

    Args:
        id: The document ID.
        body: The JSON object of everything but `delivered` and `delivery`, `record_id` among it, by which pages are
            ordered: compact, one line, serialized by us.
        delivery: What became of it so far.
    """

    id: str
    body: bytes
    delivery: Delivery

    def to_json(self) -> bytes:
        """Return the whole document: compact JSON on one line, as `_bulk` needs it."""
        delivered = b"true" if self.delivery.state == "delivered" else b"false"
        return b'%b,"delivered":%b,"delivery":%b}' % (self.body[:-1], delivered, encode(self.delivery))

    @classmethod
    def from_json(cls, record_id: str, document: bytes | str) -> "Record":
        """Read a document that `to_json` wrote (a store may have re-ordered it).

        Raises:
            NewerRecord: A newer version wrote it, and it holds what this one does not know.
            RefusedContent: Somebody else changed what only the program writes, and it makes no sense any more.
        """
        fields: dict[str, Any] = {}
        stored: object = {}
        try:
            fields = decode_object(document)
            fields.pop("delivered", None)
            stored = fields.pop("delivery", {})
            delivery = read_delivery(stored)
            msgspec.convert(fields, _Keys)
            _check_texts(fields)
        except (msgspec.DecodeError, UnicodeError, ArithmeticError, RecursionError, TypeError) as fault:
            if unknown := next(chain(unknown_parts(stored), _unknown_fields(fields)), None):
                raise NewerRecord(record_id, unknown, encode(fields)) from None
            raise unreadable(record_id, str(fault)) from None
        if unknown := next(_unknown_fields(fields), None):
            raise NewerRecord(record_id, unknown, encode(fields))
        if fields.get("record_id") is None:
            fields["record_id"] = record_id  # pages are ordered by it: where somebody removed it, it comes back
        return cls(record_id, encode(fields), delivery)

    def fields(self) -> dict[str, Any]:
        """Return the alert's part of the document as a mapping: for people, routes and tests."""
        return decode_object(self.body)

    def payload(self) -> bytes:
        """Return what a receiver gets: `Alert.payload` of a record that was read, at five times the cost."""
        fields = self.fields()
        for name in Origin.__struct_fields__:
            fields.pop(name, None)
        for holder, name in _texts(fields):
            holder[name] = Json(holder[name].encode())
        return encode(fields)

    def event(self) -> AlertEvent:
        """Return the alert, at the cost of validating it once more.

        Raises:
            ParseFault: There is none: the record belongs to an entry that never was a valid alert.
        """
        return parse_event(self.payload())

    @property
    def severity_rank(self) -> int:
        """How severe the alert is: a higher one is more so; 0 if somebody removed it."""
        try:
            return _RANK_DECODER.decode(self.body).severity_rank
        except (msgspec.DecodeError, UnicodeError):
            return 0

    @property
    def severity(self) -> str:
        """How severe the alert is, as it says; empty if it is none, or somebody removed it."""
        return str(self.fields().get("severity", ""))

    @property
    def content_sha256(self) -> str:
        """The SHA-256 of the payload that made this record, in hexadecimal."""
        return str(self.fields().get("content_sha256", ""))


def render_body(event: AlertEvent, payload: bytes, origin: Origin) -> bytes:
    """Return the part of a record that never changes: compact JSON on one line.

    Args:
        event: The alert.
        payload: The same as JSON, rendered by us.
        origin: What the program adds.
    """
    texts: dict[str, object] = {}
    if event.details:
        texts["details"] = _text(event.details)
    if event.extra:
        texts["extra"] = _text(event.extra)
    if event.risk and event.risk.factors:
        texts["risk"] = replace(event.risk, factors=_text(event.risk.factors))
    stored = encode(replace(event, **texts)) if texts else payload
    return b"%b,%b" % (stored[:-1], encode(origin)[1:])


def unreadable(record_id: object, why: str) -> RefusedContent:
    """Return the error of a record that was changed into what the program never writes."""
    return RefusedContent(
        f"record {record_id!r:.600} was changed by somebody else and cannot be read: {why}", "unreadable_record"
    )


class _Keys(Struct, frozen=True):
    """What filters and people look at. All may be missing: the record of a quarantined entry has no alert."""

    record_id: str | None = None
    content_sha256: str | None = None
    view: str | None = None
    scope: str | None = None
    severity: str | None = None
    rule_id: str | None = None
    alert_id: str | None = None
    title: str | None = None
    occurred_at: Timestamp | None = None


class _Rank(Struct, frozen=True):
    severity_rank: int = 0


_RANK_DECODER = msgspec.json.Decoder(_Rank)

_NAMES = frozenset((*AlertEvent.__struct_fields__, *Origin.__struct_fields__))
_RISK_NAMES = frozenset(Risk.__struct_fields__)


def _unknown_fields(fields: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of an alert that this version neither has nor sends; a producer's own are under `extra`."""
    if not fields.keys() <= _NAMES:
        yield from (f"{name:.60}" for name in fields if name not in _NAMES)
    risk = fields.get("risk")
    if isinstance(risk, dict) and not risk.keys() <= _RISK_NAMES:
        yield from (f"risk.{name:.60}" for name in risk if name not in _RISK_NAMES)


# msgspec prepares a type when something is first converted to it. Two threads that do so at once crash the process
# (0.22), and SQLite's threads read records: so it is done here, and for other types by their decoders.
read_delivery({"state": "suppressed"})
msgspec.convert({}, _Keys)


def _text(json: Json) -> Json:
    return Json(encode(bytes(json).decode()))


def _texts(fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where JSON is kept as text: the object that holds it, and its name there."""
    for holder, name in ((fields, "details"), (fields, "extra"), (fields.get("risk"), "factors")):
        if isinstance(holder, dict) and name in holder:
            yield holder, name


def _check_texts(fields: dict[str, Any]) -> None:
    for holder, name in _texts(fields):
        if not isinstance(holder[name], str):
            raise msgspec.ValidationError(f"{name} must be JSON text")
        decode_value(holder[name])  # it goes to receivers as it is
