"""Both backends, opened for a command."""

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.clock import ServerClock
from trio_alerts.deployment import DeploymentReader, refuse_foreign
from trio_alerts.errors import SchemaError, StartError
from trio_alerts.operations.records import Operator
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_records

T = TypeVar("T", bound=DeploymentReader)
SETTINGS = ("Redis", "group", "Store", "log_format")  # that commands on both backends need


@asynccontextmanager
async def open_both(redis: AbstractAsyncContextManager[T], settings: Settings) -> AsyncIterator[tuple[T, AlertStore]]:
    """Open a view of Redis, and the store; nothing is created.

    Raises:
        ExceptionGroup: What is wrong with Redis, with the store, or with each of them.
        SchemaError: The store belongs to another deployment.
    """
    faults: list[Exception] = []
    async with AsyncExitStack() as opened:
        try:
            view = await opened.enter_async_context(redis)
        except StartError as fault:
            faults.append(fault)
        try:  # inside the other: Redis is not blamed for what the store does
            store = await opened.enter_async_context(open_records(settings))
        except (StartError, SchemaError) as fault:
            faults.append(fault)
        if faults:
            raise ExceptionGroup("backends", faults)
        await refuse_foreign(view, store)
        yield view, store


@asynccontextmanager
async def open_operator(settings: Settings) -> AsyncIterator[Operator]:
    """Open both backends for whoever runs the command; raises what `open_both` raises."""
    async with open_both(open_redis_stream(settings), settings) as (stream, store):
        clock = ServerClock()
        clock.set(await stream.server_time())
        yield Operator(operator_name(), stream, store, stream.hints, clock)


def operator_name() -> str:
    """Return who runs the command."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())  # containers often run as a user without a name
    return f"{user}@{socket.gethostname()}"
