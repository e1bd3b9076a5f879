"""Reading page by page what is too long for one answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class Pages(Generic[Item]):
    """Iterates over pages, each of what follows the last item of the page before, until one is empty.

    Not an async generator: whoever leaves the loop early need not close it.

    Args:
        read: Reads the page after an item, or the first one after None.
    """

    def __init__(self, read: Callable[[Item | None], Awaitable[Sequence[Item]]]) -> None:
        self._read = read
        self._last: Item | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Item]:
        page = await self._read(self._last)
        if not page:
            raise StopAsyncIteration
        self._last = page[-1]
        return page
