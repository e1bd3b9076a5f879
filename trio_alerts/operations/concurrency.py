"""Bounded concurrency."""

from collections.abc import Awaitable, Callable, Iterable

import trio


async def for_each(items: Iterable[str], work: Callable[[str], Awaitable[None]], *, at_most: int) -> None:
    """Do the same work for each item, for at most so many at a time.

    Raises:
        Exception: The first that any of the work raised, as it is and not in a group; the rest is cancelled.
    """
    limiter = trio.CapacityLimiter(at_most)
    faults: list[Exception] = []

    async def carry_out(item: str) -> None:
        async with limiter:
            try:
                await work(item)
            except Exception as fault:  # noqa: BLE001, raised below, out of the nursery's group
                faults.append(fault)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(carry_out, item)
    if faults:
        raise faults[0]
