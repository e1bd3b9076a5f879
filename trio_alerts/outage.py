"""Waiting for a backend that does not answer, in one way, and saying so once."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio
from loguru import logger

from trio_alerts.errors import Stopping, Unavailable

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0  # how much later than the backend an idle worker may be back, and 1 try in 5 s a worker at worst

T = TypeVar("T")


class Outage:
    """Whether one backend answers. Everybody who waits for it shares this, so that each change is logged once.

    A backend may refuse some operations and do others (a full Redis, single items of a `_bulk`): the outage lasts until
    nobody waits any more.

    Args:
        name: The backend, as the log calls it.
        random: Where the jitter of the waits comes from.
    """

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.under_way = False
        self.ended_at_s = trio.current_time()  # monotonic; the start counts, since nobody knows what was before
        self._random = random
        self._waiting = 0  # operations that failed and were not done since

    def __repr__(self) -> str:
        return f"<Outage of {self.name}: {'under way' if self.under_way else 'none'}>"

    async def outlast(self, operation: Callable[[], Awaitable[T]], give_up: trio.Event | None = None) -> T:
        """Repeat an operation until the backend answers.

        Only for operations that may be repeated: the first try may have happened although it raised `Unavailable`.

        Args:
            operation: What to try.
            give_up: When this is set, waiting ends.

        Raises:
            Stopping: `give_up` was set while the backend did not answer.
        """
        wait_s = FIRST_WAIT_S
        waiting = False
        try:
            while True:
                try:
                    result = await operation()
                    break
                except Unavailable as cause:
                    self._waiting += not waiting
                    waiting = True
                    self.began(cause)
                wait_s = await self.pause(wait_s, give_up)
        finally:
            self._waiting -= waiting
        if self.under_way:
            self.ended()
        return result

    async def pause(self, wait_s: float, give_up: trio.Event | None) -> float:
        """Wait once, jittered, and return the next wait: doubled and capped."""
        jittered_s = wait_s * self._random.uniform(0.5, 1.0)
        if give_up is None:
            await trio.sleep(jittered_s)
        else:
            with trio.move_on_after(jittered_s):
                await give_up.wait()
            if give_up.is_set():
                raise Stopping(f"gave up waiting for {self.name}")
        return min(2 * wait_s, LONGEST_WAIT_S)

    def began(self, cause: Unavailable) -> None:
        """Note that the backend did not answer; the first to notice logs it."""
        if not self.under_way:
            self.under_way = True
            logger.error("{} does not answer: {} (waiting; entries stay pending)", self.name, cause)

    def ended(self) -> None:
        """Note that the backend answered; the last who waited for it logs it."""
        if self.under_way:
            self.ended_at_s = trio.current_time()
            if not self._waiting:
                self.under_way = False
                logger.info("{} answers again", self.name)
