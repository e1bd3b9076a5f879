"""Reading new entries for a group: waiting, and being woken."""

from collections.abc import Sequence

import trio
from loguru import logger

from trio_alerts.alert import MAX_ENTRY_BYTES
from trio_alerts.backends.redis.answers import Refusal
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.connection import RedisConnection
from trio_alerts.backends.redis.groups import Groups
from trio_alerts.errors import Unavailable
from trio_alerts.record_ids import REPLAY_OF, is_entry_id
from trio_alerts.settings.settings import Settings

SLICE_S = 0.1  # of a wait for some of the streams, when there are fewer idle workers than streams: 10 commands a second
WAKE_AGAIN_S = 0.02  # the read may be on its way to the server still: it is there within a round trip

LONGEST_ID = 1000  # bytes of a record's ID: a stream's name and two numbers

Fields = dict[bytes, bytes]
_READ = list[tuple[bytes, list[tuple[bytes, Fields]]]]  # `EntryId` costs three times what `is_entry_id` does


def most_read(settings: Settings) -> int:
    """Return how many bytes an answer with new entries may have: as many as are asked for at once, none too large."""
    return (min(settings.workers, settings.batch) + 1) * MAX_ENTRY_BYTES


class RedisReader:
    """Reads the streams of one group; only the read itself goes over `blocking`."""

    def __init__(self, settings: Settings, client: RedisClient, blocking: RedisClient, groups: Groups) -> None:
        self._settings = settings
        self._client = client
        self._blocking = blocking
        self._groups = groups
        self._names = settings.stream_names
        self._group = settings.group
        self._turn = 0  # which stream comes first, so that a busy one does not hide the others
        self._in_vain = 0  # in how many streams, one after the other, nothing was found
        self._reader: tuple[RedisConnection | None, int | None] = (None, None)  # a connection, and its ID if permitted
        self._reading: object | None = None  # the read that is under way

    async def read(self, count: int) -> list[tuple[str, str, Fields, int]]:
        """Return stream, ID, fields and their bytes of at most `count` new entries; see `AlertStream.read`.

        Of an entry that is too large nothing is kept. An answer that is too large is not read to its end: the
        connection is dropped, and what it carried is pending under our name, where its size can be looked at.

        Several streams get their turn by themselves: COUNT is per stream, and `count` is for all.
        """
        names, each, block_s = self._share(count)
        await self._know_reader()
        await self._groups.look_if_due()
        self._reading = object()
        try:
            answer = await self._blocking.xreadgroup(
                self._group,
                self._settings.consumer,
                dict.fromkeys(names, ">"),
                count=each,
                block=None if block_s is None else round(block_s * 1000) or 1,  # 0 would be for ever
            )
        except Refusal as refused:
            # The second is what Redis 7.0 tells a blocked reader when the stream goes away.
            if not refused.reply.startswith(("NOGROUP", "UNBLOCKED")):
                raise
            await self._groups.create_lost(refused)
            return []
        finally:
            self._reading = None
        found = [
            (name.decode(errors="replace"), entry_id.decode(errors="replace"), *_light(fields))
            for name, entries in self._blocking.expect(_READ, answer, "XREADGROUP")
            for entry_id, fields in entries
        ]
        if any(name not in self._names or not is_entry_id(entry_id) for name, entry_id, _, _ in found):
            raise self._blocking.misunderstood(("XREADGROUP",), answer)
        self._in_vain = 0 if found else self._in_vain + len(names)
        return found

    async def wake(self) -> None:
        """Let a blocked read return, by CLIENT UNBLOCK, until it has; nothing if that is not permitted."""
        (connection, client_id), reading = self._reader, self._reading
        if reading is None or client_id is None or connection is not self._blocking.connection:
            return
        try:
            while self._reading is reading:
                await self._client.client_unblock(client_id)
                await trio.sleep(WAKE_AGAIN_S)
        except Unavailable as cause:
            logger.debug("the read is not woken, it ends by itself: {reason}", reason=cause)

    def _share(self, count: int) -> tuple[Sequence[str], int, float | None]:
        """Return which streams to read now, how many entries of each, and for how long to wait; None: not at all."""
        streams = len(self._names)
        if count >= streams:
            return self._names, count // streams, self._settings.block_s
        # Fewer idle workers than streams: some of the streams, and the next ones next time. To wait, even for a short
        # time, before all of them were found empty would keep idle workers from what the others have.
        first = self._turn = (self._turn + count) % streams
        names = [self._names[(first + number) % streams] for number in range(count)]
        return names, 1, min(SLICE_S, self._settings.block_s) if self._in_vain >= streams else None

    async def _know_reader(self) -> None:
        """Ask for the ID of the blocking connection, when it is another one than the last time."""
        if self._blocking.connected and self._reader[0] is self._blocking.connection:
            return
        client_id = None
        try:
            client_id = self._blocking.expect(int, await self._blocking.client_id(), "CLIENT ID")
        except Refusal as refused:
            if not refused.forbidden:
                raise
        self._reader = (self._blocking.connection, client_id)


def _light(fields: Fields) -> tuple[Fields, int]:
    """Return an entry's fields and their bytes; of one that is too large, only whose replay it is."""
    size = sum(map(len, fields)) + sum(map(len, fields.values()))
    if size > MAX_ENTRY_BYTES:
        fields = {name: value for name, value in fields.items() if name == REPLAY_OF and len(value) < LONGEST_ID}
    return fields, size
