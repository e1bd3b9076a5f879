"""A crew of worker processes: whoever ends is replaced by a fresh process, as a supervisor would."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.program import LOOK_S, children, command_line

ENDS_WITHIN_S = 60.0


@dataclass(eq=False)
class Worker:
    """One process, its log, and the signals that it was sent."""

    process: subprocess.Popen[bytes]
    log: Path
    signals: list[signal.Signals] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether it has begun to read the stream."""
        return "reading " in self.said()

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def signal_group(self, number: signal.Signals) -> None:
        """Send it to each of its child processes and to itself, as systemd does."""
        for pid in children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self.signal(number)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.signals.append(number)
        self.process.send_signal(number)


class Crew:
    """As many living workers as `size`, until it is stopped.

    Args:
        size: How many at a time.
        environ: Of every process.
        folder: For the logs.
        faults: What `TRIO_ALERTS_FAULT` says to the first process, the second, …; later ones have no fault.
        module: What is run, with the argument `run`.

    Attributes:
        ends: The exit codes of those that ended before `stop`, in order; below 0: the signal that killed them.
    """

    def __init__(
        self,
        size: int,
        environ: Mapping[str, str],
        folder: Path,
        *,
        faults: Sequence[str] = (),
        module: str = "trio_alerts",
    ) -> None:
        self.ends: list[int] = []
        self.started: list[Worker] = []
        self._size = size
        self._environ = environ
        self._folder = folder
        self._faults = faults
        self._module = module
        self._living: list[Worker] = []
        self._changes = threading.RLock()
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True, name="crew")

    def start(self) -> None:
        """Start all of them; return when they read."""
        for _ in range(self._size):
            self._hire()
        self._watching.start()

    @property
    def living(self) -> list[Worker]:
        """The workers that are alive, the oldest first."""
        with self._changes:
            return list(self._living)

    @property
    def ready(self) -> bool:
        """Whether all of them are there and read."""
        living = self.living
        return len(living) == self._size and all(worker.ready for worker in living)

    def stop(self) -> list[int]:
        """Stop all of them softly; return their exit codes."""
        self._stopping.set()
        self._watching.join()
        for worker in self._living:
            worker.signal(signal.SIGTERM)
        codes = [_wait(worker.process) for worker in self._living]
        self._living.clear()
        return codes

    def kill(self) -> None:
        """End whatever is left at once."""
        self._stopping.set()
        if self._watching.is_alive():
            self._watching.join()
        for worker in self._living:
            worker.process.kill()
            worker.process.wait()
        self._living.clear()

    def log(self) -> str:
        """Return what all workers have said."""
        return "\n".join(f"--- worker {number}\n{worker.said()}" for number, worker in enumerate(self.started, 1))

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            with self._changes:
                for worker in [one for one in self._living if one.process.poll() is not None]:
                    self._living.remove(worker)
                    self.ends.append(worker.process.returncode)
                    self._hire()

    def _hire(self) -> None:
        number = len(self.started)
        environ = dict(self._environ)
        if number < len(self._faults) and self._faults[number]:
            environ["TRIO_ALERTS_FAULT"] = self._faults[number]
        log = self._folder / f"worker-{number + 1}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command_line("run", module=self._module),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
            )
        worker = Worker(process, log)
        with self._changes:
            self.started.append(worker)
            self._living.append(worker)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
