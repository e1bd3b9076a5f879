"""The dead-letter streams as an operator sees them: look, put an entry back, drop it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from trio_alerts.alert import Entry
from trio_alerts.backends.redis.answers import EntryId, List
from trio_alerts.backends.redis.client import RedisClient, opener
from trio_alerts.backends.redis.keys import dead_letter_key, dropped_key
from trio_alerts.backends.redis.scripts import FULL, KEPT_LOG
from trio_alerts.errors import AlertError
from trio_alerts.record_ids import REPLAY_OF, id_behind
from trio_alerts.settings.settings import Settings

SHOWN_BYTES = 512 * 1024  # of a value: more than any alert may have
MOST_WHOLE_BYTES = 16 * 1024 * 1024  # of an entry that has to pass through us


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry of a dead-letter stream.

    Args:
        stream: The stream that it came from.
        id: Its ID in the dead-letter stream.
        record_id: The ID of its record; empty if somebody else put it there.
        reason: A short word.
        error: What was wrong, in words.
        deliveries: How often it had been handed out.
        at: When it was moved, RFC 3339.
        group: The group whose worker moved it.
        size: The bytes of its fields' names and values.
    """

    stream: str
    id: str
    record_id: str
    reason: str
    error: str
    deliveries: int
    at: str
    group: str
    size: int


class _Replay(List):
    outcome: int
    new_id: EntryId


