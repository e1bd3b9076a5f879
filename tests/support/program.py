"""The program as a user runs it: real processes with settings in their environment."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis, ResponseError

from tests.support.calling import Called, call
from tests.support.fakes.world import EVENT, GROUP
from tests.support.servers import OpenSearch, RedisServer

PATIENCE_S = 60.0  # longer than anything that is waited for takes on a busy machine
LOOK_S = 0.02
PREFIX = "TRIO_ALERTS_"
QUICK = {"keepalive_s": "0.3", "claim_idle_s": "1", "claim_every_s": "0.2", "redrive_every_s": "0.2"}


@dataclass
class Program:
    """The program with settings of its own.

    Args:
        folder: For what its processes leave behind.
        settings: By name.
        tree: Where the code lies that they run; None: here.
        module: What they run of it.

    Attributes:
        logs: Of the processes that were started with `running`.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    tree: Path | None = field(default=None, kw_only=True)
    module: str = field(default="trio_alerts", kw_only=True)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process."""
        return environ_of(self.settings)

    def running(self, *options: str, **settings: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run the worker until the block ends; its log goes to a file of its own."""
        return self.serving("run", *options, **settings)

    @contextmanager
    def serving(self, *argv: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command that serves until the block ends; its log goes to a file of its own."""
        log = self.folder / f"run-{len(self.logs)}.log"
        self.logs.append(log)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command_line(*argv, module=self.module),
                env=self.environ | _prefixed(settings),
                cwd=self.tree,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def call(self, *argv: str, stdin: bytes = b"", **settings: str) -> Called:
        """Run another command to its end."""
        done = subprocess.run(
            command_line(*argv, module=self.module),
            env=self.environ | _prefixed(settings),
            cwd=self.tree,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        return Called(done.returncode, done.stdout.decode(), done.stderr.decode())

    def log(self) -> str:
        """Return what all workers have logged so far."""
        return "\n".join(path.read_text() for path in self.logs)


@dataclass
class Site(Program):
    """Where a test's processes work: one stream on one server, and one store.

    Args:
        redis: The server; the setting `redis_url` may say another way to it.
        opensearch: The server that has the store.
        store_url: The store; without any of the two, a database in the folder.
    """

    redis: RedisServer = field(kw_only=True)
    opensearch: OpenSearch | None = field(default=None, kw_only=True)
    store_url: str = field(default="", kw_only=True)
    stream: str = field(default_factory=lambda: f"AlertStream-{secrets.token_hex(4)}")
    index: str = field(default_factory=lambda: f"alerts-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        own = f"sqlite:///{self.folder}/alerts.db"
        self.store_url = self.store_url or (own if self.opensearch is None else self.opensearch.url)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process."""
        mine = {"redis_url": self.redis.url, "store_url": self.store_url, "stream": self.stream, "index": self.index}
        return environ_of(mine | self.settings)

    def ask(self, *argv: str, stdin: bytes = b"") -> Called:
        """Call a command in this process: a process of its own would take most of the time."""
        ours = {
            name.removeprefix(PREFIX).lower(): text for name, text in self.environ.items() if name.startswith(PREFIX)
        }
        return call(*argv, stdin=stdin, terminal=False, **ours)

    def client(self) -> Redis:
        """Return a blocking client of the server."""
        return self.redis.client(self.settings.get("redis_url"))

    def add(self, fields: Mapping[bytes, bytes]) -> str:
        """XADD an entry as it is."""
        with self.client() as client:
            entry_id: Any = client.xadd(self.stream, dict(fields))
            return str(entry_id.decode())

    def emit(self, **fields: Any) -> str:
        """Add an alert to the stream and return its ID."""
        return self.add({b"event": json.dumps(EVENT | fields).encode()})

    def entries(self) -> list[str]:
        """Return the IDs of all entries of the stream."""
        with self.client() as client:
            found: Any = client.xrange(self.stream)
            return [entry_id.decode() for entry_id, _ in found]

    def pending(self) -> int:
        """Return how many entries are pending in the group; -1 while there is no group."""
        with self.client() as client:
            try:
                pending: Any = client.xpending(self.stream, self.settings.get("group", GROUP))
            except ResponseError:
                return -1
        return int(pending["pending"])

    def dead(self) -> list[dict[bytes, bytes]]:
        """Return what lies in the dead-letter stream."""
        with self.client() as client:
            found: Any = client.xrange("{" + self.stream + "}:dead")
            return [fields for _, fields in found]

    def records(self) -> dict[str, dict[str, Any]]:
        """Return every record by ID, as `list --json` prints them."""
        listed = self.ask("list", "--json", "--limit", "100000")
        assert 0 == listed.exit_code, listed
        return {record["record_id"]: record for record in map(json.loads, listed.out.splitlines())}

    def until(self, *states: str) -> None:
        """Wait until searches find records in these states and no others, and nothing is pending."""
        wait_until(
            lambda: (
                self.pending() == 0
                and sorted(states) == sorted(record["delivery"]["state"] for record in self.records().values())
            ),
            f"the records are {states}",
            self,
        )


def environ_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that has these settings, and no others."""
    bare = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    return bare | _prefixed(settings)


def command_line(*argv: str, module: str = "trio_alerts") -> list[str]:
    """Return the command line of a command."""
    return [sys.executable, "-m", module, *argv]


def children(pid: int) -> list[int]:
    """Return the IDs of a process's children."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=False)
    return sorted(map(int, listed.stdout.split()))


def happens(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait for something to become true; False if it did not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def wait_until(condition: Callable[[], bool], what: str, program: Program | None = None) -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: It did not in time; the message has the workers' logs.
    """
    assert happens(condition, PATIENCE_S), f"not in time: {what}\n{program.log() if program else ''}"


def stop(process: subprocess.Popen[bytes]) -> int:
    """Stop a worker softly and return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_S)


def _prefixed(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{name.upper()}": text for name, text in settings.items()}
