"""Bounded concurrency."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

First = TypeVar("First")
Second = TypeVar("Second")


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


async def both(first: Callable[[], Awaitable[First]], second: Callable[[], Awaitable[Second]]) -> tuple[First, Second]:
    """Do two things at a time, and return what came of them. Raises what `for_each` raises."""
    firsts: list[First] = []
    seconds: list[Second] = []

    async def do(which: str) -> None:
        if which == "first":
            firsts.append(await first())
        else:
            seconds.append(await second())

    await for_each(("first", "second"), do, at_most=2)
    return firsts[0], seconds[0]
