"""What Redis knows of the ledger: where entries stand, for `stats` and `audit`. Nothing here moves an entry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from trio_alerts.backends.record_ids import REPLAY_OF, RecordIds, order
from trio_alerts.backends.redis_client import RedisClient, open_redis_for_command
from trio_alerts.backends.redis_keys import dead_letter_key, dropped_key, ledger_key, lost_key
from trio_alerts.backends.redis_quarantine import RedisQuarantine
from trio_alerts.backends.redis_upkeep import look_for_losses
from trio_alerts.settings import Settings

PAGE = 200  # entries a script: with payloads of 1 KiB it blocks the server for less than 1 ms
IDS_A_PAGE = 1000  # of lists that hold no payload


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer of the group: how much is pending for it, and for how long it was silent, in seconds."""

    name: str
    pending: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How one stream and its group stand.

    Args:
        stream: Its name.
        length: How many entries lie in it.
        not_read: How many of them the group has not read yet; all, if there is no group.
        pending: How many the group has handed out that are not acknowledged.
        consumers: By their names.
        quarantined: How many lie in its dead-letter stream.
        dropped: How many operators dropped from there, as far as the log goes back.
        lost_unread: How many were trimmed or deleted before the group had read them.
        waiting_since_s: When the oldest entry was added that is not read yet or pending, in seconds since the epoch.
    """

    stream: str
    length: int
    not_read: int
    pending: int
    consumers: tuple[Consumer, ...]
    quarantined: int
    dropped: int
    lost_unread: int
    waiting_since_s: float | None


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which IDs the group has read (None: there is no group), and behind which it was told to begin."""

    last_delivered: str | None
    start: str | None


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator["RedisLedger"]:
    """Connect for as long as the block runs.

    Raises:
        SettingsError: The address or its CA file is wrong.
        StartError: The server cannot be reached or refuses us, also later.
    """
    async with open_redis_for_command(settings) as client:
        yield RedisLedger(client, settings)


