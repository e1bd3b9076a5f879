"""The servers that other tests stand on: they are what they say, keep their data, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.real.conftest import opensearch_from_environment
from tests.support.obtain import give_up, obtain
from tests.support.servers import (
    OpenSearch,
    OpenSearchCluster,
    OpenSearchServer,
    ReceiverServer,
    RedisServer,
    Server,
    ServerFailedError,
    UnavailableError,
    ValkeyServer,
    distribution,
    opensearch,
)
from tests.support.servers.java import Java
from tests.support.servers.process import free_port

pytestmark = pytest.mark.support

GONE_WITHIN_S = 30.0
ONCE = Retry(NoBackoff(), 0)


def test_valkey_is_version_9(valkey: RedisServer) -> None:
    """The Valkey server is the one that the promises were tried on."""
    assert 9 == valkey.version()[0]


def test_redis_is_at_least_version_7(redis7: RedisServer) -> None:
    """The distribution's Redis has the commands that the stream needs."""
    assert redis7.version() >= (7, 0)


@pytest.mark.parametrize("kind", [ValkeyServer, RedisServer])
def test_redis_keeps_its_data_through_kill_and_restart(kind: type[RedisServer]) -> None:
    """With an append-only file, what was acknowledged is there after SIGKILL, on the same port."""
    with obtain(lambda: kind(appendonly=True)) as server, server.client() as client:
        first, url = server.pid, server.url
        client.set("kept", "yes")
        server.kill()
        assert not server.alive

        server.restart()

        assert url == server.url
        assert first != server.pid
        assert b"yes" == client.get("kept")


@pytest.mark.parametrize("kind", [ValkeyServer, RedisServer])
def test_a_paused_redis_answers_nothing_until_resumed(kind: type[RedisServer]) -> None:
    """SIGSTOP leaves connections open and unanswered; SIGCONT answers what was asked meanwhile."""
    with obtain(kind) as server, redis.Redis(port=server.port, socket_timeout=0.2, retry=ONCE) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()

        server.resume()

        assert client.ping()


@pytest.mark.parametrize("fixture", ["opensearch3", "opensearch2"])
def test_opensearch_keeps_its_data_through_kill_and_restart(
    fixture: str, request: pytest.FixtureRequest, index_name: str
) -> None:
    """Each release answers its version; what was acknowledged is there after SIGKILL, on the same port."""
    server = request.getfixturevalue(fixture)
    assert isinstance(server, OpenSearch)
    if not isinstance(server, OpenSearchServer):
        pytest.skip("a server that somebody else runs is not killed")
    assert server.name.removeprefix("OpenSearch ") == server.version()
    assert 201 == server.request("PUT", f"/{index_name}/_create/1", {"kept": True})[0]
    url = server.url
    server.kill()

    server.restart()

    assert url == server.url
    status, found = server.request("GET", f"/{index_name}/_doc/1")
    assert (200, {"kept": True}) == (status, found["_source"])
    server.remove_indices(index_name)


def test_fresh_index_is_removed_afterwards(opensearch_server: OpenSearch, index_name: str) -> None:
    """Removing by a name takes the index, its numbered kin and its alias, and nothing else."""
    for name in (f"{index_name}-000001", f"other-{index_name}"):
        assert 200 == opensearch_server.request("PUT", f"/{name}", {"aliases": {f"{name}-alias": {}}})[0]

    opensearch_server.remove_indices(index_name)

    assert 404 == opensearch_server.request("GET", f"/{index_name}-000001-alias")[0]
    assert 200 == opensearch_server.request("GET", f"/other-{index_name}")[0]
    opensearch_server.remove_indices(f"other-{index_name}")


