"""The stream port on Redis: a consumer group's entries, read, kept alive, taken over and acknowledged."""

import datetime as dt
import math
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from loguru import logger
from redis.exceptions import NoPermissionError, ResponseError

from trio_alerts.alert import Entry
from trio_alerts.backends import redis_scripts as scripts
from trio_alerts.backends import redis_upkeep as upkeep
from trio_alerts.backends.background import running
from trio_alerts.backends.record_ids import REPLAY_OF, RecordIds
from trio_alerts.backends.redis_client import RedisClient, open_redis
from trio_alerts.backends.redis_connection import RedisConnection
from trio_alerts.backends.redis_keys import dead_letter_key, lock_key, lost_key
from trio_alerts.backends.redis_survey import survey
from trio_alerts.batcher import Batcher
from trio_alerts.errors import Unavailable
from trio_alerts.ports import HANDED_OVER_IDLE_S, DeadEntry, Pending, is_suspect
from trio_alerts.settings import Settings

MAX_ACKS = 1_000  # a command: 25 KB, half a millisecond of the server
PAGE = 200  # pending entries a look: their answer is about 20 KB
SLICE_S = 0.1  # of a wait for some of the streams, when there are fewer idle workers than streams: 10 commands a second
LOOK_FOR_LOSSES_S = 0.1  # a look takes 0.1 ms; once the producer's trimming is at our heels, before every read
WAKE_AGAIN_S = 0.02  # the read may be on its way to the server still: it is there within a round trip


@asynccontextmanager
async def open_redis_stream(settings: Settings) -> AsyncIterator["RedisStream"]:
    """Connect twice, once for what blocks, and keep the stream port open while the block runs.

    Raises:
        SettingsError: The address or the CA file are wrong.
        StartError: The server cannot be reached or refuses us; the message names the address.
    """
    url, ca_file = settings.redis_url.reveal(), settings.redis_ca_file
    async with (
        open_redis(url, ca_file=ca_file, timeout_s=settings.redis_timeout_s) as client,
        client.open_blocking(settings.block_s) as blocking,
    ):
        stream = RedisStream(settings, client, blocking)
        async with running(stream.acknowledge_batches):
            yield stream


