"""The stream port on real servers: the contract, and what only Redis has."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import msgspec
import pytest
import redis
import trio
import trio.testing

from tests.contracts.stream import (
    GROUP,
    LONG_BLOCK_S,
    PATIENCE_S,
    SHORT_BLOCK_S,
    WHY,
    BothPorts,
    Fields,
    Held,
    StreamContract,
    StreamWorld,
    add,
    ids,
    read_all,
)
from tests.support.servers import RedisServer
from trio_alerts.alert import Entry
from trio_alerts.backends.redis import upkeep
from trio_alerts.backends.redis.keys import (
    canaries_key,
    dead_letter_key,
    deployment_key,
    due_key,
    gate_key,
    ledger_key,
    lock_key,
    lost_key,
    probe_key,
    queue_key,
    sweep_key,
)
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.ports.stream import Pending
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import RedisAddress, parse_redis_url
from trio_alerts.settings.settings import ChannelSettings, Settings


class RedisWorld:
    """The contract's world on a server.

    Args:
        server: Running.
        base: A name that no other test uses.
    """

    def __init__(self, server: RedisServer, base: str) -> None:
        self.names = (base, f"{base}-second", f"{base}|third")
        self.client = server.client()
        self.client.set_response_callback("XRANGE", lambda answer, **_: answer)  # keeps doubles and order
        self._server = server

    @asynccontextmanager
    async def open(
        self,
        consumer: str,
        *,
        streams: int = 1,
        block_s: float = SHORT_BLOCK_S,
        start_from: Literal["refuse", "0", "now"] = "refuse",
    ) -> AsyncIterator[BothPorts]:
        names = self.names[:streams]
        async with open_redis_stream(
            settings(self._server, streams=names, consumer=consumer, block_s=block_s, start_from=start_from)
        ) as stream:
            yield stream

    def add(self, stream: str, fields: Fields) -> str:
        flat = [part for pair in fields for part in pair]
        return bytes(self.run("XADD", stream, "*", *flat)).decode()

    def run(self, *command: str | bytes | int) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def delete(self, stream: str, entry_id: str) -> None:
        self.client.xdel(stream, entry_id)

    def trim(self, stream: str, maxlen: int) -> None:
        self.client.xtrim(stream, maxlen=maxlen, approximate=False)

    def entries(self, stream: str) -> list[str]:
        answer: Any = self.run("XRANGE", stream, "-", "+")
        return [entry_id.decode() for entry_id, _ in answer]

    def other_group(self, stream: str, last_id: str) -> None:
        self.run("XGROUP", "CREATE", stream, "other", last_id)

    def lose_group(self, stream: str) -> None:
        self.client.xgroup_destroy(stream, GROUP)

    def owner(self, stream: str) -> str | None:
        value: Any = self.client.get(deployment_key(stream, GROUP))
        return None if value is None else str(value.decode())

    def set_owner(self, stream: str, identity: str | None) -> None:
        if identity is None:
            self.client.delete(deployment_key(stream, GROUP))
        else:
            self.client.set(deployment_key(stream, GROUP), identity)

    def make_idle(self, stream: str, entry_id: str, idle_s: float) -> None:
        consumer = self.pending(stream)[entry_id].consumer
        self.client.xclaim(stream, GROUP, consumer, 0, [entry_id], idle=round(idle_s * 1000), justid=True)

    def pending(self, stream: str) -> dict[str, Held]:
        page: Any = self.client.xpending_range(stream, GROUP, "-", "+", 10_000)
        return {
            one["message_id"].decode(): Held(
                one["consumer"].decode(), one["times_delivered"], one["time_since_delivered"] / 1000
            )
            for one in page
        }

    def consumers(self, stream: str) -> set[str]:
        answer: Any = self.client.xinfo_consumers(stream, GROUP)
        return {one["name"].decode() for one in answer}

    def dead(self, stream: str) -> list[Fields]:
        answer: Any = self.client.xrange(f"{{{stream}}}:dead")
        return [list(zip(flat[::2], flat[1::2], strict=True)) for _, flat in answer]

    def deleted(self, stream: str) -> list[str]:
        answer: Any = self.run("XRANGE", lost_key(stream, GROUP), "-", "+")
        return [flat[1].decode() for _, flat in answer]


def settings(server: RedisServer, **more: Any) -> Settings:
    return Settings(
        **{"redis_url": parse_redis_url(server.url), "group": GROUP, "consumer": "a", "block_s": 0.05, **more}
    )


class TestRedisStream(StreamContract):
    """The contract on Valkey and on Redis 7."""

    @pytest.fixture
    def world(self, world: RedisWorld) -> StreamWorld:
        return world


@contextmanager
def configured(client: redis.Redis, **parameters: object) -> Iterator[None]:
    """Change the shared server's configuration for a while."""
    names = [name.replace("_", "-") for name in parameters]
    before = {name: str(client.config_get(name)[name]) for name in names}
    for name, value in zip(names, parameters.values(), strict=True):
        client.config_set(name, str(value))
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@contextmanager
def user(world: RedisWorld, server: RedisServer, *rules: str) -> Iterator[RedisAddress]:
    """Make a user with these rules for a while; give the address to enter with."""
    world.run("ACL SETUSER", "limited", "reset", "on", ">secret", "+@all", "&*", *rules)
    try:
        yield RedisAddress("127.0.0.1", server.port, username="limited", password=Secret("secret"))
    finally:
        world.run("ACL DELUSER", "limited")


