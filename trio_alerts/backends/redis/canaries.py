"""Canaries in Redis: a hash beside each stream notes which of its entries are canaries, another one how things stand.

In all scripts KEYS[1] is the stream, KEYS[2] the hash of its canaries: their IDs, and the group of each, empty once its
record is gone. KEYS[3] is the hash of the group's own: `id` of the one under way, when it was `written`, when the last
one was that went `through`, both in ms, and what was `lost`. ARGV[1] is the group.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, get_args

from msgspec import Meta
from msgspec.structs import replace
from redis.typing import EncodableT

from trio_alerts.alert import Entry
from trio_alerts.backends.redis.answers import EntryId, List
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.entries import Entries
from trio_alerts.backends.redis.keys import canaries_key, canary_key
from trio_alerts.backends.redis.losses import MAPPED
from trio_alerts.ports.canaries import Place, Sighting
from trio_alerts.record_ids import CANARY_FIELD

MOST_KEPT = 1000  # canaries a stream that another group has not read: 200 KB, and less than a day of one a minute


_PLACES: Sequence[Place] = get_args(Place)  # scripts name them by their numbers


class _Sighting(List):
    """The time in ms, the hash of the group's own, and where the canary under way is."""

    now_ms: int
    own: list[bytes]
    place: Annotated[int, Meta(ge=0, lt=len(_PLACES))]
    unread: int
    consumer: bytes
    held_ms: int
    spent: list[EntryId]


class RedisCanaries:
    """Implements `Canaries`."""

    def __init__(self, client: RedisClient, group: str) -> None:
        self._client = client
        self._group = group

    async def look(self, stream: str) -> Sighting:
        return await self._look(stream)

    async def write(self, stream: str, every_s: float | None, payload: bytes) -> Sighting:
        return await self._look(stream, "" if every_s is None else round(every_s * 1000), payload, MOST_KEPT)

    async def settle(self, stream: str, entry_id: str, lost: str = "") -> None:
        await self._client.run_script(int, _SETTLE, self._keys(stream), self._group, entry_id, lost)

    async def drop(self, stream: str, entry_id: str) -> None:
        await self._client.run_script(int, _DROP, self._keys(stream), self._group, entry_id, MOST_KEPT)

    async def noted(self, stream: str, entry_ids: Collection[str]) -> dict[str, str]:
        answer = await self._client.hmget(canaries_key(stream), list(entry_ids))
        groups = self._client.expect(list[bytes | None], answer, "HMGET", canaries_key(stream))
        pairs = zip(entry_ids, groups, strict=True)
        return {entry_id: group.decode(errors="replace") for entry_id, group in pairs if group is not None}

    async def recognize(self, entries: list[Entry], ids: Entries) -> list[Entry]:
        """Return entries that were read, those that are canaries as such.

        Another group's canary is acknowledged here, and left out: nothing is to be done about it. What only looks like
        one is left as it is, and is no alert.
        """
        asked = [one for one in entries if b"event" not in one.fields and CANARY_FIELD in one.fields]
        if not asked:
            return entries
        groups = {
            (stream, entry_id): group
            for stream in dict.fromkeys(one.stream for one in asked)
            for entry_id, group in (await self.noted(stream, [one.id for one in asked if one.stream == stream])).items()
        }
        recognized: list[Entry] = []
        for one in entries:
            group = groups.get((one.stream, one.id))
            if group is None:
                recognized.append(one)
            elif group == self._group:
                record_id = ids.remember_canary(one.stream, one.id)
                written = {b"event": one.fields[CANARY_FIELD]}
                recognized.append(replace(one, fields=written, record_id=record_id, canary=True))
            else:
                self._client.expect(int, await self._client.xack(one.stream, self._group, one.id), "XACK")
        return recognized

    async def _look(self, stream: str, *write: EncodableT) -> Sighting:
        found = await self._client.run_script(_Sighting, _LOOK, self._keys(stream), self._group, *write)
        own = {
            name.decode(): value.decode(errors="replace")
            for name, value in zip(found.own[::2], found.own[1::2], strict=True)
        }
        return Sighting(
            now_s=found.now_ms / 1000,
            entry_id=own.get("id", ""),
            written_s=_seconds(own.get("written")),
            through_s=_seconds(own.get("through")),
            place=_PLACES[found.place],
            unread=found.unread if found.unread >= 0 else None,
            consumer=found.consumer.decode(errors="replace"),
            held_s=found.held_ms / 1000,
            lost=own.get("lost", ""),
            spent=tuple(one.text for one in found.spent),
        )

    def _keys(self, stream: str) -> Sequence[str]:
        return stream, canaries_key(stream), canary_key(stream, self._group)


