"""The hints on real servers: the contract, and what only Redis has."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from tests.contracts.hints import GROUP, HintsContract, HintsWorld, now
from tests.real.test_redis_stream import configured, settings
from tests.support.servers import RedisServer
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.hints import RedisHints
from trio_alerts.backends.redis.keys import due_key, queue_key
from trio_alerts.errors import Unavailable
from trio_alerts.ports.hints import DueHint, Hints, Queued


class RedisHintsWorld:
    """The contract's world on a server."""

    def __init__(self, server: RedisServer, base: str) -> None:
        self.names = (base, f"{base}-second", f"{base}|third")
        self.server = server
        self.client = server.client()

    @asynccontextmanager
    async def open(self, *, streams: int = 1) -> AsyncIterator[Hints]:
        wanted = settings(self.server, streams=self.names[:streams])
        async with open_client(wanted) as client:
            yield RedisHints(wanted, client)


@pytest.fixture
def hints_world(redis_server: RedisServer, stream_name: str) -> Iterator[RedisHintsWorld]:
    """Give a world on Valkey, then on Redis 7."""
    world = RedisHintsWorld(redis_server, stream_name)
    with closing(world.client):
        yield world


class TestRedisHints(HintsContract):
    """The contract on Valkey and on Redis 7."""

    @pytest.fixture
    def world(self, hints_world: RedisHintsWorld) -> HintsWorld:
        return hints_world


async def test_hints_lie_beside_their_stream(hints_world: RedisHintsWorld) -> None:
    """Each in the cluster slot of its entry's stream, by the names that are documented."""
    one, other, _ = hints_world.names
    async with hints_world.open(streams=2) as hints:
        await hints.put_due([DueHint(f"{one}|1-1", await now(hints)), DueHint(f"{other}|1-1", await now(hints))])
        await hints.put_queued([Queued("pager", f"{other}|1-1", 3)])
    client: Any = hints_world.client
    assert [f"{{{one}}}:due:{GROUP}", f"{{{other}}}:queue:{GROUP}:pager"] == [
        due_key(one, GROUP),
        queue_key(other, GROUP, "pager"),
    ]
    assert [1, 1, 0, 1] == [
        client.zcard(key)
        for key in (
            due_key(one, GROUP),
            due_key(other, GROUP),
            queue_key(one, GROUP, "pager"),
            queue_key(other, GROUP, "pager"),
        )
    ]


async def test_a_full_server_gives_out_what_waits(hints_world: RedisHintsWorld) -> None:
    """It is taken whole, with the hint of its lease: a queue that is drained makes room."""
    async with hints_world.open() as hints:
        await hints.put_queued([Queued("pager", "1-1", 3)])
        with configured(hints_world.client, maxmemory=1, maxmemory_policy="noeviction"):
            taken = await hints.take_queued("pager", 60.0)
        assert taken is not None
        found = await hints.take_due(10, 60.0)
    assert ("1-1", 0) == (taken.record_id, len(found.taken))
    assert 50.0 < found.next_in_s <= 60.0


async def test_a_full_server_refuses_hints(hints_world: RedisHintsWorld) -> None:
    """That is an outage of theirs, which the program does without; what was there is still there afterwards."""
    async with hints_world.open() as hints:
        await hints.put_due([DueHint("1-1", await now(hints))])
        with configured(hints_world.client, maxmemory=1, maxmemory_policy="noeviction"):
            with pytest.raises(Unavailable):
                await hints.put_due([DueHint("1-2", None), DueHint("1-2", await now(hints))])
            with pytest.raises(Unavailable):
                await hints.take_due(10, 60.0)
        assert ["1-1"] == [one.record_id for one in (await hints.take_due(10, 60.0)).taken]
