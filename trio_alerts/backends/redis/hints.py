"""The hints on Redis: sorted sets beside the streams, and a script for each step.

Scores are the server's times in milliseconds, or places in a queue; both are whole numbers, and exact as Redis keeps
them. A record that is from none of our streams has its hints beside the first of them.
"""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from redis.typing import EncodableT

from trio_alerts.backends.redis.answers import List
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.keys import due_key, probe_key, queue_key, sweep_key
from trio_alerts.ports.hints import BREAK_S, DueHint, DueNow, Head, Queued, Taken
from trio_alerts.record_ids import RecordIds, order
from trio_alerts.settings.settings import Settings

HINTS_A_CALL = 200  # a script blocks the server while it runs, and 200 hints take less than a millisecond

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
MILLISECOND = dt.timedelta(milliseconds=1)

# A score is exact up to 2**53: that is room for this much of each.
AGES = 10**13  # milliseconds since the epoch: until the year 2286
RANKS = 10
MOST_ATTEMPTS = 80  # that are told apart

T = TypeVar("T", DueHint, Queued)


class _Due(List):
    """The server's time, until when the hints are ours, when the next one is due (-1: there is none), and the hints."""

    now_ms: int
    until_ms: int
    next_ms: int
    ids: list[bytes]


class _Popped(List):
    """The first of a queue, and until when it is ours."""

    record_id: bytes
    until_ms: int


class _Head(List):
    """The first in the queue of the channel with this number, its score, and how many there are."""

    number: int
    record_id: bytes
    score: int
    waiting: int


