"""Serves an application over HTTP beside other work, which no client can hold up, nor a stop."""

import socket
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from loguru import logger

from trio_alerts.errors import SettingsError
from trio_alerts.settings.hosts import BindAddress
from trio_alerts.web.connection import Connection

MOST_CONNECTIONS = 128  # each is a file; a browser opens six, a scraper one


def bind(address: BindAddress, setting: str) -> socket.socket:
    """Return a socket that listens; clients that come before it is served wait.

    Args:
        address: Where.
        setting: What named it, for the message.

    Raises:
        SettingsError: The port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET  # noqa: PLR2004
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may linger
        listener.bind((str(address.ip), address.port))
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise SettingsError(f"{setting}: cannot listen on {address}: {error.strerror}") from error
    return listener


async def serve(
    app: ASGIFramework,
    listener: socket.socket,
    stopping: trio.Event,
    grace_s: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until stopped; the socket is closed then.

    Args:
        app: The application; it needs no lifespan.
        listener: What `bind` returned.
        stopping: When it is set, nothing more is accepted, idle connections end, and the others get `grace_s`.
        grace_s: How long answers under way may take after that.
        task_status: Started when connections are accepted.

    Cancellation: connections are cut at once, also those of clients that do not read.
    """
    server = _Server(app)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            sources = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
            await accepting.start(partial(trio.serve_listeners, server.carry, sources, handler_nursery=connections))
            task_status.started()
            await stopping.wait()
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + grace_s
        await server.context.terminated.set()


class _Server:
    def __init__(self, app: ASGIFramework) -> None:
        self.context = WorkerContext(max_requests=None)
        self._app = ASGIWrapper(app)
        self._open: dict[trio.CancelScope, None] = {}  # oldest first

    async def carry(self, stream: trio.SocketStream) -> None:
        """Carry one connection to its end, and cut the oldest if it is one too many."""
        with trio.CancelScope() as scope:
            self._open[scope] = None
            if len(self._open) > MOST_CONNECTIONS:
                next(iter(self._open)).cancel()  # not the newest: a probe gets its answer, whoever holds the others
            try:
                await Connection(stream, self._app, self.context).run()
            except Exception as fault:  # noqa: BLE001 - a bug that a client can reach is no reason to stop anything
                logger.opt(exception=fault).error("a request over HTTP failed unexpectedly, please report this bug")
            finally:
                del self._open[scope]
