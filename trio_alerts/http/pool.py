"""Connections to receivers, kept between requests: nothing here looks at all of them, however many there are."""

import ssl
from collections import OrderedDict, deque

import httpx
import trio

from trio_alerts.http.address_check import allowed_among
from trio_alerts.http.connect import Connector
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import OriginKey
from trio_alerts.http.resolver import Resolver, literal_address
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import ByteSocket, PlainSocket, SendProgress, TlsSocket
from trio_alerts.http.watch import ReadWatch

MAX_TLS_SESSIONS = 1_000  # about 4 KB each; more receivers than this just shake hands in full
# The rest of an answer whose status is known is waited for only to keep the connection, and to keep what a refusal
# says. It usually comes with the head; a lost packet comes after 0.2 to 1 s. To wait longer costs more than a new
# connection, and the worker is wanted.
BODY_BOUND_S = 1.0


class Connection:
    """One HTTP/1.1 connection, carrying one request at a time.

    Attributes:
        usable_until: When to stop reusing it, on trio's clock; set whenever it becomes idle.
        idle_since: When it became idle, on trio's clock.
        broken: It did not take a whole request.
    """

    __slots__ = ("broken", "idle_since", "origin", "socket", "usable_until")

    def __init__(self, origin: "Origin", socket: ByteSocket) -> None:
        self.origin = origin
        self.socket = socket
        self.idle_since = self.usable_until = 0.0
        self.broken = False

    async def send(self, request: bytes, progress: SendProgress, deadline: float) -> None:
        """Send a rendered request, as far as the receiver takes it: one that refuses early says why in its answer.

        Raises:
            httpx.WriteError: The connection was broken and took not a single byte; the request can be sent on another.
            trio.TooSlowError: It was not taken by the deadline, on trio's clock.

        Cancellation, TooSlowError: the connection must not be used again; `progress` tells whether anything went out.
        """
        try:
            await self.socket.send(request, progress, deadline)
        except OSError as error:
            if not progress.started:
                raise httpx.WriteError(f"nothing could be sent: {error}") from error
            self.broken = True

    async def receive(self, max_body_bytes: int, deadline: float, body_bound_s: float) -> AnswerParser:
        """Read the answer to what was sent. Until it begins, next to nothing is held for it.

        Once the final head is there, the answer is returned whatever becomes of its body: see `AnswerParser.cut`.

        Args:
            max_body_bytes: At most this much of the body is kept.
            deadline: For the final head, on trio's clock.
            body_bound_s: The longest wait for the whole body after that, but not beyond the deadline.

        Raises:
            httpx.ReadError: The connection broke.
            httpx.RemoteProtocolError: The head is not acceptable, or not whole.
            trio.TooSlowError: There was no final head by the deadline.

        Cancellation, TooSlowError: the connection must not be used again.
        """
        answer: AnswerParser | None = None
        while answer is None or not answer.complete:
            try:
                data = await self.socket.receive(deadline)
            except OSError as error:
                fault = httpx.ReadError(f"the connection broke before the answer was whole: {error}")
                if answer is None:
                    raise fault from error
                answer.end_early(fault)
                break
            except trio.TooSlowError:
                if answer is None or not answer.status:
                    raise
                answer.end_early(httpx.ReadTimeout("the body of the answer did not come in time"))
                break
            if answer is None:
                answer = AnswerParser(max_body_bytes)
            had_status = answer.status
            if data:
                answer.feed(data)
            else:
                answer.feed_eof()
            if answer.status and not had_status and not answer.complete:
                deadline = min(deadline, trio.current_time() + body_bound_s)
        answer.reusable = answer.reusable and not self.broken
        return answer


class Origin:
    """The connections to one origin.

    Attributes:
        idle: Kept connections; the longest idle is on the left, the next to be reused on the right.
        users: Requests that hold a connection or wait for one.
        slots: One a connection that may be in use; waiting requests get them in the order in which they came.
    """

    __slots__ = ("idle", "key", "slots", "users")

    def __init__(self, key: OriginKey, limit: int) -> None:
        self.key = key
        self.idle: deque[Connection] = deque()
        self.users = 0
        self.slots = trio.Semaphore(limit, max_value=limit)


