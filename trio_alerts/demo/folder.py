"""The folder in which the demo's servers, workers and records live, and what is said about it when it is kept."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATABASE = "records.db"
MEMORY = Path("/dev/shm")  # noqa: S108, mkdtemp makes a folder below it that is ours alone
LEAST_BYTES = 128 * 1024 * 1024  # SQLite's log grows to 32 MiB before it is copied back; the rest is room to breathe
BYTES_AN_ALERT = 16 * 1024  # its entry, its record, and the append-only file


@contextmanager
def demo_folder(alerts: int, *, keep: bool) -> Iterator[Path]:
    """Make the folder, and remove it at the end whatever happens; `keep`: say how to look around instead."""
    folder = Path(tempfile.mkdtemp(prefix="trio-alerts-demo-", dir=None if keep else place(alerts)))
    try:
        yield folder
    finally:
        if keep:
            sys.stdout.write(how_to_look(folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)


def place(alerts: int) -> Path | None:
    """Return where to make a folder that is not kept: in memory, or None for the system's temporary folder.

    The demo kills processes, not the machine: files in memory survive that just as well. Every write still waits for
    its fsync, but the rate on the screen is then the program's and not the disk's, which other programs use as well.
    """
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        return None  # somebody has said where
    try:
        roomy = shutil.disk_usage(MEMORY).free > LEAST_BYTES + alerts * BYTES_AN_ALERT
    except OSError:
        return None
    return MEMORY if roomy and os.access(MEMORY, os.W_OK | os.X_OK) else None


def how_to_look(folder: Path) -> str:
    """Say where everything is, and how to look at it."""
    store = f"--store-url sqlite:///{folder}/{DATABASE}"
    return f"""
Kept in {folder}: settings, logs, records, and Valkey's append-only file.
To look around:
  python -m trio_alerts list {store}
  python -m trio_alerts list --state failed {store}
  python -m trio_alerts show ID {store}
  rm -r {folder}
"""
