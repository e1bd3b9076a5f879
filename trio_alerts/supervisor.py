"""Several worker processes on one machine: started, watched, restarted, stopped together.

Each child is an ordinary consumer of the group; the parent touches neither stream nor store. A child that loses its
parent stops softly: its standard input is a pipe that only the parent holds open.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from random import Random

import trio
from loguru import logger

from trio_alerts.service import STOP_SIGNALS

CHILD = "_TRIO_ALERTS_CHILD"  # not TRIO_ALERTS_…: that would be a setting
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0  # a process that cannot live costs a start every half minute, and a log line
LIVED_S = 60.0  # one that lived so long did not die of being started
FATAL_CODES = range(2, 6)  # settings, schema, backends, ledger: another start would end in the same way


async def supervise(command: Sequence[str], processes: int) -> int:
    """Keep so many processes running until a signal; return the exit code of the whole.

    The first of `STOP_SIGNALS` is passed on, and every child's grace time waited for; so is the second.

    Args:
        command: What each child runs.
        processes: How many.
    """
    family = _Family(command)
    async with trio.open_nursery() as watching:
        await watching.start(family.pass_signals_on)
        async with trio.open_nursery() as children:
            for number in range(1, processes + 1):
                children.start_soon(family.keep_alive, number)
        watching.cancel_scope.cancel()
    return family.exit_code


class _Family:
    def __init__(self, command: Sequence[str]) -> None:
        self.exit_code = 0
        self._command = command
        self._children: dict[int, trio.Process] = {}
        self._stopping = trio.Event()
        self._random = Random()  # noqa: S311 - spreads restarts

    async def pass_signals_on(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
            task_status.started()
            async for _ in signals:
                self._stop()

    async def keep_alive(self, number: int) -> None:
        """Start a child, and another whenever it dies, until the family stops."""
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            started_s = trio.current_time()
            code = await self._run_child(number)
            if self._stopping.is_set() or code in FATAL_CODES:
                self.exit_code = self.exit_code or max(code, 0) or int(code < 0)
                if not self._stopping.is_set():  # else the others would take it for a second signal
                    self._stop()
                return
            if trio.current_time() - started_s >= LIVED_S:
                wait_s = FIRST_WAIT_S
            logger.error("worker process {} ended with {}; starting another in {:g} s", number, _words(code), wait_s)
            with trio.move_on_after(wait_s * self._random.uniform(0.8, 1.2)):
                await self._stopping.wait()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _run_child(self, number: int) -> int:
        child = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the parent alone, which passes it on once
            env={**os.environ, CHILD: str(number)},
        )
        self._children[number] = child
        try:
            if self._stopping.is_set():  # the signal came while it was being started
                child.send_signal(signal.SIGTERM)
            return await child.wait()
        finally:
            del self._children[number]
            if child.returncode is None:
                child.kill()

    def _stop(self) -> None:
        self._stopping.set()
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)


def child_number() -> int | None:
    """Tell which child of `supervise` this process is, from 1; None if it is none."""
    number = os.environ.get(CHILD)
    return None if number is None else int(number)


async def parent_is_gone() -> None:
    """Return when the parent of this child has ended, however it ended."""
    async with trio.lowlevel.FdStream(os.dup(0)) as parent:
        while await parent.receive_some():
            pass


def _words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
