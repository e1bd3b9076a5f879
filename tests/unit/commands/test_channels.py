"""`channels`: what it lists, and what it says of a test message."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.calling import Called, call
from tests.support.services.slack import SlackStandIn, seen
from trio_alerts.channels.registry import KINDS

TOKEN = "xoxb-1234567890-S3CR3Tmarker"


class Room(BaseHTTPRequestHandler):
    """Slack, behind a real server."""

    slack: SlackStandIn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        self.wfile.write(self.slack.answer(f"{self.requestline}\r\n{head}\r\n".encode() + body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def configured(folder: Path, **keys: str) -> Iterator[tuple[SlackStandIn, str]]:
    """Yield a room, and a configuration with a channel `desk` to it and a file."""
    slack = SlackStandIn(TOKEN, "C024BE91L")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Room,), {"slack": slack}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    api_url = f"http://127.0.0.1:{server.server_port}/api"
    table = {"kind": "slack", "name": "desk", "token": TOKEN, "room": "C024BE91L", "api_url": api_url} | keys
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    file = f'[[channels]]\nkind = "file"\nname = "audit"\npath = {json.dumps(str(folder / "alerts.jsonl"))}\n'
    config = folder / "alerts.toml"
    config.write_text(f"[[channels]]\n{lines}\n{file}")
    try:
        yield slack, str(config)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def silent_about_secrets(called: Called) -> Called:
    assert "S3CR3T" not in called.out + called.err
    return called


def test_kinds_and_channels_are_listed(tmp_path: Path) -> None:
    """Every kind there is, and where each configured channel leads."""
    with configured(tmp_path) as (_, config):
        text = silent_about_secrets(call("channels", "--config", config))
        document = json.loads(call("channels", "list", "--json", "--config", config).out)

    assert (0, f"kinds: {', '.join(KINDS)}") == (text.exit_code, text.out.splitlines()[0])
    assert ["channel\tkind\tdestination", "desk\tslack", "audit\tfile"] == [
        line.rpartition("\t")[0] if "\t/" in line or "C024" in line else line for line in text.out.splitlines()[1:]
    ]
    assert list(KINDS) == document["kinds"]
    assert ["desk", "audit"] == [one["channel"] for one in document["channels"]]


def test_a_test_message_says_that_it_is_one(tmp_path: Path) -> None:
    """People see it in the room; the command shows request, answer and verdict, and no secret."""
    with configured(tmp_path) as (slack, config):
        called = silent_about_secrets(call("channels", "test", "desk", "--config", config))

    assert 0 == called.exit_code
    assert "[INFO] TEST, please ignore: this channel works" in seen(slack.posted[0])
    assert "authorization: ***" in called.out.lower()
    assert '200 {"ok":true' in called.out
    assert "reference:\n  1503435956.000001\n" in called.out
    assert called.out.endswith("verdict: accepted\n")


def test_what_is_not_accepted_ends_with_1(tmp_path: Path) -> None:
    """The verdict says what the service said, and who must act."""
    with configured(tmp_path, room="C0") as (_, config):
        called = silent_about_secrets(call("channels", "test", "desk", "--config", config))
        document = json.loads(silent_about_secrets(call("channels", "test", "desk", "--json", "--config", config)).out)

    assert 1 == called.exit_code
    assert called.out.endswith("verdict: failed, a human must look: Slack said channel_not_found\n")
    assert (False, 200, "") == (document["accepted"], document["status"], document["reference"])


def test_an_alert_of_ones_own_can_be_sent(tmp_path: Path) -> None:
    """Marked as a test all the same, and without the fingerprint that would join it to a real incident."""
    alert = tmp_path / "alert.json"
    event = {
        "alert_id": "a",
        "rule_id": "r",
        "view": "v",
        "scope": "s",
        "severity": "critical",
        "title": "Ä",
        "fingerprint": "f",
    }
    alert.write_text(json.dumps(event | {"occurred_at": "2026-03-01T12:00:00Z"}))
    with configured(tmp_path) as (_, config):
        called = call("channels", "test", "audit", "--alert", str(alert), "--config", config)

    assert 0 == called.exit_code
    line = json.loads((tmp_path / "alerts.jsonl").read_text())
    assert "TEST, please ignore: Ä" == line["alert"]["title"]
    assert "fingerprint" not in line["alert"]
    assert line["record_id"].startswith("test-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test",), "name one channel, as in `channels test pager`; `channels` lists them"),
        (("test", "dsk"), "there is no channel 'dsk' (did you mean desk?); the channels are desk, audit"),
        (("list", "desk"), "`channels` lists all of them; `channels test NAME` sends a test message"),
        (("test", "desk", "--alert", "/no/such/file"), "cannot read /no/such/file: No such file or directory"),
        (("tset",), "invalid choice: 'tset'"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """One message, exit code 2, nothing sent."""
    with configured(tmp_path) as (slack, config):
        called = call("channels", *arguments, "--config", config)

    assert (2, []) == (called.exit_code, slack.posted)
    assert message in called.err


@pytest.mark.parametrize(
    ("text", "message"), [(b"{}", "Object missing required field `alert_id`"), (b"", "must hold one alert; it holds 0")]
)
def test_a_file_that_holds_no_alert_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    """Before anything is sent."""
    with configured(tmp_path) as (slack, config):
        called = call("channels", "test", "desk", "--alert", "-", "--config", config, stdin=text)

    assert (2, []) == (called.exit_code, slack.posted)
    assert message in called.err
