"""A backend's own tasks, beside the block that uses it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def running(*tasks: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run tasks for as long as the block runs, and cancel them at its end.

    Raises:
        Exception: What the block raises comes out as it is, not in an exception group.
        ExceptionGroup: A task failed, which cancels the block; what the block raised by then is in it too.
    """
    fault: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task)
            try:
                yield
            except Exception as raised:  # noqa: BLE001 (raised below, out of the nursery's group)
                fault = raised
            nursery.cancel_scope.cancel()
    except ExceptionGroup as group:
        if fault is None:
            raise
        fault = ExceptionGroup(group.message, [*group.exceptions, fault])
    finally:
        if fault is not None:
            raise fault
