"""What is asked of OpenSearch, by opensearch-py's asynchronous client: records by their ID, pages, figures, bulks.

Errors come out in two kinds. An answer that waiting may mend, or that is not OpenSearch's (`opensearch_answers.py`), is
`Unavailable`; what is left are opensearch-py's own `RequestError` (400), `NotFoundError` (404), `ConflictError` (409)
and `TransportError` (other 4xx): OpenSearch's refusals, which the caller asked for by what it sent. No message holds
credentials or a payload of ours.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
import msgspec
from loguru import logger
from opensearchpy import AsyncOpenSearch, NotFoundError, TransportError

from trio_alerts.backends.opensearch.answers import (
    HTTP_UNAUTHORIZED,
    AccessDenied,
    AggregationAnswer,
    Answer,
    BulkAnswer,
    BulkItem,
    Document,
    FoundDocument,
    MissingDocument,
    SearchAnswer,
    ServerInfo,
    error_type,
)
from trio_alerts.backends.opensearch.connection import (
    HttpConnection,
    LooplessTransport,
    MsgspecSerializer,
    own_connections,
)
from trio_alerts.backends.opensearch.nodes import StoreAddress, parse_store_url
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.text import one_line

__all__ = [
    "Action",
    "Target",
    "aggregate",
    "bulk",
    "open_opensearch",
    "read_document",
    "search_documents",
    "server_timeout",
]

# `labels` is a `flat_object`, which came with 2.7.
OLDEST_VERSION = (2, 7)

# OpenSearch by default waits 60 s for a shard; it must give up before we do, so that its answer says what is wrong.
SERVER_SHARE = 0.7

# Only what is used of a bulk answer: an eighth of the bytes.
BULK_FILTER = "items.*._index,items.*._id,items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Where records lie: behind the alias, in the one index that was looked at (empty: not looked yet)."""

    alias: str
    index: str = ""

    def check(self, answered: str, *, also_alias: bool = False) -> None:
        """See that an answer is about that index.

        An ID is unique in one index, not behind an alias: what another index says of a record means nothing.

        Raises:
            Unavailable: It is about another one.
        """
        if self.index and answered != self.index and not (also_alias and answered == self.alias):
            raise Unavailable(f"alias {self.alias} leads to {one_line(answered)} now, and led to {self.index} before")


class Action(msgspec.Struct, frozen=True):
    """One action of a bulk request: what its answer must be about."""

    kind: Literal["create", "index"]
    record_id: str


