"""The program as a user runs it: real processes with settings in their environment."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.servers import RedisServer

PATIENCE_S = 60.0  # longer than anything that is waited for takes on a busy machine
GROUP = "alert-processor"


@dataclass
class Site:
    """Where a test's processes work: one stream on one server, one store, and what they are told beyond that."""

    redis: RedisServer
    store_url: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    stream: str = field(default_factory=lambda: f"AlertStream-{secrets.token_hex(4)}")
    index: str = field(default_factory=lambda: f"alerts-{secrets.token_hex(4)}")
    logs: list[Path] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process of this site."""
        mine = {"redis_url": self.redis.url, "store_url": self.store_url, "stream": self.stream, "index": self.index}
        bare = {name: value for name, value in os.environ.items() if not name.startswith("TRIO_ALERTS_")}
        return bare | {f"TRIO_ALERTS_{name.upper()}": value for name, value in (mine | self.settings).items()}

    @contextmanager
    def running(self, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the worker until the block ends; its log goes to a file of its own."""
        log = self.folder / f"run-{len(self.logs)}.log"
        self.logs.append(log)
        more = {f"TRIO_ALERTS_{name.upper()}": value for name, value in environ.items()}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "trio_alerts", "run"], env=self.environ | more, stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def call(self, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run another command to its end."""
        command = [sys.executable, "-m", "trio_alerts", *argv]
        return subprocess.run(command, env=self.environ, input=stdin, capture_output=True, check=False, timeout=60)

    def records(self) -> dict[str, dict[str, Any]]:
        """Return every record by ID, as `list --json` prints them."""
        done = self.call("list", "--json", "--limit", "100000")
        assert done.returncode == 0, done.stderr.decode()
        return {record["record_id"]: record for record in map(json.loads, done.stdout.splitlines())}

    def pending(self) -> int:
        """Return how many entries are pending in the group."""
        with self.redis.client() as client:
            return int(client.xpending(self.stream, GROUP)["pending"])

    def entries(self) -> list[str]:
        """Return the IDs of all entries of the stream."""
        with self.redis.client() as client:
            return [entry_id.decode() for entry_id, _ in client.xrange(self.stream)]

    def add(self, fields: Mapping[bytes, bytes]) -> str:
        """XADD an entry as it is."""
        with self.redis.client() as client:
            entry_id: bytes = client.xadd(self.stream, dict(fields))
            return entry_id.decode()

    def dead(self) -> list[dict[bytes, bytes]]:
        """Return what lies in the dead-letter stream."""
        with self.redis.client() as client:
            return [fields for _, fields in client.xrange("{" + self.stream + "}:dead")]

    def log(self) -> str:
        """Return what all workers have logged so far."""
        return "\n".join(path.read_text() for path in self.logs)


def wait_until(condition: Callable[[], bool], what: str, site: Site | None = None) -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: It did not in time; the message has the workers' logs.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}\n{site.log() if site else ''}"
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Stop a worker softly and return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_S)
