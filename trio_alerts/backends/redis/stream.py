"""The stream port on Redis: a consumer group's entries, read, kept alive, taken over and acknowledged."""

import datetime as dt
import math
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from loguru import logger

from trio_alerts.alert import Entry
from trio_alerts.backends.background import running
from trio_alerts.backends.redis.answers import ServerTime
from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.client import RedisClient, open_client
from trio_alerts.backends.redis.dead_letters import noted_fields
from trio_alerts.backends.redis.deployment import RedisDeployment
from trio_alerts.backends.redis.entries import Entries
from trio_alerts.backends.redis.gates import RedisGates
from trio_alerts.backends.redis.groups import Groups
from trio_alerts.backends.redis.hints import RedisHints
from trio_alerts.backends.redis.keys import lock_key
from trio_alerts.backends.redis.pending import PAGE, PendingList, next_page
from trio_alerts.backends.redis.preflight import survey
from trio_alerts.backends.redis.reader import RedisReader, most_read
from trio_alerts.backends.redis.silences import RedisSilences
from trio_alerts.backends.redis.upkeep import RedisUpkeep
from trio_alerts.ports.stream import Pending, is_suspect
from trio_alerts.settings.settings import Settings

Item = TypeVar("Item", Entry, Pending)


@asynccontextmanager
async def open_redis_stream(settings: Settings) -> AsyncIterator["RedisStream"]:
    """Connect twice, once for what blocks, and keep both ports open while the block runs. Raises as `open_redis`."""
    async with (
        open_client(settings) as client,
        client.open_blocking(settings.block_s, most_read(settings)) as blocking,
    ):
        stream = RedisStream(settings, client, blocking)
        async with running(stream.groups.watch):
            yield stream


