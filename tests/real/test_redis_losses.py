"""What goes away before it was read: noticed, named, counted once, whoever took it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.contracts.stream import GROUP, add, ids, read_all
from tests.real.test_redis_stream import RedisWorld, settings
from tests.support.servers import RedisServer
from trio_alerts.backends.redis import groups
from trio_alerts.backends.redis.keys import dead_letter_key, ledger_key
from trio_alerts.backends.redis.standing import LostUnread, RedisLedger, open_ledger
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.pages import Pages

UNREAD = 5
TAKEN = "ERROR lost upstream: stream "
MOVED = "was moved (XGROUP SETID"
GONE = "was lost and is created again"


@asynccontextmanager
async def working(world: RedisWorld, server: RedisServer, **more: Any) -> AsyncIterator[RedisStream]:
    """A consumer that has read and acknowledged two entries, beside so many that are not read yet."""
    async with open_redis_stream(settings(server, stream=world.names[0], **more)) as stream:
        await stream.prepare()
        add(world, 2)
        for entry in await read_all(stream, 2):
            await stream.ack([entry])
        add(world, UNREAD)
        await stream.upkeep.newly_lost()
        yield stream


async def lost(world: RedisWorld, server: RedisServer) -> LostUnread:
    """Ask as `stats` and `audit` do."""
    async with open_ledger(settings(server, stream=world.names[0])) as ledger:
        return await ledger.lost_unread(world.names[0])


def take_away(world: RedisWorld, how: str) -> None:
    name = world.names[0]
    match how:
        case "deleted":
            world.run("DEL", name)
        case "expired":
            world.run("PEXPIRE", name, 1)
            while world.run("EXISTS", name):
                pass
        case "renamed":
            world.run("RENAME", name, f"{name}-moved")
        case "replaced":
            world.run("DEL", name)
            world.run("XADD", name, "1-1", "event", "of another stream")
        case "made anew":
            world.run("DEL", name)
            world.run("XADD", name, "1-1", "event", "of another stream")
            world.run("XGROUP CREATE", name, GROUP, "0")
        case "flushed":
            world.run("FLUSHDB")


HOWS = ("deleted", "expired", "renamed", "replaced", "made anew", "flushed")


@pytest.mark.parametrize("how", HOWS)
async def test_a_stream_that_goes_away_under_a_worker(
    world: RedisWorld, redis_server: RedisServer, logged: list[str], how: str
) -> None:
    """It says so, counts what was unread, and reads on. FLUSHALL takes the ledger too, not what the worker knows."""
    async with working(world, redis_server) as stream:
        take_away(world, how)
        with trio.fail_after(10):
            while not await stream.read(10):  # creates what is missing
                add(world, 1)
        assert UNREAD == await stream.upkeep.newly_lost()
        assert 0 == await stream.upkeep.newly_lost()
    assert LostUnread(UNREAD, 1) == await lost(world, redis_server)
    assert 1 == sum(TAKEN in line or (GONE in line and f"About {UNREAD} " in line) for line in logged)


@pytest.mark.parametrize("how", [how for how in HOWS if how not in ("flushed", "made anew")])
@pytest.mark.parametrize("asked_first", [False, True])
async def test_a_stream_that_went_away_while_nobody_worked(
    world: RedisWorld, redis_server: RedisServer, logged: list[str], how: str, asked_first: bool
) -> None:
    """The ledger knows that there was a group: an error line at start; `stats` before the start counts it once."""
    async with working(world, redis_server):
        pass
    take_away(world, how)
    if asked_first:
        assert LostUnread(UNREAD, 1) == await lost(world, redis_server)
    async with open_redis_stream(settings(redis_server, stream=world.names[0], start_from="now")) as stream:
        await stream.prepare()
        assert UNREAD == await stream.upkeep.newly_lost()
        added = add(world, 1)
        assert added == ids(await read_all(stream, 2 if how == "replaced" else 1))[-1:]
    assert LostUnread(UNREAD, 1) == await lost(world, redis_server)
    assert 1 == sum(GONE in line for line in logged)


async def test_what_is_accepted_counts_no_more(world: RedisWorld, redis_server: RedisServer) -> None:
    """A human knows of it: until the next time."""
    name = world.names[0]
    async with working(world, redis_server) as stream:
        take_away(world, "deleted")
        await stream.read(1)
        async with open_ledger(settings(redis_server, stream=name)) as ledger:
            await ledger.accept_losses(name)
            assert LostUnread(UNREAD, 0) == await ledger.lost_unread(name)
            add(world, 3)
            await stream.upkeep.newly_lost()
            take_away(world, "deleted")
            assert LostUnread(UNREAD + 3, 1) == await ledger.lost_unread(name)


@pytest.mark.parametrize("how", ["destroyed", "destroyed and trimmed"])
async def test_a_group_that_goes_away_alone(world: RedisWorld, redis_server: RedisServer, how: str) -> None:
    """The stream is read again from its start: what is still there is not lost, and what is not is counted."""
    async with working(world, redis_server) as stream:
        world.lose_group(world.names[0])
        if how != "destroyed":
            world.trim(world.names[0], 2)
        left = world.entries(world.names[0])
        with trio.fail_after(10):
            assert left == ids(await read_all(stream, len(left)))
        expected = UNREAD - 2 if how != "destroyed" else 0
        assert expected == await stream.upkeep.newly_lost()
    assert LostUnread(expected, int(expected > 0)) == await lost(world, redis_server)


def move(world: RedisWorld, how: str) -> None:
    if how == "by another of its name":
        world.lose_group(world.names[0])
        world.run("XGROUP CREATE", world.names[0], GROUP, "$")
    else:
        world.run("XGROUP SETID", world.names[0], GROUP, MOVES[how])


MOVES = {
    "to the end": "$",
    "beyond the end": "9999999999999-0",
    "to the largest ID": "18446744073709551615-18446744073709551615",
    "by another of its name": "",
}


@pytest.mark.parametrize("how", MOVES)
async def test_a_group_that_is_moved_past_entries(
    world: RedisWorld, redis_server: RedisServer, logged: list[str], how: str
) -> None:
    """The running worker says it, and where it stood; set back there, everything is read, and nothing is counted."""
    name = world.names[0]
    async with working(world, redis_server) as stream:
        stood_at = world.entries(name)[1]
        move(world, how)
        assert 0 == await stream.upkeep.newly_lost()
        (line,) = [line for line in logged if MOVED in line]
        assert f"about {UNREAD} unread entries" in line
        assert stood_at in line
        out_of_reach = any("is past the end" in line for line in logged)
        assert (how in ("beyond the end", "to the largest ID")) is out_of_reach
        assert LostUnread(0, 1) == await lost(world, redis_server)
        world.run("XGROUP SETID", name, GROUP, stood_at)
        assert world.entries(name)[2:] == ids(await read_all(stream, UNREAD))
        assert 0 == await stream.upkeep.newly_lost()
        assert LostUnread(0, 0) == await lost(world, redis_server)


async def test_what_is_added_out_of_reach_is_counted(
    world: RedisWorld, redis_server: RedisServer, logged: list[str]
) -> None:
    """A group that is past the end gets nothing: each entry that is added is one more."""
    async with working(world, redis_server) as stream:
        world.run("XGROUP SETID", world.names[0], GROUP, "9999999999999-0")
        await stream.upkeep.newly_lost()
        add(world, 3)
        await stream.upkeep.newly_lost()
        assert 1 == sum("is past the end" in line for line in logged)
    assert [5, 3] == [int(line.split("about ")[1].split()[0]) for line in logged if MOVED in line]


async def test_ordinary_work_is_no_loss(world: RedisWorld, redis_server: RedisServer, logged: list[str]) -> None:
    """Reading, deleting what is done or unread, setting back and a restart: nothing is said to be taken away."""
    name = world.names[0]
    for round_ in range(3):
        async with working(world, redis_server) as stream:
            first, *_ = await read_all(stream, 2)
            await stream.ack([first])
            world.delete(name, first.id)
            await stream.upkeep.newly_lost()
            await read_all(stream, 1)
            if round_ == 1:
                world.run("XGROUP SETID", name, GROUP, "0")
            await stream.upkeep.newly_lost()
            await read_all(stream, 2)
    assert [] == [line for line in logged if line.startswith("ERROR")]
    assert LostUnread(0, 0) == await lost(world, redis_server)


async def test_an_entry_deleted_unread_in_the_middle_moves_nothing(
    world: RedisWorld, redis_server: RedisServer, logged: list[str]
) -> None:
    """The server forgets then where the group stands: it is no sign that somebody moved it."""
    async with working(world, redis_server) as stream:
        world.delete(world.names[0], world.entries(world.names[0])[4])
        for _ in range(4):
            await stream.upkeep.newly_lost()
            (entry,) = await read_all(stream, 1)
            await stream.ack([entry])
        await stream.upkeep.newly_lost()
    assert [] == [line for line in logged if line.startswith("ERROR")]


async def test_a_watch_looks_while_nobody_reads(
    world: RedisWorld, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all workers busy, what is unread is known all the same: it is not counted by an old figure."""
    monkeypatch.setattr(groups, "WATCH_EVERY_S", 0.01)
    async with working(world, redis_server):
        add(world, 3)
        with trio.fail_after(10):
            while b"8" != world.run("HGET", ledger_key(world.names[0], GROUP), "unread"):  # noqa: ASYNC110
                await trio.sleep(0.01)


