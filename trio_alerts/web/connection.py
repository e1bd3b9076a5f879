"""One connection to a client: Hypercorn's HTTP/1.1 over a trio stream, with bounds.

Hypercorn's own trio server holds a cancellation off while a client does not read, and can be talked into HTTP/2, where
a client that goes away leaves tasks behind.
"""

from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.logging import Logger
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr
from loguru import logger

IDLE_S = 5.0  # how long a client may take for the head of a request, or to send another one
SEND_BOUND_S = 10.0  # a client that reads nothing for so long is gone
HEAD_BYTES = 16 * 1024  # of a request; browsers send 1 KiB
BODY_CHUNKS = 4  # received before the application asks for them
MOST_REQUESTS = 100  # on a connection: others get their turn
CHUNK_BYTES = 64 * 1024


class Connection:
    """A connection that was accepted. How long it waits for the body of a request, the application decides.

    Args:
        stream: The connection.
        app: What answers its requests.
        context: Says when the server stops.
    """

    def __init__(self, stream: trio.SocketStream, app: AppWrapper, context: WorkerContext) -> None:
        self._stream = stream
        self._app = app
        self._context = context
        self._sending = trio.Lock()
        self._idle = TrioSingleTask()

    async def run(self) -> None:
        """Answer requests until either side has had enough. Cancellation: it is cut, in the middle of an answer too."""
        sock = self._stream.socket
        try:
            client, server = sock.getpeername(), sock.getsockname()
        except OSError:
            return  # it has gone already
        async with _Tasks() as self._tasks:
            self._protocol = _Http1(
                self._app,
                _CONFIG,
                self._context,
                self._tasks,
                ConnectionState({}),
                False,  # TLS
                parse_socket_addr(sock.family, client),
                parse_socket_addr(sock.family, server),
                self._take,
            )
            await self._idle.restart(self._tasks, self._end_when_idle)
            await self._receive()
            await self._end()

    async def _receive(self) -> None:
        try:
            while data := await self._stream.receive_some(CHUNK_BYTES):
                await self._protocol.handle(RawData(bytes(data)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _take(self, event: Event) -> None:
        """Take in what the protocol wants: to send, to close, or to be told when the client is idle for too long."""
        match event:
            case RawData():
                await self._send(event.data)
            case Closed():
                await self._end()
            case Updated(idle=True):
                await self._idle.restart(self._tasks, self._end_when_idle)
            case Updated(idle=False):
                await self._idle.stop()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            try:
                with trio.fail_after(SEND_BOUND_S):
                    await self._stream.send_all(data)
            except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._end()

    async def _end_when_idle(self) -> None:
        with trio.move_on_after(IDLE_S):
            await self._context.terminated.wait()
        await self._end()

    async def _end(self) -> None:
        """Close: whoever receives or sends finds out, and the application too."""
        self._stream.socket.close()
        await self._protocol.handle(Closed())


class _Tasks(TaskGroup):
    """Hands an application nothing more once it has answered: Hypercorn would wait for it to read on."""

    async def spawn_app(self, app: AppWrapper, config: Config, scope: Any, send: Any) -> Any:
        """See Hypercorn."""
        under_way: set[trio.CancelScope] | None = set()

        async def send_and_end(message: Any) -> None:
            nonlocal under_way
            is_last = message is None or (message["type"] == "http.response.body" and not message.get("more_body"))
            if is_last and under_way is not None:
                for one in under_way:
                    one.cancel()
                under_way = None
            await send(message)

        async def hand_over(message: Any) -> None:
            if under_way is None:
                return
            with trio.CancelScope() as one:
                under_way.add(one)
                await put(message)
            if under_way is not None:
                under_way.remove(one)

        put = await super().spawn_app(app, config, scope, send_and_end)
        return hand_over


class _Http1(H11Protocol):
    """HTTP/1.1 alone: an offer to go on in HTTP/2, which some clients always make, is not taken."""

    async def _check_protocol(self, event: Any) -> None:
        pass


class _Log(Logger):
    """Hypercorn's log: only what is a bug of ours reaches anybody."""

    async def exception(self, message: str, *_: Any, **__: Any) -> None:
        logger.exception("a page failed unexpectedly, please report this bug ({reason})", reason=message)


def _config() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None
    config.logger_class = _Log
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_BYTES
    config.max_app_queue_size = BODY_CHUNKS
    config.keep_alive_max_requests = MOST_REQUESTS
    return config


_CONFIG = _config()
