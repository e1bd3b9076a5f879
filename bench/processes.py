"""The processes of a run: the receiver, and the workers of the program under measurement."""

import base64
import functools
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from bench.delays import Delay
from bench.receiver import SICK, ReceiverReport
from bench.worker import WorkerReport
from tests.support.go import go
from tests.support.program import command_line, environ_of
from tests.support.servers import UnavailableError

Program = Literal["trio_alerts", "asyncio", "go"]

MODULES = {"trio_alerts": "bench.worker", "asyncio": "bench.baseline_asyncio"}
ROOT = Path(__file__).parents[1]
STOPS_WITHIN_S = 60.0
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class ReceiverProcess(ExitStack):
    """`bench.receiver`, from `with` to the end of the block.

    Args:
        delay: How long its answers take.
        hanging: Share of the alerts whose first request hangs.
    """

    def __init__(self, delay: Delay, hanging: float) -> None:
        command = command_line("--delay", str(delay), "--hanging", str(hanging), module="bench.receiver")
        super().__init__()
        pipe = subprocess.PIPE
        self._process = self.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe))
        self.callback(self._process.kill)
        assert self._process.stdout is not None
        self._origin = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.url = f"{self._origin}/alerts"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def urls(self, channels: int) -> list[str]:
        """Return where each of several channels sends to; the last one can be made to hang."""
        return [self.url] * (channels - 1) + [self._origin + SICK]

    def hang(self) -> None:
        """Let the last channel hang."""
        self._ask("hang")

    def heal(self) -> None:
        """Let the last channel answer again; what it was sent in the meantime is never answered."""
        self._ask("heal")

    def count(self) -> int:
        """Return how many alerts it has accepted."""
        return msgspec.json.decode(self._ask("count"), type=int)

    def has(self, ids: Collection[str]) -> bool:
        """Tell whether it has accepted all of these."""
        return self.count() >= len(ids) and set(ids) <= set(self.report().ids)

    def report(self) -> ReceiverReport:
        """Return all that it saw since the start or the last `clear`."""
        return msgspec.json.decode(self._ask("report"), type=ReceiverReport)

    def clear(self) -> None:
        """Make it forget what it saw."""
        self._ask("clear")

    def _ask(self, what: str) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline()


@functools.cache
def built() -> str:
    """Build the measure that is written in Go, and return where it lies; `go.sum` has the hash of each module.

    Raises:
        UnavailableError: There is no Go, or it cannot be built.
    """
    program, source = ROOT / ".cache" / "bench" / "baseline_go", ROOT / "bench" / "baseline_go"
    done = go("build", "-o", str(program), ".", cwd=source, why="the measure in Go needs 1.22 or newer")
    if done.returncode:
        raise UnavailableError(f"the measure in Go could not be built:\n{done.stderr.strip()}")
    return str(program)


class WorkersFailedError(Exception):
    """A worker process ended when it should not have, or did not end well; the message has the end of its log."""


class WorkerProcesses(ExitStack):
    """So many processes of one program, each a consumer of its own, from `with` to the end of the block.

    Args:
        program: Which.
        settings: The program's settings of each process, by name.
        remember: The store is in each process's own memory.
        code: The checkout whose code is run; to compare two states of the code.
    """

    def __init__(
        self, program: Program, settings: Sequence[Mapping[str, object]], *, remember: bool, code: Path
    ) -> None:
        super().__init__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="trio-alerts-bench-")))
        environs = [environ_of({name: str(value) for name, value in one.items()}) for one in settings]
        self._reports = [folder / f"report-{number}.json" for number in range(len(settings))]
        self._log = folder / "log"
        options = [*(["--remember"] if remember else []), "--report"]
        command = [built(), *options] if program == "go" else command_line(*options, module=MODULES[program])
        with self._log.open("wb") as log:
            self._processes = [
                self.enter_context(
                    subprocess.Popen([*command, str(report)], cwd=code, env=environ, stdout=log, stderr=log)
                )
                for report, environ in zip(self._reports, environs, strict=True)
            ]
        for process in self._processes:
            self.callback(process.kill)

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Look whether all of them live.

        Raises:
            WorkersFailedError: One does not.
        """
        for process in self._processes:
            if process.poll() is not None:
                raise WorkersFailedError(f"a worker process ended with {process.returncode}; its log:\n{self.log()}")

    def stop(self) -> list[WorkerReport]:
        """End them softly, and return what they tell.

        Raises:
            WorkersFailedError: One did not end with exit code 0.
        """
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            if process.wait(STOPS_WITHIN_S):
                raise WorkersFailedError(f"a worker process ended with {process.returncode}; its log:\n{self.log()}")
        return [msgspec.json.decode(report.read_bytes(), type=WorkerReport) for report in self._reports]

    def log(self) -> str:
        """Return the end of what they have logged."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def wait_a_moment() -> None:
    """Wait for as long as a look at a run should be apart from the next: 50 looks a second cost nothing."""
    time.sleep(0.02)
