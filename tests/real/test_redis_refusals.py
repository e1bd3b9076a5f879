"""A server that refuses: renamed commands, users with few rights, keys of another type, a full memory."""

import re
from functools import partial

import pytest
import trio

from tests.contracts.stream import GROUP, add, ids, read_all
from tests.real.test_redis_stream import RedisWorld, configured, settings, user
from tests.support.obtain import obtain
from tests.support.servers import RedisServer, ValkeyServer
from trio_alerts.backends.redis.keys import dead_letter_key, ledger_key, lost_key
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S

NEEDED = (
    *("EVAL", "XPENDING", "XCLAIM", "TIME", "XINFO", "XLEN", "XREADGROUP", "XACK", "XADD", "XGROUP", "XRANGE"),
    *("HGETALL", "HSET", "HINCRBY", "EXISTS", "SET"),
)


@pytest.mark.parametrize("kind", [ValkeyServer, RedisServer])
async def test_a_renamed_command_is_named_at_start(kind: type[RedisServer], stream_name: str) -> None:
    """Managed servers rename commands away: each that is needed ends the start, with its name and what it is for."""
    for command in NEEDED:
        with obtain(partial(kind, extra=[f'rename-command {command} ""'])) as server:
            async with open_redis_stream(settings(server, stream=stream_name)) as stream:
                for look in (stream.inspect, stream.prepare):
                    with pytest.raises(StartError) as raised:
                        await look()
                    assert re.search(rf"run {command}\b.*unknown command.*; it is needed to ", str(raised.value))
                    assert 4 == raised.value.exit_code


@pytest.mark.parametrize("kind", [ValkeyServer, RedisServer])
async def test_without_client_and_pttl_it_works(kind: type[RedisServer], stream_name: str) -> None:
    """What only costs comfort is a warning, and everything goes on without it."""
    with obtain(partial(kind, extra=['rename-command CLIENT ""', 'rename-command PTTL ""'])) as server:
        world = RedisWorld(server, stream_name)
        async with open_redis_stream(settings(server, stream=stream_name)) as stream:
            said = await stream.inspect()
            assert ["CLIENT ID", "CLIENT UNBLOCK", "PTTL"] == [
                command
                for command in ("CLIENT ID", "CLIENT UNBLOCK", "PTTL")
                if any(line.startswith("warning: ") and command in line and "works without it" in line for line in said)
            ]
            await stream.prepare()
            added = add(world, 1)
            assert added == ids(await stream.read(1))
            await stream.wake()
        world.client.close()


@pytest.mark.parametrize(
    ("key_of", "write"),
    [
        (lambda name: name, ("SET", "text")),
        (dead_letter_key, ("SET", "text")),
        (lambda name: lost_key(name, GROUP), ("SADD", "member")),
        (lambda name: ledger_key(name, GROUP), ("RPUSH", "item")),
    ],
    ids=["stream", "dead letters", "log", "ledger"],
)
async def test_a_key_of_another_type_is_named_at_start(
    world: RedisWorld, redis_server: RedisServer, key_of: object, write: tuple[str, str]
) -> None:
    """Somebody else uses the name: which key, and what to do."""
    assert callable(key_of)
    key = key_of(world.names[0])
    world.run(write[0], key, write[1])
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        for look in (stream.inspect, stream.prepare):
            with pytest.raises(StartError, match="holds a value of another type; use another name") as raised:
                await look()
            assert repr(key) in str(raised.value)