class RedisDeadLetters:
    """Reads and empties dead-letter streams; made by `open_dead_letters`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def page(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        """Return some entries without their fields, the oldest first; `after` is the last ID of the page before."""
        start = id_behind(after) if after else "-"
        if start is None:
            return []
        shape = list[tuple[EntryId, int, list[bytes]]]
        page = await self._client.run_script(shape, _PAGE, (dead_letter_key(stream),), start, count)
        self._client.expect_page(
            [entry_id for entry_id, _, _ in page], start, "EVAL", _PAGE, 1, dead_letter_key(stream)
        )
        return [_dead_letter(stream, entry_id, size, flat) for entry_id, size, flat in page]

    async def get(
        self, stream: str, dead_id: str, *, whole: bool = False
    ) -> tuple[DeadLetter, Sequence[tuple[bytes, bytes]]] | None:
        """Return one entry and the fields that its producer wrote, as they were; None if it is not there.

        Values are cut behind `SHOWN_BYTES`, and say so; but not if the entry is wanted `whole`, and is not too large.
        """
        shape = list[tuple[EntryId, int, list[bytes], list[bytes]]]
        most = MOST_WHOLE_BYTES if whole else SHOWN_BYTES
        found = await self._client.run_script(shape, _GET, (dead_letter_key(stream),), dead_id, most, int(whole))
        if not found:
            return None
        entry_id, size, flat, fields = found[0]
        return _dead_letter(stream, entry_id, size, flat), list(zip(fields[::2], fields[1::2], strict=False))

    async def replay(self, stream: str, dead_id: str, *, as_new: bool = False) -> str | None:
        """Put an entry back into its stream; return its new ID there, or None if it is not a dead letter any more.

        Its record and its `webhook-id` stay those of the first time, so that a second replay, or one whose answer got
        lost, sends nothing twice. With `as_new` it gets a record of its own, with its new ID.

        Raises:
            Unavailable: It may have been replayed, or not: try again.
        """
        keys = (stream, dead_letter_key(stream))
        answer = await self._client.run_script(_Replay, _REPLAY, keys, dead_id, int(as_new))
        if answer.outcome == _WIDE:
            return await self._replay_wide(stream, dead_id, as_new=as_new)
        return answer.new_id.text if answer.outcome == _REPLAYED else None

    async def drop(self, stream: str, dead_id: str, by: str) -> bool:
        """Delete an entry, and note for `audit` who dropped it; false if it is not there any more."""
        keys = (dead_letter_key(stream), dropped_key(stream))
        return bool(await self._client.run_script(int, _DROP, keys, dead_id, by, KEPT_LOG))

    async def _replay_wide(self, stream: str, dead_id: str, *, as_new: bool) -> str | None:
        """Replay an entry of more fields than a script can pass on, in two steps.

        Cut between them it lies in both streams: the next replay adds it again, for the same record, and that is
        harmless. (As new, it would be sent once more.)
        """
        found = await self.get(stream, dead_id, whole=True)
        if found is None:
            return None
        entry, fields = found
        if entry.size > MOST_WHOLE_BYTES:
            raise AlertError(
                f"{dead_id} has {entry.size:,} bytes in so many fields that it cannot be put back (at most "
                f"{MOST_WHOLE_BYTES:,}): write it again, or drop it"
            )
        flat = [part for name, value in fields if name != REPLAY_OF for part in (name, value)]
        if not as_new:
            flat += [REPLAY_OF, entry.record_id.encode()]
        await self._client.xdel(dead_letter_key(stream), "0-0")  # refused behind XADD, each try would add one more
        new_id = self._client.expect(
            EntryId, await self._client.execute_command("XADD", stream, "*", *flat), "XADD", stream
        )
        await self._client.xdel(dead_letter_key(stream), dead_id)
        return new_id.text


open_dead_letters = opener(lambda client, _: RedisDeadLetters(client))


def noted_fields(entry: Entry, reason: str, error: str, settings: Settings, at: dt.datetime) -> list[str | int]:
    """Return what is noted of an entry that goes to the dead-letter stream: names and values, behind its own fields."""
    noted: dict[str, str | int] = {
        "_id": entry.id,
        "_record": entry.record_id,
        "_stream": entry.stream,
        "_group": settings.group,
        "_consumer": settings.consumer,
        "_reason": reason,
        "_error": error,
        "_deliveries": entry.deliveries,
        "_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return [part for pair in noted.items() for part in pair]


def _dead_letter(stream: str, entry_id: EntryId, size: int, flat: Sequence[bytes]) -> DeadLetter:
    text = [part.decode(errors="replace") for part in flat]
    ours = dict(zip(text[::2], text[1::2], strict=False))
    deliveries = ours.get("_deliveries", "")
    return DeadLetter(
        stream=stream,
        id=entry_id.text,
        record_id=ours.get("_record", ""),
        reason=ours.get("_reason", "unknown"),
        error=ours.get("_error", ""),
        deliveries=int(deliveries) if deliveries.isascii() and deliveries.isdecimal() else 0,
        at=ours.get("_at", ""),
        group=ours.get("_group", ""),
        size=size,
    )


# Takes an entry apart: the producer's fields, and ours, which are the last ones from `_id` on. See QUARANTINE: of very
# many values the producer's are together in one, as MessagePack.
_SPLIT = """
local function split(entry)
  local all, from, fields, ours, size = entry[2], #entry[2] + 1, {}, {}, 0
  for i = #all - 1, 1, -2 do
    if all[i] == '_id' then from = i break end
  end
  for i = 1, #all, 2 do
    local list = i < from and fields or ours
    list[#list + 1] = all[i]
    list[#list + 1] = all[i + 1]
    if i < from then size = size + #all[i] + #all[i + 1] end
  end
  if #fields == 2 and fields[1] == '_fields' then
    local readable, packed = pcall(cmsgpack.unpack, fields[2])
    if readable and type(packed) == 'table' and #packed > 7000 then fields = packed end
  end
  return fields, ours, size
end
local function value_of(ours, name)
  for i = 1, #ours, 2 do
    if ours[i] == name then return ours[i + 1] end
  end
  return ''
end
"""

# KEYS[1]: the dead-letter stream. ARGV[1]: where to start, ARGV[2]: how many. Fewer come if they are large: each is
# copied whole on the server, one after the other.
_PAGE = (
    _SPLIT
    + """
local page, bytes, from = {}, 0, ARGV[1]
while #page < tonumber(ARGV[2]) and bytes < 4000000 do
  local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  if not entry then break end
  local fields, ours, size = split(entry)
  page[#page + 1] = {entry[1], size, ours}
  bytes, from = bytes + size, '(' .. entry[1]
  if entry[1] == '18446744073709551615-18446744073709551615' then break end
end
return page
"""
)

# KEYS[1]: the dead-letter stream. ARGV[1]: the ID, ARGV[2]: how many bytes of each value, or, if ARGV[3] is 1, of all
# of them together: of what is larger then, only what we noted comes along.
_GET = (
    _SPLIT
    + """
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return {} end
local fields, ours, size = split(entry)
local most = tonumber(ARGV[2])
if ARGV[3] == '1' then return {{entry[1], size, ours, size > most and {} or fields}} end
for i = 2, #fields, 2 do
  if #fields[i] > most then
    fields[i] = string.sub(fields[i], 1, most) .. '… (cut: it has ' .. string.format('%.0f', #fields[i]) .. ' bytes)'
  end
end
return {{entry[1], size, ours, fields}}
"""
)

_REPLAYED, _WIDE = 1, 2

# KEYS: the stream, the dead-letter stream. ARGV[1]: the ID, ARGV[2]: 1 for a new identity. Answers 0 if it is not there
# (any more), `_REPLAYED` with its new ID, or `_WIDE`: it has too many fields for a script. XADD comes first: if it
# fails, the entry stays where it is; and whether XDEL is permitted shows before that. `replay_of` is ours: an earlier
# one, or a producer's, gives way.
_REPLAY = (
    FULL
    + _SPLIT
    + """
local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then return {0, '0-0'} end
local fields, ours = split(entry)
local record, wanted = value_of(ours, '_record'), {}
for i = 1, #fields, 2 do
  if fields[i] ~= 'replay_of' then
    wanted[#wanted + 1] = fields[i]
    wanted[#wanted + 1] = fields[i + 1]
  end
end
if record ~= '' and ARGV[2] == '0' then
  wanted[#wanted + 1] = 'replay_of'
  wanted[#wanted + 1] = record
end
if #wanted > 7500 then return {2, '0-0'} end
local refused = full(KEYS[1])
if refused then return refused end
redis.call('XDEL', KEYS[2], '0-0')
local id = redis.call('XADD', KEYS[1], '*', unpack(wanted))
redis.call('XDEL', KEYS[2], ARGV[1])
return {1, id}
"""
)

# KEYS: the dead-letter stream, the log of drops. ARGV[1]: the ID, ARGV[2]: who wants it, ARGV[3]: the log's length.
# Whether XDEL is permitted shows before anything is written. It goes on at maxmemory: it makes room.
_DROP = (
    _SPLIT
    + """
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local fields, ours = split(entry)
redis.call('XDEL', KEYS[1], '0-0')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'id', value_of(ours, '_record'), 'dead_id', ARGV[1],
  'reason', value_of(ours, '_reason'), 'error', value_of(ours, '_error'), 'group', value_of(ours, '_group'),
  'by', ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
"""
)
