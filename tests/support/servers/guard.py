"""A small process beside each server that ends it, and removes its folder, when the test process is gone.

A test process that is killed cannot clean up. The guard reads a pipe that only its parent holds: when the pipe ends,
for whatever reason, the guard kills the process group that it was last told of and removes the folder. The ordinary
stop takes the same way, so that way is tried in every run.
(A parent-death signal would be shorter, but it fires when the starting *thread* ends, and Linux alone has it.)
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GONE_WITHIN_S = 10.0  # a killed process with 1 GiB of memory is gone within 0.2 s


class Guard:
    """The parent's end of the pipe.

    Args:
        folder: Removed at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal reaches the tests, not the guard
        )

    def watch(self, group: int | None) -> None:
        """Name the process group to kill at the end; None: there is none now."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{group or 0}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Kill and remove what is left, and wait until that is done."""
        self._process.communicate()


def main(folder: str) -> None:
    """Wait for the end of the pipe, then clean up."""
    group = 0
    for line in sys.stdin:
        group = int(line)
    if group:
        kill_group(group)
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(group: int) -> None:
    """Kill a process group and wait until no process of it can write to its folder any more."""
    deadline = time.monotonic() + GONE_WITHIN_S
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1])
