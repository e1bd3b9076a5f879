"""The same work for many, some of it at once."""

from collections.abc import Awaitable, Callable, Iterable

import trio


async def at_once(most: int, work: Callable[[str], Awaitable[None]], items: Iterable[str]) -> None:
    """Do a piece of work for each item, at most so many at a time.

    Raises:
        Exception: What went wrong first, as it is and not in a group; the rest is cancelled.
    """
    limiter = trio.CapacityLimiter(most)
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
