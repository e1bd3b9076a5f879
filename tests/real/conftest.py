"""Real servers as fixtures: started when first asked for, once a session, ended after it.

A server that cannot be had skips its tests with one line that says what to install; with CI=true it fails them.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.real.test_redis_stream import RedisWorld, settings
from tests.support.obtain import obtain
from tests.support.program import QUICK, Site
from tests.support.servers import OpenSearch, OpenSearchServer, ReceiverServer, RedisServer, ValkeyServer
from tests.support.servers.opensearch import RunningOpenSearch
from tests.support.tls import TlsFiles, make_tls_files
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream


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
def stream_name() -> str:
    """Name a stream that no other test uses."""
    return f"AlertStream-{secrets.token_hex(4)}"


@pytest.fixture
def world(redis_server: RedisServer, stream_name: str) -> Iterator[RedisWorld]:
    """Give a world on Valkey, then on Redis 7."""
    world = RedisWorld(redis_server, stream_name)
    with closing(world.client):
        yield world


@pytest.fixture
async def stream(world: RedisWorld, redis_server: RedisServer) -> AsyncIterator[RedisStream]:
    """Give a consumer of the world's first stream, ready to read."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        await stream.prepare()
        yield stream


@pytest.fixture
def index_name() -> str:
    """Name an index that no other test uses, not even one of another run on the same server."""
    return f"alerts-{secrets.token_hex(4)}"


@pytest.fixture
def fresh_index(opensearch_server: OpenSearch, index_name: str) -> Iterator[str]:
    """Name an index of `opensearch_server`; every index whose name starts with it is removed after the test."""
    yield index_name
    opensearch_server.remove_indices(index_name)


SiteT = TypeVar("SiteT", bound=Site)


class MakeSite(Protocol):
    """Makes a site."""

    def __call__(self, kind: type[SiteT], servers: str = "valkey+sqlite", **settings: str) -> SiteT:
        """Make one that alerts the receiver, with waits as short as they can be.

        Args:
            kind: Its class.
            servers: The fixtures of the stream's and the store's server, such as "redis7+opensearch2".
            settings: More settings, which win.
        """


@pytest.fixture
def make_site(request: pytest.FixtureRequest, tmp_path: Path, receiver: ReceiverServer) -> Iterator[MakeSite]:
    """Make sites whose indices are removed after the test."""
    with ExitStack() as ending:

        def make(kind: type[SiteT], servers: str = "valkey+sqlite", **settings: str) -> SiteT:
            redis, store = servers.split("+")
            opensearch = None if store == "sqlite" else request.getfixturevalue(store)
            settings = {"webhook_url": f"{receiver.url}/hook", **QUICK, **settings}
            site = kind(tmp_path, settings, redis=request.getfixturevalue(redis), opensearch=opensearch)
            if opensearch is not None:
                ending.callback(opensearch.remove_indices, site.index)
            return site

        yield make


@pytest.fixture
def small_site(make_site: MakeSite) -> Site:
    """Give a site on Valkey and SQLite."""
    return make_site(Site)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates for 127.0.0.1 and localhost, their authority, and a wrong one."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


def opensearch_from_environment() -> AbstractContextManager[OpenSearch] | None:
    """Return the server that somebody else runs, if one is named: it is used and never stopped."""
    url = os.environ.get("TRIO_ALERTS_TEST_OPENSEARCH_URL")
    return nullcontext(RunningOpenSearch(url)) if url else None
