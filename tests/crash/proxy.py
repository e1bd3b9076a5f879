"""A TCP proxy that spoils the traffic between the program and one of its servers, from one moment to the next.

Its tasks run in a thread of their own; its methods are called from outside and take effect at once, for connections
that are open as for those to come.
"""

import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httptools
import trio

from tests.crash.bulk_items import Item, is_bulk, is_whole, put_in, take_out
from tests.support.servers.process import free_port

CHUNK = 65_536
STARTS_WITHIN_S = 30.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing is a reset


@dataclass(frozen=True)
class Behaviour:
    """What the proxy does with traffic.

    Args:
        held: Nothing goes through, in either direction. When that ends, what was held arrives late, even from clients
            that have long given up: as when a network that was cut heals.
        loses: This share of the server's answers is not passed on; the connection is reset instead. The server has
            done what it was asked.
        delay_s: Waited before each answer is passed on.
        answers: With HTTP: every request is answered with these bytes and never reaches the server.
        bulk_only: This is done to `_bulk` requests, and the others reach it.
        rejects: With HTTP: this share of the items of `_bulk` requests is answered with 429 and never reaches the
            server; the others are done.
    """

    held: bool = False
    loses: float = 0.0
    delay_s: float = 0.0
    answers: bytes = b""
    bulk_only: bool = False
    rejects: float = 0.0


FAITHFUL = Behaviour()


def http_answer(status: int, phrase: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Render an answer for `Behaviour.answers`."""
    lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {content_type}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


NO_ITEMS = http_answer(200, "OK", b'{"items":[]}')


class Proxy:
    """A proxy on 127.0.0.1, from `with` to the end of the block.

    Args:
        upstream: The server's port.
        http: Pass requests on only when they are complete, so that `Behaviour.answers` can answer each of them.

    Attributes:
        port: Where it listens, always the same.
        spoiled: How many answers were lost or made up, items rejected, and connections reset or refused.
    """

    def __init__(self, upstream: int, *, http: bool = False) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.spoiled = 0
        self._http = http
        self._behaviour = FAITHFUL
        self._changed = trio.Event()
        self._connections: set[trio.SocketStream] = set()
        self._listeners: list[trio.SocketListener] = []
        self._listening = trio.CancelScope()
        self._nursery: trio.Nursery
        self._token: trio.lowlevel.TrioToken
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(STARTS_WITHIN_S), "the proxy does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()

    # -- called from outside --

    def behave(self, behaviour: Behaviour) -> None:
        """Treat all traffic like this from now on."""
        trio.from_thread.run_sync(self._behave, behaviour, trio_token=self._token)

    def cut(self) -> None:
        """Reset every connection."""
        trio.from_thread.run_sync(self._cut, trio_token=self._token)

    def refuse(self) -> None:
        """Reset every connection and listen no more: who connects is refused."""
        trio.from_thread.run(self._refuse, trio_token=self._token)

    def accept(self) -> None:
        """Listen again after `refuse`."""
        trio.from_thread.run(self._listen, trio_token=self._token)

    # -- in the proxy's own thread --

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._listen()
            self._ready.set()
            await trio.sleep_forever()

    async def _listen(self) -> None:
        self._listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self._listening = trio.CancelScope()
        self._nursery.start_soon(self._serve, self._listeners, self._listening)

    async def _serve(self, listeners: list[trio.SocketListener], listening: trio.CancelScope) -> None:
        with listening:
            await trio.serve_listeners(self._carry, listeners, handler_nursery=self._nursery)

    def _behave(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._changed.set()
        self._changed = trio.Event()

    def _cut(self) -> None:
        for connection in list(self._connections):
            self._reset(connection)

    async def _refuse(self) -> None:
        self._listening.cancel()
        for listener in self._listeners:  # here and now: the cancelled task would close them a moment later
            await listener.aclose()
        self._cut()

    def _reset(self, connection: trio.SocketStream) -> None:
        self.spoiled += 1
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        trio.lowlevel.notify_closing(connection.socket)
        connection.socket.close()
        self._connections.discard(connection)

    async def _carry(self, client: trio.SocketStream) -> None:
        self._connections.add(client)
        try:
            await self._until_passing()
            await self._connect_both(client)
        except OSError:
            pass  # no server there: the client sees the end of its connection, as it would without a proxy
        finally:
            self._connections.discard(client)
            await trio.aclose_forcefully(client)

    async def _connect_both(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self.upstream)
        answering = trio.Lock()  # a client that is quick sends its next request before our send of an answer returns
        rejected: dict[int, Item] = {}  # what is still to be put into the answer that is under way
        try:
            async with server, trio.open_nursery() as both:
                both.start_soon(self._pump, client, server, answering, rejected, both.cancel_scope)
                await self._pump_back(server, client, answering, rejected)
                both.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
            pass  # one side has gone, or was reset by us

    async def _pump(
        self,
        client: trio.SocketStream,
        server: trio.SocketStream,
        answering: trio.Lock,
        rejected: dict[int, Item],
        both: trio.CancelScope,
    ) -> None:
        """Carry requests. Those that were held are passed on although their sender has gone."""
        framing = _Framing() if self._http else None
        while True:
            data = bytes(await client.receive_some(CHUNK))
            if data and framing is not None:
                data = framing.whole_requests(data)
                if not data:
                    continue
            await self._until_passing()
            if not data:
                both.cancel()
                return
            data, made_up = self._spoil(data, rejected)
            if made_up:
                async with answering:
                    await client.send_all(made_up)
            else:
                await server.send_all(data)

    def _spoil(self, request: bytes, rejected: dict[int, Item]) -> tuple[bytes, bytes]:
        """Return what goes to the server, and what is answered in its place: one of them is empty."""
        behaviour = self._behaviour
        if behaviour.answers and (is_bulk(request) or not behaviour.bulk_only):
            self.spoiled += 1
            return b"", behaviour.answers
        if not behaviour.rejects or not is_bulk(request):
            return request, b""
        left, taken = take_out(request, behaviour.rejects)
        self.spoiled += len(taken)
        if not left:
            return b"", put_in(NO_ITEMS, taken)
        rejected.update(taken)
        return left, b""

    async def _pump_back(
        self, server: trio.SocketStream, client: trio.SocketStream, answering: trio.Lock, rejected: dict[int, Item]
    ) -> None:
        while data := await server.receive_some(CHUNK):
            behaviour = self._behaviour
            if behaviour.delay_s:
                await trio.sleep(behaviour.delay_s)
            await self._until_passing()
            if random.random() < self._behaviour.loses:
                self._reset(client)
                return
            if rejected:
                while not is_whole(data):
                    if not (more := await server.receive_some(CHUNK)):
                        return
                    data += more
                data = put_in(data, rejected)
                rejected.clear()
            async with answering:
                await client.send_all(data)

    async def _until_passing(self) -> None:
        while self._behaviour.held:
            self.spoiled += 1
            await self._changed.wait()


class _Framing:
    """Holds a request back until all of it is there."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._data = b""
        self._complete = False

    def whole_requests(self, data: bytes | bytearray) -> bytes:
        """Return the requests that are complete now, if any: a client waits for the answer before its next one."""
        self._data += data
        self._parser.feed_data(data)
        if not self._complete:
            return b""
        whole, self._data, self._complete = self._data, b"", False
        return whole

    def on_message_complete(self) -> None:
        self._complete = True
