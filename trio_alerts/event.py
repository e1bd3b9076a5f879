"""What is inside an entry, and how it becomes a record: pure data, no I/O.

`parse_entry` validates the JSON of an entry once. What it returns holds no byte of the producer's own rendering:
numbers keep every digit, and times are in one form. In a record, what a producer may shape freely (`details`,
`risk.factors`, unknown fields) is JSON text inside a string, so that none of it can be taken for structure.
"""

import datetime as dt
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trio_alerts.delivery import Delivery, read_delivery
from trio_alerts.errors import ParseFault, RefusedContent

MAX_PAYLOAD_BYTES = 256 * 1024  # a page is read by a human; what is larger is a dump, and belongs behind a link
MAX_ENTRY_BYTES = 2 * MAX_PAYLOAD_BYTES  # names and values of all fields: what is larger is not carried to us at all
SEVERITIES = ("info", "low", "medium", "high", "critical")

Name = Annotated[str, Meta(min_length=1)]
Filter = Annotated[str, Meta(min_length=1, max_length=512)]  # always indexed: 512 characters are at most 2 KiB of UTF-8
Instant = Annotated[dt.datetime, Meta(tz=True)]
Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Any  # int or Decimal, by `_check_numbers`: as a type of msgspec's, Decimal would take a text for a number, too
Json = msgspec.Raw  # JSON of any shape, rendered by us; empty if there is none


class Entry(Struct, frozen=True):
    """One message of the stream.

    Args:
        stream: The stream it lies in.
        id: Its message ID in that stream.
        fields: What the producer wrote, as it came.
        deliveries: How often it was handed to a consumer, this time included.
        claimed: It came by a claim: its last owner was silent for `claim_idle_s`, or handed it over.
        record_id: The `_id` of its record and its `webhook-id`, the same at every delivery and replay.
        replayed: It came back from the dead-letter stream, under a new message ID and its first `record_id`.
        oversize: How many bytes its fields have, if that is more than `MAX_ENTRY_BYTES`: they stay on the server then.
    """

    stream: str
    id: str
    fields: Mapping[bytes, bytes]
    record_id: str
    deliveries: int = 1
    claimed: bool = False
    replayed: bool = False
    oversize: int = 0


