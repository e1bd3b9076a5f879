"""Several worker processes on one machine: started, watched, restarted, stopped together.

Each child is an ordinary consumer of the group; the parent touches neither stream nor store. Only the parent heeds
signals, and tells its children what they mean through their standard input: a `.` asks to stop softly, a second one to
stop now, and its end, which is the parent's own end however that came, to stop softly; an `r` asks to take up the
settings that the parent shares by now. A child ignores the signals themselves: systemd and terminals send them to each
process of a group, so that it cannot know how often it was meant.
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
from trio_alerts.shared_settings import SETTINGS, Shared, SharedSettings
from trio_alerts.stop_signals import CHILD, EARLY, STOP_SIGNALS, asks_to_reload, stop_signals

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0  # a process that cannot live costs a start every half minute, and a log line
LIVED_S = 60.0  # one that lived so long did not die of being started
FATAL_CODES = range(2, 6)  # settings, schema, backends, ledger: another start would end in the same way
SLACK_S = 4.0  # a child that need not wait for the store takes at most this long beyond its grace time
AT_ONCE_S = 4.0  # the longest that a child takes for a stop at once
STOP, RELOAD = b".", b"r"  # words of a parent


class Family:
    """So many processes, until a signal.

    The first signal stops every child softly, the second now. What does not end in time is killed.

    Args:
        command: What each child runs.
        processes: How many.
        grace_s: What each child grants its running sends after a soft stop.
        writes_s: What it may need beyond that to store outcomes.
        cells: Where the child of each number counts, from 1.
        settings: What the children have in common.
        reload: Called when a signal asks for it.
        on_stop: Called when the family begins to stop.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        grace_s: float,
        writes_s: float,
        cells: Mapping[int, SharedCells],
        settings: SharedSettings,
        reload: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        self._command = command
        self._processes = processes
        self._grace_s = grace_s
        self._writes_s = writes_s
        self._cells = cells
        self._settings = settings
        self._reload = reload
        self._on_stop = on_stop
        self._exit_code = 0
        self._children: dict[int, trio.Process] = {}
        self._late: set[int] = set()
        self._reconfigured = 0  # how often
        self._stopping = trio.Event()
        self._at_once = trio.Event()
        self._random = Random()  # noqa: S311 - spreads restarts

    async def supervise(self) -> int:
        """Keep all of them running until a signal; return the exit code of the whole."""
        async with trio.open_nursery() as watching:
            await watching.start(self._heed_signals)
            watching.start_soon(self._kill_late_children)
            async with trio.open_nursery() as children:
                for number in range(1, self._processes + 1):
                    children.start_soon(self._keep_alive, number)
            watching.cancel_scope.cancel()
        return self._exit_code

    def reconfigure(self, shared: Shared) -> None:
        """Give other settings to all children: those that run take them up, those that come begin with them."""
        self._settings.put(shared)
        self._reconfigured += 1
        for child in self._children.values():
            _tell(child, RELOAD)

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*stop_signals()) as signals:
            if EARLY.hand_over():
                self._reload()
            task_status.started()
            async for number in signals:
                if asks_to_reload(number):
                    if not self._stopping.is_set():
                        self._reload()
                elif not self._stopping.is_set():
                    self._stop()
                elif not self._at_once.is_set():
                    self._at_once.set()
                    self._tell_all()

    async def _kill_late_children(self) -> None:
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

    async def _keep_alive(self, number: int) -> None:
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
            self._exit_code = self._exit_code or max(code, 0) or int(code < 0)
        if self._at_once.is_set():
            self._exit_code = self._exit_code or 1
        if not self._stopping.is_set():
            self._stop()

    async def _run_child(self, number: int) -> int:
        cells, settings, reconfigured = self._cells[number], self._settings.descriptor, self._reconfigured
        inherited = {CHILD: str(number), CELLS: str(cells.descriptor), SETTINGS: str(settings)}
        cells.starting()
        child = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # what a terminal sends to its group does not come here
            env=os.environ | inherited,
            pass_fds=(cells.descriptor, settings),
        )
        self._children[number] = child
        try:
            # It came while the child was being started.
            if self._reconfigured != reconfigured:
                _tell(child, RELOAD)
            for event in (self._stopping, self._at_once):
                if event.is_set():
                    _tell(child)
            return await child.wait()
        finally:
            del self._children[number]
            if child.returncode is None:
                child.kill()
            cells.ended()

    def _stop(self) -> None:
        self._stopping.set()
        self._on_stop()
        self._tell_all()

    def _tell_all(self) -> None:
        for child in self._children.values():
            _tell(child)


def _tell(child: trio.Process, word: bytes = STOP) -> None:
    """Say a word to a child. One that somebody has stopped (SIGSTOP) goes on to hear that it has to stop."""
    if isinstance(child.stdin, trio.lowlevel.FdStream):
        with contextlib.suppress(OSError):  # it has ended
            os.write(child.stdin.fileno(), word)
    if word == STOP:
        child.send_signal(signal.SIGCONT)


async def watch_parent(
    stop: Callable[[], None],
    reload: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stop this child softly when its parent says so or has ended, however it ended, and now at the second word.

    Reload when it says that.

    Raises:
        Interrupted: At the second word.
    """
    async with trio.lowlevel.FdStream(os.dup(0)) as parent:
        task_status.started()
        words = 0
        while data := await parent.receive_some():
            if RELOAD in data:
                reload()
            words += data.count(STOP)
            if words > 1:
                raise Interrupted("stopped at once: its parent got a second signal")
            if words:
                stop()
        if not words:
            stop()


def _words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
