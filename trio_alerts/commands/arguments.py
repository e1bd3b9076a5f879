"""The command line taken apart: which command, its options, and which settings were given."""

import argparse
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from trio_alerts import __version__
from trio_alerts.commands import COMMANDS, load_command
from trio_alerts.commands.command import Command
from trio_alerts.errors import SettingsError
from trio_alerts.log import LEVELS
from trio_alerts.settings.settings import ENV_PREFIX, Settings
from trio_alerts.settings.tables import Setting, describe
from trio_alerts.text import did_you_mean

PROGRAM = "trio-alerts"


@dataclass(frozen=True)
class Call:
    """One call of the program: `options` are the settings among its options, by name, as they were written."""

    command: Command
    arguments: argparse.Namespace
    options: dict[str, str]
    config: Path | None
    log_level: str


def parse_arguments(argv: Sequence[str]) -> Call:
    """Take the arguments apart.

    Raises:
        SettingsError: There is no such command or option, or a value is missing.
        SystemExit: `--help` or `--version` was asked for, and printed.
    """
    front = front_parser()
    given, unknown = front.parse_known_args(argv)
    front.refuse(unknown)
    if given.command is None:
        raise SettingsError(f"name a command: {', '.join(COMMANDS)}; `{PROGRAM} --help` explains them")
    if given.command not in COMMANDS:
        raise SettingsError(
            f"there is no command {given.command!r}{did_you_mean(given.command, COMMANDS)}; "
            f"the commands are {', '.join(COMMANDS)}"
        )
    command = load_command(given.command)
    parser = command_parser(given.command, command)
    # Options may stand before the command, too, and between its operands; where one is given twice, the later is meant.
    arguments, unknown = parser.parse_known_intermixed_args(given.rest, given)
    parser.refuse(unknown)
    arguments.json = hasattr(arguments, "json")
    names = (name for setting in describe(Settings).values() for name in setting.spellings)
    return Call(
        command=command,
        arguments=arguments,
        options={name: getattr(arguments, name) for name in names if hasattr(arguments, name)},
        config=getattr(arguments, "config", None),
        log_level=getattr(arguments, "log_level", "info"),
    )


class _Parser(argparse.ArgumentParser):
    def __init__(self, prog: str, **texts: str) -> None:
        super().__init__(
            prog=prog,
            add_help=False,
            allow_abbrev=False,  # what is short for one option today may be short for two tomorrow
            argument_default=argparse.SUPPRESS,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
            **texts,  # type: ignore[arg-type]
        )

    def refuse(self, unknown: Sequence[str]) -> None:
        """Raise an error if anything was not understood."""
        if not unknown:
            return
        option = next((one for one in unknown if one.startswith("-")), None)
        if option is None:
            self.error(f"{unknown[0]!r} is one argument too many")
        name = option.partition("=")[0]
        self.error(f"there is no option {name}{did_you_mean(name, self._option_string_actions)}")

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see `{self.prog} --help`")


def front_parser() -> _Parser:
    """Return the parser of what stands before a command."""
    width = max(map(len, COMMANDS))
    parser = _Parser(
        PROGRAM,
        usage=f"{PROGRAM} COMMAND [OPTIONS]",
        description="The last hop of alerting: a Redis stream in, one searchable record and one notification out.\n\n"
        "commands:\n" + "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()),
        epilog=f"`{PROGRAM} COMMAND --help` explains a command, its options and its settings.\n\n"
        "exit codes: 0 done; 1 a fault while running, or a second signal; 2 bad usage, settings or input;\n"
        "3 the index cannot be trusted; 4 a backend cannot be reached or refuses us; 5 the ledger does not balance,\n"
        "too many entries in a row were quarantined, or a figure is over its --fail-over; 130 interrupted at the\n"
        "terminal",
    )
    _add_general_options(parser, "what a command prints, for programs")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}", help="print the version")
    for setting in describe(Settings).values():
        _add_setting(parser, setting, shown=False)
    parser.add_argument("command", nargs="?", default=None, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def command_parser(name: str, command: Command) -> _Parser:
    """Return the parser of what follows a command; options that its help does not explain have `SUPPRESS` for help."""
    parser = _Parser(
        f"{PROGRAM} {name}",
        usage=" ".join((PROGRAM, name, *command.operands, "[OPTIONS]")),
        description=f"{COMMANDS[name][1]}\n\n{command.about}",
        epilog="examples:\n" + "\n".join(f"  {PROGRAM} {example}" for example in command.examples),
    )
    command.add_options(parser)
    _add_general_options(parser, command.json)
    text = (
        f"Each is also an environment variable ({ENV_PREFIX}REDIS_URL) and a key of the TOML file; an option "
        "overrides the environment, which overrides the file. Options are visible in the list of processes: pass "
        "secrets in another way, such as --redis-url-file."
    )
    if command.settings is not None:
        text += f" The other settings are accepted as well; `{PROGRAM} run --help` explains them."
    group = parser.add_argument_group("settings", textwrap.fill(text, 110))
    for setting in describe(Settings).values():
        _add_setting(group, setting, shown=_explained(setting, command))
    return parser


def _add_general_options(parser: _Parser, json: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"{json}; errors and the log as objects, too")
    parser.add_argument("-h", "--help", action="help", help="print this help")
    parser.add_argument("--config", metavar="FILE", type=Path, help="a TOML file with settings, channels and routes")
    parser.add_argument(
        "--log-level", choices=LEVELS, metavar="LEVEL", help=f"{', '.join(LEVELS)}: the lowest to log (default: info)"
    )


def _add_setting(parser: argparse._ActionsContainer, setting: Setting, *, shown: bool) -> None:
    for name in setting.spellings:
        if not shown:
            text = argparse.SUPPRESS
        elif name == setting.name:
            text = f"{setting.meaning} (default: {setting.default})".replace("`", "").replace("%", "%%")
        else:
            text = "the path of a file that holds it"
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=_metavar(setting, name), help=text)


def _explained(setting: Setting, command: Command) -> bool:
    return command.settings is None or not {setting.name, setting.section}.isdisjoint(command.settings)


def _metavar(setting: Setting, name: str) -> str:
    if name != setting.name:
        return "FILE"
    allowed = setting.kind.allowed
    if re.fullmatch(r'"[a-z0-9]+"( or "[a-z0-9]+")*', allowed):
        return allowed.replace('"', "").replace(" or ", "|")
    endings = {"_file": "FILE", "_url": "URL", "_secret": "SECRET", "_schedule_s": "SECONDS,…", "_s": "SECONDS"}
    beginnings = {"a whole number": "N", "a list": "NAME,…"}
    return next(
        (metavar for ending, metavar in endings.items() if name.endswith(ending)),
        next((metavar for beginning, metavar in beginnings.items() if allowed.startswith(beginning)), "NAME"),
    )
