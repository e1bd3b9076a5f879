"""The stream port on Redis: a consumer group's entries, read, kept alive, taken over and acknowledged."""

import datetime as dt
import math
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict, TypeVar

import trio
from loguru import logger
from redis.typing import EncodableT

from trio_alerts.alert import MAX_ENTRY_BYTES, Entry
from trio_alerts.backends.background import running
from trio_alerts.backends.redis import scripts
from trio_alerts.backends.redis.answers import EntryId, List, Refusal, ServerTime
from trio_alerts.backends.redis.client import RedisClient, open_redis
from trio_alerts.backends.redis.deployment import RedisDeployment
from trio_alerts.backends.redis.groups import Groups
from trio_alerts.backends.redis.keys import dead_letter_key, lock_key, lost_key
from trio_alerts.backends.redis.preflight import survey
from trio_alerts.backends.redis.reader import RedisReader, most_read
from trio_alerts.backends.redis.upkeep import RedisUpkeep
from trio_alerts.batcher import Batcher
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, DeadEntry, Pending, is_suspect
from trio_alerts.record_ids import REPLAY_OF, RecordIds, id_behind
from trio_alerts.settings.settings import Settings

MAX_ACKS = 1_000  # a command: 25 KB, half a millisecond of the server
PAGE = 200  # pending entries a look: their answer is about 20 KB

T = TypeVar("T")


class _Claimed(List):
    """Entries with their deliveries, fields and bytes, and those that are deleted."""

    taken: list[tuple[EntryId, int, list[bytes], int]]
    gone: list[EntryId]


class _Renewed(List):
    """Entries that are ours, and those that are deleted."""

    ours: list[EntryId]
    gone: list[EntryId]


class _Page(List):
    """How many there were, and the last of them."""

    count: int
    last: EntryId


class _PendingItem(TypedDict):
    """An item of the pending list, as redis-py gives it."""

    message_id: EntryId
    consumer: bytes
    time_since_delivered: int
    times_delivered: int


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
        client.open_blocking(settings.block_s, most_read(settings)) as blocking,
    ):
        stream = RedisStream(settings, client, blocking)
        async with running(stream.acknowledge_batches, stream.groups.watch):
            yield stream


