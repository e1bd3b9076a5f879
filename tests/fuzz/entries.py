"""Entries as producers write them: an alert that loses nothing, or a parse fault with a word for counting.

The judge is Python's own JSON parser, told to keep every digit. It knows nothing of the product's types.
"""

import datetime as dt
import json
from decimal import Decimal
from random import Random
from typing import Any

from tests.fuzz.target import Target
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.errors import ParseFault
from trio_alerts.event import AlertEvent, _fast_path, _slow_path
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
REASONS = {"missing_event", "too_large", "bad_json", "bad_event"}
TIMES = {"occurred_at", "emitted_at", "expires_at"}  # rendered anew; their values are checked elsewhere
RISK = {"score", "method", "factors"}
KNOWN = set(AlertEvent.__struct_fields__) - {"extra"}
REQUIRED = {
    "alert_id": '"a-1"',
    "rule_id": '"r-1"',
    "view": '"Lending"',
    "scope": '"aave v3"',
    "severity": '"high"',
    "title": '"Position liquidatable"',
    "occurred_at": '"2026-11-23T11:59:58Z"',
}
NUMBERS = (
    *("0", "-0", "7", "-7", "1.0", "-0.0", "0.1000000000000000055511151231257827", "1e2", "1E-2", "1.50", "1e308"),
    *("1.8e308", "1e400", "-1e400", "1e-400", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("9" * 78, "9" * 400, "9" * 5000, "1e999999999999999999", "1e1000000000000000000", "1e" + "9" * 40, "NaN"),
    *("Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1e", "1_000"),
)
STRINGS = (
    *('""', '"text"', '"7"', '"1.5"', '"high"', '"firing"', '"1"', '"\\u0041"', '"\\ud83d\\ude80"', '"\\\\ud800"'),
    *('"\\ud800"', '"\\udfff"', '"\\ud800\\u0041"', '"\\u0000"', '"NaN"', '"Übergröße 漢字 🚨"', '"\u2028"'),
    *('"2026-11-23T12:00:00.25+02:00"', '"2016-12-31T23:59:60Z"', '"2016-12-31T15:59:60.5-08:00"'),
    *('"2016-12-31T12:00:60Z"', '"2016-13-31T23:59:60Z"', '"0001-01-01T00:00:00+14:00"', '"2026-11-23"', '"soon"'),
)
OFTEN = (
    "details",
    "risk",
    "value_usd",
    "threshold",
    "value_raw",
    "description",
    "unknown",
    "delivery.state",
    "extra",
    "",
)
BROKEN = ("", "nul", "[1,]", "{", '{"a"}', "'a'", '"\n"', "\x00", "tru", "[" * 3000 + "]" * 3000, '"\ud800"')


def any_entry(random: Random) -> None:
    """Check one entry: bytes of any kind, or an alert with generated fields."""
    fields = _bytes(random) if random.random() < 0.1 else {b"event": _event(random)}
    payload = fields.get(b"event")
    try:
        alert = parse_entry(Entry("AlertStream", "1-0", fields, "1-0"), NOW)
    except ParseFault as fault:
        _assert_is_rightly_refused(fault, payload)
        return
    assert payload is not None
    said = _read(payload)
    record = Record("1-0", alert.body, first_attempt(["webhook"], "me/1", NOW, 60.0))
    document = record.to_json()
    assert b"\n" not in document
    assert Record.from_json("1-0", document) == record
    assert record.payload() == alert.payload
    _assert_kept(said, _read(alert.payload))
    usual = _fast_path(payload)
    assert usual is None or usual == _slow_path(payload)


def _assert_is_rightly_refused(fault: ParseFault, payload: bytes | None) -> None:
    assert fault.reason in REASONS, fault.reason
    assert "<class" not in str(fault), str(fault)
    assert payload is None or not _is_plain(payload), f"refused a plain alert: {fault}: {payload!r}"


def _assert_kept(said: dict[str, Any], sent: dict[str, Any]) -> None:
    """Every field and number that the producer wrote is there, in its place or under `extra`, and nothing else."""
    extra = {name: value for name, value in said.items() if name not in KNOWN}
    expected = {name: value for name, value in said.items() if name in KNOWN and value is not None}
    if "details" in said:
        expected["details"] = said["details"]
    if isinstance(risk := said.get("risk"), dict):
        expected["risk"] = {
            name: value for name, value in risk.items() if name in RISK and (value is not None or name == "factors")
        }
        if unknown := {name: value for name, value in risk.items() if name not in RISK}:
            extra["risk"] = unknown
    if type(raw := said.get("value_raw")) is int:
        expected["value_raw"] = str(raw)
    if extra:
        expected["extra"] = extra
    numbers = [sent.get(name) for name in ("value_usd", "threshold", "confidence")] + [
        sent.get("risk", {}).get("score")
    ]
    assert all(value is None or type(value) in (int, Decimal) for value in numbers), numbers
    assert sent.keys() == expected.keys()
    for name in expected.keys() - TIMES:
        assert _typed(sent[name]) == _typed(expected[name]), f"{name}: {expected[name]!r} became {sent[name]!r}"


def _typed(value: object) -> object:
    """Tell true from 1, and a number from its text, when they are compared."""
    if isinstance(value, dict):
        return {name: _typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    kind = "number" if type(value) in (int, Decimal) else type(value).__name__
    return kind, value


def _is_plain(payload: bytes) -> bool:
    """Tell whether the alert has only the required fields as they are here, and any valid JSON where it may be."""
    try:
        said = json.loads(payload, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_once_each)
        _render(said)
    except (ValueError, ArithmeticError, RecursionError):
        return False
    plain = {name: json.loads(value) for name, value in REQUIRED.items()}
    risk = said.get("risk", {}) if isinstance(said, dict) else None
    return (
        isinstance(risk, dict)
        and risk.keys().isdisjoint({"score", "method"})
        and {name: said[name] for name in said.keys() & KNOWN - {"details", "risk"}} == plain
    )


def _read(payload: bytes) -> Any:
    return json.loads(payload, parse_float=Decimal, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice: what is overwritten is looked at, too")
    return dict(pairs)


def _render(value: object) -> None:
    """Raise an exception if a text in it can be no UTF-8."""
    if isinstance(value, dict):
        for name, inner in value.items():
            name.encode()
            _render(inner)
    elif isinstance(value, list):
        for inner in value:
            _render(inner)
    elif isinstance(value, str):
        value.encode()


def _bytes(random: Random) -> dict[bytes, bytes]:
    name = random.choice([b"event", b"event", b"", b"evnt", b"\xff"])
    if random.random() < 0.5:
        return {name: random.randbytes(random.choice([0, 1, 7, 40]))}
    event = bytearray(_event(random))
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(event))
        match random.randrange(3):
            case 0:
                event[at] = random.randrange(256)
            case 1:
                del event[at:]
            case 2:
                event[at:at] = random.choice([b"\\", b'"', b"{", b"}", b",", b"\xc3", b"\x00", b"\xef\xbb\xbf"])
        event = event or bytearray(b"0")
    return {name: bytes(event)}


def _event(random: Random) -> bytes:
    fields = dict(REQUIRED)
    for _ in range(random.choice([0, 1, 1, 1, 2, 5])):
        name = random.choice(random.choice([OFTEN, AlertEvent.__struct_fields__]))
        fields[name] = _risk(random) if name == "risk" else _value(random)
    pairs = list(fields.items())
    if random.random() < 0.1:
        pairs.append((random.choice(list(REQUIRED)), _value(random)))  # twice: the last one counts
    if random.random() < 0.1:
        random.shuffle(pairs)
    space = random.choice(["", " ", "\n\t"])
    text = "{" + ",".join(f"{json.dumps(name)}:{space}{value}" for name, value in pairs) + "}"
    return text.encode("utf-8", "surrogatepass")


def _risk(random: Random) -> str:
    names = random.sample(["score", "method", "factors", "model", "extra", ""], random.randint(0, 3))
    inside = ",".join(f'"{name}":{_value(random)}' for name in names)
    return f"{{{inside}}}" if random.random() < 0.9 else _value(random)


def _value(random: Random, depth: int = 0) -> str:
    kind = random.random()
    if kind < 0.35:
        return random.choice(NUMBERS)
    if kind < 0.7 or depth > 3:
        return random.choice(STRINGS)
    if kind < 0.8:
        return random.choice(["null", "true", "false"])
    if kind < 0.81:
        return random.choice(BROKEN)
    inside = [_value(random, depth + 1) for _ in range(random.randint(0, 3))]
    if kind < 0.9:
        return f"[{','.join(inside)}]"
    return f"{{{','.join(f'{random.choice(STRINGS)}:{value}' for value in inside)}}}"


TARGETS = [Target("entries", any_entry, share=2)]
