"""Alerts that a command is given: in a file or on standard input, and what is wrong with some of them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from trio_alerts.errors import SettingsError
from trio_alerts.operations.alert_file import Problem

SHOWN_PROBLEMS = 20  # enough to see the pattern; the rest is counted
HELP = "a JSON array, one JSON object, or JSON lines; -: standard input"


def read_input(file: str) -> bytes:
    """Return what a file holds, or standard input if it is `-`.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None


def describe(problems: Sequence[Problem], file: str, of: int) -> str:
    """List the first problems, one a line, and count the rest; `of` is how many alerts there are in all."""
    source = "standard input" if file == "-" else file
    verb = "is" if len(problems) == 1 else "are"
    lines = [f"{source}: {len(problems):,} of {of:,} alerts {verb} not valid:"]
    lines += [f"  {problem.place}: {problem.reason}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  … and {len(problems) - SHOWN_PROBLEMS:,} more")
    return "\n".join(lines)
