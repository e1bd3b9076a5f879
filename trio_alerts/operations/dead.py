"""Dead letters: found, read, put back, dropped."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from trio_alerts.backends.redis.dead_letters import DeadLetter, RedisDeadLetters
from trio_alerts.errors import SettingsError
from trio_alerts.pages import Pages
from trio_alerts.record_ids import RecordIds

PAGE = 200  # entries a script: it reads them whole, and the answer has only what was noted about them


class DeadLetters:
    """Dead letters, named as records are: with several streams, `<stream>|<ID>`."""

    def __init__(self, backend: RedisDeadLetters, streams: Sequence[str]) -> None:
        self._backend = backend
        self._streams = streams
        self._ids = RecordIds(streams)

    async def find(self, reasons: Sequence[str] = (), limit: int | None = None) -> list[tuple[str, DeadLetter]]:
        """Return the name of each entry that is there now, and what was noted about it, the oldest of a stream first.

        With `reasons`, only those that are there for one of them.
        """
        found: list[tuple[str, DeadLetter]] = []
        for stream in self._streams:
            async for page in Pages(partial(self._page, stream)):
                found += [(self._ids.of(stream, one.id), one) for one in page if not reasons or one.reason in reasons]
                if limit is not None and len(found) >= limit:
                    return found[:limit]
        return found

    async def get(self, name: str) -> tuple[DeadLetter, Sequence[tuple[bytes, bytes]]] | None:
        """Return an entry and the fields that its producer wrote; None if it is not there.

        Raises:
            SettingsError: It is no name of an entry.
        """
        stream, dead_id = self._place(name)
        return await self._backend.get(stream, dead_id)

    async def replay(self, names: Sequence[str], *, as_new: bool = False) -> AsyncIterator[tuple[str, str, str | None]]:
        """Put entries back; yield of each its name, its stream and its new ID there, None if it is not there.

        Raises:
            SettingsError: One of them is no name of an entry; nothing was done.
            Unavailable: What was not yielded is not certain.
        """
        for name, (stream, dead_id) in self._places(names).items():
            yield name, stream, await self._backend.replay(stream, dead_id, as_new=as_new)

    async def drop(self, names: Sequence[str], by: str) -> AsyncIterator[tuple[str, bool]]:
        """Delete entries for good, and yield of each whether it was there. Raises what `replay` raises.

        The log of drops keeps who wanted it (`by`).
        """
        for name, (stream, dead_id) in self._places(names).items():
            yield name, await self._backend.drop(stream, dead_id, by)

    async def _page(self, stream: str, last: DeadLetter | None) -> list[DeadLetter]:
        return await self._backend.page(stream, PAGE, last.id if last else "")

    def _places(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        return {name: self._place(name) for name in names}

    def _place(self, name: str) -> tuple[str, str]:
        place = self._ids.place(name)
        if place is None:
            raise SettingsError(f"{name!r} is not the ID of a dead letter; `dead list` shows them")
        return place
