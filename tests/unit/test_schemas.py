"""What `schema` prints accepts what the program accepts and refuses what it refuses, as another validator judges."""

import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.support.calling import call
from tests.support.examples import CONFIGS, FOLDER
from trio_alerts.channels.registry import KINDS, channel_settings
from trio_alerts.errors import ParseFault, SettingsError
from trio_alerts.event import AlertEvent, Risk, parse_event
from trio_alerts.routing.windows import KEYS, parse_window
from trio_alerts.settings.settings import RouteSettings, Settings
from trio_alerts.settings.sources import load_settings
from trio_alerts.settings.tables import describe

ALERT = {
    "alert_id": "a",
    "rule_id": "r",
    "view": "v",
    "scope": "s",
    "severity": "low",
    "title": "t",
    "occurred_at": "2026-11-23T12:00:00Z",
}


def printed(of: str) -> dict[str, Any]:
    called = call("schema", of)
    assert (0, "") == (called.exit_code, called.err)
    schema: dict[str, Any] = msgspec.json.decode(called.out)
    assert schema == msgspec.json.decode(call("schema", of, "--json").out)
    jsonschema_rs.meta.validate(schema)
    return schema


@pytest.fixture(scope="module")
def event() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(printed("event"), validate_formats=True)


@pytest.fixture(scope="module")
def settings() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(printed("settings"), validate_formats=True)


def test_every_example_is_an_alert(event: jsonschema_rs.Draft202012Validator) -> None:
    """As it is for the program."""
    lines = (FOLDER / "alerts.jsonl").read_bytes().splitlines()
    assert len(lines) > 100
    for line in lines:
        parse_event(line)
        event.validate(msgspec.json.decode(line))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {name: None for name in AlertEvent.__struct_fields__ if name not in ALERT},
        {"extra": {"a": 1}, "details": [1, {"a": None}], "unknown": "kept"},
        {"risk": {"score": 0.5, "method": None, "factors": {"a": [1]}, "more": "kept"}},
        {"value_raw": "-12.5", "value_usd": 1e308, "threshold": 5, "confidence": -0.5},
        {"value_raw": 2**256},
        {"chain_id": 2**63 - 1, "block_number": -(2**63), "log_index": 2**31 - 1},
        {"labels": {"k" * 256: "v" * 1024, "empty": ""}, "addresses": [], "links": ["anything"]},
        {"status": "retracted", "schema_version": "1.7", "expires_at": "2026-11-23T12:00:00.123456+05:30"},
        {"view": "\U0001f6a8" * 512},
    ],
)
def test_both_accept(fields: dict[str, Any], event: jsonschema_rs.Draft202012Validator) -> None:
    """Every optional field, at its limits; a null is as good as nothing, and unknown fields are kept."""
    parse_event(msgspec.json.encode(ALERT | fields))
    event.validate(ALERT | fields)


@pytest.mark.parametrize(
    "fields",
    [
        *[{name: None} for name in ALERT],
        *[{name: ""} for name in ("alert_id", "rule_id", "view", "scope", "title")],
        {"view": "x" * 513},
        {"severity": "urgent"},
        {"occurred_at": "yesterday"},
        {"emitted_at": "2026-11-23T12:00:00"},
        {"expires_at": 1795660965},
        {"schema_version": "2"},
        {"status": "open"},
        {"chain_id": 2**63},
        {"chain_id": "1"},
        {"log_index": -1},
        {"block_number": True},
        {"value_raw": "0x10"},
        {"value_raw": 1.5},
        *[{name: "12.5"} for name in ("value_usd", "threshold", "confidence")],
        {"threshold": True},
        {"confidence": 10**400},
        {"risk": {"score": "0.5"}},
        {"risk": [0.5]},
        {"risk": {"method": 1}},
        {"labels": {"a": 1}},
        {"labels": {"": "x"}},
        {"labels": {"k" * 257: ""}},
        {"labels": {"k": "v" * 1025}},
        {"labels": {str(number): "" for number in range(65)}},
        {"addresses": "0x12"},
        {"links": [1]},
        {"title": 7},
    ],
)
def test_both_refuse(fields: dict[str, Any], event: jsonschema_rs.Draft202012Validator) -> None:
    """What is not an alert for the program is none for the schema, hand-made checks included."""
    with pytest.raises(ParseFault):
        parse_event(msgspec.json.encode(ALERT | fields))
    assert not event.is_valid(ALERT | fields)


@pytest.mark.parametrize("name", ALERT)
def test_what_is_required_is_required(name: str, event: jsonschema_rs.Draft202012Validator) -> None:
    """Each of the seven."""
    assert not event.is_valid({key: value for key, value in ALERT.items() if key != name})