async def test_a_permission_that_is_taken_away_is_an_outage(world: RedisWorld, redis_server: RedisServer) -> None:
    """While running nothing is a bug: each operation names the command, or the commands of its script."""
    add(world, 2)
    with user(world, redis_server, "allkeys") as url:
        async with open_redis_stream(settings(redis_server, redis_url=url, stream=world.names[0])) as stream:
            await stream.prepare()
            entry, _ = await read_all(stream, 2)
            found = await stream.look(0.0, 2)
            taken = ("-xclaim", "-xpending", "-xack", "-time", "-xreadgroup", "-set", "-xlen")
            world.run("ACL SETUSER", "limited", *taken)
            operations = {
                "XREADGROUP": lambda: stream.read(1),
                "XPENDING": lambda: stream.look(0.0, 1),
                "EVAL (XADD, HEXISTS, XACK, TIME, XPENDING, XCLAIM)": lambda: stream.claim(found, 0.0),
                "EVAL (XADD, HEXISTS, XPENDING, XCLAIM)": lambda: stream.renew([entry]),
                "XACK": lambda: stream.ack([entry]),
                "TIME": stream.server_time,
                "SET": lambda: stream.lock("redrive", 1.0),
                "XLEN": stream.upkeep.dead_letters,
                "EVAL (XPENDING, XGROUP DELCONSUMER)": stream.leave,
            }
            for name, operation in operations.items():
                with pytest.raises(Unavailable) as raised:
                    await operation()
                assert f"does not let the user 'limited' run {name}" in str(raised.value)


async def test_what_a_full_memory_allows_goes_on(world: RedisWorld, redis_server: RedisServer) -> None:
    """At maxmemory entries are read, renewed, claimed, acknowledged and handed over; what must be kept is refused."""
    added = add(world, 4)
    async with (
        open_redis_stream(settings(redis_server, stream=world.names[0], consumer="a")) as stream,
        open_redis_stream(settings(redis_server, stream=world.names[0], consumer="b")) as other,
    ):
        await stream.prepare()
        await read_all(other, 1)  # a consumer that is new could not be made then
        with configured(world.client, maxmemory=1):
            (second,) = await stream.read(1)
            assert added[1] == second.id
            assert {second.record_id} == await stream.renew([second])
            assert added[:1] == ids(await stream.claim(await stream.look(0.0, 1), 0.0))
            await stream.ack([second])
            assert not await stream.owns(second)
            world.client.xtrim(world.names[0], maxlen=0, approximate=False)
            assert 0 == await stream.upkeep.newly_lost()  # it cannot be noted, so it is not told either
            assert 0 == await stream.hand_over(set(), set())  # the entry is deleted: it is lost, and noted
            assert added[:1] == world.deleted(world.names[0])
            assert ["b"] == await stream.upkeep.remove_idle_consumers(0.0)
            assert await stream.leave()
            with pytest.raises(Unavailable, match=r"refuses SET on .*maxmemory"):
                await stream.lock("redrive", 1.0)
        assert 2 == await stream.upkeep.newly_lost()  # now it can


async def test_a_quarantine_waits_for_memory(world: RedisWorld, stream: RedisStream) -> None:
    """At maxmemory the entry stays pending, and there is no dead letter; then it is moved, once."""
    name = world.names[0]
    added = add(world, 1)
    (entry,) = await read_all(stream, 1)
    with configured(world.client, maxmemory=1), pytest.raises(Unavailable, match="maxmemory"):
        await stream.quarantine(entry, "bad_event", "why")
    assert (added, []) == (list(world.pending(name)), world.dead(name))
    assert await stream.quarantine(entry, "bad_event", "why")
    assert ([], 1) == (list(world.pending(name)), len(world.dead(name)))


async def test_a_deleted_entry_that_cannot_be_noted_is_still_handed_over(
    world: RedisWorld, stream: RedisStream
) -> None:
    """One entry of a page that was deleted keeps no other from being renewed or taken over."""
    added = add(world, 2)
    await read_all(stream, 2)
    world.delete(world.names[0], added[0])
    with configured(world.client, maxmemory=1):
        assert 1 == await stream.hand_over(set(), set())
    assert added[1:] == ids(await stream.look(HANDED_OVER_IDLE_S, 2))


async def test_a_group_cannot_be_made_at_maxmemory(world: RedisWorld, redis_server: RedisServer) -> None:
    """Neither at start nor while running; it is waited for, and then made."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        with configured(world.client, maxmemory=1), pytest.raises(Unavailable, match="maxmemory"):
            await stream.prepare()
        await stream.prepare()
        world.lose_group(world.names[0])
        with configured(world.client, maxmemory=1), pytest.raises(Unavailable, match="maxmemory"):
            await stream.read(1)
        added = add(world, 1)
        with trio.fail_after(5):
            assert added == ids(await read_all(stream, 1))