class Pool:
    """All connections of a transport.

    A connection is in use by one request or idle, never in between. `acquire` and `release` come in pairs; between
    them the request owns what it got from `take_idle` or `connect`, and ends by `finish` or by closing it.

    The arguments are those of `TrioTransport`. No task watches a clock for `keepalive_s`: the next connection that
    becomes idle, of whatever origin, closes those that are over it. One that the receiver closed is noticed before it
    would be used.
    """

    def __init__(
        self,
        *,
        networks: AllowedNetworks,
        names: Resolver,
        ssl_context: ssl.SSLContext,
        connect_timeout_s: float,
        limit_per_origin: int,
        keepalive_s: float,
        max_idle: int,
    ) -> None:
        self.closed = False
        self.origins: dict[OriginKey, Origin] = {}
        self._networks = networks
        self._names = names
        self._connector = Connector()
        self._ssl_context = ssl_context
        self._connect_timeout_s = connect_timeout_s
        self._limit_per_origin = limit_per_origin
        self._keepalive_s = keepalive_s
        self._max_idle = max_idle
        self._watch = ReadWatch()
        # Every idle connection, the longest idle one first. Within one origin the order is that of Origin.idle.
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        # Of the last full handshakes; apart from the origins, because a receiver that closes after each answer needs
        # them most.
        self._tls_sessions: OrderedDict[OriginKey, ssl.SSLSession] = OrderedDict()

    async def acquire(self, key: OriginKey, deadline: float) -> Origin:
        """Wait for the right to use one connection to an origin.

        Raises:
            RuntimeError: The pool is closed.
            trio.TooSlowError: There was none by the deadline, on trio's clock.

        Cancellation: nothing is held.
        """
        if self.closed:
            raise RuntimeError("the transport is closed")
        origin = self.origins.get(key)
        if origin is None:
            origin = self.origins[key] = Origin(key, self._limit_per_origin)
        origin.users += 1
        try:
            origin.slots.acquire_nowait()
        except trio.WouldBlock:
            try:
                with trio.fail_at(deadline):
                    await origin.slots.acquire()
            except BaseException:
                self._leave(origin)
                raise
        return origin

    def release(self, origin: Origin) -> None:
        """Give the right back; the longest waiting request gets it."""
        origin.slots.release()
        self._leave(origin)

    def take_idle(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, if there is one that still works."""
        now = trio.current_time()
        while origin.idle:
            connection = origin.idle.pop()
            del self._idle[connection]
            if connection.usable_until > now and connection.socket.is_quiet(now - connection.idle_since):
                return connection
            connection.socket.close()
        return None

    async def connect(self, origin: Origin, deadline: float) -> Connection:
        """Open a connection to a checked address.

        Raises:
            AddressRefused: The origin lives where it must not.
            RuntimeError: The pool is closed.
            httpx.ConnectTimeout, httpx.ConnectError: It cannot be reached, or is not who it should be.
            trio.TooSlowError: The deadline, on trio's clock, came before the pool's own bound.

        Cancellation: nothing stays open.
        """
        if self.closed:  # while this request waited for its slot
            raise RuntimeError("the transport was closed")
        missing = f"no address of {origin.key.host!r} from DNS"
        try:
            with trio.fail_at(min(deadline, trio.current_time() + self._connect_timeout_s)) as scope:
                addresses = await self._allowed_addresses(origin.key.host)
                missing = "no connection"
                sock = await self._connector.connect(addresses, origin.key.port, scope.deadline)
                plain = PlainSocket(sock, self._watch)
                if origin.key.scheme != "https":
                    return Connection(origin, plain)
                try:
                    # Certificates hold names without the final dot.
                    host = origin.key.host.rstrip(".")
                    tls = TlsSocket(plain, self._ssl_context, host, self._tls_sessions.get(origin.key))
                    await tls.handshake(scope.deadline)
                except BaseException:
                    plain.close()
                    self._tls_sessions.pop(origin.key, None)
                    raise
                return Connection(origin, tls)
        except trio.TooSlowError as error:
            if trio.current_time() >= deadline:
                raise
            raise httpx.ConnectTimeout(f"{missing} within {self._connect_timeout_s} s") from error
        except OSError as error:
            raise httpx.ConnectError(f"cannot connect: {error}") from error

    def finish(self, connection: Connection, answer: AnswerParser) -> None:
        """Take back a connection whose answer is complete: keep it for the next request, or close it."""
        if isinstance(connection.socket, TlsSocket):
            self._remember_session(connection.origin.key, connection.socket)
        if answer.reusable and not self.closed:
            self._keep(connection, answer.keepalive_s)
        else:
            connection.socket.close()

    def close(self) -> None:
        """Close idle connections now; those in use are closed when their requests end."""
        self.closed = True
        for connection in self._idle:
            connection.socket.close()
            connection.origin.idle.clear()
        self._idle.clear()
        self.origins = {key: origin for key, origin in self.origins.items() if origin.users}

    def counts(self) -> tuple[int, int, int]:
        """Return how many connections are idle, how many requests have one or open one, and how many wait."""
        waiting = sum(origin.slots.statistics().tasks_waiting for origin in self.origins.values())
        users = sum(origin.users for origin in self.origins.values())
        return len(self._idle), users - waiting, waiting

    async def _allowed_addresses(self, host: str) -> list[str]:
        """Return what of a host may be connected to; every address is judged for every connection."""
        literal = literal_address(host)
        if literal is not None:
            return allowed_among(self._networks, host, [literal], literal=True)
        return allowed_among(self._networks, host, await self._names.addresses(host), literal=False)

    def _keep(self, connection: Connection, receiver_keeps_s: int | None) -> None:
        # A second less than the receiver said: what we send while it closes would be lost, and in doubt.
        keep_s = self._keepalive_s if receiver_keeps_s is None else min(self._keepalive_s, receiver_keeps_s - 1)
        if keep_s <= 0 or not self._max_idle:
            connection.socket.close()
            return
        connection.idle_since = now = trio.current_time()
        connection.usable_until = now + keep_s
        while self._idle and (
            len(self._idle) >= self._max_idle or now - next(iter(self._idle)).idle_since >= self._keepalive_s
        ):
            self._close_longest_idle()
        connection.origin.idle.append(connection)
        self._idle[connection] = None

    def _remember_session(self, key: OriginKey, tls: TlsSocket) -> None:
        session = tls.new_session()
        if session is not None:
            self._tls_sessions[key] = session
            if len(self._tls_sessions) > MAX_TLS_SESSIONS:
                self._tls_sessions.popitem(last=False)

    def _close_longest_idle(self) -> None:
        connection, _ = self._idle.popitem(last=False)
        connection.origin.idle.popleft()
        connection.socket.close()
        self._forget_unused(connection.origin)

    def _leave(self, origin: Origin) -> None:
        origin.users -= 1
        self._forget_unused(origin)

    def _forget_unused(self, origin: Origin) -> None:
        if not origin.users and not origin.idle:
            self.origins.pop(origin.key, None)