def _seconds(milliseconds: str | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds and milliseconds.isdigit() else None


# Removes the entry and note of a canary without a record, unless another group has still to be done with it: one that
# was deleted unread would look lost there. Answers 1 if it is gone.
_REMOVE = (
    MAPPED
    + """
local function groups()
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  local found = {}
  for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do found[#found + 1] = mapped(one) end
  return found
end
local function remove(id, most)
  if redis.call('XRANGE', KEYS[1], id, id)[1] and redis.call('HLEN', KEYS[2]) <= tonumber(most) then
    for _, group in ipairs(groups()) do
      if before(group['last-delivered-id'], id) then return 0 end
      if redis.call('XPENDING', KEYS[1], group['name'], id, id, 1)[1] then return 0 end
    end
  end
  redis.call('XDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  return 1
end
"""
)

# ARGV[2…], if something is to be done: how long after the last one another is written, in ms ('' for none), what that
# says, and how many may be kept. XADD comes first: if it fails (out of memory, say), nothing was done. Whether HSET is
# permitted shows before that: refused after it, each look would write one more.
_LOOK = (
    _REMOVE
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, ours = mapped(redis.call('HGETALL', KEYS[3])), nil
for _, group in ipairs(groups()) do
  if group['name'] == ARGV[1] then ours = group end
end
if (ARGV[2] or '') ~= '' and ours and not own['id'] then
  local passed = own['written'] and now - own['written']
  if not passed or passed < 0 or passed >= tonumber(ARGV[2]) then
    for number = 2, 3 do
      local refused = redis.pcall('HSET', KEYS[number], 'id', '', 'a field without a value')
      if not string.find(refused.err, 'wrong number', 1, true) then return refused end
    end
    own['id'] = redis.call('XADD', KEYS[1], '*', 'canary', ARGV[3])
    redis.call('HSET', KEYS[2], own['id'], ARGV[1])
    redis.call('HSET', KEYS[3], 'id', own['id'], 'written', string.format('%.0f', now))
  end
end
local NONE, UNREAD, TRIMMED, PENDING, ACKNOWLEDGED = 0, 1, 2, 3, 4
local id, place, unread, consumer, held = own['id'], NONE, -1, '', 0
if id then
  local pending = ours and redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if pending then
    place, consumer, held = PENDING, pending[2], pending[3]
  elseif ours and not before(ours['last-delivered-id'], id) then
    place = ACKNOWLEDGED
  elseif redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XRANGE', KEYS[1], id, id)[1] then
    place, unread = UNREAD, ours and ours['lag'] or -1
  else
    place = TRIMMED
  end
end
local spent = {}
for other, group in pairs(mapped(redis.call('HGETALL', KEYS[2]))) do
  if group == ARGV[1] and other ~= id then spent[#spent + 1] = other end
  if group == '' and ARGV[2] then remove(other, ARGV[4]) end
end
return {now, redis.call('HGETALL', KEYS[3]), place, unread, consumer, held, spent}
"""
)

# ARGV[2]: the ID, ARGV[3]: what became of it; '' if it went the whole way.
_SETTLE = """
local own = redis.call('HMGET', KEYS[3], 'id', 'written')
if own[1] ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HSET', KEYS[3], 'through', own[2])
  redis.call('HDEL', KEYS[3], 'id', 'lost')
else
  redis.call('HSET', KEYS[3], 'lost', ARGV[3])
  redis.call('HDEL', KEYS[3], 'id')
end
return 1
"""

# ARGV[2]: the ID, ARGV[3]: how many may be kept. What another group needs is noted as one without a record.
_DROP = (
    _REMOVE
    + """
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], '')
return remove(ARGV[2], ARGV[3])
"""
)
