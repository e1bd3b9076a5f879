"""Entries that nobody should have written: too large to be carried to us, and dealt with all the same."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.contracts.stream import GROUP, WHY, ids
from tests.real.test_redis_stream import RedisWorld, settings
from tests.support.servers import RedisServer
from trio_alerts.alert import MAX_ENTRY_BYTES, Entry, parse_entry
from trio_alerts.backends.redis import dead_letters
from trio_alerts.backends.redis.dead_letters import DeadLetter, RedisDeadLetters, open_dead_letters
from trio_alerts.backends.redis.keys import dead_letter_key
from trio_alerts.backends.redis.standing import open_ledger
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.clock import ServerClock
from trio_alerts.errors import AlertError, ParseFault, Unavailable
from trio_alerts.pages import Pages

HUGE = b"x" * 30_000_000


@pytest.fixture
def world(redis_server: RedisServer, stream_name: str) -> Iterator[RedisWorld]:
    world = RedisWorld(redis_server, stream_name)
    with world.client:
        yield world
        world.client.flushall()


async def read_or_recover(stream: RedisStream, count: int) -> list[Entry]:
    """As the reader does: a read that fails is followed by a look at what is pending under our own name."""
    entries: list[Entry] = []
    with trio.fail_after(30):
        while len(entries) < count:
            try:
                entries += await stream.read(count)
            except Unavailable as cause:
                if "an answer of more than " not in str(cause):
                    raise
                entries += await stream.own_pending({entry.record_id for entry in entries}, count)
    return entries


async def test_an_entry_that_is_too_large_takes_nobody_with_it(world: RedisWorld, redis_server: RedisServer) -> None:
    """What came in the same answer is carried as ever; of the large ones only the size is known."""
    name = world.names[0]
    events = [b"1", HUGE, b"2", b"y" * MAX_ENTRY_BYTES, b"3"]
    added = [world.add(name, [(b"event", event)]) for event in events]
    async with open_redis_stream(settings(redis_server, stream=name, workers=8)) as stream:
        await stream.prepare()
        entries = sorted(await read_or_recover(stream, 5), key=lambda entry: entry.id)
        assert added == ids(entries)
        assert [0, len(HUGE) + 5, 0, MAX_ENTRY_BYTES + 5, 0] == [entry.oversize for entry in entries]
        assert [{b"event": b"1"}, {}, {b"event": b"2"}, {}, {b"event": b"3"}] == [entry.fields for entry in entries]
        with pytest.raises(ParseFault, match=r"30,000,005 bytes; at most 262,144") as fault:
            parse_entry(entries[1], ServerClock().now())
        assert "too_large" == fault.value.reason
        assert await stream.quarantine(entries[1], *WHY)
    assert [len(HUGE)] == [int(size) for size in sizes(world, dead_letter_key(name))]


async def test_a_claim_carries_no_payload_that_is_too_large(world: RedisWorld, redis_server: RedisServer) -> None:
    """Nor whose replay it is, unless that could be."""
    name = world.names[0]
    for more in ([], [(b"replay_of", b"1-0")], [(b"replay_of", b"z" * 2000)]):
        world.add(name, [(b"event", HUGE), *more])
    async with (
        open_redis_stream(settings(redis_server, stream=name, consumer="a", workers=1)) as one,
        open_redis_stream(settings(redis_server, stream=name, consumer="b")) as other,
    ):
        await one.prepare()
        for _ in range(3):
            with pytest.raises(Unavailable, match="more than 1,048,576 bytes"):
                await one.read(1)
        claimed = await other.claim(await other.look(0.0, 3), 0.0)
        assert [{}, {b"replay_of": b"1-0"}, {}] == [entry.fields for entry in claimed]
        assert "1-0" == claimed[1].record_id
        assert all(entry.oversize > len(HUGE) for entry in claimed)


def sizes(world: RedisWorld, key: str) -> list[int]:
    """Return the bytes of the field `event` of each entry: nobody wants to read them."""
    script = """
        local sizes = {}
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do sizes[#sizes + 1] = #entry[2][2] end
        return sizes
    """
    found: list[int] = world.run("EVAL", script, 1, key)
    return found


@asynccontextmanager
async def quarantined(world: RedisWorld, server: RedisServer, *events: bytes) -> AsyncIterator[RedisDeadLetters]:
    """Put entries of these payloads into quarantine."""
    name = world.names[0]
    async with open_redis_stream(settings(server, stream=name)) as stream:
        await stream.prepare()
        for event in events:
            world.add(name, [(b"event", event)])
            (entry,) = await read_or_recover(stream, 1)
            assert await stream.quarantine(entry, *WHY)
    async with open_dead_letters(settings(server, stream=name)) as quarantine:
        yield quarantine


async def test_the_quarantine_copes_with_it(world: RedisWorld, redis_server: RedisServer) -> None:
    """Listed page by page, shown up to a bound, put back whole by the server, dropped."""
    name = world.names[0]
    async with quarantined(world, redis_server, HUGE, b"small", HUGE) as quarantine:
        pages = Pages[DeadLetter](lambda last: quarantine.page(name, 200, last.id if last else ""))
        listed = [one async for page in pages for one in page]
        assert [len(HUGE) + 5, 10, len(HUGE) + 5] == [one.size for one in listed]
        shown = await quarantine.get(name, listed[0].id)
        assert shown is not None
        ((field, value),) = shown[1]
        assert b"event" == field
        assert "… (cut: it has 30000000 bytes)" == value[dead_letters.SHOWN_BYTES :].decode()
        whole = await quarantine.get(name, listed[1].id)
        assert whole is not None
        assert [(b"event", b"small")] == whole[1]
        new_id = await quarantine.replay(name, listed[0].id)
        assert len(HUGE) == sizes(world, name)[-1]
        assert world.entries(name)[-1] == new_id
        assert await quarantine.drop(name, listed[2].id, "me")
    async with open_ledger(settings(redis_server, stream=name)) as ledger:
        standing = await ledger.standing(name)
        assert (1, 1, 4) == (standing.dead_letters, standing.dropped, standing.length)
        entries = Pages[tuple[str, str]](lambda last: ledger.entries(name, last[0] if last else ""))
        assert 4 == sum([len(page) async for page in entries])


async def test_what_would_have_to_pass_through_us_is_refused(
    world: RedisWorld, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of more fields than a script can pass on, and too large: it stays where it is."""
    monkeypatch.setattr(dead_letters, "MOST_WHOLE_BYTES", 1000)
    name = world.names[0]
    world.add(name, [(b"f%d" % number, b"value") for number in range(20_000)])
    async with open_redis_stream(settings(redis_server, stream=name)) as stream:
        await stream.prepare()
        (entry,) = await read_or_recover(stream, 1)
        assert await stream.quarantine(entry, *WHY)
    async with open_dead_letters(settings(redis_server, stream=name)) as quarantine:
        (one,) = await quarantine.page(name, 1)
        with pytest.raises(AlertError, match="cannot be put back"):
            await quarantine.replay(name, one.id)
        assert 1 == len(await quarantine.page(name, 1))
    assert GROUP == one.group