@pytest.mark.parametrize("key_of", [str, dead_letter_key, lambda name: ledger_key(name, GROUP)])
async def test_a_key_that_expires_is_a_warning(
    world: RedisWorld, redis_server: RedisServer, key_of: Callable[[str], str]
) -> None:
    """`check` names it, and what to do."""
    name = world.names[0]
    async with working(world, redis_server) as stream:
        world.run("XADD", dead_letter_key(name), "*", "a", "b")
        world.run("EXPIRE", key_of(name), 1000)
        (line,) = [line for line in await stream.inspect() if "expires" in line]
    assert f"warning: the key {key_of(name)!r} expires in " in line


async def test_the_largest_id_there_is(world: RedisWorld, redis_server: RedisServer) -> None:
    """Nothing comes behind it, and nothing breaks: it is read, looked at, taken over, counted and audited."""
    name, largest = world.names[0], "18446744073709551615-18446744073709551615"
    other = "18446744073709551615-0"
    for entry_id in ("5-18446744073709551615", other, largest):
        world.run("XADD", name, entry_id, "event", "1")
    async with open_redis_stream(settings(redis_server, stream=name)) as stream:
        await stream.prepare()
        assert [] == await stream.own_pending(set(), 10)
        entries = await read_all(stream, 3)
        for _ in range(3):
            assert {entry.id for entry in entries} == set(ids(await stream.look(0.0, 3)))
        assert [largest] == ids(await stream.own_pending({one.record_id for one in entries[:2]}, 1))
        assert 0 == await stream.upkeep.newly_lost()
        assert 3 == await stream.hand_over(set(), set())
        async with open_ledger(settings(redis_server, stream=name)) as ledger:
            standing = await ledger.standing(name)
            assert (3, 0, 3) == (standing.length, standing.not_read, standing.pending)
            assert 3 == len(await all_of(ledger.entries, name)) == len(await all_pending(ledger, name))
        world.run("XGROUP SETID", name, GROUP, "0")
        async with open_ledger(settings(redis_server, stream=name)) as ledger:
            assert 3 == (await ledger.standing(name)).not_read
        assert 0 == await stream.upkeep.trim(0.0)


async def all_of(page_of: Callable[[str, str], Any], name: str) -> list[Any]:
    pages = Pages[Any](lambda last: page_of(name, last[0] if last else ""))
    return [item async for page in pages for item in page]


async def all_pending(ledger: RedisLedger, name: str) -> list[str]:
    pages = Pages[str](lambda last: ledger.pending(name, last or ""))
    return [entry_id async for page in pages for entry_id in page]