class Risk(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a producer arrived at its judgement."""

    score: Number = None
    method: str | None = None
    factors: Json = Json()


class AlertEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The validated alert. Required first; `extra` is an object of every field that is not named here.

    What is not named in `Risk` lies in it under `risk`.
    """

    alert_id: Name
    rule_id: Name
    view: Filter
    scope: Filter
    severity: Literal["info", "low", "medium", "high", "critical"]
    title: Name
    occurred_at: Instant
    schema_version: Annotated[str, Meta(pattern=r"^1(\.[0-9]+)?$")] | None = None
    source: str | None = None
    type: str | None = None
    rule_version: str | None = None
    status: Literal["firing", "resolved", "retracted"] | None = None
    description: str | None = None
    fingerprint: str | None = None
    group_key: str | None = None
    supersedes: str | None = None
    emitted_at: Instant | None = None
    expires_at: Instant | None = None
    chain_id: Long | None = None
    network: str | None = None
    block_number: Long | None = None
    block_hash: str | None = None
    finality: str | None = None
    tx_hash: str | None = None
    log_index: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    addresses: list[str] | None = None
    contract: str | None = None
    protocol: str | None = None
    value_raw: Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$")] | None = None
    value_usd: Number = None
    threshold: Number = None
    confidence: Number = None
    risk: Risk | None = None
    labels: (
        Annotated[
            dict[Annotated[str, Meta(min_length=1, max_length=256)], Annotated[str, Meta(max_length=1024)]],
            Meta(max_length=64),
        ]
        | None
    ) = None
    details: Json = Json()
    links: list[str] | None = None
    trace_id: str | None = None
    extra: Json = Json()


class Alert(Struct, frozen=True):
    """An entry's alert.

    Args:
        event: The alert itself.
        body: The part of its record that never changes: compact JSON on one line.
        payload: What receivers get: the event as JSON.
        content_sha256: Of what the producer wrote, in hexadecimal.
    """

    event: AlertEvent
    body: bytes
    payload: bytes
    content_sha256: str


class Record(Struct, frozen=True):
    """The document kept for an alert.

    Args:
        id: The document ID.
        body: The JSON object of everything but `delivered` and `delivery`: compact, one line, serialized by us.
        delivery: What became of it so far.
    """

    id: str
    body: bytes
    delivery: Delivery

    def to_json(self) -> bytes:
        """Return the whole document: compact JSON on one line, as `_bulk` needs it."""
        delivered = b"true" if self.delivery.state == "delivered" else b"false"
        return b'%b,"delivered":%b,"delivery":%b}' % (self.body[:-1], delivered, _ENCODER.encode(self.delivery))

    @classmethod
    def from_json(cls, record_id: str, document: bytes | str) -> "Record":
        """Read a document that `to_json` wrote (a store may have re-ordered it).

        Raises:
            RefusedContent: Somebody else changed what only the program writes, and it makes no sense any more.
        """
        try:
            fields = _DECODER.decode(document)
            fields.pop("delivered", None)
            delivery = read_delivery(fields.pop("delivery", {}))
            msgspec.convert(fields, _Keys)
            _check_texts(fields)
        except (msgspec.DecodeError, UnicodeError, ArithmeticError, RecursionError, TypeError) as fault:
            raise unreadable(record_id, str(fault)) from None
        return cls(record_id, _ENCODER.encode(fields), delivery)

    def fields(self) -> dict[str, Any]:
        """Return the alert's part of the document as a mapping: for people, routes and tests."""
        return _DECODER.decode(self.body)

    @property
    def content_sha256(self) -> str:
        """The SHA-256 of the payload that made this record, in hexadecimal."""
        return str(self.fields().get("content_sha256", ""))


def unreadable(record_id: object, why: str) -> RefusedContent:
    """Return the error of a record that was changed into what the program never writes."""
    return RefusedContent(
        f"record {record_id!r:.600} was changed by somebody else and cannot be read: {why}", "unreadable_record"
    )


def parse_entry(entry: Entry, now: dt.datetime) -> Alert:
    """Validate an entry's `event` and make the unchanging part of its record.

    Args:
        entry: As it was read.
        now: The server's time, for `ingested_at`.

    Raises:
        ParseFault: It is no AlertEvent; the reason is `missing_event`, `too_large`, `bad_json` or `bad_event`.
    """
    if entry.oversize:
        raise ParseFault(
            "too_large", f"the entry has {entry.oversize:,} bytes; at most {MAX_PAYLOAD_BYTES:,} of payload are allowed"
        )
    payload = entry.fields.get(b"event")
    if payload is None:
        names = ", ".join(sorted(name.decode(errors="replace") for name in entry.fields)) or "none"
        raise ParseFault("missing_event", f"the entry has no field 'event' (its fields: {names[:200]})")
    event = parse_event(payload)
    digest = hashlib.sha256(payload).hexdigest()
    origin = _Origin(
        severity_rank=SEVERITIES.index(event.severity),
        record_id=entry.record_id,
        entry_order=entry_order(entry.record_id),
        stream=entry.stream,
        stream_id=entry.id,
        content_sha256=digest,
        ingested_at=now,
    )
    try:
        rendered = _ENCODER.encode(event)
        stored = _with_texts(event, rendered)
        body = b"%b,%b" % (stored[:-1], _ENCODER.encode(origin)[1:])
    except UnicodeEncodeError:
        raise ParseFault("bad_json", _LONE_SURROGATE) from None
    return Alert(event, body, rendered, digest)


def parse_event(payload: bytes) -> AlertEvent:
    """Validate the JSON of one alert.

    Raises:
        ParseFault: It is too large, no JSON, or no AlertEvent; the message says what and where, never the payload.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ParseFault(
            "too_large", f"the payload has {len(payload):,} bytes; at most {MAX_PAYLOAD_BYTES:,} are allowed"
        )
    try:
        event = _in_utc(_usual_event(payload) or _any_event(payload))
        _check_numbers(event)
    except msgspec.ValidationError as fault:
        raise ParseFault("bad_event", str(fault)) from None
    except UnicodeEncodeError:
        raise ParseFault("bad_json", _LONE_SURROGATE) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        # msgspec may call it a truncated text, when it looks for the other half behind the end.
        halved = "surrogate" in str(fault) or _HALF_A_PAIR.search(payload)
        why = _LONE_SURROGATE if halved else f"not JSON: {fault}"
        raise ParseFault("bad_json", why) from None
    except InvalidOperation:
        raise ParseFault("bad_json", "a number cannot be read: its exponent has more than 18 digits") from None
    except RecursionError:
        raise ParseFault("bad_json", "the JSON is nested too deeply") from None
    except (OverflowError, ValueError) as fault:
        raise ParseFault("bad_event", f"a number or time is out of range: {fault}") from None
    return event


def entry_order(record_id: str) -> str:
    """Return a text that sorts a record among others as Redis sorts their entries, by two numbers of up to 64 bits."""
    milliseconds, _, sequence = record_id.rpartition("|")[2].partition("-")
    return f"{milliseconds:0>20}-{sequence:0>20}"


def payload_of(record: Record) -> bytes:
    """Return what a receiver gets, from a record that was read: the same as `Alert.payload`, at five times its cost."""
    fields = record.fields()
    for name in _Origin.__struct_fields__:
        fields.pop(name, None)
    for holder, name in _texts(fields):
        holder[name] = msgspec.Raw(holder[name].encode())
    return _ENCODER.encode(fields)


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
    occurred_at: Instant | None = None


class _Origin(Struct, frozen=True):
    """What the program adds to the alert; never sent to a receiver."""

    severity_rank: int
    record_id: str
    entry_order: str
    stream: str
    stream_id: str
    content_sha256: str
    ingested_at: dt.datetime


# float_hook and decimal_format together keep every digit of every number; msgspec keeps large integers exact by itself.
_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_VALUE_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_EVENT_DECODER = msgspec.json.Decoder(AlertEvent, float_hook=Decimal)
# msgspec prepares a type when something is first converted to it. Two threads that do so at once crash the process
# (0.22), and SQLite's threads read records: so it is done here, and for the types above by their decoders.
read_delivery({"state": "suppressed"})
msgspec.convert({}, _Keys)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_EVENT_FIELDS = frozenset(AlertEvent.__struct_fields__) - {"extra"}  # a producer's "extra" is one more unknown field
_RISK_FIELDS = frozenset(Risk.__struct_fields__)
_INSTANTS = ("occurred_at", "emitted_at", "expires_at")
_LEAP_SECOND = re.compile(r"(.{10}[Tt ][0-9]{2}:[0-9]{2}:)60(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_LONE_SURROGATE = "a string holds a lone surrogate, which no UTF-8 can carry"
_HALF_A_PAIR = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})")


def _usual_event(payload: bytes) -> AlertEvent | None:
    """Decode straight into the alert's type, at half the cost; None if that is not possible, for whatever reason."""
    try:
        event = _EVENT_DECODER.decode(payload)
        if event.extra:  # a producer's own field of that name
            return None
        ours: dict[str, object] = {}
        if event.details:
            ours["details"] = _json(_VALUE_DECODER.decode(event.details))
        if event.risk and event.risk.factors:
            factors = _json(_VALUE_DECODER.decode(event.risk.factors))
            ours["risk"] = msgspec.structs.replace(event.risk, factors=factors)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return msgspec.structs.replace(event, **ours) if ours else event


def _any_event(payload: bytes) -> AlertEvent:
    """Decode by way of a mapping: also what has unknown fields. Its faults are the ones that people are told."""
    fields = _DECODER.decode(payload)
    extra = {name: fields.pop(name) for name in sorted(fields.keys() - _EVENT_FIELDS)}
    if isinstance(risk := fields.get("risk"), dict):
        if unknown := risk.keys() - _RISK_FIELDS:
            extra["risk"] = {name: risk.pop(name) for name in sorted(unknown)}
        if "factors" in risk:
            risk["factors"] = _json(risk["factors"])
    if "details" in fields:
        fields["details"] = _json(fields["details"])
    if extra:
        fields["extra"] = _json(extra)
    if type(fields.get("value_raw")) is int:
        fields["value_raw"] = str(fields["value_raw"])
    for name in _INSTANTS:
        if isinstance(text := fields.get(name), str):
            fields[name] = _without_leap_second(text)
    return msgspec.convert(fields, AlertEvent)


def _without_leap_second(text: str) -> str:
    """Move a time inside a leap second to the last microsecond before it: no clock here can show the 61st second.

    There is one only at the end of a minute that is 23:59 in UTC; anything else with a 60 is no time.
    """
    leap = _LEAP_SECOND.fullmatch(text)
    if leap is None:
        return text
    moved = f"{leap[1]}59.999999{leap[2]}"
    try:
        moment = msgspec.convert(moved, dt.datetime).astimezone(dt.UTC)
    except (msgspec.ValidationError, OverflowError):
        return text
    return moved if (moment.hour, moment.minute) == (23, 59) else text


def _json(value: object) -> Json:
    return Json(_ENCODER.encode(value))


def _with_texts(event: AlertEvent, rendered: bytes) -> bytes:
    """Return the event as it is stored: JSON of any shape as text in a string."""
    texts: dict[str, object] = {}
    if event.details:
        texts["details"] = _text(event.details)
    if event.extra:
        texts["extra"] = _text(event.extra)
    if event.risk and event.risk.factors:
        texts["risk"] = msgspec.structs.replace(event.risk, factors=_text(event.risk.factors))
    return _ENCODER.encode(msgspec.structs.replace(event, **texts)) if texts else rendered


def _text(json: Json) -> Json:
    return _json(bytes(json).decode())


def _texts(fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where JSON is kept as text: the object that holds it, and its name there."""
    for holder, name in ((fields, "details"), (fields, "extra"), (fields.get("risk"), "factors")):
        if isinstance(holder, dict) and name in holder:
            yield holder, name


def _check_texts(fields: dict[str, Any]) -> None:
    for holder, name in _texts(fields):
        if not isinstance(holder[name], str):
            raise msgspec.ValidationError(f"{name} must be JSON text")
        _VALUE_DECODER.decode(holder[name])  # it goes to receivers as it is


def _in_utc(event: AlertEvent) -> AlertEvent:
    moved = {
        name: value.astimezone(dt.UTC)
        for name in _INSTANTS
        if (value := getattr(event, name)) is not None and value.tzinfo is not dt.UTC
    }
    return msgspec.structs.replace(event, **moved) if moved else event


def _check_numbers(event: AlertEvent) -> None:
    for name in ("value_usd", "threshold", "confidence"):
        if (value := getattr(event, name)) is not None:
            _check_number(value, name)
    if event.risk is not None and event.risk.score is not None:
        _check_number(event.risk.score, "risk.score")


def _check_number(value: object, name: str) -> None:
    if type(value) is not int and type(value) is not Decimal:
        raise msgspec.ValidationError(f"Expected a number, got {_KINDS[type(value)]} - at `$.{name}`")
    try:
        fits = math.isfinite(float(value))
    except OverflowError:
        fits = False
    if not fits:
        raise msgspec.ValidationError(f"Expected a number that fits a double (up to 1.8e308) - at `$.{name}`")


_KINDS = {str: "a text", bool: "true or false", list: "a list", dict: "an object"}
