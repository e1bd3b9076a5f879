"""The quarantine on real servers: what is read of it, put back, dropped, and counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contracts.stream import GROUP, WHY, Fields, add, ids, read_all
from tests.real.test_redis_stream import RedisWorld, configured, settings
from tests.support.servers import RedisServer
from trio_alerts.backends.redis import standing as standing_module
from trio_alerts.backends.redis.dead_letters import DeadLetter, RedisDeadLetters, open_dead_letters
from trio_alerts.backends.redis.keys import dead_letter_key, dropped_key
from trio_alerts.backends.redis.standing import Position, RedisLedger, open_ledger
from trio_alerts.errors import StartError


@asynccontextmanager
async def quarantined(
    world: RedisWorld, server: RedisServer, fields: Fields
) -> AsyncIterator[tuple[RedisDeadLetters, DeadLetter]]:
    """Quarantine an entry as a worker does; give the desk, and what it finds."""
    world.add(world.names[0], fields)
    async with world.open("a") as stream:
        await stream.prepare()
        (read,) = await stream.read(1)
        assert await stream.quarantine(read, *WHY)
    async with open_dead_letters(settings(server)) as quarantine:
        (entry,) = await quarantine.page(world.names[0], 10)
        yield quarantine, entry


async def test_an_entry_is_read_as_it_was(world: RedisWorld, redis_server: RedisServer) -> None:
    """Every field with its bytes, doubles and names like ours included, apart from what was noted about it."""
    original = [(b"event", b"\xff{"), (b"twice", b"1"), (b"twice", b"2"), (b"_id", b"forged"), (b"_reason", b"forged")]
    async with quarantined(world, redis_server, original) as (quarantine, entry):
        found = await quarantine.get(world.names[0], entry.id)
        assert await quarantine.get(world.names[0], "1-1") is None
        assert [] == await quarantine.page(world.names[0], 10, after=entry.id)
    assert found == (entry, original)
    assert (world.entries(world.names[0])[0], *WHY, 1, GROUP) == (
        entry.record_id,
        entry.reason,
        entry.error,
        entry.deliveries,
        entry.group,
    )
    assert sum(len(name) + len(value) for name, value in original) == entry.size


@pytest.mark.parametrize("count", [1, 3_400, 20_000])
async def test_a_replay_is_the_alert_that_it_was(world: RedisWorld, redis_server: RedisServer, count: int) -> None:
    """All its fields, however many, and its first record ID; what is replayed is no dead letter any more."""
    original = [(b"%d" % number, b"v") for number in range(count)]
    async with quarantined(world, redis_server, original) as (quarantine, entry):
        found = await quarantine.get(world.names[0], entry.id)
        assert found is not None
        assert original == found[1]
        new_id = await quarantine.replay(world.names[0], entry.id)
        assert await quarantine.replay(world.names[0], entry.id) is None
        assert [] == world.dead(world.names[0])
        async with world.open("b") as stream:
            (replayed,) = await stream.read(10)
            assert (new_id, entry.record_id, True) == (replayed.id, replayed.record_id, replayed.replayed)
            assert dict(original) | {b"replay_of": entry.record_id.encode()} == replayed.fields
            assert await stream.quarantine(replayed, *WHY)
        (again,) = await quarantine.page(world.names[0], 10)
        assert entry.record_id == again.record_id
        await quarantine.replay(world.names[0], again.id)
    flat = world.run("XRANGE", world.names[0], "-", "+")[-1][1]
    assert 1 == flat[::2].count(b"replay_of")


@pytest.mark.parametrize("value", [b"\x92\xa1a\xa1b", b"\xc1", b""])
async def test_a_field_that_looks_like_our_packed_ones_is_none(
    world: RedisWorld, redis_server: RedisServer, value: bytes
) -> None:
    """Only very many fields are ever packed: a producer's field of that name is one of its own."""
    async with quarantined(world, redis_server, [(b"_fields", value)]) as (quarantine, entry):
        found = await quarantine.get(world.names[0], entry.id)
        assert found is not None
        assert [(b"_fields", value)] == found[1]


