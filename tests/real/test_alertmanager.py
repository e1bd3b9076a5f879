"""Webhooks in Alertmanager's format, decoded by Alertmanager's own types: built here from the Go module proxy."""

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.channel import HOSTILE
from tests.support.go import go
from tests.support.obtain import obtain
from trio_alerts.channels.webhook_formats import render_as
from trio_alerts.ports.channel import Message

pytestmark = pytest.mark.registry

SOURCE = Path(__file__).parent / "alertmanager"
EVENT = {"alert_id": "a-1", "rule_id": "health-factor", "severity": "high", "title": "t", "view": "v", "scope": "s"}
WHOLE = EVENT | {
    "occurred_at": "2026-03-01T12:00:00.123456+01:00",
    "emitted_at": "2026-03-01T12:00:01Z",
    "description": "two\nlines",
    "fingerprint": "position-7",
    "network": "mainnet",
    "labels": {"team": "risk", "1st-line": "desk", "": "x"},
    "links": ["https://example.org/7"],
}
EVENTS: list[dict[str, Any]] = [
    EVENT,
    WHOLE,
    WHOLE | {"status": "resolved"},
    WHOLE | {"status": "retracted", "emitted_at": None},
    {},
    *(EVENT | dict.fromkeys(EVENT, text) | {"labels": {text: text}, "links": [text]} for text in HOSTILE),
]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program that decodes; `go.sum` has the hash of each module."""
    program, why = tmp_path_factory.mktemp("alertmanager") / "decode", "Alertmanager's types need Go 1.22 or newer"
    built = obtain(lambda: go("build", "-o", str(program), ".", cwd=SOURCE, why=why))
    assert 0 == built.returncode, built.stderr
    return program


def decoded(decoder: Path, *bodies: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([decoder], input=b"\n".join(bodies), capture_output=True, check=False)


def test_alertmanagers_own_types_take_every_body(decoder: Path) -> None:
    """No field is unknown to them, no value has another type, and all of it comes out again as it went in."""
    bodies = [render_as("alertmanager", Message("17-0", msgspec.json.encode(event)), "pager") for event in EVENTS]
    done = decoded(decoder, *bodies)

    assert (0, b"") == (done.returncode, done.stderr)
    messages = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert [with_times(msgspec.json.decode(body)) for body in bodies] == [with_times(message) for message in messages]


def with_times(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with its times as times: the same one can be written in many ways."""
    for alert in message["alerts"]:
        for name in ("startsAt", "endsAt"):
            alert[name] = msgspec.convert(alert[name], type=dt.datetime)
    return message


def test_the_judge_can_say_no(decoder: Path) -> None:
    """A field that Alertmanager does not have is noticed, or the test above would prove nothing."""
    done = decoded(decoder, b'{"version":"4","fingerPrint_":"x"}')

    assert 1 == done.returncode
    assert b"unknown field" in done.stderr
