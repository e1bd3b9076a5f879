"""What a group has lost: entries that were trimmed, deleted or taken away before it had read them.

The server counts what was ever added to a stream and what a group has read. These counters go with the stream, so what
they said the last time is kept beside it, in the ledger; and in each process, since the ledger can go too (FLUSHALL).
"""

from collections.abc import Sequence

from trio_alerts.backends.redis.answers import List, Refusal
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.keys import ledger_key

COUNTED = 100  # entries that a script counts one by one: it copies them, payloads included

Noted = Sequence[bytes]  # a ledger's names and values in turn
NOTHING_KNOWN: Noted = ()


class Losses(List):
    """What one look has found.

    Args:
        count: How many entries were lost unread since the last look.
        taken_away: 1 if the stream was taken away or replaced, or its group with it: `count` is what went with it.
        moved_past: About how many entries the group was moved past, by XGROUP SETID or by another group of its name.
        at_the_edge: 1 if the next trimming could take more.
        unreachable: 1 if the group stands behind the end of the stream: it gets nothing of what is added now.
        noted: What the ledger says now, names and values.
    """

    count: int
    taken_away: int
    moved_past: int
    at_the_edge: int
    unreachable: int
    noted: list[bytes]

    @property
    def ledger(self) -> dict[bytes, bytes]:
        """What the ledger says now, by name."""
        return dict(zip(self.noted[::2], self.noted[1::2], strict=False))


class Creation(List):
    """A group that was created.

    Args:
        known_before: 1 if there is a ledger of it: it has been here, and was lost.
        lost: About how many entries went with it unread.
        noted: As in `Losses`.
    """

    known_before: int
    lost: int
    noted: list[bytes]


async def create_group(
    client: RedisClient, stream: str, group: str, start: str, known: Noted = NOTHING_KNOWN
) -> Creation | None:
    """Create a group at "0" or "$", and the stream if need be; None if somebody else was first.

    Where it begins is remembered, and the server's count of entries read starts right, so that losses show. `known` is
    what the last look or creation noted: the ledger is written again from it if it is gone.
    """
    try:
        return await client.run_script(Creation, _CREATE, _keys(stream, group), group, start, *known)
    except Refusal as refused:
        if "BUSYGROUP" not in refused.reply:
            raise
        return None


async def look_for_losses(client: RedisClient, stream: str, group: str, known: Noted = NOTHING_KNOWN) -> Losses:
    """Count what was lost since the last look; each entry is counted once, whoever looks. `known`: see `create_group`.

    Some servers forget a gap with the next read behind it, so it is looked for before reads too. What went with a whole
    stream is what was unread at the last look, which is seldom older than `block_s`. An entry that was deleted in the
    middle of more than a hundred unread ones is not noticed before fewer are left, and then only if the server can
    still tell; a server older than Redis 7 counts nothing.
    """
    return await client.run_script(Losses, _LOOK, _keys(stream, group), group, *known)


async def take_untold(client: RedisClient, stream: str, group: str) -> int:
    """Return how many of the lost entries nobody was told of, and remember that now somebody was."""
    return await client.run_script(int, _UNTOLD, _keys(stream, group), group)


async def accept_losses(client: RedisClient, stream: str, group: str) -> None:
    """Note that a human knows of what was taken away so far."""
    await client.run_script(int, _ACCEPT, _keys(stream, group), group)


def _keys(stream: str, group: str) -> tuple[str, str]:
    return stream, ledger_key(stream, group)


MAPPED = """
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

# KEYS[2]: the ledger. Its fields `added`, `read`, `unread`, `last`, `newest` are what was seen at the last look: how
# many entries were ever added, how many of these the group had read ('' if the server could not tell), how many
# followed, the last ID it had been given, and the last one there was. `lost` and `taken` only grow. `moved_past` is
# about how many entries the group was moved past since it stood at `moved_from`, until it is set back there.
# At maxmemory the ledger cannot be written: then nothing is noted, and it is found again by a later look.
_COMMON = (
    MAPPED
    + f"""
