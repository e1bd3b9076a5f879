"""What keeps a stream and its group in order: where the group begins, and what nobody needs any more.

Each step is one script, since what it looks at may change before it acts. In all of them KEYS[1] is the stream and
ARGV[1] the group. What was lost: see `redis_losses`.
"""

from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.losses import MAPPED

TRIM_AT_ONCE = 10_000  # entries a call: a few ms, in which the server answers nobody
TRIM_CALLS = 100  # a million entries a round; the next round goes on


async def remove_consumers(client: RedisClient, stream: str, group: str, but: str, min_idle_s: float) -> list[str]:
    """Remove the consumers that were silent for so long and have nothing pending, but for one; return their names."""
    names = await client.run_script(list[bytes], _REMOVE_CONSUMERS, (stream,), group, but, round(min_idle_s * 1000))
    return [name.decode(errors="replace") for name in names]


async def trim_acknowledged(client: RedisClient, stream: str, keep_s: float) -> int:
    """Remove what every group of the stream is done with and what is at least that old; return how many entries.

    Whole nodes of the stream first, in bounded steps; the rest of one node exactly, so that a small stream is trimmed
    too.
    """
    removed, manner = 0, "~"
    for _ in range(TRIM_CALLS):
        arguments = ("", round(keep_s * 1000), manner, TRIM_AT_ONCE)
        count = await client.run_script(int, _TRIM, (stream,), *arguments)
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
