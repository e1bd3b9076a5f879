"""What every server has in common: a free port, a folder, a start that is waited for, and an end that is certain."""

import abc
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.servers.guard import Guard
from tests.support.servers.places import OWNER, new_folder

READY_WITHIN_S = 180.0  # OpenSearch needs 6 s on two idle cores; a loaded machine gets thirty times that
ENDS_WITHIN_S = 60.0  # after SIGTERM: Redis writes its file, OpenSearch closes its shards, both well under 1 s
POLL_S = 0.02
PORT_ATTEMPTS = 5  # another process may take a port between our look and the server's bind

# Below the range that systems give to outgoing connections: there a client that keeps trying to reach a stopped server
# can be given that very port as its own, connects to itself, and the server cannot start on it again.
PORTS = range(10_000, 32_768)


class UnavailableError(Exception):
    """A server that cannot be had on this machine; the message says what to install."""


class ServerFailedError(Exception):
    """A server that is there but does not start or answer; the message carries the end of its log."""


class Server(abc.ABC):
    """One server process, from `with` to the end of the block.

    Subclasses write its configuration, name its command, and look whether it answers. After `kill`, the data are still
    there for `restart`, which also keeps the ports.
    """

    name: str
    owner: str | None = None  # the user it runs as; None: whoever runs the tests
    folder: Path

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Self:
        """Start on free ports, in a new folder; return once it answers."""
        self.prepare()
        try:
            for attempt in range(1, PORT_ATTEMPTS + 1):
                self.configure()
                try:
                    self.start()
                    break
                except ServerFailedError:
                    if attempt == PORT_ATTEMPTS or "ddress already in use" not in self.log_tail():
                        raise
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and remove the folder."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process, which also leads a process group of its own."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to all of it, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, and wait until it has ended by itself; SIGKILL if it does not."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again on the same ports and data; one that still runs is terminated first."""
        self.terminate()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Returns once it has stopped."""
        os.killpg(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        os.killpg(self.pid, signal.SIGCONT)

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of what the server has printed since its first start."""
        path = self.folder / "server.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    # -- the steps of a start, apart for those who start several servers that wait for each other --

    def prepare(self) -> None:
        """Make the folder, and the guard that will remove it."""
        self.folder = new_folder(self.owner)
        self._guard = Guard(self.folder)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the process; it does not answer yet."""
        owner = OWNER[self.owner]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.working_folder(),
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=owner.user,
                group=owner.group,
                extra_groups=owner.extra_groups,
            )
        assert self._guard is not None
        self._guard.watch(self._process.pid)

    def wait_until_ready(self) -> None:
        """Wait until the server answers as it should.

        Raises:
            ServerFailedError: It ended, or did not answer within READY_WITHIN_S.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            if not self.alive:
                raise ServerFailedError(f"{self.name} ended while starting; its log says:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                log = self.log_tail()
                raise ServerFailedError(f"{self.name} did not answer within {READY_WITHIN_S} s; its log says:\n{log}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the process at once and remove the folder; nothing of it is left after this."""
        try:
            self.kill()
        finally:
            if self._guard is not None:
                self._guard.close()
                self._guard = None

    # -- what a kind of server says about itself --

    @abc.abstractmethod
    def configure(self) -> None:
        """Choose free ports and write the configuration into the folder."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Return the command line."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Ask the server whether it works; False while it cannot be reached."""

    def working_folder(self) -> Path:
        """Return where the process starts."""
        return self.folder

    def environment(self) -> Mapping[str, str]:
        """Return the process's environment."""
        return os.environ

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self.pid, how)
            os.killpg(self.pid, signal.SIGCONT)  # a paused process takes SIGTERM only after this
            try:
                self._process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
        if self._guard is not None:
            self._guard.watch(None)  # the number may belong to another process soon


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    for _ in range(1_000):
        port = random.choice(PORTS)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailedError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop - 1}")