def created(said: list[str]) -> list[str]:
    """Leave out what the server itself is warned of: it keeps no append-only file."""
    return [line for line in said if not line.startswith("warning: redis://")]


async def test_inspect_says_what_prepare_creates(world: RedisWorld, redis_server: RedisServer) -> None:
    """`inspect` leaves the server as it was; after `prepare` there is nothing more to create."""
    name, second, _ = world.names
    add(world, 3)
    async with open_redis_stream(settings(redis_server, streams=(name, second), start_from="now")) as stream:
        said = created(await stream.inspect())
        groups: Any = world.client.xinfo_groups(name)
        assert ([], 0) == (groups, world.client.exists(second, dead_letter_key(name), dead_letter_key(second)))
        await stream.prepare()
        assert [] == created(await stream.inspect())
    assert [
        f"group 'group' of stream '{name}' would be created, behind its 3 entries",
        f"group 'group' of stream '{second}' would be created, behind its 0 entries",
    ] == said
    assert 1 == world.client.exists(second)
    assert 0 == world.client.exists(dead_letter_key(name), lock_key(name, GROUP, "redrive"))
    assert set() == world.consumers(name)


async def test_all_streams_are_looked_at_before_a_group_is_created(
    world: RedisWorld, redis_server: RedisServer
) -> None:
    """What is refused for one stream leaves no group in another."""
    add(world, 1)
    world.client.set(world.names[1], "text")
    async with open_redis_stream(settings(redis_server, streams=world.names[:2])) as stream:
        with pytest.raises(StartError, match=rf"{world.names[1]}.*holds a value of another type"):
            await stream.prepare()
    groups: Any = world.client.xinfo_groups(world.names[0])
    assert [] == groups


async def test_a_server_that_evicts_streams_is_refused(world: RedisWorld, redis_server: RedisServer) -> None:
    """`allkeys-…` may delete a stream with all its alerts; `volatile-…` cannot, since a stream does not expire."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        with configured(world.client, maxmemory_policy="allkeys-lru"):
            with pytest.raises(StartError, match=r"allkeys-lru.*noeviction"):
                await stream.prepare()
            assert 0 == world.client.exists(world.names[0])
        with configured(world.client, maxmemory_policy="volatile-ttl"):
            await stream.prepare()


async def test_a_server_without_an_append_only_file_is_mentioned(
    world: RedisWorld, redis_server: RedisServer, logged: list[str]
) -> None:
    """One warning, and none when there is one."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        await stream.prepare()
        assert 1 == len([line for line in logged if "append-only" in line])
        with configured(world.client, appendonly="yes"):
            await stream.prepare()
        assert 1 == len([line for line in logged if "append-only" in line])


@pytest.mark.parametrize(
    "command",
    [
        *("info", "xinfo|groups", "xlen", "xreadgroup", "xpending", "xclaim", "xack", "xrange", "xgroup|create"),
        *("xgroup|delconsumer", "eval", "xadd", "set", "time", "xinfo|stream", "xinfo|consumers", "xgroup|setid"),
        *("hget", "hset", "hdel", "hincrby", "xtrim", "hmget"),
        *("zadd", "zrem", "zscore", "zrange", "zrangebyscore", "zrevrangebyscore", "zpopmin", "zcard"),
    ],
)
async def test_a_missing_permission_is_noticed_at_start(
    world: RedisWorld, redis_server: RedisServer, command: str
) -> None:
    """The message names the command and the user; nothing is created, and not found out in the middle of the work."""
    name = world.names[0]
    add(world, 1)
    with user(world, redis_server, "allkeys", f"-{command}") as url:
        channels = (ChannelSettings(name="webhook"),)
        limited = settings(redis_server, redis_url=url, stream=name, trim="acked", channels=channels)
        async with open_redis_stream(limited) as stream:
            expected = rf"'limited' run {command.upper().replace('|', ' ')}\b"
            with pytest.raises(StartError, match=expected):
                await stream.inspect()
            with pytest.raises(StartError, match=expected):
                await stream.prepare()
    groups: Any = world.client.xinfo_groups(name)
    assert [] == groups


