"""Dead letters: found, read, put back, dropped."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct, structs

from trio_alerts.backends.redis.dead_letters import DeadLetter, RedisDeadLetters
from trio_alerts.errors import SettingsError
from trio_alerts.pages import Pages
from trio_alerts.record_ids import RecordIds

PAGE = 200  # entries a script: it reads them whole, and the answer has only what was noted about them


class NamedDeadLetter(Struct, frozen=True):
    """A `DeadLetter` by its name; the names are those of the JSON that `dead list` prints."""

    dead_id: str
    stream: str
    record_id: str
    reason: str
    error: str
    deliveries: int
    at: str
    group: str
    size: int


class WholeDeadLetter(NamedDeadLetter, frozen=True):
    r"""With the names and values that its producer wrote; what is no UTF-8 in them is spelled out, as in `\xff`."""

    fields: tuple[Annotated[tuple[str, ...], Meta(min_length=2, max_length=2)], ...]


class DeadLetters:
    """Dead letters, named as records are: with several streams, `<stream>|<ID>`."""

    def __init__(self, backend: RedisDeadLetters, streams: Sequence[str]) -> None:
        self._backend = backend
        self._streams = streams
        self._ids = RecordIds(streams)

    async def find(
        self, reasons: Sequence[str] = (), limit: int | None = None, after: str | None = None
    ) -> list[NamedDeadLetter]:
        """Return the entries that are there now, the oldest of a stream first.

        With `reasons`, only those that are there for one of them; with `after`, what follows the entry of that name.

        Raises:
            SettingsError: `after` is no name of an entry.
        """
        found: list[NamedDeadLetter] = []
        first, last = (self._streams[0], "") if after is None else self._place(after)
        for stream in self._streams[self._streams.index(first) :]:
            async for page in Pages(partial(self._page, stream, last if stream == first else "")):
                found += [self._named(one) for one in page if not reasons or one.reason in reasons]
                if limit is not None and len(found) >= limit:
                    return found[:limit]
        return found

    async def get(self, name: str) -> WholeDeadLetter | None:
        """Return an entry; None if it is not there.

        Raises:
            SettingsError: It is no name of an entry.
        """
        stream, dead_id = self._place(name)
        found = await self._backend.get(stream, dead_id)
        if found is None:
            return None
        letter, fields = found
        pairs = tuple((_text(field), _text(value)) for field, value in fields)
        return WholeDeadLetter(**structs.asdict(self._named(letter)), fields=pairs)

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

    async def _page(self, stream: str, after: str, last: DeadLetter | None) -> list[DeadLetter]:
        return await self._backend.page(stream, PAGE, last.id if last else after)

    def _named(self, letter: DeadLetter) -> NamedDeadLetter:
        return NamedDeadLetter(
            dead_id=self._ids.of(letter.stream, letter.id),
            stream=letter.stream,
            record_id=letter.record_id,
            reason=letter.reason,
            error=letter.error,
            deliveries=letter.deliveries,
            at=letter.at,
            group=letter.group,
            size=letter.size,
        )

    def _places(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        return {name: self._place(name) for name in names}

    def _place(self, name: str) -> tuple[str, str]:
        place = self._ids.place(name)
        if place is None:
            raise SettingsError(f"{name!r} is not the ID of a dead letter; `dead list` shows them")
        return place


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
