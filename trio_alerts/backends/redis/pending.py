"""The pending list of one stream's group: looked at, renewed, taken over and handed over, a script for each step."""

import math
from collections.abc import Collection, Sequence
from typing import TypedDict, TypeVar

from loguru import logger
from redis.typing import EncodableT

from trio_alerts.alert import Entry
from trio_alerts.backends.redis import scripts
from trio_alerts.backends.redis.answers import EntryId, List, Refusal
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.entries import Entries
from trio_alerts.backends.redis.keys import canaries_key, dead_letter_key, lost_key
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, Pending
from trio_alerts.record_ids import id_behind

PAGE = 200  # pending entries a look: their answer is about 20 KB

T = TypeVar("T")


class _Claimed(List):
    """Entries with their deliveries, fields and bytes, and those that are deleted."""

    taken: list[tuple[EntryId, int, list[bytes], int]]
    gone: list[EntryId]


class _Held(List):
    """Entries that are ours, and those that are deleted."""

    ours: list[EntryId]
    gone: list[EntryId]


class _Page(List):
    """How many there were, and the last of them."""

    count: int
    last: EntryId


class PendingItem(TypedDict):
    """An item of the pending list, as redis-py gives it."""

    message_id: EntryId
    consumer: bytes
    time_since_delivered: int
    times_delivered: int