def test_every_field_has_its_place() -> None:
    """A new one is in the schema by itself; `extra` is no field of a producer's."""
    schema = printed("event")["properties"]
    assert set(AlertEvent.__struct_fields__) - {"extra"} == set(schema)
    assert set(Risk.__struct_fields__) == set(schema["risk"]["anyOf"][0]["properties"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_is_a_file_of_settings(path: Path, settings: jsonschema_rs.Draft202012Validator) -> None:
    """As it is for the program."""
    settings.validate(tomllib.loads(path.read_text("utf-8")))


def test_every_setting_has_its_place_and_says_what_it_means() -> None:
    """Those of each kind of channel, and of routes, too; one that may lie in a file has two names."""
    schema = printed("settings")["properties"]
    channels = {
        rule["if"]["properties"]["kind"]["const"]: rule["then"] for rule in schema["channels"]["items"]["allOf"]
    }
    assert set(KINDS) == set(channels)
    for table, found in (
        (Settings, {name: one for name, one in schema.items() if name not in ("channels", "routes")}),
        (RouteSettings, schema["routes"]["items"]["properties"]),
        *((channel_settings(kind), channels[kind]["properties"]) for kind in KINDS),
    ):
        described = describe(table).values()
        assert {name for one in described for name in one.spellings} == set(found)
        assert all(found[one.name]["description"].startswith(one.meaning) for one in described)


WRONG = [
    "wrokers = 16",
    "workers = 0",
    'workers = "16"',
    "workers = 1.5",
    "block_s = 3601",
    'log_format = "xml"',
    "retry_schedule_s = []",
    "retry_schedule_s = [0]",
    'streams = ["a", "a"]',
    "streams = 'a'",
    "redis_url = 5",
    "store_url = 'sqlite:///a.db'\nstore_url_file = '/a'",
    "networks = []",
    "channels = 1",
    "[[channels]]\nurl = 'https://h.example'",
    "[[channels]]\nname = 'no spaces'\nurl = 'https://h.example'",
    "[[channels]]\nname = 'a'\nkind = 'pigeon'",
    "[[channels]]\nname = 'a'",
    "[[channels]]\nname = 'a'\nurl = 'https://h.example'\nurl_file = '/a'",
    "[[channels]]\nname = 'a'\nkind = 'file'\npath = '/tmp/a'\nurl = 'https://h.example'",
    "[[channels]]\nname = 'a'\nurl = 'https://h.example'\nrate_per_s = 0",
    "[[channels]]\nname = 'a'\nurl = 'https://h.example'\nheaders = { a = 1 }",
    "[[routes]]\nchanels = ['a']",
    "[[routes]]\nsuppress = 'yes'",
    "[[routes]]\nmatch = { view = [] }",
    "[[routes]]\nmatch = { view = 1.5 }",
    "[[routes]]\nactive = [1]\nsuppress = true",
]


@pytest.mark.parametrize("text", WRONG)
def test_both_refuse_settings(text: str, settings: jsonschema_rs.Draft202012Validator, tmp_path: Path) -> None:
    """An unknown name, a value of the wrong kind or out of range, what is missing, what is given twice."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        load_settings({}, {}, path, channel_settings)
    assert not settings.is_valid(tomllib.loads(text))


def test_a_window_has_its_keys_and_their_meanings() -> None:
    """An editor offers and explains what `routing/` reads."""
    window = printed("settings")["properties"]["routes"]["items"]["properties"]["active"]["items"]
    assert {name: f"{meaning} Default: {default}." for name, (default, meaning) in KEYS.items()} == {
        name: one["description"] for name, one in window["properties"].items()
    }


@pytest.mark.parametrize(
    ("window", "is_one"),
    [
        ({}, True),
        ({"days": ["mon-fri", "sun"], "from": "08:00", "to": "24:00", "tz": "Europe/Zurich"}, True),
        ({"form": "08:00"}, False),
        ({"from": "8:00"}, False),
        ({"from": "24:00"}, False),
        ({"from": "00:00", "to": "23:60"}, False),
        ({"days": []}, False),
        ({"days": "mon"}, False),
        ({"days": ["monday"]}, False),
        ({"days": ["mon-tue-wed"]}, False),
        ({"tz": 1}, False),
    ],
)
def test_both_judge_windows_alike(
    window: dict[str, Any], is_one: bool, settings: jsonschema_rs.Draft202012Validator
) -> None:
    """A wrong key, a time or a day that is none."""
    with nullcontext() if is_one else pytest.raises(ValueError):  # noqa: PT011 - the schema gives no reason
        parse_window(window)
    assert is_one == settings.is_valid({"routes": [{"active": [window], "suppress": True}]})