@asynccontextmanager
async def open_opensearch(
    store_url: str,
    *,
    ca_file: str | None = None,
    timeout_s: float = 10.0,
    http: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[AsyncOpenSearch]:
    """Connect, check that an OpenSearch answers that we can use, and close at the end.

    Args:
        store_url: `http(s)://user:pass@host:port[,host…]`.
        ca_file: A PEM file of the only authorities to trust; None means the system's and certifi's.
        timeout_s: The bound of every request as a whole, in seconds.
        http: What carries the requests, in place of connections of our own.

    Raises:
        SettingsError: `store_url` is malformed.
        StartError: Nothing answers there, it refuses us, or it is no OpenSearch of version 2.7 or newer.
    """
    address = parse_store_url(store_url)
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


async def bulk(
    client: AsyncOpenSearch, alias: str, body: bytes, actions: Sequence[Action], *, timeout_s: float
) -> list[BulkItem]:
    """Send one `_bulk` request through `alias`, and return what became of each action, in their order.

    Args:
        client: From `open_opensearch`.
        alias: The alias to write through; the request creates no index, and refuses an index of that name.
        body: Ready lines, each of JSON that this program serialized itself, each ended by a line feed.
        actions: What is in the body: an answer that is not about just these is none.
        timeout_s: The bound of the request in seconds; the server itself gives up a little earlier.

    Raises:
        Unavailable: Nobody knows which of the actions were done.
        TransportError: OpenSearch refused the whole request: none was done.
    """
    answer: Answer = await client.bulk(
        body=body,
        index=alias,
        require_alias=True,
        filter_path=BULK_FILTER,
        request_timeout=timeout_s,  # must stand beside `timeout`, which opensearch-py otherwise takes as its own
        timeout=server_timeout(timeout_s),
    )
    slots = answer.read(BulkAnswer).items
    if len(slots) != len(actions):
        raise answer.foreign(f"{len(slots)} items for {len(actions)} actions")
    items: list[BulkItem] = []
    for action, slot in zip(actions, slots, strict=True):
        item = slot.create if action.kind == "create" else slot.index
        if item is None or item.id != action.record_id:
            raise answer.foreign("an item for another action")
        items.append(item)
    return items


async def read_document(client: AsyncOpenSearch, target: Target, document_id: str) -> Document | None:
    """Read one document as it is at this moment, refreshed or not; None if it does not exist.

    Raises:
        Unavailable: It cannot be told, the index being gone, closed or another one included.
    """
    try:
        answer: Answer = await client.get(index=target.alias, id=document_id, realtime=True)
    except NotFoundError as error:
        if error_type(error):  # no document has no error; a missing index has
            raise Unavailable(f"OpenSearch cannot read through {target.alias}: {error_type(error)}") from None
        missing = msgspec.convert(error.info, MissingDocument)
        _check_id(missing.id, document_id)
        target.check(missing.index)
        return None
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot read through {target.alias}: {error_type(error)}") from None
    found = answer.read(FoundDocument)
    _check_id(found.id, document_id)
    target.check(found.index)
    return found


async def search_documents(
    client: AsyncOpenSearch,
    target: Target,
    query: Mapping[str, Any],
    *,
    size: int,
    sort: Sequence[Mapping[str, Any]] = (),
    source: Sequence[str] = ("*",),
) -> list[Document]:
    """Return one page of the documents that match, as of the last refresh; never a page with shards missing.

    Args:
        client: From `open_opensearch`.
        target: What to search.
        query: In OpenSearch's query DSL.
        size: At most so many.
        sort: Fields and directions, such as `{"ingested_at": "desc"}`.
        source: Which fields of the documents are wanted; a `*` stands for any text.

    Raises:
        Unavailable: It cannot be told, the index being gone, closed or another one included.
    """
    request: dict[str, Any] = {"query": query, "size": size, "seq_no_primary_term": True, "track_total_hits": False}
    if sort:
        request["sort"] = list(sort)
    if "*" not in source:
        request["_source"] = list(source)
    answer = await _search(client, target.alias, request)
    found = answer.read(SearchAnswer).hits.hits
    if len(found) > size:
        raise answer.foreign(f"{len(found)} documents, and at most {size} were asked for")
    for document in found:
        target.check(document.index)
        if len(document.sort) != len(sort) or not document.source:
            raise answer.foreign("a document in another form than was asked for")
    return found


async def aggregate(client: AsyncOpenSearch, target: Target, aggregations: Mapping[str, Any], kind: type[T]) -> T:
    """Return the named aggregations over all documents, as of the last refresh; never with shards missing.

    Args:
        client: From `open_opensearch`.
        target: What to search.
        aggregations: By their names.
        kind: The type of what comes back.

    Raises:
        Unavailable: It cannot be told, the index being gone or closed included.
    """
    answer = await _search(client, target.alias, {"size": 0, "track_total_hits": False, "aggs": aggregations})
    return answer.read(AggregationAnswer[kind]).aggregations  # type: ignore[valid-type]


async def _search(client: AsyncOpenSearch, alias: str, request: Mapping[str, Any]) -> Answer:
    try:
        # Without `allow_partial_search_results=false` a page that lacks a whole shard says 200 and "failed: 0".
        answer: Answer = await client.search(index=alias, body=request, allow_partial_search_results=False)
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot search through {alias}: {error_type(error)}") from None
    return answer


def _check_id(answered: str, wanted: str) -> None:
    if answered != wanted:
        raise Unavailable(f"OpenSearch was asked for record {wanted!r} and tells of {answered!r}")


def server_timeout(timeout_s: float) -> str:
    """Return the parameter by which OpenSearch gives up before a request that is bounded by `timeout_s` does."""
    return f"{max(1, round(timeout_s * SERVER_SHARE * 1000))}ms"


async def _check_server(client: AsyncOpenSearch, address: StoreAddress) -> None:
    try:
        answer: Answer = await client.info()
        version = answer.read(ServerInfo).version
    except AccessDenied as error:
        if error.status == HTTP_UNAUTHORIZED:
            raise StartError(f"{error}, at {address}") from None
        # A user who may use the index, but not ask for the version: the index's schema will be checked anyway.
        logger.debug("the version of OpenSearch cannot be told: {}", error)
        return
    except Unavailable as error:
        raise StartError(str(error)) from None
    except TransportError as error:
        raise StartError(f"{address} does not answer like OpenSearch: {error}") from None
    number = one_line(version.number)
    major, _, rest = number.partition(".")
    if not (major.isdecimal() and version.distribution == "opensearch"):
        raise StartError(f"{address} is not OpenSearch, or is too old: version {number}, wanted 2.7 or newer")
    minor = rest.partition(".")[0]
    if (int(major), int(minor) if minor.isdecimal() else 0) < OLDEST_VERSION:
        raise StartError(f"{address} is OpenSearch {number}, which is too old: wanted 2.7 or newer")
