"""The worker processes: `python -m trio_alerts run`, as anybody would start them, each with a log file of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from trio_alerts.errors import AlertError
from trio_alerts.settings.settings import ENV_PREFIX

PROCESSES = 2
TASKS = 8  # workers in each process
STOPS_WITHIN_S = 5.0  # after SIGTERM with nothing in flight it takes 0.1 s
GONE_WITHIN_S = 5.0  # after SIGKILL: whatever the kernel still has to write
LOG_LINES = 8

# Short, so that all of it can be seen in a few seconds; in production these are ten times as long. An entry of the
# killed process is taken over within claim_idle_s and two looks.
PACE = """
block_s = 0.5
keepalive_s = 1.0
claim_idle_s = 3.0
claim_every_s = 0.25
connect_timeout_s = 1.0
send_timeout_s = 2.0
lease_s = 4.0
retry_schedule_s = [1.0, 2.0, 4.0]
redrive_every_s = 0.5
grace_s = 3.0
start_from = "0"
log_format = "text"
"""


class WorkerDied(AlertError):
    """A worker process ended without being asked to: its log says why."""


@dataclass
class Worker:
    """One worker process. `status` says in words what became of it; `may_end` that its end is no surprise."""

    name: str
    process: trio.Process
    log: Path
    status: str = "running"
    may_end: bool = False


# Every alert goes to the first three; the severe ones to people as well, and one team's receiver does not answer.
ROUTES = """
[[routes]]
name = "everything"
channels = ["quick", "slow", "flaky"]
continue = true

[[routes]]
name = "wake somebody"
matchers = ["severity = critical"]
channels = ["pager"]
continue = true

[[routes]]
name = "tell the room"
matchers = ["severity >= high"]
channels = ["chat"]
continue = true

[[routes]]
name = "governance"
matchers = ["view = governance"]
channels = ["broken"]
fallback = ["mail"]
fallback_after_s = 3.0
"""


def write_settings(
    folder: Path, redis_url: str, store_url: str, channels: Mapping[str, Mapping[str, object]], routes: str = ROUTES
) -> Path:
    """Write the TOML file that all workers run with: backends, channels by their names, and routes."""
    lines = [f"redis_url = {_toml(redis_url)}", f"store_url = {_toml(store_url)}", f"workers = {TASKS}", PACE]
    for name, settings in channels.items():
        lines += [
            "[[channels]]",
            f"name = {_toml(name)}",
            *(f"{key} = {_toml(one)}" for key, one in settings.items()),
            "",
        ]
    path = folder / "settings.toml"
    path.touch(mode=0o600)
    path.write_text("\n".join([*lines, routes]))
    return path


def _toml(value: object) -> str:
    """Return a text, number, truth or list as TOML: it looks as in JSON."""
    return msgspec.json.encode(value).decode()


@asynccontextmanager
async def open_crew(settings: Path) -> AsyncIterator["Crew"]:
    """Lead worker processes for as long as the block runs; none of them outlives it.

    Raises:
        ExceptionGroup: Of `WorkerDied`, in the middle of the block: a process ended without being asked.
    """
    async with trio.open_nursery() as watching:
        crew = Crew(settings, watching)
        try:
            yield crew
        finally:
            with trio.move_on_after(GONE_WITHIN_S, shield=True):
                await crew.end()


class Crew:
    """The worker processes so far, dead ones included; made by `open_crew`."""

    def __init__(self, settings: Path, watching: trio.Nursery) -> None:
        self.workers: list[Worker] = []
        self._settings = settings
        self._watching = watching

    async def start(self) -> Worker:
        """Start one more. It needs about a second before it reads."""
        name = f"worker-{len(self.workers) + 1}"
        log = self._settings.parent / f"{name}.log"
        command = [sys.executable, "-m", "trio_alerts", "run", "--config", str(self._settings), "--consumer", name]
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
                start_new_session=True,  # a Ctrl-C in the terminal reaches the demo alone
            )
        worker = Worker(name, process, log)
        self.workers.append(worker)
        self._watching.start_soon(_watch, worker)
        return worker

    async def kill(self, worker: Worker) -> None:
        """SIGKILL, and wait until it is gone."""
        worker.may_end = True
        worker.process.send_signal(signal.SIGKILL)
        await worker.process.wait()
        worker.status = "killed"

    async def stop(self) -> None:
        """Ask all that run to stop, and wait for them.

        Raises:
            WorkerDied: One did not stop in time, or not with exit code 0.
        """
        running = [worker for worker in self.workers if worker.process.returncode is None]
        for worker in running:
            worker.may_end = True
            worker.process.terminate()
        with trio.move_on_after(STOPS_WITHIN_S):
            for worker in running:
                await worker.process.wait()
        for worker in running:
            # One that is still starting has no handler for the signal yet, and has read nothing: the signal ends it.
            if worker.process.returncode not in (0, -signal.SIGTERM):
                raise WorkerDied(_report(worker, "did not stop cleanly after SIGTERM"))
            worker.status = "stopped"

    async def end(self) -> None:
        """Kill whoever is left."""
        left = [worker for worker in self.workers if worker.process.returncode is None]
        for worker in left:
            worker.may_end = True
            worker.process.kill()
        for worker in left:
            await worker.process.wait()


async def _watch(worker: Worker) -> None:
    await worker.process.wait()
    if not worker.may_end:
        raise WorkerDied(_report(worker, "ended by itself"))


def _report(worker: Worker, what: str) -> str:
    code = worker.process.returncode
    ended = "still running" if code is None else f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    last_lines = worker.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n  ".join([f"{worker.name} {what} ({ended}); its log ends with:", *(last_lines or ["(it is empty)"])])