class RedisLedger:
    """Looks at streams, groups and logs; made by `open_ledger`."""

    def __init__(self, client: RedisClient, settings: Settings) -> None:
        self._client = client
        self._group = settings.group
        self._ids = RecordIds(settings.stream_names)
        self._quarantine = RedisQuarantine(client)

    async def time(self) -> float:
        """Return the server's time in seconds since the epoch."""
        seconds, microseconds = await self._client.time()
        return float(seconds) + float(microseconds) / 1_000_000

    async def standing(self, stream: str) -> Standing:
        """Tell how a stream and its group stand; one that does not exist stands at nothing."""
        about: Any = await self._about(stream)
        group = await self._about_group(stream)
        length = int(about["length"]) if about else 0
        consumers: Any = await self._client.xinfo_consumers(stream, self._group) if group else []
        waiting = [entry_id for entry_id in await self._oldest(stream, group) if entry_id is not None]
        return Standing(
            stream=stream,
            length=length,
            not_read=await self._not_read(stream, about, group) if group else length,
            pending=int(group["pending"]) if group else 0,
            consumers=tuple(
                Consumer(one["name"].decode(errors="replace"), int(one["pending"]), int(one["idle"]) / 1000)
                for one in consumers
            ),
            quarantined=int(await self._client.xlen(dead_letter_key(stream))),
            dropped=int(await self._client.xlen(dropped_key(stream))),
            lost_unread=await self.lost_unread(stream),
            waiting_since_s=min((order(entry_id)[0] / 1000 for entry_id in waiting), default=None),
        )

    async def lost_unread(self, stream: str) -> int:
        """Return how many entries were trimmed or deleted before the group had read them, up to now."""
        await look_for_losses(self._client, stream, self._group)
        return int(await self._client.hget(ledger_key(stream, self._group), "lost") or 0)

    async def position(self, stream: str) -> Position:
        """Tell how far the group has read."""
        group = await self._about_group(stream)
        start: Any = await self._client.hget(ledger_key(stream, self._group), "start")
        return Position(group["last-delivered-id"].decode() if group else None, start.decode() if start else None)

    async def entries(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the stream: each entry's ID and its record's. `after` is the last ID of the page before."""
        answer: Any = await self._client.eval(_ENTRIES, 1, stream, f"({after}" if after else "-", PAGE)
        page = []
        for raw_id, replay_of in answer:
            entry_id = raw_id.decode()
            original = self._ids.of_replay(stream, entry_id, {REPLAY_OF: replay_of}) if replay_of is not None else None
            page.append((entry_id, original or self._ids.of(stream, entry_id)))
        return page

    async def pending(self, stream: str, after: str = "") -> list[str]:
        """Return a page of the IDs that are pending in the group."""
        start = f"({after}" if after else "-"
        try:
            page: Any = await self._client.xpending_range(stream, self._group, start, "+", IDS_A_PAGE)
        except ResponseError as error:
            if "NOGROUP" in str(error):
                return []
            raise
        return [one["message_id"].decode() for one in page]

    async def quarantined(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of what our group put into quarantine: the ID there, and the record's (empty: another's)."""
        page = await self._quarantine.page(stream, PAGE, after)
        return [(one.id, one.record_id if one.group == self._group else "") for one in page]

    async def dropped(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the log of drops: the ID there, and the record's (empty: another group's)."""
        page = await self._log(dropped_key(stream), after)
        ours = self._group.encode()
        return [(one, fields[b"id"].decode() if fields.get(b"group") == ours else "") for one, fields in page]

    async def deleted(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the log of entries that were deleted while pending: the ID there, and the entry's."""
        page = await self._log(lost_key(stream, self._group), after)
        return [(one, fields[b"id"].decode()) for one, fields in page]

    async def _log(self, key: str, after: str) -> list[tuple[str, dict[bytes, bytes]]]:
        page: Any = await self._client.xrange(key, f"({after}" if after else "-", "+", IDS_A_PAGE)
        return [(entry_id.decode(), fields) for entry_id, fields in page]

    async def _about(self, stream: str) -> Any:
        try:
            return await self._client.xinfo_stream(stream)
        except ResponseError as error:
            if "no such key" in str(error):
                return None
            raise

    async def _about_group(self, stream: str) -> Any:
        if not await self._client.exists(stream):
            return None
        groups: Any = await self._client.xinfo_groups(stream)
        return next((one for one in groups if one["name"] == self._group.encode()), None)

    async def _not_read(self, stream: str, about: Any, group: Any) -> int:
        """Count what follows the last entry read. The server's own `lag` also counts what was trimmed unread."""
        first, last = about["first-entry"], group["last-delivered-id"].decode()
        if first is None:
            return 0
        if order(first[0].decode()) > order(last):
            return int(about["length"])
        count, after = await self._client.eval(_COUNT, 1, stream, last, IDS_A_PAGE)
        total = int(count)
        if total == IDS_A_PAGE and group.get("lag") is not None:
            return int(group["lag"])
        while count == IDS_A_PAGE:
            count, after = await self._client.eval(_COUNT, 1, stream, after.decode(), IDS_A_PAGE)
            total += int(count)
        return total

    async def _oldest(self, stream: str, group: Any) -> tuple[str | None, str | None]:
        last = group["last-delivered-id"].decode() if group else "0-0"
        unread: Any = await self._client.xrange(stream, f"({last}", "+", 1)
        pending = await self.pending(stream) if group and group["pending"] else []
        return (unread[0][0].decode() if unread else None, pending[0] if pending else None)


# KEYS[1]: the stream. ARGV[1]: where to start, ARGV[2]: how many. Answers IDs and what they are replays of: the payload
# stays on the server.
_ENTRIES = """
local page = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local replay_of = false
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'replay_of' then replay_of = entry[2][i + 1] end
  end
  page[#page + 1] = {entry[1], replay_of}
end
return page
"""

# KEYS[1]: the stream. ARGV[1]: the ID behind which to start, ARGV[2]: how many. Answers how many there are, and the
# last ID.
_COUNT = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return {#found, #found > 0 and found[#found][1] or ARGV[1]}
"""