async def test_a_key_without_permission_is_noticed_at_start(world: RedisWorld, redis_server: RedisServer) -> None:
    """The user needs the dead-letter stream, the logs, the locks, the hints and each channel's queue too."""
    name = world.names[0]
    channels = (ChannelSettings(name="webhook"),)
    keys = (
        name,
        dead_letter_key(name),
        lost_key(name, GROUP),
        ledger_key(name, GROUP),
        lock_key(name, GROUP, "redrive"),
        deployment_key(name, GROUP),
        due_key(name, GROUP),
        sweep_key(name, GROUP),
        queue_key(name, GROUP, "webhook"),
        probe_key(name, GROUP, "webhook"),
        canaries_key(name),
        gate_key(name, GROUP, "webhook"),
    )
    for missing in keys:
        with user(world, redis_server, *(f"~{key}" for key in keys if key != missing)) as url:
            limited = settings(redis_server, redis_url=url, stream=name, channels=channels)
            async with open_redis_stream(limited) as stream:
                with pytest.raises(StartError, match=f" on {re.escape(repr(missing))}: "):
                    await stream.prepare()
    with user(world, redis_server, *(f"~{key}" for key in keys)) as url:
        limited = settings(redis_server, redis_url=url, stream=name, channels=channels)
        async with open_redis_stream(limited) as stream:
            await stream.prepare()


async def test_looking_for_permissions_changes_nothing(world: RedisWorld, stream: RedisStream) -> None:
    """Next to a working consumer of the same name: its entries, the group and the dead letters stay as they are."""
    name = world.names[0]
    add(world, 2)
    first, second = await read_all(stream, 2)
    assert await stream.quarantine(first, *WHY)
    await stream.groups.look_for_losses()  # what the stream's own look, once a second, would add between the two dumps
    keys = sorted(world.client.keys(f"*{name}*"))
    before = [world.client.dump(key) for key in keys]
    assert [] == created(await stream.inspect())
    assert keys == sorted(world.client.keys(f"*{name}*"))
    assert before == [world.client.dump(key) for key in keys]
    assert [second.id] == list(world.pending(name))


