"""What keeps the streams and their group in order: what was lost is counted, and what nobody needs any more goes.

Each step is one script, since what it looks at may change before it acts. In all of them KEYS[1] is the stream and
ARGV[1] the group. How losses are found: see `losses`.
"""

from collections.abc import Mapping

from trio_alerts.backends.redis.answers import EntryId, List
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.groups import Groups
from trio_alerts.backends.redis.keys import dead_letter_key
from trio_alerts.backends.redis.losses import MAPPED, take_untold
from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.pages import Pages
from trio_alerts.ports.stream import Gone
from trio_alerts.record_ids import RecordIds, id_behind
from trio_alerts.settings.settings import Settings

NOTHING_BEHIND = "18446744073709551615-18446744073709551615"

TRIM_AT_ONCE = 10_000  # entries a call: a few ms, in which the server answers nobody
TRIM_CALLS = 100  # a million entries a round; the next round goes on


class _Bound(List):
    """An ID, and 1 if that entry is still needed, 0 if it is gone, too."""

    id: EntryId
    needed: int


class RedisUpkeep:
    """Implements `StreamUpkeep`; made by `RedisStream`."""

    def __init__(self, settings: Settings, client: RedisClient, groups: Groups) -> None:
        self._client = client
        self._groups = groups
        self._names = settings.stream_names
        self._group = settings.group
        self._consumer = settings.consumer
        self._ids = RecordIds(settings.stream_names)
        self._ledger = RedisLedger(client, settings)

    async def newly_lost(self) -> int:
        await self._groups.look_for_losses()
        return sum([await take_untold(self._client, name, self._group) for name in self._names])

    async def dead_letters(self) -> int:
        lengths = [await self._client.xlen(dead_letter_key(name)) for name in self._names]
        return sum(self._client.expect(list[int], lengths, "XLEN"))

    async def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
        """See the port. With several streams, each name of which something was removed."""
        removed: dict[bytes, None] = {}
        for name in self._names:
            arguments = (self._group, self._consumer, round(min_idle_s * 1000))
            removed |= dict.fromkeys(await self._client.run_script(list[bytes], _REMOVE_CONSUMERS, (name,), *arguments))
        return [name.decode(errors="replace") for name in removed]

    async def trim(self, keep_s: float) -> int:
        return sum([await self._trim(name, keep_s) for name in self._names])

    async def gone(self) -> Mapping[str, Gone]:
        gone: dict[str, Gone] = {}
        for name in self._names:
            for bound in await self._client.run_script(list[_Bound], _GONE, (name,), self._group):
                before = bound.id.text if bound.needed else id_behind(bound.id.text) or NOTHING_BEHIND
                gone[name] = Gone(before, not bound.needed, await self._noted(name))
        return gone

    async def _noted(self, name: str) -> frozenset[str]:
        pages = Pages[tuple[str, str]](lambda last: self._ledger.deleted(name, last[0] if last else ""))
        return frozenset([self._ids.of(name, entry_id) async for page in pages for _, entry_id in page])

    async def _trim(self, name: str, keep_s: float) -> int:
        """Remove whole nodes of the stream first, in bounded steps; the rest of one exactly, for small streams."""
        removed, manner = 0, "~"
        for _ in range(TRIM_CALLS):
            arguments = ("", round(keep_s * 1000), manner, TRIM_AT_ONCE)
            count = await self._client.run_script(int, _TRIM, (name,), *arguments)
            removed += count
            if manner == "=":
                break
            if not count:
                manner = "="
        return removed


# ARGV[2]: the consumer that stays; ARGV[3]: least idle ms.
_REMOVE_CONSUMERS = (
    MAPPED
    + """
local removed = {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers['err'] then
  if string.find(consumers['err'], 'NOGROUP') or string.find(consumers['err'], 'no such key') then return removed end
  return consumers
end
for _, one in ipairs(consumers) do
  local consumer = mapped(one)
  local name = consumer['name']
  if name ~= ARGV[2] and consumer['pending'] == 0 and consumer['idle'] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    removed[#removed + 1] = name
  end
end
return removed
"""
)

# ARGV[2]: the least age in ms, ARGV[3]: ~ or =, ARGV[4]: how many at most, with ~. Answers how many were removed.
# A group needs what is pending in it, from its oldest on, and all behind what it has read. Without a group nothing is
# known to be done with.
_TRIM = (
    MAPPED
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 then return 0 end
local time = redis.call('TIME')
local first = string.format('%.0f-0', math.max(time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2] + 1, 0))
for _, one in ipairs(groups) do
  local group = mapped(one)
  local needed = group['last-delivered-id']
  local pending = redis.call('XPENDING', KEYS[1], group['name'])
  if pending[1] > 0 then
    needed = pending[2]
  else
    local ms, seq = string.match(needed, '^(%d+)-(%d+)$')
    if #seq < 15 then needed = string.format('%s-%.0f', ms, seq + 1) end  -- larger ones are not exact in Lua
  end
  if before(needed, first) then first = needed end
end
if ARGV[3] == '~' then return redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', ARGV[4]) end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', first)
"""
)

# Answers the lowest ID that is in the stream or pending in the group, or else the last one that there was; nothing
# without a stream or a group: what there was is not known then.
_GONE = (
    MAPPED
    + """
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending['err'] then
  if string.find(pending['err'], 'NOGROUP') then return {} end
  return pending
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local needed = first and first[1]
if pending[1] > 0 and (not needed or before(pending[2], needed)) then needed = pending[2] end
if needed then return {{needed, 1}} end
return {{mapped(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id'], 0}}
"""
)
