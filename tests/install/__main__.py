"""Install the project as its users do: each pip, each Python, the newest and the lowest versions, wheel and sdist.

`python -m tests.install` (or `make install`) needs the package index once, for what the lock files pin.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.install.checks import Check, checks, fetch_wheels, run_check
from tests.install.pythons import OLDEST
from tests.install.wheels import NoIndexError

AT_ONCE = 2  # most of them use one core


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__)
    parser.add_argument("--only", action="append", metavar="TEXT", help="run the checks whose name contains this")
    options = parser.parse_args()
    if sys.version_info[:2] != OLDEST:
        parser.error("the oldest pips run on Python 3.11 alone: make clean, then make install PYTHON=python3.11")
    with tempfile.TemporaryDirectory(prefix="trio-alerts-wheels-") as folder, ThreadPoolExecutor(AT_ONCE) as threads:
        try:
            wheels = fetch_wheels(Path(folder))
        except NoIndexError as error:
            print(f"tests.install: {error}", flush=True)
            return 1 if os.environ.get("CI") == "true" else 0
        wanted = [c for c in checks(wheels) if not options.only or any(text in c.name for text in options.only)]
        outcomes = [_report(check, *done) for check, done in zip(wanted, threads.map(run_check, wanted), strict=True)]
    print(f"{outcomes.count(True)} passed, {outcomes.count(False)} failed", flush=True)
    return 0 if all(outcomes) and outcomes else 1


def _report(check: Check, passed: bool, output: str) -> bool:
    """Print what became of a check; return whether that is good enough."""
    word = "passed" if passed else "FAILED" if check.pinned else "WARNING"
    later = "" if passed or check.pinned else "this fails nothing yet, but will with the next `make lock`: "
    print(f"{word:7} {check.name}: {later}{output}", flush=True)
    return passed or not check.pinned


if __name__ == "__main__":
    sys.exit(main())