class PendingList:
    """What is pending in a group, seen by one of its consumers; each call is about one stream.

    Of a group that is gone nothing is pending.
    """

    def __init__(self, client: RedisClient, group: str, consumer: str, entries: Entries) -> None:
        self._client = client
        self._group = group
        self._consumer = consumer
        self._entries = entries

    async def page(
        self,
        stream: str,
        count: int,
        *,
        start: str = "-",
        end: str = "+",
        own: bool = False,
        min_idle_s: float | None = None,
    ) -> list[Pending]:
        """Return at most `count` pending entries from one ID up to another, in the order of the stream.

        `own` asks only for those under our name, `min_idle_s` only for those that were idle for so long.
        """
        consumer, idle_ms = self._consumer if own else None, None if min_idle_s is None else _milliseconds(min_idle_s)
        page = await read_pending(self._client, stream, self._group, count, start, end, consumer, idle_ms)
        return [self._pending(stream, one) for one in page]

    async def claim(
        self, stream: str, ids: Sequence[str], *, min_idle_s: float, before_s: float = math.inf
    ) -> list[Entry]:
        """Take over those that are still that idle, unless the server's clock says that it is later than `before_s`."""
        before_ms = _milliseconds(before_s) if math.isfinite(before_s) else ""
        return await self._take(stream, ids, "", _milliseconds(min_idle_s), before_ms, claimed=True)

    async def take_own(self, stream: str, ids: Sequence[str]) -> list[Entry]:
        """Take again, with their fields, those that are still under our name."""
        return await self._take(stream, ids, self._consumer, 0, "", claimed=False)

    async def renew(self, stream: str, entries: Sequence[Entry], counted: bool | None) -> set[str]:
        """Reset the idle time of those that are still ours; return their record IDs. See the port."""
        known = {entry.id: entry for entry in entries}
        counts = ["" if counted is None else entry.deliveries - (not counted) for entry in known.values()]
        ours: set[str] = set()
        for answer in await self._run(_Held, scripts.RENEW, stream, _paired([*known], counts)):
            ours.update(known[one.text].record_id for one in answer.ours if one.text in known)
            for one in answer.gone:
                logger.warning(
                    "{record_id}: was deleted from stream {stream!r} while it was being processed",
                    record_id=self._entries.record_id(stream, one.text),
                    stream=stream,
                )
        return ours

    async def hand_over(self, stream: str, pending: Sequence[Pending], refunded: Collection[str]) -> int:
        """Make those that are still ours look abandoned, and take the delivery to us back; return how many."""
        count = 0
        counted = [int(one.record_id not in refunded) for one in pending]
        pairs, idle_ms = _paired([one.id for one in pending], counted), _milliseconds(HANDED_OVER_IDLE_S)
        for answer in await self._run(_Held, scripts.HAND_OVER, stream, pairs, idle_ms):
            count += len(answer.ours)
            self._report_lost(stream, answer.gone)
        return count

    async def restart_idle_times(self, stream: str) -> None:
        """Let the idle times run again that stand at zero, page by page."""
        start: str | None = "-"
        while start is not None:
            page = await self._eval(_Page, scripts.RESTART, (stream,), [start, PAGE])
            if page is None or not page.count:
                break
            self._client.expect_page([page.last], start, "EVAL", scripts.RESTART, 1, stream)
            start = id_behind(page.last.text) if page.count >= PAGE else None

    async def among(self, stream: str, ids: Sequence[str]) -> list[str]:
        """Return those that are pending, under any name."""
        answers = await self._run(list[EntryId], scripts.PENDING, stream, ids)
        return [one.text for answer in answers for one in answer]

    async def quarantine(self, entry: Entry, ours: Sequence[EncodableT]) -> bool:
        """Move an entry to the dead-letter stream if it is still ours, with our own fields; tell whether it was.

        If the entry was deleted from the stream, what was read of it is kept.
        """
        keys = (entry.stream, dead_letter_key(entry.stream))
        arguments = [entry.id, len(ours), *ours]
        moved = await self._eval(int, scripts.QUARANTINE, keys, arguments)
        if moved == scripts.DELETED:
            flat = [part for pair in entry.fields.items() for part in pair]
            moved = await self._eval(int, scripts.QUARANTINE, keys, [*arguments, *flat])
        return moved == scripts.MOVED

    async def leave(self, stream: str) -> bool:
        """Remove our consumer if it has nothing pending; tell whether it is gone, as it is if the group is."""
        return await self._eval(int, scripts.LEAVE, (stream,), []) != 0

    async def _take(self, stream: str, ids: Sequence[str], *which: str | int, claimed: bool) -> list[Entry]:
        taken: list[Entry] = []
        for answer in await self._run(_Claimed, scripts.CLAIM, stream, ids, *which):
            self._report_lost(stream, answer.gone)
            for entry_id, deliveries, flat, size in answer.taken:
                if entry_id.text not in ids:
                    raise self._client.misunderstood(("EVAL", scripts.CLAIM, 0), entry_id.text)
                fields = dict(zip(flat[::2], flat[1::2], strict=False))
                taken.append(
                    self._entries.entry(stream, entry_id.text, fields, size, deliveries=deliveries, claimed=claimed)
                )
        return taken

    def _pending(self, stream: str, item: PendingItem) -> Pending:
        entry_id = item["message_id"].text
        return Pending(
            stream=stream,
            id=entry_id,
            record_id=self._entries.record_id(stream, entry_id),
            consumer=item["consumer"].decode(errors="replace"),
            idle_s=item["time_since_delivered"] / 1000,
            deliveries=item["times_delivered"],
        )

    def _report_lost(self, stream: str, gone: Sequence[EntryId]) -> None:
        for entry_id in gone:
            logger.error(
                "{record_id}: lost upstream: it was deleted or trimmed from stream {stream!r} before it was processed",
                record_id=self._entries.record_id(stream, entry_id.text),
                stream=stream,
            )

    async def _run(
        self, shape: type[T], script: str, stream: str, ids: Sequence[str | int], *arguments: str | int
    ) -> list[T]:
        """Run a script over IDs, not too many a call; return its answers, none if the group is gone.

        The IDs may be pairs of an ID and a number: no pair is torn apart.
        """
        answers = []
        for start in range(0, len(ids), scripts.IDS_A_CALL):
            chunk = ids[start : start + scripts.IDS_A_CALL]
            keys = (stream, lost_key(stream, self._group), canaries_key(stream))
            answer = await self._eval(shape, script, keys, [*arguments, *chunk])
            if answer is not None:
                answers.append(answer)
        return answers

    async def _eval(
        self, shape: type[T], script: str, keys: Sequence[str], arguments: Sequence[EncodableT]
    ) -> T | None:
        """Run a script; None if the group is gone."""
        try:
            return await self._client.run_script(shape, script, keys, self._group, self._consumer, *arguments)
        except Refusal as refused:
            if _is_nogroup(refused):
                return None
            raise


async def read_pending(
    client: RedisClient,
    stream: str,
    group: str,
    count: int,
    start: str,
    end: str = "+",
    consumer: str | None = None,
    idle_ms: int | None = None,
) -> list[PendingItem]:
    """XPENDING: return a page of the pending list; nothing is pending in a group that is gone."""
    try:
        page = await client.xpending_range(stream, group, start, end, count, consumer, idle_ms)
    except Refusal as refused:
        if _is_nogroup(refused):
            return []
        raise
    items = client.expect(list[PendingItem], page, "XPENDING", stream)
    client.expect_page([one["message_id"] for one in items], start, "XPENDING", stream)
    return items


def next_page(page: Sequence[Pending], size: int) -> str | None:
    """Return where the page after this one starts; None if there is none."""
    return id_behind(page[-1].id) if page and len(page) >= size else None


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _paired(ids: Sequence[str], numbers: Sequence[int | str]) -> list[int | str]:
    return [part for pair in zip(ids, numbers, strict=True) for part in pair]


def _is_nogroup(refused: Refusal) -> bool:
    return "NOGROUP " in refused.reply