async def test_a_server_that_does_not_answer_at_start_is_refused(world: RedisWorld, redis_server: RedisServer) -> None:
    """A server that hangs between connecting and `prepare` is refused like one that was never there."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0], redis_timeout_s=0.2)) as stream:
        redis_server.pause()
        try:
            with pytest.raises(StartError, match=rf"127\.0\.0\.1:{redis_server.port}"):
                await stream.prepare()
        finally:
            redis_server.resume()


@pytest.mark.parametrize("command", ["client|id", "client|unblock"])
async def test_wake_can_do_without_permission(world: RedisWorld, redis_server: RedisServer, command: str) -> None:
    """The read then ends by itself."""
    with user(world, redis_server, "allkeys", f"-{command}") as url:
        async with open_redis_stream(settings(redis_server, redis_url=url, stream=world.names[0])) as stream:
            await stream.prepare()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.read, 1)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await stream.wake()
            added = add(world, 1)
            assert added == ids(await stream.read(1))


async def test_wake_knows_the_reader_after_a_reconnect(world: RedisWorld, redis_server: RedisServer) -> None:
    """The connection has another ID then."""
    name = world.names[0]
    async with open_redis_stream(settings(redis_server, stream=name, block_s=LONG_BLOCK_S)) as stream:
        await stream.prepare()
        add(world, 1)
        await stream.read(1)
        world.run("CLIENT KILL", "ID", stream._reader._reader[1] or 0)
        with trio.fail_after(PATIENCE_S):
            while stream._reader._blocking.connected:  # noqa: ASYNC110 - nor does the client
                await trio.sleep(0.01)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.read, 1)
            await blocked(world.client)
            await stream.wake()
        assert LONG_BLOCK_S > trio.current_time() - begun


async def read_into(entries: list[Entry], stream: BothPorts, count: int) -> None:
    """Read until there is something: some streams at a time are looked at before they are waited for."""
    while not entries:
        entries.extend(await stream.read(count))


async def blocked(client: redis.Redis) -> None:
    """Wait until the server has a blocked client."""
    with trio.fail_after(PATIENCE_S):
        while not client.info("clients")["blocked_clients"]:  # noqa: ASYNC110 - the server gives no sign
            await trio.sleep(0.01)


@pytest.mark.parametrize("how", ["delete", "flush", "destroy"])
async def test_a_stream_that_goes_away_under_a_blocked_reader_comes_back(
    world: RedisWorld, redis_server: RedisServer, logged: list[str], how: str
) -> None:
    """Redis 7.0 says UNBLOCKED, others NOGROUP: the group is created again, with one error, and reading goes on."""
    name = world.names[0]
    commands = {"delete": ["DEL", name], "flush": ["FLUSHDB"], "destroy": ["XGROUP DESTROY", name, GROUP]}
    async with open_redis_stream(settings(redis_server, stream=name, block_s=LONG_BLOCK_S)) as stream:
        await stream.prepare()
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.read, 1)
            await blocked(world.client)
            world.run(*commands[how])
        assert LONG_BLOCK_S > trio.current_time() - begun
        added = add(world, 1)
        assert added == ids(await stream.read(1))
    assert 1 == len([line for line in logged if line.startswith("ERROR group")])


async def test_a_key_of_another_type_is_an_outage(world: RedisWorld, stream: RedisStream) -> None:
    """A stream that becomes something else while it is read is named and waited for."""
    world.client.delete(world.names[0])
    world.client.set(world.names[0], "text")
    for call in (stream.read(1), stream.look(0, 1), stream.hand_over(set())):
        with pytest.raises(Unavailable, match=r"refuses .*: WRONGTYPE"):
            await call


@pytest.mark.parametrize("command", ["xreadgroup", "xgroup|create"])
async def test_a_permission_that_is_taken_away_is_no_lost_group(
    world: RedisWorld, redis_server: RedisServer, command: str
) -> None:
    """Reading on, and creating the group again and again, would hide it."""
    with user(world, redis_server, "allkeys") as url:
        async with open_redis_stream(settings(redis_server, redis_url=url, stream=world.names[0])) as stream:
            await stream.prepare()
            world.lose_group(world.names[0])
            if command == "xreadgroup":
                await stream.read(1)
            world.run("ACL SETUSER", "limited", f"-{command}")
            with pytest.raises(Unavailable, match=r"does not let the user 'limited' run (XREADGROUP|EVAL .*XGROUP)"):
                await stream.read(1)


@pytest.mark.parametrize("method", ["own_pending", "hand_over"])
async def test_what_another_takes_between_look_and_script_stays_his(
    world: RedisWorld, stream: RedisStream, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """White-box: the script looks at the owner again, since the page that it acts on is a moment old."""
    name = world.names[0]
    (added,) = add(world, 1)
    await stream.read(1)
    look = stream._pending.page

    async def look_and_lose(*args: Any, **kwargs: Any) -> list[Pending]:
        page = await look(*args, **kwargs)
        world.client.xclaim(name, GROUP, "b", 0, [added])
        return page

    monkeypatch.setattr(stream._pending, "page", look_and_lose)
    if method == "own_pending":
        assert [] == await stream.own_pending(set(), 1)
    else:
        assert 0 == await stream.hand_over(set())
    held = world.pending(name)[added]
    assert ("b", 2, True) == (held.consumer, held.deliveries, held.idle_s < PATIENCE_S)


async def test_replays_are_remembered_until_they_are_done_with(world: RedisWorld, stream: RedisStream) -> None:
    """White-box: what was replayed is no growing memory."""
    (first,) = add(world, 1)
    for _ in range(2):
        world.add(world.names[0], [(b"replay_of", first.encode())])
    _, one, other = await read_all(stream, 3)
    assert 2 == len(stream._entries._others)
    await stream.ack([one])
    assert await stream.quarantine(other, *WHY)
    assert {} == stream._entries._others


async def test_a_cancelled_read_loses_nothing(world: RedisWorld, stream: RedisStream) -> None:
    """What the server hands out in that moment is pending under our name, and found."""
    added: list[str] = []
    found: set[str] = set()
    for number in range(20):
        with trio.move_on_after(0.0005 * number):
            found.update(ids(await stream.read(10)))
        added += add(world, 1)
    with trio.fail_after(PATIENCE_S):
        while found != set(added):
            found.update(ids(await stream.own_pending(found, 10)))
            found.update(ids(await stream.read(10)))


async def test_entries_that_come_to_all_streams_at_once(world: RedisWorld, redis_server: RedisServer) -> None:
    """A blocked reader that a transaction serves from several streams gets no more than it asked for."""
    for count in (1, 2, 3, 5):
        async with world.open("a", streams=3, block_s=LONG_BLOCK_S) as stream:
            await stream.prepare()
            entries: list[Entry] = []
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read_into, entries, stream, count)
                    await blocked(world.client)
                    with world.client.pipeline(transaction=True) as together:
                        for name in world.names:
                            for _ in range(3):
                                together.xadd(name, {"event": "1"})
                        together.execute()
            assert count >= len(entries)
            await read_all(stream, 9 - len(entries))


async def test_a_dead_letter_stream_that_cannot_be_written_leaves_the_entry_pending(
    world: RedisWorld, stream: RedisStream
) -> None:
    """Whatever the reason: no entry is acknowledged that is not kept."""
    add(world, 1)
    (entry,) = await stream.read(1)
    world.client.set(dead_letter_key(world.names[0]), "text")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await stream.quarantine(entry, *WHY)
    assert [entry.id] == list(world.pending(world.names[0]))


async def test_a_huge_payload_is_kept_whole(world: RedisWorld, stream: RedisStream) -> None:
    """2 MiB, far more than an alert may have: it stays on the server all the way."""
    payload = b"\x00\xff" * 1024 * 1024
    world.add(world.names[0], [(b"event", payload)])
    (entry,) = await stream.read(1)
    assert ({}, len(payload) + len(b"event")) == (entry.fields, entry.oversize)
    assert await stream.quarantine(entry, *WHY)
    assert (b"event", payload) == world.dead(world.names[0])[0][0]


@pytest.mark.parametrize("deleted", [False, True])
async def test_an_entry_of_very_many_fields_is_kept_together(
    world: RedisWorld, stream: RedisStream, deleted: bool
) -> None:
    """Lua cannot pass so many values on: they are one field, as MessagePack, so that the entry can be quarantined."""
    world.add(world.names[0], [(b"%d" % number, b"v") for number in range(20_000)])
    (entry,) = await stream.read(1)
    if deleted:
        world.delete(world.names[0], entry.id)
    assert await stream.quarantine(entry, *WHY)
    (dead,) = world.dead(world.names[0])
    flat = msgspec.msgpack.decode(dict(dead)[b"_fields"], type=list[str])
    assert [str(number) for number in range(20_000)] == flat[::2]
    assert 10 == len(dead)
    assert {} == world.pending(world.names[0])


async def test_what_is_lost_upstream_is_an_error_in_the_log(
    world: RedisWorld, stream: RedisStream, logged: list[str]
) -> None:
    """One line an entry, with its record ID; a warning if we hold what it says."""
    ours, gone = add(world, 2)
    entry, _ = await read_all(stream, 2)
    world.client.xtrim(world.names[0], maxlen=0, approximate=False)
    await stream.renew([entry])
    assert [] == await stream.own_pending(set(), 10)
    assert [] == await stream.own_pending(set(), 10)
    said = [line for line in logged if "deleted" in line]
    expected = [f"WARNING {ours}: was deleted", f"ERROR {gone}: lost upstream"]
    assert expected == [line[: len(start)] for line, start in zip(said, expected, strict=True)]


async def test_trimming_at_the_heels_of_the_group_is_counted_exactly(
    world: RedisWorld, redis_server: RedisServer
) -> None:
    """A producer that is faster than the group, and keeps little: every read looks first, so none hides a gap."""
    add(world, 10)
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        await stream.prepare()
        world.trim(world.names[0], 3)
        seen = 0
        for _ in range(30):
            seen += len(await stream.read(1))
            add(world, 5)
            world.trim(world.names[0], 3)
        assert 10 + 30 * 5 - seen - 3 == await stream.upkeep.newly_lost()


async def test_a_large_stream_is_trimmed_in_steps(
    world: RedisWorld, stream: RedisStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call keeps the server for long; what a round did not get to is left to the next."""
    monkeypatch.setattr(upkeep, "TRIM_AT_ONCE", 200)
    monkeypatch.setattr(upkeep, "TRIM_CALLS", 3)
    add(world, 950)
    for entry in await read_all(stream, 950):
        await stream.ack([entry])
    await trio.sleep(0.002)
    assert [600, 350, 0] == [await stream.upkeep.trim(0) for _ in range(3)]


async def test_its_name_tells_the_live_state(world: RedisWorld, redis_server: RedisServer) -> None:
    """For logs and health pages, without a password."""
    async with open_redis_stream(settings(redis_server, stream=world.names[0])) as stream:
        assert isinstance(stream, RedisStream)
        assert f"<RedisStream {world.names[0]} as group/a: connected, 0 under way>" == repr(stream)
