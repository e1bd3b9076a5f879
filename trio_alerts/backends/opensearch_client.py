"""opensearch-py's asynchronous client on trio: its methods, over our own HTTP transport instead of aiohttp.

`AsyncOpenSearch` is bound to asyncio in one method of its transport and in its connection class; both are replaced
here. The client's own retries are off, because a retried write may already have been done: whoever wrote must look.
What is tried on another node is only what certainly did no harm: a request of which not a byte was sent, and a read.

Errors are mapped here, once. An answer that waiting may mend is `Unavailable`; what is left are opensearch-py's own
`RequestError` (400), `NotFoundError` (404), `ConflictError` (409) and `TransportError` (other 4xx), which the caller
asked for by what it sent. No message holds credentials or a payload of ours.
"""

import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import trio
from loguru import logger
from opensearchpy import AsyncOpenSearch, NotFoundError, SerializationError, TransportError
from opensearchpy._async.http_aiohttp import AsyncConnection
from opensearchpy._async.transport import AsyncTransport
from opensearchpy.exceptions import HTTP_EXCEPTIONS
from opensearchpy.serializer import Serializer

import trio_alerts
from trio_alerts.backends.address_check import AllowedNetworks
from trio_alerts.backends.http_transport import TrioTransport, default_ssl_context
from trio_alerts.backends.opensearch_nodes import Nodes, StoreAddress, parse_store_url
from trio_alerts.errors import StartError, Unavailable

__all__ = [
    "AccessDenied",
    "BulkItem",
    "StoredDocument",
    "aggregate",
    "bulk",
    "error_text",
    "error_type",
    "open_opensearch",
    "read_document",
    "search_documents",
    "server_timeout",
    "without_values",
]

# `labels` is a `flat_object`, which came with 2.7.
OLDEST_VERSION = (2, 7)

# More than the batchers and the guard ever have under way; a burst of single reads queues here, inside its own bound.
MAX_UNDER_WAY = 32

MAX_ANSWER_BYTES = 2**30  # beyond every page of records: a longer answer would be cut, and so be no JSON

# OpenSearch by default waits 60 s for a shard; it must give up before we do, so that its answer says what is wrong.
SERVER_SHARE = 0.7

# Only what is used of a bulk answer: a tenth of the bytes.
BULK_FILTER = "items.*._index,items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"

HTTP_UNAUTHORIZED = 401
HTTP_FORBIDDEN = 403
HTTP_TOO_MANY_REQUESTS = 429
HTTP_SERVER_ERRORS = 500
NODE_IS_ILL = frozenset({502, 503, 504})


class AccessDenied(Unavailable):
    """OpenSearch refuses our user, or a block forbids it: whoever runs it must look; until then it is an outage.

    Args:
        message: What it refuses.
        status: 401 for the credentials, 403 for the rest.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


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
        http=http or _own_connections(address, ca_file, timeout_s),
        max_retries=0,
        retry_on_timeout=False,
    )
    async with client:
        await _check_server(client, address)
        yield client


class BulkItem(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one action of a bulk request; only this decides about it, never the request's own status."""

    status: int
    index: str = msgspec.field(name="_index", default="")
    seq_no: int = msgspec.field(name="_seq_no", default=-1)
    primary_term: int = msgspec.field(name="_primary_term", default=-1)
    error: dict[str, Any] = {}