async def test_a_producers_own_replay_of_does_not_survive(world: RedisWorld, redis_server: RedisServer) -> None:
    """What it wrote there was none of ours; the replay says the truth."""
    async with quarantined(world, redis_server, [(b"event", b"{"), (b"replay_of", b"1-0x")]) as (quarantine, entry):
        await quarantine.replay(world.names[0], entry.id)
        async with world.open("b") as stream:
            (replayed,) = await stream.read(10)
    assert (entry.record_id, {b"event": b"{", b"replay_of": entry.record_id.encode()}) == (
        replayed.record_id,
        replayed.fields,
    )


@pytest.mark.parametrize("count", [2, 20_000])
async def test_as_new_it_is_another_alert(world: RedisWorld, redis_server: RedisServer, count: int) -> None:
    """For an entry whose ID belongs to another alert: it gets a record of its own."""
    original = [(b"%d" % number, b"v") for number in range(count)]
    async with quarantined(world, redis_server, original) as (quarantine, entry):
        new_id = await quarantine.replay(world.names[0], entry.id, as_new=True)
        async with world.open("b") as stream:
            (replayed,) = await stream.read(10)
    assert (new_id, new_id, False) == (replayed.id, replayed.record_id, replayed.replayed)
    assert dict(original) == replayed.fields


async def test_what_somebody_else_put_there_is_replayed_as_new(world: RedisWorld, redis_server: RedisServer) -> None:
    """It says of no record that it is its own."""
    world.client.xadd(dead_letter_key(world.names[0]), {"event": "{"})
    async with open_dead_letters(settings(redis_server)) as quarantine:
        (entry,) = await quarantine.page(world.names[0], 10)
        assert ("", "unknown") == (entry.record_id, entry.reason)
        new_id = await quarantine.replay(world.names[0], entry.id)
    assert [new_id] == world.entries(world.names[0])


async def test_a_replay_that_cannot_be_written_leaves_the_entry(world: RedisWorld, redis_server: RedisServer) -> None:
    """A full server: exit code 4, and nothing has moved."""
    async with quarantined(world, redis_server, [(b"event", b"{")]) as (_, entry):
        pass
    with configured(world.client, maxmemory=1), pytest.raises(StartError, match="memory"):
        async with open_dead_letters(settings(redis_server)) as quarantine:
            await quarantine.replay(world.names[0], entry.id)
    assert 1 == len(world.dead(world.names[0]))
    world.client.delete(world.names[0])
    world.client.set(world.names[0], "text")
    with pytest.raises(StartError, match="WRONGTYPE"):
        async with open_dead_letters(settings(redis_server)) as quarantine:
            await quarantine.replay(world.names[0], entry.id)
    assert 1 == len(world.dead(world.names[0]))


async def test_a_drop_is_noted(world: RedisWorld, redis_server: RedisServer) -> None:
    """Which record, why it had been there, and who dropped it; once."""
    async with quarantined(world, redis_server, [(b"event", b"{")]) as (quarantine, entry):
        assert [True, False] == [await quarantine.drop(world.names[0], entry.id, "eve@desk") for _ in range(2)]
    assert [] == world.dead(world.names[0])
    ((_, flat),) = world.run("XRANGE", dropped_key(world.names[0]), "-", "+")
    noted = dict(zip(flat[::2], flat[1::2], strict=True))
    assert {
        b"id": entry.record_id.encode(),
        b"dead_id": entry.id.encode(),
        b"reason": WHY[0].encode(),
        b"error": WHY[1].encode(),
        b"group": GROUP.encode(),
        b"by": b"eve@desk",
    } == noted


async def test_a_drop_makes_room(world: RedisWorld, redis_server: RedisServer) -> None:
    """On a full server too: what is noted of it is less than what goes."""
    async with quarantined(world, redis_server, [(b"event", b"{" * 1000)]) as (quarantine, entry):
        with configured(world.client, maxmemory=1):
            assert await quarantine.drop(world.names[0], entry.id, "eve@desk")
    assert [] == world.dead(world.names[0])
    assert 1 == world.client.xlen(dropped_key(world.names[0]))


