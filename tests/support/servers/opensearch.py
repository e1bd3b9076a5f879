"""OpenSearch as it is published, one node or several, on free ports of 127.0.0.1."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from tests.support.servers.distribution import RELEASES, distribution
from tests.support.servers.java import javas
from tests.support.servers.places import UNPRIVILEGED, give, link_tree, reachable
from tests.support.servers.process import Server, UnavailableError, free_port

# Test servers live for seconds: the quick compiler and the simple collector halve the start and the CPU it takes.
# Benchmarks pass their own.
SHORT_LIVED = ("-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# What the distribution's own start script would pass. It starts four Java processes to find that out, which takes half
# as long as the start itself.
JAVA_OPTIONS = (
    "-Xshare:auto",
    "-Xss1m",
    "-XX:-OmitStackTraceInFastThrow",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
    "-Djna.nosys=true",
    "-Dio.netty.noUnsafe=true",
    "-Dio.netty.noKeySetOptimization=true",
    "-Dio.netty.recycler.maxCapacityPerThread=0",
    "-Dio.netty.allocator.numDirectArenas=0",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    "-Dopensearch.networkaddress.cache.ttl=60",
    "-Dopensearch.networkaddress.cache.negative.ttl=10",
    "-Dopensearch.distribution.type=zip",
    "-Dopensearch.bundled_jdk=false",
)
JAVA_OPTIONS_OF = {
    "2": (
        "-Djava.locale.providers=SPI,COMPAT",
        "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=org.opensearch.secure_sm.SecuredForkJoinWorkerThreadFactory",
    ),
    "3": ("-Djava.locale.providers=SPI,CLDR", "-javaagent:agent/opensearch-agent.jar"),
}

LOGGING = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class OpenSearch:
    """A server that answers at `url`, with a blocking way to prepare and look at it."""

    url: str
    client_options: Mapping[str, Any] = {"verify": False}  # loading the CAs for plain HTTP costs 20 ms a request

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send one request; return the status and the decoded JSON (None for an empty answer).

        Args:
            method: Such as "PUT".
            path: From the slash on.
            body: Sent as JSON; bytes are sent as they are, such as the lines of a `_bulk`.
        """
        content = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if content is not None else {}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60, **self.client_options) as client:
            response = client.request(method, path, content=content, headers=headers)
        return response.status_code, msgspec.json.decode(response.content) if response.content else None

    def version(self) -> str:
        """Return what the server says of itself, such as "3.4.0"."""
        return str(self.request("GET", "/")[1]["version"]["number"])

    def remove_indices(self, prefix: str) -> None:
        """Remove every index, open or closed, whose name starts with `prefix`; their aliases go with them."""
        status, found = self.request("GET", f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all")
        assert status == 200, found
        for row in found:
            self.request("DELETE", f"/{row['index']}")


class RunningOpenSearch(OpenSearch):
    """A server that somebody else runs: used, never stopped."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.client_options = {"verify": self.url.startswith("https")}


class OpenSearchServer(Server, OpenSearch):
    """One node.

    Args:
        version: "3.4.0" or "2.19.1".
        java_options: Heap, compiler, collector.
        settings: More settings for `opensearch.yml`, or others than the ones below.

    Raises:
        UnavailableError: No suitable JDK, or it cannot be fetched.
    """

    owner = UNPRIVILEGED

    def __init__(
        self,
        version: str = "3.4.0",
        *,
        java_options: Sequence[str] = SHORT_LIVED,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.name = f"OpenSearch {version}"
        release = RELEASES[version]
        java = next((java for java in javas() if java.version in release.java), None)
        if java is None:
            found = ", ".join(str(java.version) for java in javas()) or "none"
            raise UnavailableError(f"{self.name}: needs {release.java_says} (found: {found}) and Maven (mvn)")
        self._version = version
        self._java = java
        self._java_options = java_options
        self._settings = settings or {}
        self._home = distribution(version)
        self.http_port = 0
        self.transport_port = 0
        self.nodes = 1  # how many must have found each other before it counts as ready

    @property
    def url(self) -> str:  # type: ignore[override]
        """`http://`, without a slash at the end."""
        return f"http://127.0.0.1:{self.http_port}"

    def prepare(self) -> None:
        """Make the folder; link the distribution into it if the server's user cannot get to the cache."""
        super().prepare()
        for name in ("config", "data", "temporary"):
            (self.folder / name).mkdir()
            give(self.folder / name, self.owner)
        if self.owner is not None and not reachable(self._home):
            link_tree(self._home, self.folder / "home")
            self._home = self.folder / "home"

    def configure(self) -> None:
        """Write the configuration, with free ports."""
        self.http_port, self.transport_port = free_port(), free_port()
        self.write_settings({"discovery.type": "single-node"})

    def write_settings(self, discovery: Mapping[str, object]) -> None:
        """Write `opensearch.yml`; `discovery` says how the node finds its cluster."""
        settings: dict[str, object] = {
            "cluster.name": "trio-alerts-test",
            "node.name": self.folder.name,
            "network.host": "127.0.0.1",
            "http.port": self.http_port,
            "transport.port": self.transport_port,
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder),
            # A developer's disk is often nine tenths full, and the server would make every index read-only.
            "cluster.routing.allocation.disk.threshold_enabled": False,
            **discovery,
            **self._settings,
        }
        lines = [f"{name}: {msgspec.json.encode(value).decode()}\n" for name, value in settings.items()]
        for name, text in (("opensearch.yml", "".join(lines)), ("log4j2.properties", LOGGING)):
            path = self.folder / "config" / name
            path.write_text(text)
            give(path, self.owner)

    def command(self) -> list[str]:
        """Return the command line."""
        allow = ["-Djava.security.manager=allow"] if self._version.startswith("2.") and self._java.version > 17 else []
        return [
            str(self._java.program),
            *JAVA_OPTIONS,
            *JAVA_OPTIONS_OF[self._version[0]],
            *allow,
            *self._java_options,
            f"-Djava.io.tmpdir={self.folder / 'temporary'}",
            f"-XX:ErrorFile={self.folder}/crash.log",
            f"-Dopensearch.path.home={self._home}",
            f"-Dopensearch.path.conf={self.folder / 'config'}",
            "-cp",
            f"{self._home}/lib/*",
            "org.opensearch.bootstrap.OpenSearch",
        ]

    def working_folder(self) -> Path:
        """Return the distribution's folder, which its options refer to."""
        return self._home

    def environment(self) -> Mapping[str, str]:
        """Return the environment without what Java would add to the command line."""
        return {name: value for name, value in os.environ.items() if not name.endswith(("JAVA_OPTIONS", "JAVA_OPTS"))}

    def is_ready(self) -> bool:
        """It is this node that answers, all have found each other, and every index can be read and written."""
        try:
            if self.request("GET", "/")[1]["name"] != self.folder.name:
                return False
            status, health = self.request("GET", "/_cluster/health?timeout=1s&wait_for_status=yellow")
        except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError):
            return False
        return bool(status == 200 and health["number_of_nodes"] >= self.nodes and not health["timed_out"])


class OpenSearchCluster:
    """Several nodes that form one cluster.

    Args:
        version: "3.4.0" or "2.19.1".
        size: Number of nodes; each takes about 0.7 GB.

    Attributes:
        nodes: The servers; each has its own `url`, `kill`, `restart`, `pause`, `resume`.
    """

    def __init__(self, version: str = "3.4.0", *, size: int = 2) -> None:
        self.nodes = [OpenSearchServer(version) for _ in range(size)]
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start all nodes at once; return when they have found each other."""
        with contextlib.ExitStack() as ending:
            for node in self.nodes:
                ending.callback(node.stop)
                node.prepare()
                node.http_port, node.transport_port = free_port(), free_port()
            names = [node.folder.name for node in self.nodes]
            seeds = [f"127.0.0.1:{node.transport_port}" for node in self.nodes]
            for node in self.nodes:
                node.write_settings({"discovery.seed_hosts": seeds, "cluster.initial_cluster_manager_nodes": names})
                node.launch()
            for node in self.nodes:
                node.nodes = len(self.nodes)
                node.wait_until_ready()
                node.nodes = 1  # a single node that restarts need not wait for the others
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all nodes and remove their folders."""
        self._ending.close()
