"""Real servers for tests: each a process and a folder of its own, both gone when its context ends.

All of it is plain blocking code, so that session-scoped fixtures and scripts can use it. Starting, stopping and
restarting take up to seconds: inside a trio test, wrap them in `anyio.to_thread.run_sync`. `kill`, `pause` and `resume`
take milliseconds.
"""

from tests.support.servers.opensearch import OpenSearch, OpenSearchCluster, OpenSearchServer
from tests.support.servers.process import Server, ServerFailedError, UnavailableError
from tests.support.servers.receiver import ReceiverServer
from tests.support.servers.redis import RedisServer, SentinelServer, ValkeyCluster, ValkeyServer

__all__ = [
    "OpenSearch",
    "OpenSearchCluster",
    "OpenSearchServer",
    "ReceiverServer",
    "RedisServer",
    "SentinelServer",
    "Server",
    "ServerFailedError",
    "UnavailableError",
    "ValkeyCluster",
    "ValkeyServer",
]
