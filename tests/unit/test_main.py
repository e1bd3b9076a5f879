"""The command line: what it accepts, what it says, how it ends."""

import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import trio_alerts
from tests.support.calling import call
from trio_alerts.commands import COMMANDS, arguments, load_command
from trio_alerts.commands.arguments import parse_arguments
from trio_alerts.commands.command import Command
from trio_alerts.errors import SettingsError, StartError, Unavailable
from trio_alerts.settings.settings import Settings
from trio_alerts.settings.tables import describe


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every command execute a function of the test instead."""

    def replace(execute: Callable[[Namespace, Settings], int], *, service: bool = False) -> None:
        command = Command(execute=execute, about="About.", examples=("run",), json="it", service=service)
        monkeypatch.setattr(arguments, "load_command", lambda _: command)

    return replace


def raising(error: BaseException) -> Callable[[Namespace, Settings], int]:
    def execute(_: Namespace, __: Settings) -> int:
        raise error

    return execute


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """`--help` of a command: its sentence, an example of itself, its settings with their defaults; exit code 0."""
    called = call(name, "--help")

    assert (0, "") == (called.exit_code, called.err)
    assert f"usage: trio-alerts {name} " in called.out
    assert COMMANDS[name][1] in called.out
    assert f"examples:\n  trio-alerts {name}" in called.out
    assert "settings:" in called.out
    assert "(default: " in called.out


def test_help_of_run_explains_every_setting() -> None:
    """What can be set stands in `run --help`, with what it means and its default."""
    text = " ".join(call("run", "--help").out.split())

    for setting in describe(Settings).values():
        assert f"--{setting.name.replace('_', '-')} " in text
        assert f"{setting.meaning} (default: {setting.default})".replace("`", "") in text


REDIS = "redis_url redis_ca_file redis_timeout_s stream streams"
STORE = "store_url store_ca_file store_timeout_s index"


@pytest.mark.parametrize(
    ("command", "explained"), [("emit", REDIS), ("list", STORE), ("resolve", f"{REDIS} group {STORE}")]
)
def test_help_explains_the_settings_that_a_command_needs(command: str, explained: str) -> None:
    """Those of the backends that it opens, in the order of the settings."""
    text = " ".join(call(command, "--help").out.split())

    assert [*explained.split(), "log_format"] == [
        name for name, one in describe(Settings).items() if f"{one.meaning} (default:".replace("`", "") in text
    ]


def test_list_loads_nothing_of_redis() -> None:
    """A command loads what it needs: a third of a second less for one that only reads records."""
    loaded = "{'redis', 'opensearchpy', 'rich'} & sys.modules.keys()"
    code = f"import sys, trio_alerts.__main__, trio_alerts.commands.list_records; sys.exit(bool({loaded}))"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_settings_load_nothing_that_opens_connections() -> None:
    """Neither trio nor a backend is needed to read settings, and a channel's file only once there is a channel."""
    code = """
import sys
from trio_alerts.channels.registry import channel_settings
from trio_alerts.settings.sources import load_settings
assert () == load_settings({}, {}, None, channel_settings).channels
assert not {"trio", "redis", "opensearchpy", "httpx"} & sys.modules.keys()
assert 1 == len(load_settings({"webhook_url": "https://example.org/hook"}, {}, None, channel_settings).channels)
assert not {"trio", "redis", "opensearchpy"} & sys.modules.keys()
"""
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_parsed(name: str) -> None:
    """No example of a `--help` is wrong."""
    for example in load_command(name).examples:
        words = example.partition(" |")[0].partition(" <")[0].replace("'", "").split()
        assert name == words[0]
        parse_arguments(words)


def test_front_page_names_every_command() -> None:
    """`--help` lists the commands, each with its sentence; `--version` tells the version."""
    called = call("--help")

    assert 0 == called.exit_code
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", called.out, re.MULTILINE), name
    assert (0, f"trio-alerts {trio_alerts.__version__}\n", "") == tuple(vars(call("--version")).values())


@pytest.mark.parametrize("name", describe(Settings))
def test_every_setting_is_an_option(name: str) -> None:
    """Also those that the command's help does not explain, and before the command as well as behind it."""
    option = f"--{name.replace('_', '-')}"

    assert {name: "text"} == parse_arguments(["emit", option, "text", "-"]).options
    assert {name: "text"} == parse_arguments([f"{option}=text", "emit", "-"]).options


