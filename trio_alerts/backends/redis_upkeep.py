"""What keeps a stream and its group in order: where the group begins, what it lost, and what nobody needs any more.

Each step is one script, since what it looks at may change before it acts. In all of them KEYS[1] is the stream and
ARGV[1] the group.
"""

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from trio_alerts.backends.redis_client import RedisClient
from trio_alerts.backends.redis_keys import ledger_key

TRIM_AT_ONCE = 10_000  # entries a call: a few ms, in which the server answers nobody
TRIM_CALLS = 100  # a million entries a round; the next round goes on


@dataclass(frozen=True, slots=True)
class Losses:
    """What was found: entries lost unread since the last look, and whether the next trimming could lose more."""

    count: int
    at_the_edge: bool


async def create_group(client: RedisClient, stream: str, group: str, start: str) -> bool:
    """Create a group at "0" or "$", and the stream if need be; False if somebody else was first.

    Where it begins is remembered, and the server's count of entries read starts right, so that losses show.
    """
    try:
        await client.eval(_CREATE, 2, stream, ledger_key(stream, group), group, start)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
        return False
    return True


async def look_for_losses(client: RedisClient, stream: str, group: str) -> Losses:
    """Count what was trimmed or deleted before the group had read it; each entry is counted once, whoever looks.

    Some servers forget such a gap with the next read behind it, so it is looked for before reads too. An entry that
    was deleted in the middle of more than a thousand unread ones is not noticed before fewer are left, and then only
    if the server can still tell; a server older than Redis 7 tells nothing.
    """
    lost, edge = await client.eval(_LOSSES, 2, stream, ledger_key(stream, group), group)
    return Losses(int(lost), bool(edge))


async def take_untold(client: RedisClient, stream: str, group: str) -> int:
    """Return how many of the lost entries nobody was told of, and remember that now somebody was."""
    return int(await client.eval(_UNTOLD, 2, stream, ledger_key(stream, group), group))


async def remove_consumers(client: RedisClient, stream: str, group: str, but: str, min_idle_s: float) -> list[str]:
    """Remove the consumers that were silent for so long and have nothing pending, but for one; return their names."""
    names: Any = await client.eval(_REMOVE_CONSUMERS, 1, stream, group, but, round(min_idle_s * 1000))
    return [name.decode() for name in names]


async def trim_acknowledged(client: RedisClient, stream: str, keep_s: float) -> int:
    """Remove what every group of the stream is done with and what is at least that old; return how many entries.

    Whole nodes of the stream first, in bounded steps; the rest of one node exactly, so that a small stream is trimmed
    too.
    """
    removed, manner = 0, "~"
    for _ in range(TRIM_CALLS):
        count = int(await client.eval(_TRIM, 1, stream, "", round(keep_s * 1000), manner, TRIM_AT_ONCE))
        removed += count
        if manner == "=":
            break
        if not count:
            manner = "="
    return removed


_MAPPED = """
local function mapped(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end
-- IDs are two decimal numbers of up to 64 bits: too large for Lua's, so they are compared as text.
local function before(one, other)
  local function padded(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
  end
  return padded(one) < padded(other)
end
"""

# KEYS[2]: the ledger; ARGV[2]: 0 or $.
_CREATE = (
    _MAPPED
    + """
local created = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if created['err'] then return created end
local stream = mapped(redis.call('XINFO', 'STREAM', KEYS[1]))
local added, last = stream['entries-added'], stream['last-generated-id']
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[2], 'start')
  if added then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], '0-0', 'ENTRIESREAD', added - stream['length']) end
else
  redis.call('HSET', KEYS[2], 'start', last)
  if added then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', added) end
end
return created
"""
)

# KEYS[2]: the ledger. Answers how many were lost, and 1 if the first entry left is one that the group has not read.
# `entries-read` is where the last entry that the group has read stands among all that were ever added; behind it must
# follow what is left. What is lacking is lost, and counted as read from then on: the group itself stays where it is.
_LOSSES = (
    _MAPPED
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
local stream, group = mapped(redis.call('XINFO', 'STREAM', KEYS[1])), nil
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = mapped(one)
  if fields['name'] == ARGV[1] then group = fields end
end
if not group or not stream['entries-added'] or not group['entries-read'] then return {0, 0} end
local last, length, following, edge = group['last-delivered-id'], stream['length'], 0, 0
if length > 0 then
  if before(last, stream['recorded-first-entry-id']) then
    following, edge = length, 1
  elseif before(last, stream['max-deleted-entry-id']) then
    following = #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1000)
    if following == 1000 then return {0, 0} end
  else
    return {0, 0}
  end
end
local lost = stream['entries-added'] - group['entries-read'] - following
if lost <= 0 then return {0, edge} end
redis.call('HINCRBY', KEYS[2], 'lost', lost)
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', group['entries-read'] + lost)
return {lost, edge}
"""
)

# KEYS[2]: the ledger.
_UNTOLD = """
local lost = redis.call('HGET', KEYS[2], 'lost')
if not lost then return 0 end
local untold = lost - (redis.call('HGET', KEYS[2], 'told') or 0)
if untold > 0 then redis.call('HSET', KEYS[2], 'told', lost) end
return untold
"""

# ARGV[2]: the consumer that stays; ARGV[3]: least idle ms.
_REMOVE_CONSUMERS = (
    _MAPPED
    + """
local removed = {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers['err'] then return removed end
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
    _MAPPED
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
    if #seq < 15 then needed = string.format('%s-%.0f', ms, seq + 1) end
  end
  if before(needed, first) then first = needed end
end
if ARGV[3] == '~' then return redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', ARGV[4]) end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', first)
"""
)