class RedisHints:
    """Implements `Hints`; made by `RedisStream`."""

    def __init__(self, settings: Settings, client: RedisClient) -> None:
        self._client = client
        self._names = settings.stream_names
        self._group = settings.group
        self._ids = RecordIds(settings.stream_names)
        self._turn = 0  # which stream comes first, so that a busy one does not hold up the others

    async def put_due(self, hints: Sequence[DueHint]) -> None:
        for stream, page in self._pages(hints):
            arguments: list[EncodableT] = []
            for hint in page:
                at_ms = "" if hint.at is None else -((EPOCH - hint.at) // MILLISECOND)
                arguments += (hint.record_id, at_ms, "" if hint.taken_until_ms is None else hint.taken_until_ms)
            await self._client.run_script(int, _PUT_DUE, (due_key(stream, self._group),), *arguments)

    async def take_due(self, count: int, lease_s: float, *, newest: bool = False) -> DueNow:
        arguments = (count, round(lease_s * 1000), int(newest))
        self._turn += 1
        taken: list[Taken] = []
        at, next_in_s = EPOCH, math.inf
        for number in range(len(self._names)):
            stream = self._names[(self._turn + number) % len(self._names)]
            due = await self._client.run_script(_Due, _TAKE_DUE, (due_key(stream, self._group),), *arguments)
            taken += [Taken(one.decode(errors="replace"), due.until_ms) for one in due.ids]
            at = EPOCH + due.now_ms * MILLISECOND
            if due.next_ms >= 0:
                next_in_s = min(next_in_s, max(0, due.next_ms - due.now_ms) / 1000)
        return DueNow(at, taken, next_in_s)

    async def recall_due(self) -> None:
        for stream in self._names:
            await self._client.run_script(int, _RECALL_DUE, (due_key(stream, self._group),))

    async def begin_sweep(self, every_s: float, *, broken: bool = False) -> float | None:
        arguments = (round(every_s * 1000), round(BREAK_S * 1000), int(broken))
        steady_ms = await self._client.run_script(int, _BEGIN_SWEEP, (self._sweep_key,), *arguments)
        return None if steady_ms < 0 else steady_ms / 1000

    async def end_sweep(self) -> None:
        await self._client.run_script(int, _END_SWEEP, (self._sweep_key,))

    async def put_queued(self, queued: Collection[Queued]) -> None:
        for channel in dict.fromkeys(one.channel for one in queued):
            for stream, page in self._pages([one for one in queued if one.channel == channel]):
                arguments: list[EncodableT] = []
                for one in page:
                    place = _place(one)
                    tried = min(one.attempts, MOST_ATTEMPTS) * RANKS * AGES + place
                    arguments += (one.record_id, place, tried)
                await self._client.run_script(int, _PUT_QUEUED, self._queue(stream, channel), *arguments)

    async def take_queued(self, channel: str, lease_s: float, *, probe: bool = False) -> Taken | None:
        stream = await self._first(channel, probe)
        by_place, by_attempts = self._queue(stream, channel)
        order_of_keys = (by_attempts, by_place) if probe else (by_place, by_attempts)
        keys = (*order_of_keys, due_key(stream, self._group))
        taken = await self._client.run_script(list[_Popped], _TAKE_QUEUED, keys, round(lease_s * 1000))
        return Taken(taken[0].record_id.decode(errors="replace"), taken[0].until_ms) if taken else None

    async def heads(self, channels: Collection[str]) -> Mapping[str, Head]:
        heads: dict[str, Head] = {}
        names = tuple(channels)
        for stream in self._names:
            keys = [queue_key(stream, self._group, channel) for channel in names]
            for found in await self._client.run_script(list[_Head], _HEADS, keys):
                channel, rank = names[found.number], RANKS - 1 - found.score // AGES
                head = Head(found.record_id.decode(errors="replace"), rank, found.waiting)
                other = heads.get(channel)
                if other is not None:
                    first = min(head, other, key=lambda one: _place(Queued(channel, one.record_id, one.severity_rank)))
                    head = Head(first.record_id, first.severity_rank, head.waiting + other.waiting)
                heads[channel] = head
        return heads

    async def _first(self, channel: str, probe: bool) -> str:
        """Return the stream whose queue has the best head; any, if all are empty."""
        if len(self._names) == 1:
            return self._names[0]
        key = probe_key if probe else queue_key
        found: dict[str, int] = {}
        for stream in self._names:
            if heads := await self._client.run_script(list[_Head], _HEADS, (key(stream, self._group, channel),)):
                found[stream] = heads[0].score
        return min(found, key=lambda stream: found[stream], default=self._names[0])

    def _queue(self, stream: str, channel: str) -> tuple[str, str]:
        return queue_key(stream, self._group, channel), probe_key(stream, self._group, channel)

    @property
    def _sweep_key(self) -> str:
        return sweep_key(min(self._names), self._group)

    def _pages(self, items: Sequence[T]) -> Iterator[tuple[str, Sequence[T]]]:
        """Yield what belongs beside each stream, as much as goes into one call."""
        streams: dict[str, list[T]] = {}
        for item in items:
            place = self._ids.place(item.record_id)
            streams.setdefault(place[0] if place else self._names[0], []).append(item)
        for stream, there in streams.items():
            for start in range(0, len(there), HINTS_A_CALL):
                yield stream, there[start : start + HINTS_A_CALL]


def _place(queued: Queued) -> int:
    """Return the score of a place in a queue: by severity, then by the time in the entry's ID."""
    age_ms = order(queued.record_id.rpartition("|")[2])[0]
    return (RANKS - 1 - queued.severity_rank) * AGES + min(age_ms, AGES - 1)


# --- scripts ---------------------------------------------------------------------------------------------------------

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# ARGV: IDs, each with its time ('' to remove it) and the score that it was handed out with ('' if it was not).
_PUT_DUE = """
for i = 1, #ARGV, 3 do
  local id, at, taken = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local unchanged = taken and tonumber(redis.call('ZSCORE', KEYS[1], id)) == taken
  if at == '' then
    if unchanged then redis.call('ZREM', KEYS[1], id) end
  elseif unchanged then
    redis.call('ZADD', KEYS[1], at, id)
  else
    redis.call('ZADD', KEYS[1], 'LT', at, id)
  end
end
return 1
"""

# ARGV[1]: how many, ARGV[2]: the lease in ms, ARGV[3]: 1 for those that became due last.
_TAKE_DUE = (
    _NOW
    + """
local lease, ids = now + ARGV[2]
if ARGV[3] == '1' then
  ids = redis.call('ZREVRANGEBYSCORE', KEYS[1], now, '-inf', 'LIMIT', 0, ARGV[1])
else
  ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
end
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], lease, id) end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {now, lease, math.max(-1, tonumber(next[2]) or -1), ids}
"""
)

_RECALL_DUE = (
    _NOW
    + """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], now, id) end
return #ids
"""
)

# ARGV[1]: how long nobody else gets it, ARGV[2]: how long a break is, both in ms; ARGV[3]: 1 after a disturbance.
# A time in the future was written before the clock was set back.
_BEGIN_SWEEP = (
    _NOW
    + """
local kept = redis.call('HMGET', KEYS[1], 'began', 'ended', 'since')
local began, ended, since = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])
if ARGV[3] == '0' and began and began <= now and now - began < tonumber(ARGV[1]) then return -1 end
if ARGV[3] == '1' or not since or not ended or ended > now or now - ended > tonumber(ARGV[2]) then since = now end
redis.call('HSET', KEYS[1], 'began', now, 'since', since)
return now - since
"""
)

_END_SWEEP = (
    _NOW
    + """
return redis.call('HSET', KEYS[1], 'ended', now)
"""
)

# KEYS: by place, and by attempts. ARGV: IDs, each with both scores.
_PUT_QUEUED = """
for i = 1, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
  redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i])
end
return 1
"""

# KEYS: the set whose first is taken, the other one, and the due hints. ARGV[1]: the lease in ms.
# Hinted first: without the right to that, each try would lose one. A full server refuses a hint, but not to a script
# that has begun to write.
_TAKE_QUEUED = (
    _NOW
    + """
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if not first then return {} end
redis.call('ZREM', KEYS[2], '')
local lease = now + ARGV[1]
redis.call('ZADD', KEYS[3], 'LT', lease, first)
redis.call('ZPOPMIN', KEYS[1])
redis.call('ZREM', KEYS[2], first)
return {{first, lease}}
"""
)

# KEYS: queues. Answers those that are not empty, by their numbers from 0 on.
_HEADS = """
local heads = {}
for number = 1, #KEYS do
  local first = redis.call('ZRANGE', KEYS[number], 0, 0, 'WITHSCORES')
  if first[1] then
    heads[#heads + 1] = {number - 1, first[1], tonumber(first[2]), redis.call('ZCARD', KEYS[number])}
  end
end
return heads
"""
