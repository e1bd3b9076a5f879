"""The Lua scripts: each one is a step that must look and act at once.

In all of them KEYS[1] is the stream, ARGV[1] the group and ARGV[2] our consumer. Where an entry may turn out to be
deleted, KEYS[2] is the log of those, by which `audit` knows what became of them, and KEYS[3] names the canaries, which
nobody misses. (The log is written at maxmemory too: a script that has begun to write may go on.) An error of a command
inside ends the script there, so the order of the commands decides what can be left half done: nothing is. A right may
be taken away at any time, so what must follow a change is tried before it, in a form that changes nothing.

`XPENDING … id id 1` answers {id, owner, idle ms, deliveries}, or nothing if the entry is not pending. XCLAIM answers
nothing for an entry that was deleted from the stream, and from Redis 7 on takes it off the pending list too.
"""

from trio_alerts.alert import MAX_ENTRY_BYTES

IDS_A_CALL = 200  # a script blocks the server while it runs, and 200 IDs take about 1 ms
MOVED, DELETED = 1, 2  # answers of QUARANTINE
KEPT_LOG = 100_000  # IDs of deleted or dropped entries that are kept, approximately: 10 MB

# Tells whether memory is full, with the error to answer then. A server lets a script go on at maxmemory once that has
# sent any write, also one that changed nothing: so this comes before what is sent only to see whether it is permitted.
# No stream takes 0-0, and a server looks at its memory before it looks at the ID.
FULL = """
local function full(key)
  local refused = redis.pcall('XADD', key, '0-0', 'field', 'value')
  return string.find(refused.err, 'OOM', 1, true) and refused
end
"""

# XCLAIM takes a deleted entry off the pending list: whoever may not note it then must not come that far.
_NOTE = f"""
local refused = redis.pcall('XADD', KEYS[2], '0-0', 'id', '')
if not string.find(refused.err, '0-0', 1, true) and not string.find(refused.err, 'OOM', 1, true) then
  return refused
end
redis.call('HEXISTS', KEYS[3], '')
local function note(gone, id)
  if redis.call('HEXISTS', KEYS[3], id) == 1 then return end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', {KEPT_LOG}, '*', 'id', id)
  gone[#gone + 1] = id
end
"""

# ARGV[3]: the owner it must have ('' for any), ARGV[4]: least idle ms, ARGV[5]: by when by the server's clock, in ms
# ('' for any time: idle times are not asked for), then IDs. A clock that is beyond that was set forward.
# Answers {{id, deliveries, fields, their bytes}…} and the IDs of deleted entries, which are acknowledged. Of an entry
# that is too large, only the field that says whose replay it is comes along.
CLAIM = (
    _NOTE
    + f"""
local MAX_BYTES = {MAX_ENTRY_BYTES}
"""
    + """
local function light(fields)
  local bytes, kept = 0, {}
  for i = 1, #fields do bytes = bytes + #fields[i] end
  if bytes <= MAX_BYTES then return fields, bytes end
  for i = 1, #fields, 2 do
    if fields[i] == 'replay_of' and #fields[i + 1] < 1000 then kept = {fields[i], fields[i + 1]} end
  end
  return kept, bytes
end
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
local claimed, gone = {}, {}
if ARGV[5] ~= '' then
  local time = redis.call('TIME')
  if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[5]) then return {claimed, gone} end
end
for i = 6, #ARGV do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if found and (ARGV[3] == '' or found[2] == ARGV[3]) and found[3] >= tonumber(ARGV[4]) then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i])[1]
    if entry then
      local fields, bytes = light(entry[2])
      claimed[#claimed + 1] = {entry[1], found[4] + 1, fields, bytes}
    else
      redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
      note(gone, ARGV[i])
    end
  end
end
return {claimed, gone}
"""
)

# ARGV[3…]: IDs, each with the count of deliveries that it gets, or '' to leave that as it is. Answers those that were
# ours and are renewed, and those that were ours and are deleted.
RENEW = (
    _NOTE
    + """
local renewed, gone = {}, {}
for i = 3, #ARGV, 2 do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if found and found[2] == ARGV[2] then
    local count = ARGV[i + 1] == '' and found[4] or ARGV[i + 1]
    local answer = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', count, 'JUSTID')
    if answer[1] then renewed[#renewed + 1] = ARGV[i] else note(gone, ARGV[i]) end
  end
end
return {renewed, gone}
"""
)

# ARGV[3]: the idle ms they get, then IDs, each with how many deliveries are taken back: those to us. What a poison
# entry did to earlier owners stays counted. Answers as RENEW; what is that idle already was handed over before.
HAND_OVER = (
    _NOTE
    + """
local handed, gone = {}, {}
for i = 4, #ARGV, 2 do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if found and found[2] == ARGV[2] and found[3] < tonumber(ARGV[3]) then
    local deliveries = math.max(found[4] - ARGV[i + 1], 0)
    local answer = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i],
      'IDLE', ARGV[3], 'RETRYCOUNT', deliveries, 'JUSTID')
    if answer[1] then handed[#handed + 1] = ARGV[i] else note(gone, ARGV[i]) end
  end
end
return {handed, gone}
"""
)

# ARGV[3]: where to start, ARGV[4]: how many. Answers how many it has looked at, and the last ID. XPENDING shows a time
# in the future as no idle time at all; a living owner's that is caught at zero is renewed, and no more.
RESTART = """
local page = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4])
for _, found in ipairs(page) do
  if found[3] == 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], found[2], 0, found[1], 'IDLE', 0, 'RETRYCOUNT', found[4], 'JUSTID')
  end
end
return {#page, #page > 0 and page[#page][1] or '0-0'}
"""

# ARGV[3…]: IDs. Answers those that are pending, under any name.
PENDING = """
local pending = {}
for i = 3, #ARGV do
  if redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1] then
    pending[#pending + 1] = ARGV[i]
  end
end
return pending
"""

# KEYS[2]: the dead-letter stream. ARGV[3]: the ID; ARGV[4]: how many of the following are our own fields' names and
# values; then the entry's own, if the caller knows that it is deleted from the stream.
# Answers MOVED, DELETED (call again, with the fields that were read), or 0: it is not ours. XADD comes first: if it
# fails (out of memory, say), the entry stays pending. Whether XACK is permitted shows before that, on an ID that no
# entry has: refused after it, each try would leave one more dead letter. Our fields come last, so that they win over a
# producer's of the same name. Lua cannot pass more than 8,000 values to a command; the fields of such an entry are kept
# together, as MessagePack.
QUARANTINE = (
    FULL
    + """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)[1]
if not found or found[2] ~= ARGV[2] then return 0 end
local ours = tonumber(ARGV[4])
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
local fields = entry and entry[2] or {}
if not entry then
  if #ARGV == 4 + ours then return 2 end
  for i = 5 + ours, #ARGV do fields[#fields + 1] = ARGV[i] end
end
if #fields > 7000 then fields = {'_fields', cmsgpack.pack(fields)} end
for i = 5, 4 + ours do fields[#fields + 1] = ARGV[i] end
local refused = full(KEYS[2])
if refused then return refused end
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
)

# Answers 1 if our consumer is gone, 0 if it has something pending: deleting it would lose that.
LEAVE = """
if redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