class _BulkAnswer(msgspec.Struct):
    items: list[dict[str, BulkItem]] = []


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is kept, with what a conditional update of it needs.

    Args:
        id: Its `_id`.
        index: The index it lies in, which must be the one that the guard looked at.
        seq_no: For `if_seq_no`.
        primary_term: For `if_primary_term`.
        source: Its JSON, every digit of every number kept; empty if it was not asked for.
        sort: Where it stands in a sorted search, for the page after.
    """

    id: str
    index: str
    seq_no: int
    primary_term: int
    source: bytes
    sort: tuple[Any, ...] = ()


async def bulk(client: AsyncOpenSearch, alias: str, body: bytes, *, timeout_s: float) -> list[BulkItem]:
    """Send one `_bulk` request through `alias`, and return what became of each action, in their order.

    Args:
        client: From `open_opensearch`.
        alias: The alias to write through; the request creates no index, and refuses an index of that name.
        body: Ready lines, each of JSON that this program serialized itself, each ended by a line feed.
        timeout_s: The bound of the request in seconds; the server itself gives up a little earlier.

    Raises:
        Unavailable: Nobody knows which of the actions were done.
        TransportError: The whole request was refused (400, 413): none was done.
    """
    answer = await client.bulk(
        body=body,
        index=alias,
        require_alias=True,
        filter_path=BULK_FILTER,
        request_timeout=timeout_s,  # must stand beside `timeout`, which opensearch-py otherwise takes as its own
        timeout=server_timeout(timeout_s),
    )
    try:
        items = msgspec.convert(answer, _BulkAnswer).items
    except msgspec.ValidationError:
        raise Unavailable("OpenSearch gave an answer to _bulk that does not tell what became of each write") from None
    return [result for item in items for result in item.values()]


async def read_document(client: AsyncOpenSearch, alias: str, document_id: str) -> StoredDocument | None:
    """Read one document as it is at this moment, refreshed or not; None if it does not exist.

    Raises:
        Unavailable: It cannot be told, the index being gone or closed included.
    """
    try:
        answer = await client.get(index=alias, id=document_id, realtime=True)
    except NotFoundError as error:
        if error_type(error):  # no document has no error; a missing index has
            raise Unavailable(f"OpenSearch cannot read through {alias}: {error_type(error)}") from None
        return None
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot read through {alias}: {error_type(error)}") from None
    return _stored(answer)


async def search_documents(
    client: AsyncOpenSearch,
    alias: str,
    query: Mapping[str, Any],
    *,
    size: int,
    sort: Sequence[Mapping[str, str]] = (),
    after: Sequence[Any] = (),
    source: bool = True,
) -> list[StoredDocument]:
    """Return one page of the documents that match, as of the last refresh; never a page with shards missing.

    Args:
        client: From `open_opensearch`.
        alias: The alias to search.
        query: In OpenSearch's query DSL.
        size: At most so many.
        sort: Fields and directions, such as `{"ingested_at": "desc"}`.
        after: The `sort` of the last document of the page before.
        source: Whether the documents themselves are wanted, too.

    Raises:
        Unavailable: It cannot be told, the index being gone or closed included.
    """
    request: dict[str, Any] = {"query": query, "size": size, "seq_no_primary_term": True, "track_total_hits": False}
    if sort:
        request["sort"] = list(sort)
    if after:
        request["search_after"] = list(after)
    if not source:
        request["_source"] = False
    answer = await _search(client, alias, request)
    return [_stored(hit) for hit in answer["hits"]["hits"]]


async def aggregate(client: AsyncOpenSearch, alias: str, aggregations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named aggregations over all documents, as of the last refresh; never with shards missing.

    Raises:
        Unavailable: It cannot be told, the index being gone or closed included.
    """
    answer = await _search(client, alias, {"size": 0, "track_total_hits": False, "aggs": aggregations})
    result: dict[str, Any] = answer["aggregations"]
    return result


