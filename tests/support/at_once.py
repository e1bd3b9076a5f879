"""Calls that are made at the same time."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from trio_alerts.errors import NewerRecord, RefusedContent, Unavailable

T = TypeVar("T")
Failure = NewerRecord | RefusedContent | Unavailable


async def results_of(
    calls: Sequence[Callable[[], Awaitable[T]]],
) -> list[T | Failure]:
    """Make calls at once; what a backend refuses or fails to do stands in the place of a result."""
    results: dict[int, T | Failure] = {}

    async def make(number: int) -> None:
        try:
            results[number] = await calls[number]()
        except (NewerRecord, RefusedContent, Unavailable) as fault:
            results[number] = fault

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(make, number)
    return [results[number] for number in range(len(calls))]
