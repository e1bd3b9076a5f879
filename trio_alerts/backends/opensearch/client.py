"""The connection to OpenSearch, by opensearch-py's asynchronous client.

Errors come out in two kinds. An answer that waiting may fix, or that is not OpenSearch's (`answers.py`), is
`Unavailable`; what is left are opensearch-py's own `RequestError` (400), `NotFoundError` (404), `ConflictError` (409)
and `TransportError` (other 4xx): OpenSearch's refusals, which the caller asked for by what it sent. No message holds
credentials or a payload of ours.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
from loguru import logger
from msgspec import Struct
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import AccessDenied, Answer, Name
from trio_alerts.backends.opensearch.connection import (
    HttpConnection,
    LooplessTransport,
    MsgspecSerializer,
    own_connections,
)
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.text import one_line

# `labels` is a `flat_object`, which came with 2.7.
OLDEST_VERSION = (2, 7)

# OpenSearch by default waits 60 s for a shard; it must give up before we do, so that its answer says what is wrong.
SERVER_SHARE = 0.7


@asynccontextmanager
async def open_opensearch(
    address: OpenSearchAddress,
    *,
    ca_file: Path | None = None,
    timeout_s: float = 10.0,
    http: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[AsyncOpenSearch]:
    """Connect, check that an OpenSearch answers that we can use, and close at the end.

    Args:
        address: The setting `store_url`.
        ca_file: A PEM file of the only authorities to trust; None means the system's and certifi's.
        timeout_s: The bound of every request as a whole, in seconds.
        http: What carries the requests, in place of connections of our own.

    Raises:
        SettingsError: `ca_file` cannot be used.
        StartError: Nothing answers there, it refuses us, or it is no OpenSearch of version 2.7 or newer.
    """
    client = AsyncOpenSearch(
        [{"address": address}],
        transport_class=LooplessTransport,
        connection_class=HttpConnection,
        serializer=MsgspecSerializer(),
        timeout=timeout_s,
        http=http or own_connections(address, ca_file, timeout_s),
        max_retries=0,
        retry_on_timeout=False,
    )
    async with client:
        await _check_server(client, address)
        yield client


def server_timeout(timeout_s: float) -> str:
    """Return the parameter by which OpenSearch gives up before a request that is bounded by `timeout_s` does."""
    return f"{max(1, round(timeout_s * SERVER_SHARE * 1000))}ms"


async def _check_server(client: AsyncOpenSearch, address: OpenSearchAddress) -> None:
    try:
        answer: Answer = await client.info()
        version = answer.read(ServerInfo).version
    except AccessDenied as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise StartError(f"{error}, at {address}") from None
        # A user who may use the index, but not ask for the version: the index's schema will be checked anyway.
        logger.debug("the version of OpenSearch cannot be determined: {reason}", reason=error)
        return
    except Unavailable as error:
        raise StartError(str(error)) from None
    except TransportError as error:
        raise StartError(f"{address} does not answer like OpenSearch: {error}") from None
    number = one_line(version.number)
    major, _, rest = number.partition(".")
    if not (major.isdecimal() and version.distribution == "opensearch"):
        raise StartError(f"{address} is not OpenSearch, or is too old: version {number}, 2.7 or newer is required")
    minor = rest.partition(".")[0]
    if (int(major), int(minor) if minor.isdecimal() else 0) < OLDEST_VERSION:
        raise StartError(f"{address} is OpenSearch {number}, which is too old: 2.7 or newer is required")


class ServerInfo(Struct):
    """The answer to `GET /`. `distribution` is what only OpenSearch says."""

    version: "ServerVersion"


class ServerVersion(Struct):
    """Of `ServerInfo`."""

    number: Name
    distribution: str = ""