@asynccontextmanager
async def ledger_of(world: RedisWorld, server: RedisServer, streams: int = 1) -> AsyncIterator[RedisLedger]:
    async with open_ledger(settings(server, streams=world.names[:streams])) as ledger:
        yield ledger


async def test_the_ledger_knows_replays_by_their_first_id(
    world: RedisWorld, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, each entry with the ID of its record; a forged `replay_of` counts for nothing."""
    monkeypatch.setattr(standing_module, "PAGE", 2)
    first, second = add(world, 2)
    replay = world.add(world.names[0], [(b"event", b"1"), (b"replay_of", first.encode())])
    forged = world.add(world.names[0], [(b"replay_of", b"nonsense")])
    async with ledger_of(world, redis_server) as ledger:
        page = await ledger.entries(world.names[0])
        rest = await ledger.entries(world.names[0], page[-1][0])
        assert [] == await ledger.entries(world.names[0], rest[-1][0])
    assert [(first, first), (second, second), (replay, first), (forged, forged)] == page + rest


async def test_a_stream_that_does_not_exist_stands_at_nothing(world: RedisWorld, redis_server: RedisServer) -> None:
    """Nor does its group; neither is created. Without a group, nothing is read."""
    async with ledger_of(world, redis_server) as ledger:
        standing = await ledger.standing(world.names[0])
        assert (0, 0, 0, (), None) == (
            standing.length,
            standing.not_read,
            standing.pending,
            standing.consumers,
            standing.waiting_since_s,
        )
        assert [] == await ledger.entries(world.names[0])
        assert [] == await ledger.pending(world.names[0])
        assert [] == world.client.keys(f"*{world.names[0]}*")
        (added,) = add(world, 1)
        standing = await ledger.standing(world.names[0])
        assert (1, 1, int(added.partition("-")[0]) / 1000) == (
            standing.length,
            standing.not_read,
            standing.waiting_since_s,
        )
        assert await ledger.position(world.names[0]) == Position(None, None)


@pytest.mark.parametrize("total", [10, 1_500])
async def test_what_is_not_read_is_counted_exactly(world: RedisWorld, redis_server: RedisServer, total: int) -> None:
    """Whatever was trimmed before, or deleted in the middle: the server's own lag counts that too, or gives up."""
    added = add(world, total)
    async with world.open("a", start_from="0") as stream, ledger_of(world, redis_server) as ledger:
        await stream.prepare()
        read = await read_all(stream, 3)
        for entry in read[:2]:
            await stream.ack([entry])
        standing = await ledger.standing(world.names[0])
        assert (total - 3, 1, 0) == (standing.not_read, standing.pending, standing.lost_unread)
        assert int(read[2].id.partition("-")[0]) / 1000 == standing.waiting_since_s
        world.delete(world.names[0], added[total - 2])
        assert total - 4 == (await ledger.standing(world.names[0])).not_read
        world.trim(world.names[0], 4)
        standing = await ledger.standing(world.names[0])
        assert (4, total - 7) == (standing.not_read, standing.lost_unread)
        assert ids(read[2:]) == await ledger.pending(world.names[0])


async def test_another_groups_affairs_are_its_own(world: RedisWorld, redis_server: RedisServer) -> None:
    """What it quarantined, or had dropped, is none of our ledger."""
    key = dead_letter_key(world.names[0])
    world.client.xadd(key, {"event": "{", "_id": "1-0", "_record": "1-0", "_group": "other"})
    world.client.xadd(key, {"event": "{", "_id": "2-0", "_record": "2-0", "_group": GROUP})
    async with ledger_of(world, redis_server) as ledger, open_dead_letters(settings(redis_server)) as quarantine:
        assert ["", "2-0"] == [record_id for _, record_id in await ledger.dead_letters(world.names[0])]
        for entry in await quarantine.page(world.names[0], 10):
            await quarantine.drop(world.names[0], entry.id, "eve")
        assert ["", "2-0"] == [record_id for _, record_id in await ledger.dropped(world.names[0])]
