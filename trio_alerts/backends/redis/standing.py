"""What Redis knows of the ledger: where entries stand, for `stats` and `audit`. Nothing here moves an entry."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

from trio_alerts.backends.redis.answers import EntryId, List, Refusal, ServerTime
from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.client import RedisClient, opener
from trio_alerts.backends.redis.dead_letters import RedisDeadLetters
from trio_alerts.backends.redis.deployment import RedisDeployment
from trio_alerts.backends.redis.groups import FoundGroup, find_group
from trio_alerts.backends.redis.keys import canaries_key, dead_letter_key, dropped_key, lost_key
from trio_alerts.backends.redis.losses import accept_losses, look_for_losses
from trio_alerts.backends.redis.pending import PendingItem, read_pending
from trio_alerts.record_ids import REPLAY_OF, RecordIds, id_behind, order
from trio_alerts.settings.settings import Settings

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
        dead_letters: How many lie in its dead-letter stream.
        dropped: How many operators dropped from there, as far as the log goes back.
        lost_unread: How many were trimmed or deleted before the group had read them.
        taken_away: How often the stream was taken away, or its group moved, and nobody has accepted that yet.
        waiting_since_s: When the oldest entry was added that is not read yet or pending, in seconds since the epoch.
    """

    stream: str
    length: int
    not_read: int
    pending: int
    consumers: tuple[Consumer, ...]
    dead_letters: int
    dropped: int
    lost_unread: int
    taken_away: int
    waiting_since_s: float | None


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which IDs the group has read (None: there is no group), and behind which it was told to begin."""

    last_delivered: str | None
    start: str | None


@dataclass(frozen=True, slots=True)
class LostUnread:
    """What was lost before it was read: how many entries, and how often more may have gone than is known.

    The latter counts streams that were taken away, until somebody accepts it, and a group that was moved past entries,
    until it is set back.
    """

    count: int
    taken_away: int


class _Count(List):
    count: int
    newest: EntryId


class _Consumer(TypedDict):
    name: bytes
    pending: int
    idle: int


_LOGGED = list[tuple[EntryId, dict[bytes, bytes]]]


class RedisLedger:
    """Looks at streams, groups and logs; made by `open_ledger`."""

    def __init__(self, client: RedisClient, settings: Settings) -> None:
        self._client = client
        self._group = settings.group
        self._ids = RecordIds(settings.stream_names)
        self._dead_letters = RedisDeadLetters(client)
        self.canary = RedisCanaries(client, settings.group).look
        self.deployment = RedisDeployment(client, settings.stream_names, settings.group).read

    async def time(self) -> float:
        """Return the server's time in seconds since the epoch."""
        return self._client.expect(ServerTime, await self._client.time(), "TIME").since_epoch_s

    async def standing(self, stream: str) -> Standing:
        """Tell how a stream and its group stand, canaries left out; one that does not exist stands at nothing."""
        length = await self._length(stream)
        group = await find_group(self._client, stream, self._group)
        lost = await self.lost_unread(stream)
        canaries = await self._canaries(stream)
        waiting = [one for one in await self._oldest(stream, group, canaries) if one is not None]
        read = order(group.last_delivered_id.text) if group else (0, 0)
        unread = sum(order(one) > read for one in canaries)
        held = [item for one in canaries if canaries[one] for item in await self._find_pending(stream, one)]
        not_read = await self._not_read(stream, length, group) if group else length
        return Standing(
            stream=stream,
            length=max(length - len(canaries), 0),
            not_read=max(not_read - unread, 0),
            pending=max(group.pending - len(held), 0) if group else 0,
            consumers=await self._consumers(stream, held) if group else (),
            dead_letters=await self._length(dead_letter_key(stream)),
            dropped=await self._length(dropped_key(stream)),
            lost_unread=lost.count,
            taken_away=lost.taken_away,
            waiting_since_s=min((order(entry_id)[0] / 1000 for entry_id in waiting), default=None),
        )

    async def lost_unread(self, stream: str) -> LostUnread:
        """Tell what was trimmed, deleted or taken away before the group had read it, up to now."""
        ledger = (await look_for_losses(self._client, stream, self._group)).ledger
        taken = max(self._number(ledger, b"taken") - self._number(ledger, b"accepted"), 0)
        return LostUnread(self._number(ledger, b"lost"), taken + (b"moved_from" in ledger))

    async def accept_losses(self, stream: str) -> None:
        """Note that a human knows of what was taken away so far: it is accounted for from now on."""
        await accept_losses(self._client, stream, self._group)

    async def position(self, stream: str) -> Position:
        """Tell how far the group has read."""
        group = await find_group(self._client, stream, self._group)
        start = (await look_for_losses(self._client, stream, self._group)).ledger.get(b"start")
        return Position(
            group.last_delivered_id.text if group else None,
            self._client.expect(EntryId, start, "HGETALL").text if start else None,
        )

    async def entries(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the stream: each entry's ID and its record's. `after` is the last ID of the page before."""
        start = _behind(after)
        if start is None:
            return []
        keys = (stream, canaries_key(stream))
        found = await self._client.run_script(list[tuple[EntryId, bytes | None]], _ENTRIES, keys, start, PAGE)
        self._client.expect_page([entry_id for entry_id, _ in found], start, "EVAL", _ENTRIES, 1, stream)
        page = []
        for raw_id, replay_of in found:
            entry_id = raw_id.text
            original = self._ids.of_replay(stream, entry_id, {REPLAY_OF: replay_of}) if replay_of is not None else None
            page.append((entry_id, original or self._ids.of(stream, entry_id)))
        return page

    async def pending(self, stream: str, after: str = "") -> list[str]:
        """Return a page of the IDs that are pending in the group."""
        start = _behind(after)
        if start is None:
            return []
        keys = (stream, canaries_key(stream))
        try:
            found = await self._client.run_script(list[EntryId], _PENDING, keys, self._group, start, IDS_A_PAGE)
        except Refusal as refused:
            if "NOGROUP " in refused.reply:
                return []
            raise
        self._client.expect_page(found, start, "EVAL", _PENDING, 1, stream)
        return [one.text for one in found]

    async def dead_letters(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the dead letters: the ID there, and the record's (empty: another group's)."""
        page = await self._dead_letters.page(stream, PAGE, after)
        return [(one.id, one.record_id if one.group == self._group else "") for one in page]

    async def dropped(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the log of drops: the ID there, and the record's (empty: another group's)."""
        page = await self._log(dropped_key(stream), after)
        ours = self._group.encode()
        return [
            (one, fields.get(b"id", b"").decode(errors="replace") if fields.get(b"group") == ours else "")
            for one, fields in page
        ]

    async def deleted(self, stream: str, after: str = "") -> list[tuple[str, str]]:
        """Return a page of the log of entries that were deleted while pending: the ID there, and the entry's."""
        page = await self._log(lost_key(stream, self._group), after)
        return [(one, fields.get(b"id", b"").decode(errors="replace")) for one, fields in page]

    async def _log(self, key: str, after: str) -> list[tuple[str, dict[bytes, bytes]]]:
        start = _behind(after)
        if start is None:
            return []
        page = self._client.expect(_LOGGED, await self._client.xrange(key, start, "+", IDS_A_PAGE), "XRANGE", key)
        self._client.expect_page([entry_id for entry_id, _ in page], start, "XRANGE", key)
        return [(entry_id.text, fields) for entry_id, fields in page]

    async def _length(self, key: str) -> int:
        return self._client.expect(int, await self._client.xlen(key), "XLEN", key)

    async def _canaries(self, stream: str) -> dict[str, bool]:
        """Return the entries of the stream that are canaries; true are those of our group that may be under way."""
        key = canaries_key(stream)
        noted = self._client.expect(dict[EntryId, bytes], await self._client.hgetall(key), "HGETALL", key)
        return {entry_id.text: group == self._group.encode() for entry_id, group in noted.items()}

    async def _find_pending(self, stream: str, entry_id: str) -> list[PendingItem]:
        return await read_pending(self._client, stream, self._group, 1, entry_id, entry_id)

    async def _consumers(self, stream: str, held: Sequence[PendingItem]) -> tuple[Consumer, ...]:
        """Return the consumers; what is `held` is nothing to them."""
        answer = await self._client.xinfo_consumers(stream, self._group)
        found = self._client.expect(list[_Consumer], answer, "XINFO CONSUMERS", stream)
        theirs = Counter(one["consumer"] for one in held)
        return tuple(
            Consumer(
                one["name"].decode(errors="replace"), max(one["pending"] - theirs[one["name"]], 0), one["idle"] / 1000
            )
            for one in found
        )

    async def _not_read(self, stream: str, length: int, group: FoundGroup) -> int:
        """Count what follows the last entry read. The server's own `lag` also counts what was trimmed unread."""
        last = group.last_delivered_id.text
        first = await self._client.run_script(_Count, _COUNT, (stream,), "-", 1)
        if not first.count or order(first.newest.text) > order(last):
            return length
        total, start = 0, id_behind(last)
        while start is not None:
            page = await self._client.run_script(_Count, _COUNT, (stream,), start, IDS_A_PAGE)
            if page.count:
                self._client.expect_page([page.newest], start, "EVAL", _COUNT, 1, stream)
            total += page.count
            if page.count < IDS_A_PAGE:
                break
            if group.lag is not None:
                return group.lag
            start = id_behind(page.newest.text)
        return total

    async def _oldest(
        self, stream: str, group: FoundGroup | None, canaries: Collection[str]
    ) -> tuple[str | None, str | None]:
        """Return the first entry that is not read, and the first that is pending; canaries are passed over."""
        start = id_behind(group.last_delivered_id.text) if group else "-"
        unread = None
        while start is not None and unread is None:
            first = await self._client.run_script(_Count, _COUNT, (stream,), start, 1)
            if not first.count:
                break
            is_canary = first.newest.text in canaries
            unread, start = (None, id_behind(first.newest.text)) if is_canary else (first.newest.text, None)
        pending = await self.pending(stream) if group and group.pending else []
        return (unread, pending[0] if pending else None)

    def _number(self, ledger: dict[bytes, bytes], name: bytes) -> int:
        text = ledger.get(name, b"0")
        if not text.isdigit():
            raise self._client.misunderstood(("HGETALL",), ledger)
        return int(text)


open_ledger = opener(RedisLedger)


def _behind(after: str) -> str | None:
    """Return where the page behind an ID starts; None if there is nothing behind it."""
    return id_behind(after) if after else "-"


# KEYS[1]: the stream, KEYS[2]: its canaries, left out in the same step: they come and go. ARGV[1]: where to start,
# ARGV[2]: how many. Answers IDs and what they are replays of: the payload stays on the server. Fewer come if they are
# large: each is copied whole there, one after the other.
_ENTRIES = """
local page, bytes, from = {}, 0, ARGV[1]
while #page < tonumber(ARGV[2]) and bytes < 4000000 do
  local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  if not entry then break end
  local replay_of = false
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'replay_of' and #entry[2][i + 1] < 1000 then replay_of = entry[2][i + 1] end
    bytes = bytes + #entry[2][i + 1]
  end
  if redis.call('HEXISTS', KEYS[2], entry[1]) == 0 then page[#page + 1] = {entry[1], replay_of} end
  from = '(' .. entry[1]
  if entry[1] == '18446744073709551615-18446744073709551615' then break end
end
return page
"""

# The same of what is pending in the group ARGV[1]; ARGV[2]: where to start, ARGV[3]: how many. Answers IDs.
_PENDING = """
local page, from = {}, ARGV[2]
while #page == 0 do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], from, '+', ARGV[3])
  if #found == 0 then break end
  for _, one in ipairs(found) do
    if redis.call('HEXISTS', KEYS[2], one[1]) == 0 then page[#page + 1] = one[1] end
  end
  from = '(' .. found[#found][1]
end
return page
"""

# KEYS[1]: the stream. ARGV[1]: where to start, ARGV[2]: how many. Answers how many there are, and the last ID.
_COUNT = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
return {#found, #found > 0 and found[#found][1] or '0-0'}
"""
