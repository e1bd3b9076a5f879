"""Work that any process could do and one should: a lock saves the others the trouble, and nothing depends on it."""

import trio
from loguru import logger

from trio_alerts.errors import Unavailable
from trio_alerts.ports.stream import AlertStream

PATIENCE_ROUNDS = 15  # with the lock in other hands for longer, a process does the work without it, until it gets one


class Turn:
    """Whose turn it is: this process asks every `every_s` seconds, and keeps the others away for `holds_s`.

    A server with a full memory takes no lock, and one whose clock was set back keeps it for that long. So without an
    answer, or after being refused for many rounds, the work is done anyway: twice at worst.
    """

    def __init__(self, stream: AlertStream, name: str, every_s: float, holds_s: float) -> None:
        self._stream = stream
        self._name = name
        self._patience_s = PATIENCE_ROUNDS * every_s
        self._holds_s = holds_s
        self._last_s = trio.current_time()

    async def is_ours(self) -> bool:
        """Tell whether this process does the work now."""
        try:
            ours = await self._stream.lock(self._name, self._holds_s)
        except Unavailable as cause:
            logger.debug("the work is done without the lock: {reason}", reason=cause)
            ours = True
        if ours:
            self._last_s = trio.current_time()
            return True
        return trio.current_time() - self._last_s >= self._patience_s
