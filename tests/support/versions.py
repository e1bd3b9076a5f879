"""Older versions of the program, out of the git history: what an upgrade meets on a machine."""

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.program import Site

TOLERANT = "f5668583fe342435a27bee4ccd1f0fa6a4b4872c"  # leaves to newer processes what a newer one wrote
BEFORE = "81c2402c9ec6c218e825a19c0669e8e4bae2a54a"  # the one before it: records of schema and mapping 1
ROOT = Path(__file__).parents[2]

# The same program: its guard looks every half second instead of every minute, so that no test waits for it.
WATCHFUL = """
import sys
from trio_alerts.__main__ import main
from trio_alerts.pipeline import guard
guard.GUARD_EVERY_S = 0.5
sys.exit(main())
"""


def older(site: Site, commit: str) -> Site:
    """Return the same site, run by the program as it was at a commit; without its history the test is skipped."""
    tree = site.folder / commit[:7]
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "trio_alerts"], capture_output=True, check=False
    )
    if packed.returncode:
        pytest.skip(f"the git history of this checkout does not have {commit[:7]}: clone it whole (no --depth)")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(tree, filter="data")
    (tree / "watchful.py").write_text(WATCHFUL)
    logs = site.folder / f"{commit[:7]}-logs"
    logs.mkdir()
    return replace(site, folder=logs, logs=[], tree=tree, module="watchful")
