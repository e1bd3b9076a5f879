"""Real servers as fixtures: started when first asked for, once a session, ended after it.

A server that cannot be had skips its tests with one line that says what to install; with CI=true it fails them.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests.support.obtain import obtain
from tests.support.servers import OpenSearch, OpenSearchServer, RedisServer, ValkeyServer
from tests.support.servers.opensearch import RunningOpenSearch
from tests.support.tls import TlsFiles, make_tls_files


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    """Valkey 9, shared by the session; tests that kill or configure a server start their own."""
    with obtain(ValkeyServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis7() -> Iterator[RedisServer]:
    """The distribution's Redis, shared by the session."""
    with obtain(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def opensearch3() -> Iterator[OpenSearch]:
    """OpenSearch 3.4.0, or the server that TRIO_ALERTS_TEST_OPENSEARCH_URL names; shared by the session."""
    with opensearch_from_environment() or obtain(lambda: OpenSearchServer("3.4.0")) as server:
        yield server


@pytest.fixture(scope="session")
def opensearch2() -> Iterator[OpenSearch]:
    """OpenSearch 2.19.1, shared by the session."""
    with obtain(lambda: OpenSearchServer("2.19.1")) as server:
        yield server


@pytest.fixture(scope="session", params=["valkey", "redis7"])
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """Valkey, then Redis 7: the test runs on both."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RedisServer)
    return server


@pytest.fixture(scope="session", params=["opensearch3", "opensearch2"])
def opensearch_server(request: pytest.FixtureRequest) -> OpenSearch:
    """OpenSearch 3.4.0, then 2.19.1: the test runs on both."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, OpenSearch)
    return server


@pytest.fixture
def fresh_redis(redis_server: RedisServer) -> RedisServer:
    """Give Valkey, then Redis 7, without any key."""
    redis_server.flush()
    return redis_server


@pytest.fixture
def stream_name() -> str:
    """Name a stream that no other test uses."""
    return f"AlertStream-{secrets.token_hex(4)}"


@pytest.fixture
def index_name() -> str:
    """Name an index that no other test uses, not even one of another run on the same server."""
    return f"alerts-{secrets.token_hex(4)}"


@pytest.fixture
def fresh_index(opensearch_server: OpenSearch, index_name: str) -> Iterator[str]:
    """Name an index of `opensearch_server`; every index whose name starts with it is removed after the test."""
    yield index_name
    opensearch_server.remove_indices(index_name)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates for 127.0.0.1 and localhost, their authority, and a wrong one."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


def opensearch_from_environment() -> AbstractContextManager[OpenSearch] | None:
    """Return the server that somebody else runs, if one is named: it is used and never stopped."""
    url = os.environ.get("TRIO_ALERTS_TEST_OPENSEARCH_URL")
    return nullcontext(RunningOpenSearch(url)) if url else None
