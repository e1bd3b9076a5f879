"""The demo's figures, asked of Redis and the store themselves: nothing here trusts a worker's word."""

import datetime as dt
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.keys import dead_letter_key, queue_key
from trio_alerts.demo.ledger import EntryCounts
from trio_alerts.pages import Pages
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings

STREAM, GROUP = Settings.stream, Settings.group  # the workers run with these defaults
PAGE = 500


async def take_counts(redis: RedisClient, store: AlertStore, channels: Collection[str]) -> EntryCounts:
    """Ask where every entry is. The answers are taken one after the other, so while workers run they may not add up.

    Raises:
        Unavailable: One of them does not answer.
    """
    emitted: int = await redis.xlen(STREAM)
    groups: Any = await redis.xinfo_groups(STREAM) if emitted else []
    group: Mapping[str, Any] = next((one for one in groups if one["name"] == GROUP.encode()), {})
    counts = await store.counts(dt.datetime.now(dt.UTC))
    queues = {channel: int(await redis.zcard(queue_key(STREAM, GROUP, channel))) for channel in channels}
    return EntryCounts(
        emitted=emitted,
        unread=_unread(group, emitted),
        pending=group.get("pending", 0),
        consumers=group.get("consumers", 0),
        by_state=counts.by_state,
        dead=await redis.xlen(dead_letter_key(STREAM)),
        queues=queues,
    )


def _unread(group: Mapping[str, int | None], emitted: int) -> int:
    """The server's own `lag`; it says nothing only while it cannot know, as before the first read."""
    lag = group.get("lag")
    return emitted - (group.get("entries-read") or 0) if lag is None else lag


async def pending_of(redis: RedisClient, consumer: str) -> int:
    """Return how many entries were handed out to a consumer and not acknowledged."""
    consumers: Any = await redis.xinfo_consumers(STREAM, GROUP)
    return next((int(one["pending"]) for one in consumers if one["name"] == consumer.encode()), 0)


async def read_records(store: AlertStore) -> dict[str, Record]:
    """Return every record, by ID."""
    pages = Pages(partial(store.search, RecordFilter(), PAGE))
    return {record.id: record async for page in pages for record in page}


async def read_dead(redis: RedisClient) -> list[tuple[str, str]]:
    """Return, for each entry of the dead-letter stream, the ID that it had before and the reason it is there."""
    entries: Any = await redis.xrange(dead_letter_key(STREAM))
    return [(fields[b"_id"].decode(), fields[b"_reason"].decode()) for _, fields in entries]
