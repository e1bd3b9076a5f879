"""A receiver on loopback that says exactly the bytes that its script says."""

import socket as sockets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

BACKLOG = 1_024  # a thousand workers may connect at once
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

RawStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Script = Callable[["RawConnection"], Awaitable[None]]


class RawConnection:
    """One accepted connection, in the hands of a script."""

    def __init__(self, stream: RawStream, receiver: "RawReceiver", number: int) -> None:
        self.stream = stream
        self.receiver = receiver
        self.number = number
        self._buffer = b""

    async def request(self) -> bytes | None:
        """Read one request whole and note it; None when the client has closed."""
        request = await self.receive()
        if request is not None:
            self.receiver.requests.append(request)
        return request

    async def receive(self) -> bytes | None:
        """Read one request whole, its length as the head says it; None when the client has closed."""
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if end:
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if len(rest) >= length:
                    self._buffer = rest[length:]
                    return head + end + rest[:length]
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._buffer += data

    async def say(self, *pieces: bytes) -> None:
        """Send pieces, so that the client can receive them one by one; a client that has gone is no fault."""
        for piece in pieces:
            try:
                await self.stream.send_all(piece)
            except trio.BrokenResourceError:
                return
            await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Break the connection off, as a crashed machine would."""
        socket = (self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream).socket
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        socket.close()


class RawReceiver:
    """What the scripts saw.

    Attributes:
        requests: every request that was read whole, in order.
        connections: how many connections were accepted.
        open: how many are open now.
    """

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/hook"
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0


async def always_ok(connection: RawConnection) -> None:
    """Answer every request of a connection with 200."""
    while await connection.request() is not None:
        await connection.say(OK)


def answering(*answers: bytes | Callable[[bytes], bytes]) -> Script:
    """Make a script that gives these answers, one a request, over all connections, and then closes.

    One that is a function makes its answer of the request.
    """
    left = list(answers)

    async def script(connection: RawConnection) -> None:
        while left and (request := await connection.request()) is not None:
            answer = left.pop(0)
            await connection.say(answer if isinstance(answer, bytes) else answer(request))

    return script


def closing_after(*answers: bytes) -> Script:
    """Make a script that gives these answers, one a connection, and closes after each."""
    left = list(answers)

    async def script(connection: RawConnection) -> None:
        if left and await connection.request() is not None:
            await connection.say(left.pop(0))

    return script


@asynccontextmanager
async def raw_receiver(
    script: Script = always_ok, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawReceiver]:
    """Serve on a port of loopback (0: a free one) until the block ends; `script` runs each connection to its close."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=BACKLOG)
    receiver = RawReceiver(listeners[0].socket.getsockname()[1], "https" if tls else "http")

    async def handle(plain: trio.SocketStream) -> None:
        receiver.connections += 1
        receiver.open += 1
        stream = trio.SSLStream(plain, tls, server_side=True, https_compatible=True) if tls else plain
        try:
            await script(RawConnection(stream, receiver, receiver.connections))
        except trio.BrokenResourceError:
            pass  # the client went away, or would not trust us
        finally:
            receiver.open -= 1
            plain.socket.close()

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, listeners)
        try:
            yield receiver
        finally:
            nursery.cancel_scope.cancel()


@contextmanager
def dead_port_on_loopback() -> Iterator[int]:
    """Yield a port of 127.0.0.1 where a connection neither succeeds nor fails, as behind a firewall that drops."""
    with sockets.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [sockets.socket() for _ in range(8)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()