class RedisStream:
    """Implements `AlertStream`; use `open_redis_stream`.

    A group that is gone (`NOGROUP`) has nothing pending and nothing of ours: only `read` creates it again. An error of
    the server that is planned for nowhere comes out as redis-py raises it: it is a bug, or permissions were changed.

    Attributes:
        lost_upstream: How many entries were deleted from the stream before anybody had dealt with them.
    """

    def __init__(self, settings: Settings, client: RedisClient, blocking: RedisClient) -> None:
        self.lost_upstream = 0
        self._settings = settings
        self._client = client
        self._blocking = blocking
        self._names = settings.stream_names
        self._group = settings.group
        self._consumer = settings.consumer
        self._ids = RecordIds(settings.stream_names)
        self._replays: dict[tuple[str, str], str] = {}  # record IDs of replays that we have read and not finished
        self._acks = Batcher[Entry, None](
            self._ack,
            max_items=MAX_ACKS,
            max_bytes=MAX_ACKS,
            size_of=lambda _: 1,
            patience_s=settings.redis_timeout_s,
        )
        self._cursors: dict[str, str] = {}  # where `look` goes on, by stream
        self._turn = 0  # which stream comes first, so that a busy one does not hide the others
        self._reader: tuple[RedisConnection | None, int | None] = (None, None)  # a connection, and its ID if permitted
        self._reading: object | None = None  # the read that is under way
        self._look_for_losses_at_s = -math.inf  # monotonic

    def __repr__(self) -> str:
        return f"<RedisStream {', '.join(self._names)} as {self._group}/{self._consumer}: {self._client.state}>"

    async def prepare(self) -> None:
        """Look at the server by `survey`, then create what is missing."""
        for missing in await survey(self._client, self._settings):
            await self._create_group(missing.stream, missing.start)

    async def inspect(self) -> list[str]:
        """Say what `prepare` would create, a line each, and raise what it would raise. Changes nothing."""
        return [str(missing) for missing in await survey(self._client, self._settings)]

    async def read(self, count: int) -> list[Entry]:
        """See the port. Several streams get their turn by themselves: COUNT is per stream, and `count` is for all."""
        names, each, block_s = self._share(count)
        await self._know_reader()
        if trio.current_time() >= self._look_for_losses_at_s:
            await self._look_for_losses()
        self._reading = object()
        try:
            answer: Any = await self._blocking.xreadgroup(
                self._group,
                self._consumer,
                dict.fromkeys(names, ">"),
                count=each,
                block=_milliseconds(block_s) or 1,  # 0 would be for ever
            )
        except ResponseError as error:
            # The second is what Redis 7.0 tells a blocked reader when the stream goes away.
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            await self._create_lost_groups(error)
            return []
        finally:
            self._reading = None
        return [
            self._entry(name.decode(), entry_id, fields, deliveries=1, claimed=False)
            for name, entries in answer
            for entry_id, fields in entries
        ]

    async def wake(self) -> None:
        """See the port. By CLIENT UNBLOCK, until the read that is under way has ended; nothing if not permitted."""
        (connection, client_id), reading = self._reader, self._reading
        if reading is None or client_id is None or connection is not self._current_connection():
            return
        try:
            while self._reading is reading:
                await self._client.client_unblock(client_id)
                await trio.sleep(WAKE_AGAIN_S)
        except (Unavailable, ResponseError) as cause:
            logger.debug("the read is not woken, it ends by itself: {}", cause)

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        """See the port. Looks at what is pending under our name page by page, until it has enough."""
        entries: list[Entry] = []
        for name in self._names:
            start, more = "-", True
            while more and len(entries) < count:
                page = await self._pending(name, PAGE, start=start, consumer=self._consumer)
                free = [one.id for one in page if one.record_id not in holding and not is_suspect(one)]
                while free and len(entries) < count:
                    wanted, free = free[: count - len(entries)], free[count - len(entries) :]
                    entries += await self._take(name, wanted, owner=self._consumer, claimed=False)
                start, more = _behind(page), len(page) == PAGE
        return entries

    async def look(self, min_idle_s: float, count: int) -> list[Pending]:
        """See the port. In the order of the stream, and each look goes on where the last one ended.

        So entries that the caller cannot take (it holds them, or has enough suspects) do not hide those behind them.
        """
        self._turn += 1
        found: list[Pending] = []
        for number in range(len(self._names)):
            name = self._names[(self._turn + number) % len(self._names)]
            wanted = count - len(found)
            if wanted <= 0:
                break
            start = self._cursors.get(name, "-")
            page = await self._pending(name, wanted, start=start, min_idle_s=min_idle_s)
            if len(page) < wanted and start != "-":  # the end: go on from the beginning
                seen = {one.id for one in page}
                again = await self._pending(name, wanted, min_idle_s=min_idle_s)
                page = (page + [one for one in again if one.id not in seen])[:wanted]
            self._cursors[name] = _behind(page) if len(page) == wanted else "-"
            found += page
        return found

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        """See the port. The server compares the idle time again, so of two claimants one wins."""
        entries: list[Entry] = []
        for name, ids in self._by_stream(pending):
            entries += await self._take(name, ids, min_idle_s=min_idle_s, claimed=True)
        return entries

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        """See the port. An entry that was deleted under our hands leaves the pending list, and nobody can take it."""
        ours: set[str] = set()
        known = {(entry.stream, entry.id): entry for entry in entries}
        for name, ids in self._by_stream(entries):
            counts = [_count(known[name, one], counted) for one in ids]
            for renewed, gone in await self._run(scripts.RENEW, name, _paired(ids, counts)):
                ours.update(known[name, one.decode()].record_id for one in renewed)
                for one in gone:
                    logger.warning(
                        "{record_id}: was deleted from stream {stream!r} while it is being worked on",
                        record_id=known[name, one.decode()].record_id,
                        stream=name,
                    )
        return ours

    async def owns(self, entry: Entry) -> bool:
        """See the port."""
        return bool(
            await self._pending(entry.stream, 1, start=entry.id, end=entry.id, consumer=self._consumer),
        )

    async def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        """See the port. A replay lies under another ID than its record's: it is found only if we have read it."""
        replayed_at = {record_id: place for place, record_id in self._replays.items()}
        asked: dict[tuple[str, str], str] = {}
        for record_id in record_ids:
            for place in (self._ids.place(record_id), replayed_at.get(record_id)):
                if place is not None:
                    asked[place] = record_id
        found: set[str] = set()
        for name in self._names:
            ids = [entry_id for stream, entry_id in asked if stream == name]
            for answer in await self._run(scripts.PENDING, name, ids):
                found.update(asked[name, one.decode()] for one in answer)
        return found

    async def ack(self, entry: Entry) -> None:
        """See the port. What many workers have to acknowledge in one moment goes out as one command."""
        await self._acks.submit(entry, held=True)
        self._replays.pop((entry.stream, entry.id), None)

    async def acknowledge_batches(self) -> None:
        """Send what gathers to be acknowledged, one batch after the other, until cancelled."""
        await self._acks.run()

    async def _ack(self, entries: Sequence[Entry]) -> Sequence[None]:
        for name, ids in self._by_stream(entries):
            await self._client.xack(name, self._group, *ids)
        return [None] * len(entries)

    async def quarantine(self, entry: Entry, dead: DeadEntry) -> bool:
        """See the port. If the entry was deleted from the stream, what was read of it is kept."""
        seconds, microseconds = await self._client.time()
        at = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=microseconds)
        ours = {
            "_id": entry.id,
            "_record": entry.record_id,
            "_stream": entry.stream,
            "_group": self._group,
            "_consumer": self._consumer,
            "_reason": dead.reason,
            "_error": dead.error,
            "_deliveries": entry.deliveries,
            "_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        keys = (entry.stream, dead_letter_key(entry.stream))
        arguments = [entry.id, 2 * len(ours), *_flat(ours)]
        answer = await self._eval(scripts.QUARANTINE, keys, arguments)
        if answer == b"DELETED":
            answer = await self._eval(scripts.QUARANTINE, keys, [*arguments, *_flat(entry.fields)])
        if answer != b"MOVED":
            return False
        self._replays.pop((entry.stream, entry.id), None)
        return True

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        """See the port. The delivery to us is taken back; those to earlier owners stay counted."""
        count = 0
        for name in self._names:
            start, more = "-", True
            while more:
                page = await self._pending(name, PAGE, start=start, consumer=self._consumer)
                ours = [one for one in page if one.record_id not in keeping]
                pairs = _paired([one.id for one in ours], [int(one.record_id not in refunded) for one in ours])
                for handed, gone in await self._run(scripts.HAND_OVER, name, pairs, _milliseconds(HANDED_OVER_IDLE_S)):
                    count += len(handed)
                    self._lost(name, gone)
                start, more = _behind(page), len(page) == PAGE
        return count

    async def leave(self) -> bool:
        """See the port. With several streams, true if it was removed from all of them."""
        answers = [await self._eval(scripts.LEAVE, (name,), []) for name in self._names]
        return all(answer != 0 for answer in answers)  # None: the group is gone, and our consumer with it

    async def newly_lost(self) -> int:
        """See the port."""
        await self._look_for_losses()
        return sum([await upkeep.take_untold(self._client, name, self._group) for name in self._names])

    async def quarantined(self) -> int:
        """See the port."""
        return sum([int(await self._client.xlen(dead_letter_key(name))) for name in self._names])

    async def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
        """See the port. With several streams, each name of which something was removed."""
        removed: dict[str, None] = {}
        for name in self._names:
            removed |= dict.fromkeys(
                await upkeep.remove_consumers(self._client, name, self._group, self._consumer, min_idle_s)
            )
        return list(removed)

    async def trim(self, keep_s: float) -> int:
        """See the port."""
        return sum([await upkeep.trim_acknowledged(self._client, name, keep_s) for name in self._names])

    async def server_time(self) -> float:
        """See the port."""
        seconds, microseconds = await self._client.time()
        return float(seconds) + float(microseconds) / 1_000_000

    async def lock(self, name: str, ttl_s: float) -> bool:
        """See the port. Each group has its own, beside the first stream."""
        key = lock_key(self._names[0], self._group, name)
        return bool(await self._client.set(key, self._consumer, nx=True, px=_milliseconds(ttl_s) or 1))

    def _share(self, count: int) -> tuple[Sequence[str], int, float]:
        """Return which streams to read now, how many entries of each, and for how long to wait."""
        streams = len(self._names)
        if count >= streams:
            return self._names, count // streams, self._settings.block_s
        # Fewer idle workers than streams: some of the streams, for a short time, and the next ones next time.
        first = self._turn = (self._turn + count) % streams
        names = [self._names[(first + number) % streams] for number in range(count)]
        return names, 1, min(SLICE_S, self._settings.block_s)

    async def _know_reader(self) -> None:
        """Ask for the ID of the blocking connection, when it is another one than the last time."""
        if self._blocking.connected and self._reader[0] is self._current_connection():
            return
        try:
            client_id = int(await self._blocking.client_id())
        except NoPermissionError:
            client_id = None
        self._reader = (self._current_connection(), client_id)

    def _current_connection(self) -> RedisConnection | None:
        return self._blocking._connection  # noqa: SLF001 - the client has no public sign of a new connection

    async def _create_lost_groups(self, error: ResponseError) -> None:
        for name in self._names:
            if await self._create_group(name, "0"):
                logger.warning(
                    "group {!r} of stream {!r} was gone ({}); it is created again, and reads the stream from its start",
                    self._group,
                    name,
                    error,
                )

    async def _create_group(self, name: str, start: str) -> bool:
        """Create the group, and the stream if need be; False if somebody else was first."""
        return await upkeep.create_group(self._client, name, self._group, start)

    async def _look_for_losses(self) -> None:
        """Count what was trimmed or deleted before it was read; a read would make some servers forget it."""
        losses = [await upkeep.look_for_losses(self._client, name, self._group) for name in self._names]
        pause_s = 0.0 if any(found.at_the_edge for found in losses) else LOOK_FOR_LOSSES_S
        self._look_for_losses_at_s = trio.current_time() + pause_s

    async def _take(
        self, name: str, ids: Sequence[str], *, claimed: bool, owner: str = "", min_idle_s: float = 0.0
    ) -> list[Entry]:
        """Claim entries if they are that idle and, if an owner is given, still that one's."""
        entries: list[Entry] = []
        for taken, gone in await self._run(scripts.CLAIM, name, ids, owner, _milliseconds(min_idle_s)):
            self._lost(name, gone)
            for entry_id, deliveries, flat in taken:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                entries.append(self._entry(name, entry_id, fields, deliveries=deliveries, claimed=claimed))
        return entries

    def _entry(
        self, name: str, raw_id: bytes, fields: Mapping[bytes, bytes], *, deliveries: int, claimed: bool
    ) -> Entry:
        entry_id = raw_id.decode()
        original = self._ids.of_replay(name, entry_id, fields) if REPLAY_OF in fields else None
        if original is not None:
            self._replays[name, entry_id] = original
        elif REPLAY_OF in fields:
            logger.warning(
                "{record_id}: its field 'replay_of' is none of ours; it counts as new",
                record_id=self._ids.of(name, entry_id),
            )
        return Entry(
            stream=name,
            id=entry_id,
            fields=fields,
            record_id=original or self._ids.of(name, entry_id),
            deliveries=deliveries,
            claimed=claimed,
            replayed=original is not None,
        )

    async def _pending(
        self,
        name: str,
        count: int,
        *,
        start: str = "-",
        end: str = "+",
        consumer: str | None = None,
        min_idle_s: float | None = None,
    ) -> list[Pending]:
        idle = None if min_idle_s is None else _milliseconds(min_idle_s)
        try:
            page = await self._client.xpending_range(name, self._group, start, end, count, consumer, idle)
        except ResponseError as error:
            if _is_nogroup(error):
                return []
            raise
        return [self._pending_entry(name, one) for one in page]

    def _pending_entry(self, name: str, answer: Mapping[str, Any]) -> Pending:
        entry_id = answer["message_id"].decode()
        return Pending(
            stream=name,
            id=entry_id,
            record_id=self._replays.get((name, entry_id)) or self._ids.of(name, entry_id),
            consumer=answer["consumer"].decode(),
            idle_s=answer["time_since_delivered"] / 1000,
            deliveries=answer["times_delivered"],
        )

    async def _run(self, script: str, name: str, ids: Sequence[str | int], *arguments: str | int) -> list[Any]:
        """Run a script over IDs of one stream, not too many a call; return its answers. None if the group is gone.

        The IDs may be pairs of an ID and a number: no pair is torn apart.
        """
        answers = []
        for start in range(0, len(ids), scripts.IDS_A_CALL):
            chunk = ids[start : start + scripts.IDS_A_CALL]
            answer = await self._eval(script, (name, lost_key(name, self._group)), [*arguments, *chunk])
            if answer is not None:
                answers.append(answer)
        return answers

    async def _eval(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        """Run a script; None if the group is gone."""
        try:
            return await self._client.eval(script, len(keys), *keys, self._group, self._consumer, *arguments)
        except ResponseError as error:
            if _is_nogroup(error):
                return None
            raise

    def _by_stream(self, items: Iterable[Entry | Pending]) -> list[tuple[str, list[str]]]:
        ids: dict[str, list[str]] = {}
        for item in items:
            ids.setdefault(item.stream, []).append(item.id)
        return list(ids.items())

    def _lost(self, name: str, gone: Sequence[bytes]) -> None:
        for entry_id in gone:
            self.lost_upstream += 1
            logger.error(
                "{record_id}: lost upstream: it was deleted or trimmed from stream {stream!r} before it was dealt with",
                record_id=self._ids.of(name, entry_id.decode()),
                stream=name,
            )


def _behind(page: Sequence[Pending]) -> str:
    """Return where the page after this one starts."""
    return f"({page[-1].id}" if page else "-"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _count(entry: Entry, counted: bool | None) -> int | str:
    return "" if counted is None else entry.deliveries - (not counted)


def _paired(ids: Sequence[str], numbers: Sequence[int | str]) -> list[int | str]:
    return [part for pair in zip(ids, numbers, strict=True) for part in pair]


def _is_nogroup(error: ResponseError) -> bool:
    return "NOGROUP " in str(error)


def _flat(fields: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
