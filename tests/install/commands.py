"""Commands that a check runs, and what it says when one of them fails."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND_S = 900  # the slowest is a run of the unit tests: 40 s here
LINES = 25  # of the output, when it failed


class FailedError(Exception):
    """A command did not do what it should; the message ends with the last lines of its output."""


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command in the repository's root; return what it printed.

    Args:
        command: The program and its arguments.
        env: Added to this process's environment.

    Raises:
        FailedError: It ended with another code than 0, or did not end in time.
    """
    code, output = attempt(*command, env=env)
    if code:
        last = "\n".join(output.splitlines()[-LINES:])
        raise FailedError(f"{' '.join(map(str, command))}\nended with {code}:\n{last}")
    return output


def attempt(*command: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in the repository's root; return its exit code and what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"it did not end within {BOUND_S} s"
    return done.returncode, done.stdout
