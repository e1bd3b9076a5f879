"""`completion`: what completes commands, options and their values in a shell."""

import argparse
import sys

from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json
from trio_alerts.settings.settings import Settings


def _execute(arguments: argparse.Namespace, _: Settings) -> int:
    # Imported here: they need the parser of every command, and that of this one needs this file.
    from trio_alerts.commands.shells import SHELLS, completed_commands  # noqa: PLC0415

    script = SHELLS[arguments.shell](completed_commands())
    if arguments.json:
        print_json({"shell": arguments.shell, "script": script})
    else:
        sys.stdout.write(script)
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="your shell")


COMMAND = Command(
    execute=_execute,
    about="""\
Prints a script for your shell, made from the commands as they are: print it again after an upgrade.

  bash  trio-alerts completion bash > ~/.local/share/bash-completion/completions/trio-alerts
  zsh   trio-alerts completion zsh > "${fpath[1]}/_trio-alerts"
  fish  trio-alerts completion fish > ~/.config/fish/completions/trio-alerts.fish""",
    examples=("completion bash",),
    json="one object, with the script",
    operands=("bash|zsh|fish",),
    add_options=_add_options,
    settings=(),
)