class RedisStream:
    """Implements `AlertStream`; use `open_redis_stream`.

    A group that is gone (`NOGROUP`) has nothing pending and nothing of ours: only `read` creates it again. Any other
    error of the server, and any answer that is not what the command is answered with, is an outage.

    Attributes:
        groups: What watches the streams.
        upkeep: What the janitor does, over the same connection.
        gates: Which channels may be sent to, over the same connection.
        silences: What operators keep from being sent, over the same connection.
        hints: What says when to look, and what comes next.
        canaries: Which entries are canaries, and where they are.
    """

    def __init__(self, settings: Settings, client: RedisClient, blocking: RedisClient) -> None:
        self._settings = settings
        self._client = client
        deployment = RedisDeployment(client, settings.stream_names, settings.group)
        self.deployment, self.guard = deployment.read, deployment.write_back
        self.keep_deployment, self.replace_deployment = deployment.keep, deployment.replace
        self.groups = Groups(settings, client, deployment)
        self.upkeep = RedisUpkeep(settings, client, self.groups)
        self.gates = RedisGates(client, settings)
        self.silences = RedisSilences(client, settings.stream_names, settings.group)
        self.hints = RedisHints(settings, client)
        self._reader = RedisReader(settings, client, blocking, self.groups)
        self.wake = self._reader.wake
        self._entries = Entries(settings.stream_names)
        self.canaries = RedisCanaries(client, settings.group)
        self._pending = PendingList(client, settings.group, settings.consumer, self._entries)
        self._names = settings.stream_names
        self._group = settings.group
        self._consumer = settings.consumer
        self._time_s = math.inf  # the server's time at zero of the monotonic clock, when it was last asked
        self._cursors: dict[str, str] = {}  # where `look` goes on, by stream
        self._turn = 0  # which stream comes first, so that a busy one does not hide the others

    def __repr__(self) -> str:
        return f"<RedisStream {', '.join(self._names)} as {self._group}/{self._consumer}: {self._client.state}>"

    async def prepare(self) -> None:
        """Look at the server by `survey`, then create what is missing."""
        found = await survey(self._client, self._settings)
        for warning in found.warnings:
            logger.warning("{warning}", warning=warning)
        for missing in found.missing:
            await self.groups.create(missing.stream, missing.start)
        await self.groups.look_for_losses()

    async def inspect(self) -> list[str]:
        """Say what `prepare` would create and warn of, a line each, and raise what it would raise. Changes nothing."""
        found = await survey(self._client, self._settings)
        return [*map(str, found.missing), *(f"warning: {warning}" for warning in found.warnings)]

    async def read(self, count: int) -> list[Entry]:
        found = await self._reader.read(count)
        entries = [
            self._entries.entry(name, entry_id, fields, size, deliveries=1, claimed=False)
            for name, entry_id, fields, size in found
        ]
        return await self.canaries.recognize(entries, self._entries)

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        """See the port. Looks at what is pending under our name page by page, until it has enough."""
        entries: list[Entry] = []
        for name in self._names:
            start: str | None = "-"
            while start is not None and len(entries) < count:
                page = await self._pending.page(name, PAGE, start=start, own=True)
                free = [one.id for one in page if one.record_id not in holding and not is_suspect(one)]
                while free and len(entries) < count:
                    wanted, free = free[: count - len(entries)], free[count - len(entries) :]
                    entries += await self._pending.take_own(name, wanted)
                start = next_page(page, PAGE)
        return await self.canaries.recognize(entries, self._entries)

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
            page = await self._pending.page(name, wanted, start=start, min_idle_s=min_idle_s)
            if len(page) < wanted and start != "-":  # the end: go on from the beginning
                seen = {one.id for one in page}
                again = await self._pending.page(name, wanted, min_idle_s=min_idle_s)
                page = (page + [one for one in again if one.id not in seen])[:wanted]
            self._cursors[name] = next_page(page, wanted) or "-"
            found += page
        return found

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        """See the port. The server compares the idle time again, so of two claimants one wins."""
        entries: list[Entry] = []
        for name, ours in _by_stream(pending):
            # A living owner's entry is idle for 1.5 keepalive_s at most, and claim_idle_s is 3 at least: that is no
            # harm.
            before_s = self._time_s + trio.current_time() + self._settings.keepalive_s
            ids = [one.id for one in ours]
            entries += await self._pending.claim(name, ids, min_idle_s=min_idle_s, before_s=before_s)
        return await self.canaries.recognize(entries, self._entries)

    async def restart_idle_times(self) -> None:
        for name in self._names:
            await self._pending.restart_idle_times(name)

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        """See the port. An entry that was deleted under our hands leaves the pending list, and nobody can take it."""
        ours: set[str] = set()
        for name, held in _by_stream(entries):
            ours |= await self._pending.renew(name, held, counted)
        return ours

    async def owns(self, entry: Entry) -> bool:
        page = await self._pending.page(entry.stream, 1, start=entry.id, end=entry.id, own=True)
        return bool(page)

    async def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        """See the port. A replay lies under another ID than its record's: it is found only if we have read it."""
        asked = self._entries.places(record_ids)
        found: set[str] = set()
        for name in self._names:
            ids = [entry_id for stream, entry_id in asked if stream == name]
            found.update(asked[name, one] for one in await self._pending.among(name, ids) if (name, one) in asked)
        return found

    async def ack(self, entries: Sequence[Entry]) -> None:
        for name, done in _by_stream(entries):
            ids = [entry.id for entry in done]
            self._client.expect(int, await self._client.xack(name, self._group, *ids), "XACK")
            for entry in done:
                self._entries.forget(entry)

    async def quarantine(self, entry: Entry, reason: str, error: str) -> bool:
        at = dt.datetime.fromtimestamp(await self.server_time(), dt.UTC)
        moved = await self._pending.quarantine(entry, noted_fields(entry, reason, error, self._settings, at))
        if moved:
            self._entries.forget(entry)
        return moved

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        """See the port. The delivery to us is taken back; those to earlier owners stay counted."""
        count = 0
        for name in self._names:
            start: str | None = "-"
            while start is not None:
                page = await self._pending.page(name, PAGE, start=start, own=True)
                ours = [one for one in page if one.record_id not in keeping]
                count += await self._pending.hand_over(name, ours, refunded)
                start = next_page(page, PAGE)
        return count

    async def leave(self) -> bool:
        """See the port. With several streams, true if it was removed from all of them."""
        return all([await self._pending.leave(name) for name in self._names])

    async def server_time(self) -> float:
        time_s = self._client.expect(ServerTime, await self._client.time(), "TIME").since_epoch_s
        self._time_s = time_s - trio.current_time()
        return time_s

    async def lock(self, name: str, ttl_s: float) -> bool:
        """See the port. Each group has its own, beside the first stream."""
        key = lock_key(self._names[0], self._group, name)
        return bool(await self._client.set(key, self._consumer, nx=True, px=round(ttl_s * 1000) or 1))


def _by_stream(items: Iterable[Item]) -> Iterable[tuple[str, list[Item]]]:
    streams: dict[str, list[Item]] = {}
    for item in items:
        streams.setdefault(item.stream, []).append(item)
    return streams.items()
