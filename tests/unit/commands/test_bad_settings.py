"""What is wrong in a configuration, from the file to the exit code: each command says it once, and does nothing."""

import json
from pathlib import Path

import pytest

from tests.support.calling import call

CHANNELS = """
[[channels]]
name = "pager"
url = "https://hooks.example/S3CR3Tpager"

[[channels]]
name = "chat"
url = "https://hooks.example/S3CR3Tchat"
"""
CHANNEL = '[[channels]]\nname = "pager"\n'
ROUTE = CHANNELS + '[[routes]]\nname = "night"\nchannels = ["pager", "chat"]\n'
REST = '[[routes]]\nname = "rest"\nchannels = ["chat"]\n'
IN_CHANNELS = {
    CHANNEL + 'kind = "pigeon"': 'must be "webhook" or "slack" or "pagerduty" or "email" or "file"',
    CHANNEL + 'kind = "slack"\ntokn = "S3CR3T"': "tokn",
    CHANNEL + 'kind = "slack"\ntoken = "xoxb-S3CR3T"': "it takes token and room",
    CHANNEL + 'url = "ftp://hooks.example/S3CR3T"': "unknown scheme",
    CHANNEL + 'token_file = "/no/such/file"\nkind = "slack"\nroom = "r"': "/no/such/file",
    CHANNELS + CHANNEL + 'url = "https://hooks.example/S3CR3T"': "2 channels are named 'pager'",
    CHANNELS + 'aliases = ["pager"]': "the alias 'pager' is a name of channel 'pager', too",
    CHANNEL + 'token = "xoxb-S3CR3T"\nurl = "https://h"': "token: there is no such setting; without kind it is",
}
IN_ROUTES = {
    ROUTE + 'matchers = ["mood = bad"]\n' + REST: "mood",
    ROUTE + 'matchers = ["severity = urgent"]\n' + REST: "urgent",
    ROUTE + 'matchers = ["view ="]\n' + REST: "view =",
    ROUTE + 'active = [{ from = "08:00", to = "08:00" }]\n' + REST: "it never opens",
    ROUTE + "active = [{ days = [] }]\n" + REST: "it never opens",
    ROUTE + 'active = [{ tz = "Europe/Zurick" }]\n' + REST: "there is no time zone 'Europe/Zurick' (did you mean",
    ROUTE.replace('"chat"]', '"chit"]\nmatchers = ["severity >= high"]') + REST: "there is no channel 'chit'",
    ROUTE + 'fallback = ["chat"]\nfallback_after_s = 60\n': "chat",
    ROUTE + 'fallback = ["mail"]\nfallback_after_s = 60\n': "mail",
    ROUTE + 'matchers = ["severity >= low"]\n': "severity = info",
    ROUTE + REST: "rest",
    CHANNELS + REST: "channel 'pager' is used by no route",
}


def refused(folder: Path, text: str, *argv: str) -> list[str]:
    """Call a command that must refuse a configuration; return what it says, by line."""
    config = folder / "alerts.toml"
    config.write_text(text)
    # Whoever asked Redis or the store would end with exit code 4.
    called = call(*argv, "--config", str(config), redis_url="redis://127.0.0.1:1/0", store_url="http://127.0.0.1:1")

    assert 2 == called.exit_code, called
    assert "S3CR3T" not in called.out + called.err
    assert "Traceback" not in called.err
    return called.err.splitlines()


@pytest.mark.parametrize("text", IN_CHANNELS)
@pytest.mark.parametrize(
    "command", ["check", "run", "channels", "channels test pager", "route --explain -", "silence list"]
)
def test_every_command_refuses_a_wrong_channel(command: str, text: str, tmp_path: Path) -> None:
    """Exit code 2 and one line, before Redis or the store is asked for anything."""
    [problem] = refused(tmp_path, text, *command.split())

    assert IN_CHANNELS[text] in problem


@pytest.mark.parametrize("text", IN_ROUTES)
def test_whoever_routes_refuses_a_wrong_route(text: str, tmp_path: Path) -> None:
    """The same; `run` has said by then what would run here, and `check` goes on to what else is wrong."""
    [explained] = refused(tmp_path, text, "route", "--explain", "-")
    _, logged = map(json.loads, refused(tmp_path, text, "run"))
    [checked] = [line for line in refused(tmp_path, text, "check") if line.startswith("routes    PROBLEM: ")]

    assert ("error", 2) == (logged["level"], logged["exit_code"])
    for said in (explained, logged["message"], checked):
        assert IN_ROUTES[text] in said