def test_opensearch_nodes_form_a_cluster_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes find each other, from a cache that their user cannot reach; afterwards neither is left."""
    monkeypatch.setattr(opensearch, "reachable", lambda _path: False)
    with obtain(lambda: OpenSearchCluster("2.19.1", size=2)) as cluster:
        pids, folders = [node.pid for node in cluster.nodes], [node.folder for node in cluster.nodes]
        for node in cluster.nodes:
            assert 2 == node.request("GET", "/_cluster/health")[1]["number_of_nodes"]

    assert [False, False] == [_exists(pid) for pid in pids]
    assert [False, False] == [folder.exists() for folder in folders]


@pytest.mark.parametrize("kind", [ValkeyServer, RedisServer, ReceiverServer])
@pytest.mark.parametrize("how", ["running", "paused", "killed"])
def test_a_server_leaves_no_process_and_no_folder(kind: Callable[[], Server], how: str) -> None:
    """Whatever was done to it, after its block a server is gone."""
    with obtain(kind) as server:
        if how == "paused":
            server.pause()
        if how == "killed":
            server.kill()

    assert not _exists(server.pid)
    assert not server.folder.exists()


def test_a_server_ends_with_a_killed_test_process(tmp_path: Path) -> None:
    """SIGKILL to the tests themselves ends their servers and removes the folders."""
    script = (
        "import os, signal, sys; from tests.support.servers import ValkeyServer\n"
        "with ValkeyServer() as server:\n"
        "    print(server.pid, server.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    pid, folder = done.stdout.split()

    assert -signal.SIGKILL == done.returncode
    deadline = time.monotonic() + GONE_WITHIN_S
    while _exists(int(pid)) or Path(folder).exists():
        assert time.monotonic() < deadline, "the server outlived the tests"
        time.sleep(0.01)


def test_a_server_that_cannot_start_says_why() -> None:
    """A start that fails shows the end of the server's log, and leaves nothing behind."""
    server = obtain(lambda: ValkeyServer(extra=["no-such-setting 1"]))

    with pytest.raises(ServerFailedError, match=r"(?s)Valkey ended while starting.*no-such-setting"), server:
        pass

    assert not server.folder.exists()


def test_a_port_that_was_taken_meanwhile_is_replaced(valkey: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may take the port between the look and the bind: the start goes on with another one."""
    ports = iter([valkey.port])
    monkeypatch.setattr("tests.support.servers.redis.free_port", lambda: next(ports, None) or free_port())

    with obtain(ValkeyServer) as server:
        assert server.port != valkey.port


def test_opensearch_names_the_missing_jdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks a JDK of the right age reads which one is needed, and which were found."""
    monkeypatch.setattr(opensearch, "javas", lambda: (Java(8, Path("java")), Java(17, Path("java"))))

    with pytest.raises(UnavailableError, match=r"^OpenSearch 3.4.0: needs a JDK >= 21 \(found: 8, 17\) and Maven"):
        OpenSearchServer("3.4.0")


def test_opensearch_names_the_missing_maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has neither the distribution nor Maven reads that Maven is needed."""
    monkeypatch.setattr(distribution, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnavailableError, match=r"^OpenSearch 3.4.0: needs Maven \(mvn\) to fetch it$"):
        distribution.distribution("3.4.0")


def test_a_changed_distribution_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A zip that is not the published one is neither unpacked nor run."""
    monkeypatch.setattr(distribution, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path.joinpath(".m2", "repository", *distribution.DISTRIBUTION[0].split("."), "opensearch", "3.4.0")
    folder.mkdir(parents=True)
    (folder / "opensearch-3.4.0.zip").write_bytes(b"changed")

    with pytest.raises(UnavailableError, match="is not what was published"):
        distribution.distribution("3.4.0")

    assert not (tmp_path / "opensearch-3.4.0").exists()


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI nothing that should be proven is silently left out."""
    monkeypatch.setenv("CI", ci)

    # both are caught: a skip that went through would skip this test, and look like a success
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as raised:
        give_up("Redis: needs the program redis-server")

    assert outcome is raised.type
    assert "Redis: needs the program redis-server" == str(raised.value)


def test_a_given_opensearch_is_used_and_never_stopped(opensearch3: OpenSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRIO_ALERTS_TEST_OPENSEARCH_URL stands for the fixture's own server."""
    monkeypatch.setenv("TRIO_ALERTS_TEST_OPENSEARCH_URL", f"{opensearch3.url}/")
    given = opensearch_from_environment()
    assert given is not None

    with given as server:
        assert opensearch3.url == server.url
        version = server.version()

    assert version == opensearch3.version()


def _exists(pid: int) -> bool:
    """Whether there is such a process, other than as a corpse that nobody has buried yet."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