async def _search(client: AsyncOpenSearch, alias: str, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        # Without `allow_partial_search_results=false` a page that lacks a whole shard says 200 and "failed: 0".
        answer: dict[str, Any] = await client.search(index=alias, body=request, allow_partial_search_results=False)
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot search through {alias}: {error_type(error)}") from None
    return answer


def _stored(hit: Mapping[str, Any]) -> StoredDocument:
    sort = tuple(hit.get("sort", ()))
    source = _ENCODER.encode(hit["_source"]) if "_source" in hit else b""
    return StoredDocument(hit["_id"], hit["_index"], hit["_seq_no"], hit["_primary_term"], source, sort)


def error_type(error: TransportError) -> str:
    """Return OpenSearch's own name of what went wrong, such as `index_not_found_exception`, or an empty string."""
    info = error.info if len(error.args) > 2 else None  # noqa: PLR2004 - status, type, body
    cause = info.get("error") if isinstance(info, dict) else None
    return str(cause.get("type", "")) if isinstance(cause, dict) else str(cause or "")


def error_text(error: TransportError) -> str:
    """Return status, type and reason of a refusal for a human, without what OpenSearch quotes of a document."""
    info = error.info if len(error.args) > 2 else None  # noqa: PLR2004 - as above
    cause = info.get("error") if isinstance(info, dict) else None
    reason = str(cause.get("reason", "")) if isinstance(cause, dict) else ""
    return f"{error.status_code} {error.error}: {without_values(reason)}".rstrip(": ")


def without_values(reason: str) -> str:
    """Shorten a reason that OpenSearch gives, and cut off what it quotes of a document: that may be a secret."""
    return _QUOTED.sub("", reason)[:300]


# What follows these words is, or contains, a value.
_QUOTED = re.compile(
    r"(\. )?(preview of field's value|the prefix of the first immense term is|for input string).*",
    re.IGNORECASE | re.DOTALL,
)


class MsgspecSerializer(Serializer):
    """JSON by msgspec: every number keeps its digits, and ready bytes pass through untouched."""

    mimetype = "application/json"

    def loads(self, s: str | bytes) -> Any:
        """Read an answer."""
        try:
            return _DECODER.decode(s)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("OpenSearch gave an answer that is not JSON") from None

    def dumps(self, data: Any) -> Any:
        """Write a request's body."""
        if isinstance(data, str | bytes):
            return data
        try:
            return _ENCODER.encode(data)
        except (TypeError, ValueError) as error:
            raise SerializationError("a request that is not JSON", error) from None


_DECODER = msgspec.json.Decoder(Any, float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class LooplessTransport(AsyncTransport):
    """opensearch-py's transport without its event loop: no sniffing, and nothing else of asyncio is reached then."""

    async def _async_init(self) -> None:
        self.set_connections(self.hosts)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request; `harmless` if it may be sent twice, `deadline_s` by trio's clock."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    bound_s: float
    deadline_s: float
    harmless: bool


class HttpConnection(AsyncConnection):
    """All nodes of one cluster behind opensearch-py's connection interface, so that the choice of a node is ours.

    Args:
        address: The nodes and the credentials.
        timeout: The bound of a request as a whole, in seconds, unless the request brings its own.
        http: What carries the requests.
        _: What opensearch-py passes besides.
    """

    def __init__(
        self,
        *,
        address: StoreAddress,
        timeout: float,
        http: httpx.AsyncBaseTransport,
        **_: Any,
    ) -> None:
        super().__init__()
        self._address = address
        self._timeout_s = timeout
        self._nodes = Nodes(address.nodes)
        self._places = trio.Semaphore(MAX_UNDER_WAY)
        self._http = http
        self._headers = {
            "user-agent": f"trio-alerts/{trio_alerts.__version__}",
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        if address.user is not None:
            token = b64encode(f"{address.user}:{address.password}".encode()).decode()
            self._headers["authorization"] = f"Basic {token}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._address}>"

    async def perform_request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - opensearch-py's interface
        ignore: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask one node, or the next while that is harmless.

        Returns:
            Status, headers and body of an answer that is good, or whose status is in `ignore`.

        Raises:
            Unavailable: No answer within the bound, or one that waiting may mend.
            TransportError: Another 4xx, as opensearch-py's own classes.

        Cancellation: the connection is dropped; whether a write was done is not known.
        """
        bound_s = timeout or self._timeout_s
        asked = _Asked(
            method,
            f"{url}?{urlencode(params)}" if params else url,
            body,
            {**self._headers, **(headers or {})},
            bound_s,
            trio.current_time() + bound_s,
            harmless=method in {"GET", "HEAD"} or url.endswith(("/_search", "/_count", "/_mget")),
        )
        with trio.move_on_at(asked.deadline_s) as waiting:
            await self._places.acquire()
        if waiting.cancelled_caught:
            raise Unavailable(f"OpenSearch ({self._address}) is too busy: no free connection within {bound_s:g} s")
        try:
            response = await self._ask(asked)
        finally:
            self._places.release()
        for warning in response.headers.get_list("warning"):
            logger.debug("OpenSearch warns: {}", warning)
        _check_answer(response, ignore)
        return response.status_code, dict(response.headers), response.content

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _ask(self, asked: _Asked) -> httpx.Response:
        # Outcomes on a node: an answer | certainly nothing sent: the next node | nobody knows: the next node only for
        # a read | the bound is over: give up. Credentials are in headers, so an error's text may be shown.
        why = ""
        for node in self._nodes.in_order(trio.current_time()):
            with trio.move_on_at(asked.deadline_s) as asking:
                try:
                    url = node.url + asked.path
                    request = httpx.Request(asked.method, url, headers=asked.headers, content=asked.body)
                    response = await self._http.handle_async_request(request)
                    response.request = request
                    await response.aread()
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    why = _reason(error)
                    self._nodes.failed(node, trio.current_time())
                    continue
                except httpx.HTTPError as error:
                    why = _reason(error)
                    self._nodes.failed(node, trio.current_time())
                    if asked.harmless:
                        continue
                    break
                if response.status_code in NODE_IS_ILL:
                    self._nodes.failed(node, trio.current_time())
                else:
                    self._nodes.worked(node)
                return response
            if asking.cancelled_caught:
                self._nodes.failed(node, trio.current_time())
                why = f"no answer within {asked.bound_s:g} s"
                break
        raise Unavailable(f"OpenSearch ({self._address}) cannot be reached: {why}")


def _check_answer(response: httpx.Response, ignore: Collection[int]) -> None:
    status = response.status_code
    if response.is_success or status in ignore:
        return
    try:
        info = msgspec.json.decode(response.content) if response.content else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        info = {}
    info = info if isinstance(info, dict) else {}
    cause = info.get("error")
    kind, reason = (cause.get("type"), cause.get("reason")) if isinstance(cause, dict) else (cause, None)
    where = f"{response.request.method} {response.request.url.path}"
    says = " ".join(str(part)[:300] for part in (kind, reason) if part) or response.reason_phrase
    if status == HTTP_UNAUTHORIZED:
        raise AccessDenied("OpenSearch refuses the user name or password (401)", status)
    if status == HTTP_FORBIDDEN:
        raise AccessDenied(f"OpenSearch forbids {where} (403): {says}", status)
    if status == HTTP_TOO_MANY_REQUESTS or status >= HTTP_SERVER_ERRORS:
        raise Unavailable(f"OpenSearch answers {status} to {where}: {says}")
    if response.is_redirect:
        raise Unavailable(f"OpenSearch answers {status} to {where}: a redirect, which is never followed")
    raise HTTP_EXCEPTIONS.get(status, TransportError)(status, kind or says, info)


def _reason(error: BaseException) -> str:
    # httpx and trio wrap the cause, sometimes without a word of their own: the deepest text says most.
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    return next((text for text in reversed(texts) if text), type(error).__name__)


class _Anywhere(AllowedNetworks):
    """Where a store may live: its address comes from who runs the program, so there is nobody to guard against."""

    def refusal(self, address: str) -> str | None:  # noqa: ARG002 - the rule's interface
        """Allow every address."""
        return None


def _own_connections(address: StoreAddress, ca_file: str | None, timeout_s: float) -> TrioTransport:
    if address.nodes[0].startswith("http:"):
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif ca_file is None:
        trusted = default_ssl_context()
    else:
        try:
            trusted = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StartError(f"store_ca_file {ca_file!r} cannot be used: {error}") from None
    return TrioTransport(
        networks=_Anywhere(),
        ssl_context=trusted,
        # One node that swallows packets must leave time for every other.
        connect_timeout_s=timeout_s / (len(address.nodes) + 1),
        limit_per_origin=MAX_UNDER_WAY,
        max_idle=MAX_UNDER_WAY,
        max_body_bytes=MAX_ANSWER_BYTES,
    )


def server_timeout(timeout_s: float) -> str:
    """Return the parameter by which OpenSearch gives up before a request that is bounded by `timeout_s` does."""
    return f"{max(1, round(timeout_s * SERVER_SHARE * 1000))}ms"


async def _check_server(client: AsyncOpenSearch, address: StoreAddress) -> None:
    try:
        answer = await client.info()
    except AccessDenied as error:
        if error.status == HTTP_UNAUTHORIZED:
            raise StartError(f"{error}, at {address}") from None
        # A user who may use the index, but not ask for the version: the index's schema will be checked anyway.
        logger.debug("the version of OpenSearch cannot be told: {}", error)
        return
    except Unavailable as error:
        raise StartError(str(error)) from None
    except (TransportError, SerializationError) as error:
        raise StartError(f"{address} does not answer like OpenSearch: {error}") from None
    version = answer.get("version", {}) if isinstance(answer, dict) else {}
    number = str(version.get("number", "")) if isinstance(version, dict) else ""
    major, _, rest = number.partition(".")
    if not (major.isdigit() and version.get("distribution") == "opensearch"):
        raise StartError(
            f"{address} is not OpenSearch, or is too old: version {number or 'unknown'}, wanted 2.7 or newer"
        )
    minor = rest.partition(".")[0]
    if (int(major), int(minor) if minor.isdigit() else 0) < OLDEST_VERSION:
        raise StartError(f"{address} is OpenSearch {number}, which is too old: wanted 2.7 or newer")
