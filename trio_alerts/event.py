"""What an alert says: its schema, and the parser of the JSON that a producer wrote.

What `parse_event` returns holds no byte of the producer's own rendering: numbers keep every digit, and times are in one
form.
"""

import datetime as dt
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from trio_alerts.errors import ParseFault
from trio_alerts.exact_json import Json, Timestamp, decode_object, decode_value, encode

MAX_PAYLOAD_BYTES = 256 * 1024  # a page is read by a human; what is larger is a dump, and belongs behind a link
SEVERITIES = ("info", "low", "medium", "high", "critical")
LONE_SURROGATE = "a string holds a lone surrogate, which no UTF-8 can carry"

Name = Annotated[str, Meta(min_length=1)]
Filter = Annotated[str, Meta(min_length=1, max_length=512)]  # always indexed: 512 characters are at most 2 KiB of UTF-8
Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Any  # int or Decimal, by `_check_numbers`: as a type of msgspec's, Decimal would take a text for a number, too


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
    occurred_at: Timestamp
    schema_version: Annotated[str, Meta(pattern=r"^1(\.[0-9]+)?$")] | None = None
    source: str | None = None
    type: str | None = None
    rule_version: str | None = None
    status: Literal["firing", "resolved", "retracted"] | None = None
    description: str | None = None
    fingerprint: str | None = None
    group_key: str | None = None
    supersedes: str | None = None
    emitted_at: Timestamp | None = None
    expires_at: Timestamp | None = None
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


def parse_event(payload: bytes) -> AlertEvent:
    """Validate the JSON of one alert.

    Raises:
        ParseFault: It is too large, not JSON or not an AlertEvent; the message says what and where, never the payload.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ParseFault(
            "too_large", f"the payload has {len(payload):,} bytes; at most {MAX_PAYLOAD_BYTES:,} are allowed"
        )
    try:
        event = _in_utc(_fast_path(payload) or _slow_path(payload))
        _check_numbers(event)
    except msgspec.ValidationError as fault:
        raise ParseFault("bad_event", str(fault)) from None
    except UnicodeEncodeError:
        raise ParseFault("bad_json", LONE_SURROGATE) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        # msgspec may call it a truncated text, when it looks for the other half behind the end.
        halved = "surrogate" in str(fault) or _HALF_A_PAIR.search(payload)
        why = LONE_SURROGATE if halved else f"not JSON: {fault}"
        raise ParseFault("bad_json", why) from None
    except InvalidOperation:
        raise ParseFault("bad_json", "a number cannot be read: its exponent has more than 18 digits") from None
    except RecursionError:
        raise ParseFault("bad_json", "the JSON is nested too deeply") from None
    except (OverflowError, ValueError) as fault:
        raise ParseFault("bad_event", f"a number or time is out of range: {fault}") from None
    return event


_EVENT_DECODER = msgspec.json.Decoder(AlertEvent, float_hook=Decimal)
_EVENT_FIELDS = frozenset(AlertEvent.__struct_fields__) - {"extra"}  # a producer's "extra" is one more unknown field
_RISK_FIELDS = frozenset(Risk.__struct_fields__)
_TIMES = ("occurred_at", "emitted_at", "expires_at")
_LEAP_SECOND = re.compile(r"(.{10}[Tt ][0-9]{2}:[0-9]{2}:)60(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_HALF_A_PAIR = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})")


def _fast_path(payload: bytes) -> AlertEvent | None:
    """Decode straight into the type, at half the cost; None if that is not possible, for whatever reason."""
    try:
        event = _EVENT_DECODER.decode(payload)
        if event.extra:  # a producer's own field of that name
            return None
        ours: dict[str, object] = {}
        if event.details:
            ours["details"] = Json(encode(decode_value(event.details)))
        if event.risk and event.risk.factors:
            factors = Json(encode(decode_value(event.risk.factors)))
            ours["risk"] = replace(event.risk, factors=factors)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return replace(event, **ours) if ours else event


def _slow_path(payload: bytes) -> AlertEvent:
    """Decode through a mapping, which takes unknown fields too. Its faults are the ones that are reported."""
    fields = decode_object(payload)
    extra = {name: fields.pop(name) for name in sorted(fields.keys() - _EVENT_FIELDS)}
    if isinstance(risk := fields.get("risk"), dict):
        if unknown := risk.keys() - _RISK_FIELDS:
            extra["risk"] = {name: risk.pop(name) for name in sorted(unknown)}
        if "factors" in risk:
            risk["factors"] = Json(encode(risk["factors"]))
    if "details" in fields:
        fields["details"] = Json(encode(fields["details"]))
    if extra:
        fields["extra"] = Json(encode(extra))
    if type(fields.get("value_raw")) is int:
        fields["value_raw"] = str(fields["value_raw"])
    for name in _TIMES:
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


def _in_utc(event: AlertEvent) -> AlertEvent:
    moved = {}
    if event.occurred_at.tzinfo is not dt.UTC:
        moved["occurred_at"] = event.occurred_at.astimezone(dt.UTC)
    if event.emitted_at is not None and event.emitted_at.tzinfo is not dt.UTC:
        moved["emitted_at"] = event.emitted_at.astimezone(dt.UTC)
    if event.expires_at is not None and event.expires_at.tzinfo is not dt.UTC:
        moved["expires_at"] = event.expires_at.astimezone(dt.UTC)
    return replace(event, **moved) if moved else event


def _check_numbers(event: AlertEvent) -> None:
    if event.value_usd is not None:
        _check_number(event.value_usd, "value_usd")
    if event.threshold is not None:
        _check_number(event.threshold, "threshold")
    if event.confidence is not None:
        _check_number(event.confidence, "confidence")
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