def test_later_option_is_stronger() -> None:
    """An option behind the command is stronger than one before it; `--config` and the level are no settings."""
    parsed = parse_arguments(["--stream", "a", "--config", "x.toml", "emit", "--stream", "b", "--log-level=debug", "-"])

    assert ({"stream": "b"}, Path("x.toml"), "debug") == (parsed.options, parsed.config, parsed.log_level)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("", f"name a command: {', '.join(COMMANDS)}"),
        ("rnu", "there is no command 'rnu' (did you mean run?)"),
        ("frobnicate", f"there is no command 'frobnicate'; the commands are {', '.join(COMMANDS)}"),
        ("emit - --redis-ulr redis://x", "there is no option --redis-ulr (did you mean --redis-url?)"),
        ("--redis-ulr=redis://x emit -", "there is no option --redis-ulr (did you mean --redis-url?)"),
        ("emit - --dry-rnu", "there is no option --dry-rnu (did you mean --dry-run?)"),
        ("emit - --dry", "there is no option --dry (did you mean --dry-run?); see `trio-alerts emit --help`"),
        ("emit", "the following arguments are required: FILE"),
        ("emit a.json b.json", "'b.json' is one argument too many"),
        ("emit - --stream", "argument --stream: expected one argument"),
        ("emit - --log-level loud", "argument --log-level: invalid choice: 'loud'"),
        ("emit - --workers many", "workers: 'many' from option --workers is not allowed"),
        ("emit - --config /does/not/exist", "/does/not/exist: cannot read the settings"),
    ],
)
def test_bad_usage_is_one_message(argv: str, expected: str) -> None:
    """Exit code 2, what is wrong, and the nearest name; no traceback, nothing on stdout."""
    called = call(*argv.split())

    assert (2, "") == (called.exit_code, called.out)
    assert called.err.startswith(f"trio-alerts: {expected}")
    assert "Traceback" not in called.err


def test_unknown_environment_variable_is_refused() -> None:
    """A misspelt variable is not ignored: exit code 2 and the nearest name."""
    called = call("emit", "--dry-run", "-", redis_ulr="redis://x")

    assert 2 == called.exit_code
    assert "TRIO_ALERTS_REDIS_ULR: there is no such setting (did you mean TRIO_ALERTS_REDIS_URL?)" in called.err


def test_secret_in_a_wrong_setting_is_not_shown() -> None:
    """A password in an address that is refused appears nowhere."""
    called = call("emit", "--redis-url", "redis://:hunter2@a@b", "-", store_url="htp://u:hunter3@x")

    assert 2 == called.exit_code
    assert "hunter" not in called.err


@pytest.mark.parametrize(
    ("error", "exit_code", "err"),
    [
        (SettingsError("mend it"), 2, "trio-alerts: mend it\n"),
        (ExceptionGroup("g", [ExceptionGroup("h", [StartError("gone")])]), 4, "trio-alerts: gone\n"),
        (Unavailable("later"), 1, "trio-alerts: later\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_error_is_its_message(runs: Callable[..., None], error: BaseException, exit_code: int, err: str) -> None:
    """An error is one message without a traceback; an interrupt, or a reader that left, is none."""
    runs(raising(error))

    called = call("list")

    assert (exit_code, "", err) == (called.exit_code, called.out, called.err)


def test_bug_shows_its_traceback(runs: Callable[..., None]) -> None:
    """An unexpected exception: traceback, exit code 1."""
    runs(raising(ExceptionGroup("g", [SettingsError("s"), KeyError("k")])))

    called = call("list")

    assert 1 == called.exit_code
    assert "Traceback" in called.err
    assert called.err.endswith("trio-alerts: this is a bug: KeyError: 'k'\n")


@pytest.mark.parametrize(
    ("argv", "service", "terminal", "is_json"),
    [
        (["run"], True, False, True),
        (["run"], True, True, False),
        (["run", "--log-format", "text"], True, False, False),
        (["list"], False, False, False),
        (["list", "--log-format", "json"], False, True, True),
    ],
)
def test_end_of_a_service_is_a_line_of_its_log(
    runs: Callable[..., None], argv: list[str], service: bool, terminal: bool, is_json: bool
) -> None:
    """Where the log is JSON, the error that ends it is too, a traceback included: one line each."""
    for error in (StartError("two\nlines"), KeyError("k")):
        runs(raising(error), service=service)
        called = call(*argv, terminal=terminal)
        if is_json:
            line = msgspec.json.decode(called.err)
            assert called.exit_code == line["exit_code"]
            assert isinstance(error, KeyError) == ("exception" in line)
        else:
            assert "trio-alerts: " in called.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_talk_to_programs(name: str) -> None:
    """`--json` stands in its help, with what it prints, and is taken before the command as well as behind it."""
    assert re.search(r"\n  --json +\S", call(name, "--help").out)
    for argv in (["--json", name, "--nonsense"], [name, "--nonsense", "--json"]):
        called = call(*argv)
        error = msgspec.json.decode(called.err)
        assert (2, 2, "settings") == (called.exit_code, error["exit_code"], error["kind"])
        assert error["message"].endswith(f"; see `trio-alerts {name} --help`")


@pytest.mark.parametrize(
    ("error", "exit_code", "kind"),
    [
        (StartError("no\nstore"), 4, "backend"),
        (Unavailable("away"), 1, "unavailable"),
        (KeyError("x"), 1, "bug"),
        (ExceptionGroup("two", [StartError("a"), SettingsError("b")]), 4, "backend"),
    ],
)
def test_with_json_an_error_is_one_object(
    error: Exception, exit_code: int, kind: str, runs: Callable[..., None]
) -> None:
    """On one line of stderr, whatever ended the command: its exit code, the message, and a kind that stays the same."""
    runs(raising(error))

    called = call("list", "--json")
    (line,) = called.err.splitlines()
    document = msgspec.json.decode(line)
    assert (exit_code, "") == (called.exit_code, called.out)
    assert (exit_code, kind) == (document["exit_code"], document["kind"])
    assert document["message"]
    assert ("exception" in document) == (kind == "bug")
