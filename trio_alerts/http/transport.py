"""HTTP/1.1 to receivers under `httpx`: requests in, answers out, over a pool whose cost does not grow with its size."""

import math
import resource
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from trio_alerts.http.authorities import default_ssl_context
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.pool import BODY_BOUND_S, Pool
from trio_alerts.http.request import OriginKey, origin_key, render_request
from trio_alerts.http.resolver import Resolver
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import ByteSocket, SendProgress

# Long enough that steady traffic reuses its connections, shorter than the 60 to 75 s after which load balancers and
# nginx close an idle one: who closes first never sends into a connection that the other end is just closing.
KEEPALIVE_S = 30.0
LIMIT_PER_ORIGIN = 20_000  # the most workers a process may have; one address pair has about 28,000 local ports
# With more requests to an origin under way, it is CPU that is short: each waits a turn of the loop before it is sent.
# Then many are made in a row, and many are sent in a row, which is quicker. With fewer, it is time that is short.
CROWD = 512
MAX_BODY_BYTES = 65_536  # 1 KiB of it is kept in a record; a whole page of an error helps who debugs


class TrioTransport(httpx.AsyncBaseTransport):
    """Sends requests, one attempt each, and reads their whole answers.

    Works under `httpx.AsyncClient(transport=…)`, and without a client at a fraction of the cost:
    `await transport.handle_async_request(httpx.Request(…))`. No redirects, no proxies, no retries, no cookies; a body
    is not decompressed (and Content-Encoding is left out of the headers, so that no caller tries).

    **Time.** The caller bounds an attempt as a whole: with a cancel scope, or at a lower cost by `exchange`'s deadline;
    `httpx`'s own timeouts are not looked at. Only opening a connection has a bound of its own.

    **May the receiver have seen the request?** After `httpx.ConnectError` (`AddressRefused` included),
    `httpx.ConnectTimeout`, `httpx.WriteError`, `httpx.UnsupportedProtocol` and `httpx.LocalProtocolError` it has not;
    after `httpx.ReadError` and `httpx.RemoteProtocolError` it may. After everything, a cancellation included,
    `exchange` has said so in its `progress`. A request is sent on a second connection only if the first, a reused one,
    did not take a single byte of it.

    Args:
        networks: Where receivers may live.
        names: Resolves their names; by default apart from everything else that resolves names.
        ssl_context: For `https`; by default the system's and certifi's authorities, TLS 1.2 or newer.
        connect_timeout_s: Bounds name lookup, connection and TLS handshake together.
        limit_per_origin: The most connections to one origin, idle ones included; further requests wait in order.
        keepalive_s: An idle connection is not reused after this long.
        max_idle: Idle connections to all origins together; by default half of the open files that this process may
            have, so that connections to many receivers never take those that new ones need.
        max_body_bytes: At most this much of an answer's body is read. A longer answer is returned with that much and
            `extensions["truncated"]`, and its connection is closed.
    """

    def __init__(
        self,
        *,
        networks: AllowedNetworks | None = None,
        names: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout_s: float = 5.0,
        limit_per_origin: int = LIMIT_PER_ORIGIN,
        keepalive_s: float = KEEPALIVE_S,
        max_idle: int | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._pool = Pool(
            networks=networks or AllowedNetworks(),
            names=names or Resolver(),
            ssl_context=ssl_context or default_ssl_context(),
            connect_timeout_s=connect_timeout_s,
            limit_per_origin=limit_per_origin,
            keepalive_s=keepalive_s,
            max_idle=half_of_the_open_files() if max_idle is None else max_idle,
        )

    def __repr__(self) -> str:
        idle, in_use, waiting = self._pool.counts()
        state = ", closed" if self._pool.closed else ""
        return f"<TrioTransport idle={idle} in_use={in_use} waiting={waiting} origins={len(self._pool.origins)}{state}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, read to the end; `response.read()` needs no await.

        Raises:
            AddressRefused, httpx.ConnectError, httpx.ConnectTimeout: No connection; nothing was sent.
            httpx.UnsupportedProtocol, httpx.LocalProtocolError: This request cannot be sent as it is.
            httpx.WriteError: A new connection broke before it took a single byte.
            httpx.ReadError, httpx.RemoteProtocolError: The connection or the answer broke, be it in the body.
            RuntimeError: The transport is closed.

        Cancellation: the connection is closed and its slot given back.
        """
        key = origin_key(request.url)
        data = render_request(request, request.content)
        answer = await self.exchange(key, data, SendProgress(), body_bound_s=math.inf)
        if answer.cut is not None:
            raise answer.cut
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=httpx.ByteStream(bytes(answer.body)),
            request=request,
            extensions={"truncated": answer.truncated},
        )

    async def exchange(
        self,
        key: OriginKey,
        data: bytes,
        progress: SendProgress,
        deadline: float = math.inf,
        *,
        body_bound_s: float = BODY_BOUND_S,
    ) -> AnswerParser:
        """Send a rendered request and read its answer: as `handle_async_request`, at half the cost.

        And for those who ask only what the receiver decided: behind the final head the answer is returned whatever
        becomes of its body, which is waited for no longer than `body_bound_s`; see `AnswerParser.cut`.

        Raises: as `handle_async_request`, and
            trio.TooSlowError: No final head was there by the deadline, on trio's clock; as after a cancellation.

        Cancellation: as `handle_async_request`.
        """
        pool = self._pool
        origin = await pool.acquire(key, deadline)
        try:
            if origin.users > CROWD:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()  # the request would be out before anybody noticed
            while True:
                idle = pool.take_idle(origin)
                connection = idle or await pool.connect(origin, deadline)
                try:
                    await connection.send(data, progress, deadline)
                    del data  # it is not needed any more, and the receiver may take its time
                    answer = await connection.receive(self._max_body_bytes, deadline, body_bound_s)
                except httpx.WriteError:  # not a single byte was taken, so nobody can have seen the request
                    connection.socket.close()
                    if idle is None:
                        raise
                except BaseException:
                    connection.socket.close()
                    raise
                else:
                    break
            pool.finish(connection, answer)
            return answer
        finally:
            pool.release(origin)

    @asynccontextmanager
    async def connected(self, key: OriginKey, deadline: float) -> AsyncIterator[ByteSocket]:
        """Open a connection to an origin as a request would, and close it behind the block; nothing is sent.

        With a scheme other than `https` it is a `PlainSocket`: so protocols other than HTTP use it.

        Raises: as `exchange`, before it sends.

        Cancellation: nothing stays open.
        """
        origin = await self._pool.acquire(key, deadline)
        try:
            connection = await self._pool.connect(origin, deadline)
            try:
                yield connection.socket
            finally:
                connection.socket.close()
        finally:
            self._pool.release(origin)

    async def reach(self, key: OriginKey, deadline: float) -> None:
        """Open a connection to an origin, and close it; as `connected`."""
        async with self.connected(key, deadline):
            pass

    async def aclose(self) -> None:
        """Close idle connections; those in use are closed when their requests end. Does not wait."""
        self._pool.close()


def half_of_the_open_files() -> int:
    """Return half of what this process may open; where there is no limit, what one origin may have."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LIMIT_PER_ORIGIN if allowed == resource.RLIM_INFINITY else allowed // 2
