"""Several worker processes on one machine: started, watched, restarted, stopped together.

Each child is an ordinary consumer of the group; the parent touches neither stream nor store. Only the parent heeds
signals, and tells its children what they mean through their standard input: a byte asks to stop softly, a second one to
stop now, and its end, which is the parent's own end however that came, to stop softly. A child ignores the signals
themselves: systemd and terminals send them to each process of a group, so that it cannot know how often it was meant.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from random import Random

import trio
from loguru import logger

from trio_alerts.errors import Interrupted, StartError
from trio_alerts.meter.cells import CELLS, SharedCells
from trio_alerts.stop_signals import CHILD, EARLY, STOP_SIGNALS, stop_signals

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0  # a process that cannot live costs a start every half minute, and a log line
LIVED_S = 60.0  # one that lived so long did not die of being started
FATAL_CODES = range(2, 6)  # settings, schema, backends, ledger: another start would end in the same way
SLACK_S = 4.0  # a child that need not wait for the store takes at most this long beyond its grace time
AT_ONCE_S = 4.0  # the longest that a child takes for a stop at once


async def supervise(
    command: Sequence[str],
    processes: int,
    grace_s: float,
    writes_s: float,
    cells: Mapping[int, SharedCells] | None = None,
) -> int:
    """Keep so many processes running until a signal; return the exit code of the whole.

    The first signal stops every child softly, the second now. What does not end in time is killed.

    Args:
        command: What each child runs.
        processes: How many.
        grace_s: What each child grants its running sends after a soft stop.
        writes_s: What it may need beyond that to store outcomes.
        cells: Where the child of each number counts, from 1, if somebody reads that.
    """
    family = _Family(command, grace_s, writes_s, cells or {})
    async with trio.open_nursery() as watching:
        await watching.start(family.heed_signals)
        watching.start_soon(family.kill_late_children)
        async with trio.open_nursery() as children:
            for number in range(1, processes + 1):
                children.start_soon(family.keep_alive, number)
        watching.cancel_scope.cancel()
    return family.exit_code


class _Family:
    def __init__(
        self, command: Sequence[str], grace_s: float, writes_s: float, cells: Mapping[int, SharedCells]
    ) -> None:
        self.exit_code = 0
        self._cells = cells
        self._command = command
        self._grace_s = grace_s
        self._writes_s = writes_s
        self._children: dict[int, trio.Process] = {}
        self._late: set[int] = set()
        self._stopping = trio.Event()
        self._at_once = trio.Event()
        self._random = Random()  # noqa: S311 - spreads restarts

    async def heed_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*stop_signals()) as signals:
            EARLY.hand_over()
            task_status.started()
            async for _ in signals:
                if not self._stopping.is_set():
                    self._stop()
                elif not self._at_once.is_set():
                    self._at_once.set()
                    self._tell_all()

    async def kill_late_children(self) -> None:
        """Kill what a stop does not end in time."""
        await self._stopping.wait()
        with trio.move_on_after(self._grace_s + SLACK_S + self._writes_s):
            with trio.move_on_after(self._grace_s + SLACK_S):
                await self._at_once.wait()
            for child in self._children.values():
                child.send_signal(signal.SIGCONT)  # stopped since it was told; its grace time is over
            await self._at_once.wait()
            await trio.sleep(AT_ONCE_S)
        for number, child in self._children.items():
            logger.warning(
                "worker process {process} did not end in time: killed; others take over what it had", process=number
            )
            self._late.add(number)
            child.kill()

    async def keep_alive(self, number: int) -> None:
        """Start a child, and another whenever it dies, until the family stops."""
        wait_s = FIRST_WAIT_S
        starts = 0
        while not self._stopping.is_set():
            started_s = trio.current_time()
            try:
                code = await self._run_child(number)
            except OSError as fault:  # no memory, too many processes: it may pass, and the others go on
                logger.error(
                    "worker process {process} cannot be started: {error}; trying again in {wait_s:g} s",
                    process=number,
                    error=fault,
                    wait_s=wait_s,
                )
            else:
                starts += 1
                if self._stopping.is_set() or self._is_fatal(code, starts):
                    self._ended(number, code)
                    return
                if trio.current_time() - started_s >= LIVED_S:
                    wait_s = FIRST_WAIT_S
                logger.error(
                    "worker process {process} ended with {_end}; starting another in {wait_s:g} s",
                    process=number,
                    _end=_words(code),
                    exit_code=code,
                    wait_s=wait_s,
                )
            with trio.move_on_after(wait_s * self._random.uniform(0.8, 1.2)):
                await self._stopping.wait()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _is_fatal(self, code: int, starts: int) -> bool:
        """Tell whether this end ends the family: a backend that is away at a restart is an outage, and waited for."""
        return code in FATAL_CODES and not (code == StartError.exit_code and starts > 1)

    def _ended(self, number: int, code: int) -> None:
        """Note how a child ended for good."""
        # It ignores these from its first line on: it was being started, and had nothing.
        unborn = -code in STOP_SIGNALS
        if not unborn and number not in self._late:
            self.exit_code = self.exit_code or max(code, 0) or int(code < 0)
        if self._at_once.is_set():
            self.exit_code = self.exit_code or 1
        if not self._stopping.is_set():
            self._stop()

    async def _run_child(self, number: int) -> int:
        cells, environ = self._cells.get(number), {**os.environ, CHILD: str(number)}
        if cells is not None:
            environ[CELLS] = str(cells.descriptor)
            cells.starting()
        child = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # what a terminal sends to its group does not come here
            env=environ,
            pass_fds=() if cells is None else (cells.descriptor,),
        )
        self._children[number] = child
        try:
            for event in (self._stopping, self._at_once):  # it came while the child was being started
                if event.is_set():
                    _tell(child)
            return await child.wait()
        finally:
            del self._children[number]
            if child.returncode is None:
                child.kill()
            if cells is not None:
                cells.ended()

    def _stop(self) -> None:
        self._stopping.set()
        self._tell_all()

    def _tell_all(self) -> None:
        for child in self._children.values():
            _tell(child)


def _tell(child: trio.Process) -> None:
    """Ask a child to stop: softly, the second time now. One that somebody has stopped (SIGSTOP) goes on to hear it."""
    if isinstance(child.stdin, trio.lowlevel.FdStream):
        with contextlib.suppress(OSError):  # it has ended
            os.write(child.stdin.fileno(), b".")
    child.send_signal(signal.SIGCONT)


async def watch_parent(
    stop: Callable[[], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Stop this child softly when its parent says so or has ended, however it ended, and now at the second word.

    Raises:
        Interrupted: At the second word.
    """
    async with trio.lowlevel.FdStream(os.dup(0)) as parent:
        task_status.started()
        words = 0
        while data := await parent.receive_some():
            words += len(data)
            if words > 1:
                raise Interrupted("stopped at once: its parent got a second signal")
            stop()
        if not words:
            stop()


def _words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
