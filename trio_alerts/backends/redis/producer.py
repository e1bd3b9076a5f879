"""The producer's side of the stream: what `emit` and the demo write with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import trio

from trio_alerts.backends.redis.answers import EntryId, Refusal
from trio_alerts.backends.redis.client import RedisClient, opener
from trio_alerts.errors import Unavailable

AddResult = Literal["added", "unknown", "not added"]

WINDOW = 256  # commands on the way at once: what may be uncertain after a lost connection, at most
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Emission:
    """What became of each alert, in their order.

    Args:
        results: `unknown`: it was sent, and nobody saw the answer.
        entry_ids: Where it lies in its stream; empty if it was not certainly added.
        reason: Why it stopped early; empty if all were added.
    """

    results: Sequence[AddResult]
    entry_ids: Sequence[str]
    reason: str


class RedisProducer:
    """Writes alerts to streams, each once; made by `open_producer`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def add(self, entries: Sequence[tuple[str, bytes]]) -> Emission:
        """XADD alerts in their order, many on the way at once. Nothing is repeated: that could make two of one.

        Args:
            entries: Each the stream and the alert's JSON.

        Cancellation: what was on its way may have been added.
        """
        results: list[AddResult] = ["not added"] * len(entries)
        ids = [""] * len(entries)
        begin, reason = 0, ""
        while begin < len(entries) and not reason:
            end = _window_end(entries, begin)
            reason = await self._add_window(entries, begin, end, results, ids)
            begin = end
        return Emission(results, ids, reason)

    async def _add_window(
        self, entries: Sequence[tuple[str, bytes]], begin: int, end: int, results: list[AddResult], ids: list[str]
    ) -> str:
        reasons: list[str] = []
        try:
            # On a connection that is there the commands go out in the order of their tasks; after a loss, in any.
            await self._client.ping()
        except Unavailable as error:
            return f"Redis: {error}"
        async with trio.open_nursery() as window:

            async def add(number: int) -> None:
                stream, payload = entries[number]
                results[number] = "unknown"
                try:
                    answer = await self._client.xadd(stream, {b"event": payload})
                    ids[number] = self._client.expect(EntryId, answer, "XADD", stream).text
                except Refusal as refused:
                    results[number] = "not added"
                    reasons.append(f"Redis: {refused}")
                except Unavailable as error:
                    reasons.append(f"Redis: {error}")
                    window.cancel_scope.cancel()  # nothing that waits for the connection's return may go out later
                else:
                    results[number] = "added"

            for number in range(begin, end):
                if reasons:
                    break
                window.start_soon(add, number)
                await trio.lowlevel.checkpoint()  # it is on its way before the next one starts: that keeps the order
        return reasons[0] if reasons else ""


open_producer = opener(lambda client, _: RedisProducer(client))


def _window_end(entries: Sequence[tuple[str, bytes]], begin: int) -> int:
    end, size = begin, 0
    while end < min(begin + WINDOW, len(entries)) and (end == begin or size < WINDOW_BYTES):
        size += len(entries[end][1])
        end += 1
    return end