class RedisStream:
    """Implements `AlertStream`; use `open_redis_stream`.

    A group that is gone (`NOGROUP`) has nothing pending and nothing of ours: only `read` creates it again. Any other
    error of the server, and any answer that is not what the command is answered with, is an outage.

    Attributes:
        groups: What watches the streams.
        upkeep: What the janitor does, over the same connection.
    """

    def __init__(self, settings: Settings, client: RedisClient, blocking: RedisClient) -> None:
        self._settings = settings
        self._client = client
        self._deployment = RedisDeployment(client, settings.stream_names, settings.group)
        self.groups = Groups(settings, client, self._deployment)
        self.upkeep = RedisUpkeep(settings, client, self.groups)
        self._reader = RedisReader(settings, client, blocking, self.groups)
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
        self._time_s = math.inf  # the server's time at zero of the monotonic clock, when it was last asked
        self._cursors: dict[str, str] = {}  # where `look` goes on, by stream
        self._turn = 0  # which stream comes first, so that a busy one does not hide the others

    def __repr__(self) -> str:
        return f"<RedisStream {', '.join(self._names)} as {self._group}/{self._consumer}: {self._client.state}>"

    async def prepare(self) -> None:
        """Look at the server by `survey`, then create what is missing."""
        found = await survey(self._client, self._settings)
        for warning in found.warnings:
            logger.warning("{}", warning)
        for missing in found.missing:
            await self.groups.create(missing.stream, missing.start)
        await self.groups.look_for_losses()

    async def inspect(self) -> list[str]:
        """Say what `prepare` would create and warn of, a line each, and raise what it would raise. Changes nothing."""
        found = await survey(self._client, self._settings)
        return [*map(str, found.missing), *(f"warning: {warning}" for warning in found.warnings)]

    async def deployment(self) -> str | None:
        """See the port."""
        return await self._deployment.read()

    async def keep_deployment(self, identity: str) -> str:
        """See the port."""
        return await self._deployment.keep(identity)

    async def replace_deployment(self, identity: str) -> None:
        """See the port."""
        await self._deployment.replace(identity)

    async def guard(self) -> None:
        """See the port."""
        await self._deployment.write_back()

    async def read(self, count: int) -> list[Entry]:
        """See the port."""
        found = await self._reader.read(count)
        return [
            self._entry(name, entry_id, fields, size, deliveries=1, claimed=False)
            for name, entry_id, fields, size in found
        ]

    async def wake(self) -> None:
        """See the port."""
        await self._reader.wake()

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        """See the port. Looks at what is pending under our name page by page, until it has enough."""
        entries: list[Entry] = []
        for name in self._names:
            start: str | None = "-"
            while start is not None and len(entries) < count:
                page = await self._pending(name, PAGE, start=start, consumer=self._consumer)
                free = [one.id for one in page if one.record_id not in holding and not is_suspect(one)]
                while free and len(entries) < count:
                    wanted, free = free[: count - len(entries)], free[count - len(entries) :]
                    entries += await self._take(name, wanted, owner=self._consumer, claimed=False)
                start = _next_page(page, PAGE)
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
            self._cursors[name] = _next_page(page, wanted) or "-"
            found += page
        return found

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        """See the port. The server compares the idle time again, so of two claimants one wins."""
        entries: list[Entry] = []
        for name, ids in self._by_stream(pending):
            entries += await self._take(name, ids, min_idle_s=min_idle_s, claimed=True)
        return entries

    async def restart_idle_times(self) -> None:
        """See the port. Page by page, 200 a call."""
        for name in self._names:
            start: str | None = "-"
            while start is not None:
                page = await self._eval(_Page, scripts.RESTART, (name,), [start, PAGE])
                if page is None or not page.count:
                    break
                self._client.expect_page([page.last], start, "EVAL", scripts.RESTART, 1, name)
                start = id_behind(page.last.text) if page.count >= PAGE else None

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        """See the port. An entry that was deleted under our hands leaves the pending list, and nobody can take it."""
        ours: set[str] = set()
        known = {(entry.stream, entry.id): entry for entry in entries}
        for name, ids in self._by_stream(entries):
            counts = [_count(known[name, one], counted) for one in ids]
            for answer in await self._run(_Renewed, scripts.RENEW, name, _paired(ids, counts)):
                ours.update(known[name, one.text].record_id for one in answer.ours if (name, one.text) in known)
                for one in answer.gone:
                    logger.warning(
                        "{record_id}: was deleted from stream {stream!r} while it is being worked on",
                        record_id=self._ids.of(name, one.text),
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
            for answer in await self._run(list[EntryId], scripts.PENDING, name, ids):
                found.update(asked[name, one.text] for one in answer if (name, one.text) in asked)
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
            self._client.expect(int, await self._client.xack(name, self._group, *ids), "XACK")
        return [None] * len(entries)

    async def quarantine(self, entry: Entry, dead: DeadEntry) -> bool:
        """See the port. If the entry was deleted from the stream, what was read of it is kept."""
        at = dt.datetime.fromtimestamp(await self.server_time(), dt.UTC)
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
        moved = await self._eval(int, scripts.QUARANTINE, keys, arguments)
        if moved == scripts.DELETED:
            moved = await self._eval(int, scripts.QUARANTINE, keys, [*arguments, *_flat(entry.fields)])
        if moved != scripts.MOVED:
            return False
        self._replays.pop((entry.stream, entry.id), None)
        return True

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        """See the port. The delivery to us is taken back; those to earlier owners stay counted."""
        count = 0
        for name in self._names:
            start: str | None = "-"
            while start is not None:
                page = await self._pending(name, PAGE, start=start, consumer=self._consumer)
                ours = [one for one in page if one.record_id not in keeping]
                pairs = _paired([one.id for one in ours], [int(one.record_id not in refunded) for one in ours])
                idle_ms = _milliseconds(HANDED_OVER_IDLE_S)
                for handed in await self._run(_Renewed, scripts.HAND_OVER, name, pairs, idle_ms):
                    count += len(handed.ours)
                    self._lost(name, handed.gone)
                start = _next_page(page, PAGE)
        return count

    async def leave(self) -> bool:
        """See the port. With several streams, true if it was removed from all of them."""
        answers = [await self._eval(int, scripts.LEAVE, (name,), []) for name in self._names]
        return all(answer != 0 for answer in answers)  # None: the group is gone, and our consumer with it

    async def server_time(self) -> float:
        """See the port."""
        time_s = self._client.expect(ServerTime, await self._client.time(), "TIME").since_epoch_s
        self._time_s = time_s - trio.current_time()
        return time_s

    async def lock(self, name: str, ttl_s: float) -> bool:
        """See the port. Each group has its own, beside the first stream."""
        key = lock_key(self._names[0], self._group, name)
        return bool(await self._client.set(key, self._consumer, nx=True, px=_milliseconds(ttl_s) or 1))

    async def _take(
        self, name: str, ids: Sequence[str], *, claimed: bool, owner: str = "", min_idle_s: float = 0.0
    ) -> list[Entry]:
        """Claim entries if they are that idle and, if an owner is given, still that one's."""
        entries: list[Entry] = []
        # A living owner's entry is idle for 1.5 keepalive_s at most, and claim_idle_s is 3 at least: that is no harm.
        by_s = self._time_s + trio.current_time() + self._settings.keepalive_s
        arguments = (owner, _milliseconds(min_idle_s), _milliseconds(by_s) if math.isfinite(by_s) and not owner else "")
        for answer in await self._run(_Claimed, scripts.CLAIM, name, ids, *arguments):
            self._lost(name, answer.gone)
            for entry_id, deliveries, flat, size in answer.taken:
                if entry_id.text not in ids:
                    raise self._client.misunderstood(("EVAL", scripts.CLAIM, 0), entry_id.text)
                fields = dict(zip(flat[::2], flat[1::2], strict=False))
                entries.append(self._entry(name, entry_id.text, fields, size, deliveries=deliveries, claimed=claimed))
        return entries

    def _entry(
        self, name: str, entry_id: str, fields: Mapping[bytes, bytes], size: int, *, deliveries: int, claimed: bool
    ) -> Entry:
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
            oversize=size if size > MAX_ENTRY_BYTES else 0,
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
        except Refusal as refused:
            if _is_nogroup(refused):
                return []
            raise
        items = self._client.expect(list[_PendingItem], page, "XPENDING", name)
        self._client.expect_page([one["message_id"] for one in items], start, "XPENDING", name)
        return [self._pending_entry(name, one) for one in items]

    def _pending_entry(self, name: str, item: _PendingItem) -> Pending:
        entry_id = item["message_id"].text
        return Pending(
            stream=name,
            id=entry_id,
            record_id=self._replays.get((name, entry_id)) or self._ids.of(name, entry_id),
            consumer=item["consumer"].decode(errors="replace"),
            idle_s=item["time_since_delivered"] / 1000,
            deliveries=item["times_delivered"],
        )

    async def _run(
        self, shape: type[T], script: str, name: str, ids: Sequence[str | int], *arguments: str | int
    ) -> list[T]:
        """Run a script over IDs of one stream, not too many a call; return its answers. None if the group is gone.

        The IDs may be pairs of an ID and a number: no pair is torn apart.
        """
        answers = []
        for start in range(0, len(ids), scripts.IDS_A_CALL):
            chunk = ids[start : start + scripts.IDS_A_CALL]
            answer = await self._eval(shape, script, (name, lost_key(name, self._group)), [*arguments, *chunk])
            if answer is not None:
                answers.append(answer)
        return answers

    async def _eval(
        self, shape: type[T], script: str, keys: Sequence[str], arguments: Sequence[EncodableT]
    ) -> T | None:
        """Run a script; None if the group is gone."""
        try:
            return await self._client.run_script(shape, script, keys, self._group, self._consumer, *arguments)
        except Refusal as refused:
            if _is_nogroup(refused):
                return None
            raise

    def _by_stream(self, items: Iterable[Entry | Pending]) -> list[tuple[str, list[str]]]:
        ids: dict[str, list[str]] = {}
        for item in items:
            ids.setdefault(item.stream, []).append(item.id)
        return list(ids.items())

    def _lost(self, name: str, gone: Sequence[EntryId]) -> None:
        for entry_id in gone:
            logger.error(
                "{record_id}: lost upstream: it was deleted or trimmed from stream {stream!r} before it was dealt with",
                record_id=self._ids.of(name, entry_id.text),
                stream=name,
            )


def _next_page(page: Sequence[Pending], size: int) -> str | None:
    """Return where the page after this one starts; None if there is none."""
    return id_behind(page[-1].id) if page and len(page) >= size else None


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _count(entry: Entry, counted: bool | None) -> int | str:
    return "" if counted is None else entry.deliveries - (not counted)


def _paired(ids: Sequence[str], numbers: Sequence[int | str]) -> list[int | str]:
    return [part for pair in zip(ids, numbers, strict=True) for part in pair]


def _is_nogroup(refused: Refusal) -> bool:
    return "NOGROUP " in refused.reply


def _flat(fields: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