local COUNTED = {COUNTED}
local LAST_ID = '18446744073709551615-18446744073709551615'
"""
    + """
local function digits(number) return string.format('%.0f', number) end

local function ledger(from)
  local found = redis.call('HGETALL', KEYS[2])
  if #found == 0 and ARGV[from] then
    found = {unpack(ARGV, from)}
    redis.pcall('HSET', KEYS[2], unpack(found))
  end
  return mapped(found)
end

-- What the ledger says; what was known of it, if it cannot be written.
local function flat(known)
  local found = redis.call('HGETALL', KEYS[2])
  if #found == 0 then
    for name, value in pairs(known) do
      found[#found + 1] = name
      found[#found + 1] = value
    end
  end
  return found
end

local function about()
  if redis.call('EXISTS', KEYS[1]) == 0 then return nil, nil end
  local stream, group = mapped(redis.call('XINFO', 'STREAM', KEYS[1])), nil
  for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local fields = mapped(one)
    if fields['name'] == ARGV[1] then group = fields end
  end
  return stream, group
end

-- How many entries there are behind an ID, up to another; COUNTED means that many or more.
local function count(from, to)
  if from == LAST_ID then return 0 end
  return #redis.call('XRANGE', KEYS[1], '(' .. from, to, 'COUNT', COUNTED)
end

-- How many entries follow an ID; nil if they are too many to count.
local function following(stream, id)
  if stream['length'] == 0 then return 0 end
  local first = stream['first-entry'] and stream['first-entry'][1]
  if first and before(id, first) then return stream['length'] end
  local found = count(id, '+')
  if found < COUNTED then return found end
end

-- Whether this is another stream than the one that was seen last, or its counters were set back.
local function replaced(stream, known)
  local added = stream['entries-added']
  if not added or not known['added'] then return before(stream['last-generated-id'], known['newest']) end
  return added < known['added'] + count(known['newest'], '+')
end

local function remember(known, stream, group, unread)
  local now = {last = group['last-delivered-id'], newest = stream['last-generated-id'], unread = digits(unread or 0)}
  if stream['entries-added'] then now['added'] = digits(stream['entries-added']) end
  now['read'] = group['entries-read'] and digits(group['entries-read']) or ''
  local changed = {}
  for name, value in pairs(now) do
    if known[name] ~= value then
      changed[#changed + 1] = name
      changed[#changed + 1] = value
    end
  end
  if #changed > 0 then redis.pcall('HSET', KEYS[2], unpack(changed)) end
end

-- Adds to the ledger; false if it cannot be written.
local function note(name, number)
  if number <= 0 or number > 9e15 then return true end
  return type(redis.pcall('HINCRBY', KEYS[2], name, digits(number))) == 'number'
end

-- What went away with the group that was there at the last look: how much, and 1 if more may have gone than is known.
local function gone(known, stream)
  if not known['last'] then return 0, 0 end
  if not stream or replaced(stream, known) then return tonumber(known['unread'] or 0), 1 end
  local follow = following(stream, known['last'])
  if not stream['entries-added'] or not tonumber(known['read']) or not follow then return 0, 0 end
  local lost = math.max(stream['entries-added'] - known['read'] - follow, 0)
  return lost, lost > 0 and 1 or 0
end

-- False: memory is full. A right that is missing ends the script here: what is noted, and then not remembered, would be
-- noted again at each look.
local function may_note(last, read)
  local refused = redis.pcall('HSET', KEYS[2], 'last', '', 'a field without a value')
  if string.find(refused.err, 'OOM', 1, true) then return false end
  if not string.find(refused.err, 'wrong number', 1, true) then error(refused.err) end
  redis.call('HDEL', KEYS[2], '')
  if read then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', digits(read)) end
  return true
end

local function forget() redis.call('HDEL', KEYS[2], 'added', 'read', 'unread', 'last', 'newest') end
"""
)

# ARGV[2]: 0 or $; ARGV[3…]: what the caller knows of the ledger. Answers 1 if there was one, how many entries are
# lost, and the ledger.
_CREATE = (
    _COMMON
    + """
local known, stream = ledger(3), about()
local created = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if created['err'] then return created end
local lost, taken = gone(known, stream)
note('lost', lost)
note('taken', taken)
stream = about()
local added, last = stream['entries-added'], stream['last-generated-id']
local unread = ARGV[2] == '0' and stream['length'] or 0
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[2], 'start')
  if added then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], '0-0', 'ENTRIESREAD', digits(added - unread)) end
else
  redis.call('HSET', KEYS[2], 'start', last)
  if added then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', digits(added)) end
end
local group
stream, group = about()
remember(known, stream, group, unread)
return {next(known) and 1 or 0, lost, flat(known)}
"""
)

# ARGV[2…]: what the caller knows of the ledger. Answers how many entries are lost, 1 if something was taken away, how
# many the group was moved past, 1 if the first entry left is one that the group has not read, 1 if the group stands
# behind the end, and the ledger.
# `entries-read` is where the last entry that the group has read stands among all that were ever added; behind it must
# follow what is left. What is lacking is lost, and counted as read from then on: the group itself stays where it is.
_LOOK = (
    _COMMON
    + """
local known, stream, group = ledger(2), about()
if not group then
  local lost, taken = gone(known, stream)
  if taken > 0 and not may_note() or not note('lost', lost) or not note('taken', taken) then
    return {0, 0, 0, 0, 0, flat(known)}
  end
  if known['last'] then forget() end
  return {lost, taken, 0, 0, 0, flat(known)}
end
local added, read, last = stream['entries-added'], group['entries-read'], group['last-delivered-id']
local behind = before(stream['last-generated-id'], last)
local first = stream['first-entry'] and stream['first-entry'][1]
local edge = first and before(last, first)
local deleted = stream['max-deleted-entry-id'] or '0-0'
local was, lost, taken, moved, unread = known['last'], 0, 0, 0, nil
if was and added and known['added'] and added < tonumber(known['added']) then
  lost, taken = tonumber(known['unread'] or 0), 1
elseif was == last and behind then
  moved = math.max((added or 0) - (known['added'] or 0), 0)
elseif was and before(was, last) and (behind or not read and tonumber(known['read']) and not before(was, deleted)) then
  -- Reads alone keep the server's count: somebody moved the group, or made it anew. What was read since the last look
  -- and is acknowledged by now is among these.
  moved = count(was, last)
  if moved > 0 then moved = moved - #redis.call('XPENDING', KEYS[1], ARGV[1], '(' .. was, last, COUNTED) end
  if moved > 0 or behind then redis.pcall('HSETNX', KEYS[2], 'moved_from', was) end
elseif added and read and (stream['length'] == 0 or edge or before(last, deleted)) then
  unread = following(stream, last)
  lost = unread and added - read - unread or 0
end
local found = lost ~= 0 or taken + moved > 0
if found and not may_note(last, unread and read)
  or not note('lost', lost) or not note('taken', taken) or not note('moved_past', moved) then
  return {0, 0, 0, edge and 1 or 0, behind and 1 or 0, flat(known)}
end
if unread and lost ~= 0 then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', digits(added - unread))
  stream, group = about()
end
if known['moved_from'] and not before(known['moved_from'], last) then
  redis.call('HDEL', KEYS[2], 'moved_from', 'moved_past')
end
remember(known, stream, group, unread or added and read and added - read or following(stream, last) or COUNTED)
return {math.max(lost, 0), taken, moved, edge and 1 or 0, behind and 1 or 0, flat(known)}
"""
)

# Answers how many entries were lost that nobody was told of.
_UNTOLD = """
local lost = redis.call('HGET', KEYS[2], 'lost')
if not lost then return 0 end
local untold = lost - (redis.call('HGET', KEYS[2], 'told') or 0)
if untold > 0 then redis.pcall('HSET', KEYS[2], 'told', lost) end
return untold
"""

_ACCEPT = """
redis.call('HDEL', KEYS[2], 'moved_from', 'moved_past')
local taken = redis.call('HGET', KEYS[2], 'taken')
if taken then redis.call('HSET', KEYS[2], 'accepted', taken) end
return 1
"""
