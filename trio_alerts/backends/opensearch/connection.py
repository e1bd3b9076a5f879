"""How requests reach OpenSearch: opensearch-py's transport on trio, over our own HTTP transport instead of aiohttp.

`AsyncOpenSearch` is bound to asyncio in one method of its transport and in its connection class; both are replaced
here. Its own retries are off, because a retried write may already have been done: the caller must check. What is
tried on another node is only what certainly did no harm: a request of which not a byte was sent, and a read.
"""

import ssl
from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import trio
from loguru import logger
from opensearchpy import SerializationError
from opensearchpy._async.http_aiohttp import AsyncConnection
from opensearchpy._async.transport import AsyncTransport
from opensearchpy.serializer import Serializer

import trio_alerts
from trio_alerts.backends.opensearch.answers import Answer, ForeignAnswer, check_answer
from trio_alerts.backends.opensearch.nodes import Node, Nodes
from trio_alerts.errors import Unavailable
from trio_alerts.exact_json import encode
from trio_alerts.http.authorities import default_ssl_context, trusting
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.transport import TrioTransport
from trio_alerts.settings.addresses import OpenSearchAddress

# More than the batchers and the guard ever have under way; a burst of single reads queues here, inside its own bound.
MAX_UNDER_WAY = 32

MAX_ANSWER_BYTES = 2**30  # beyond every page of records: a longer answer would be cut, and so be no JSON

NODE_IS_ILL = frozenset({502, 503, 504})


class MsgspecSerializer(Serializer):
    """JSON by msgspec: every number keeps its digits; ready bytes pass through untouched, and so do answers."""

    mimetype = "application/json"

    def loads(self, s: Any) -> Any:
        """Leave an answer as it is: only the caller knows its type."""
        return s

    def dumps(self, data: Any) -> Any:
        """Write a request's body."""
        if isinstance(data, str | bytes):
            return data
        try:
            return encode(data)
        except (TypeError, ValueError) as error:
            raise SerializationError("a request that is not JSON", error) from None


class LooplessTransport(AsyncTransport):
    """opensearch-py's transport without its event loop: no sniffing, and nothing else of asyncio is reached then."""

    async def _async_init(self) -> None:
        self.set_connections(self.hosts)


@dataclass(frozen=True, slots=True)
class _Request:
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
        address: OpenSearchAddress,
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
        password = address.password.reveal() if address.password else ""
        self._secrets = [address.user or "", password]
        self._headers = {
            "user-agent": f"trio-alerts/{trio_alerts.__version__}",
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        if address.user is not None:
            token = b64encode(f"{address.user}:{password}".encode()).decode()
            self._headers["authorization"] = f"Basic {token}"
            self._secrets.append(token)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._address}>"

    async def perform_request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - opensearch-py's interface
        ignore: Collection[int] = (),  # noqa: ARG002 - opensearch-py's interface
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], Answer]:
        """Ask one node, or the next while that is harmless.

        Returns:
            The status, no headers, and an answer that `check_answer` has let pass.

        Raises:
            Unavailable: No answer within the bound, or one that waiting may help; see `check_answer`.
            TransportError: OpenSearch's own refusal, as opensearch-py's classes.

        Cancellation: the connection is dropped; whether a write was done is not known.
        """
        bound_s = timeout or self._timeout_s
        asked = _Request(
            method,
            f"{url}?{urlencode(params)}" if params else url,
            body,
            {**self._headers, **(headers or {})},
            bound_s,
            trio.current_time() + bound_s,
            harmless=method == "GET" or url.endswith(("/_search", "/_count", "/_mget")),
        )
        with trio.move_on_at(asked.deadline_s) as waiting:
            await self._places.acquire()
        if waiting.cancelled_caught:
            raise Unavailable(f"OpenSearch ({self._address}) is too busy: no free connection within {bound_s:g} s")
        try:
            answer = await self._ask(asked)
        finally:
            self._places.release()
        for warning in answer.response.headers.get_list("warning"):
            logger.debug("OpenSearch warns: {warning}", warning=warning)
        return answer.response.status_code, {}, answer

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _ask(self, asked: _Request) -> Answer:
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
                return self._checked(
                    node, Answer(node.url, f"{asked.method} {request.url.path}", response, self._secrets)
                )
            if asking.cancelled_caught:
                self._nodes.failed(node, trio.current_time())
                why = f"no answer within {asked.bound_s:g} s"
                break
        raise Unavailable(f"OpenSearch ({self._address}) cannot be reached: {why}")

    def _checked(self, node: Node, answer: Answer) -> Answer:
        """Let a good answer pass. A node rests if it is ill, or if something else answers in its place."""
        ill = answer.response.status_code in NODE_IS_ILL
        try:
            check_answer(answer)
        except ForeignAnswer:
            ill = True
            raise
        finally:
            if ill:
                self._nodes.failed(node, trio.current_time())
            else:
                self._nodes.worked(node)
        return answer


def _reason(error: BaseException) -> str:
    # httpx and trio wrap the cause, sometimes without a word of their own: the deepest text says most.
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    return next((text for text in reversed(texts) if text), type(error).__name__)


class _Anywhere(AllowedNetworks):
    """Where a store may live: its address comes from the operator, so there is nothing to guard against."""

    def refusal(self, address: str) -> str | None:  # noqa: ARG002 - the rule's interface
        """Allow every address."""
        return None


def own_connections(address: OpenSearchAddress, ca_file: Path | None, timeout_s: float) -> TrioTransport:
    """Return what carries requests to the nodes of one address.

    Raises:
        SettingsError: `ca_file` cannot be used.
    """
    if not address.tls:
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        trusted = default_ssl_context() if ca_file is None else trusting(ca_file)
    return TrioTransport(
        networks=_Anywhere(),
        ssl_context=trusted,
        # One node that swallows packets must leave time for every other.
        connect_timeout_s=timeout_s / (len(address.nodes) + 1),
        limit_per_origin=MAX_UNDER_WAY,
        max_idle=MAX_UNDER_WAY,
        max_body_bytes=MAX_ANSWER_BYTES,
    )
