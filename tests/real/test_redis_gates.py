"""Gates on real servers: the contract, and what only Redis has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contracts.gates import CHANNEL, GatesContract, GatesWorld, failures, look
from tests.real.test_redis_stream import RedisWorld, settings
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.gates import RedisGates
from trio_alerts.backends.redis.keys import gate_key
from trio_alerts.errors import Unavailable
from trio_alerts.ports.gates import Admitted, Gates

TIMES = ("tat", "until", "first", "open", "probe")


class RedisGatesWorld:
    """The contract's world on a server: two streams of a world whose names no other test uses."""

    def __init__(self, world: RedisWorld) -> None:
        self.client = world.client
        self.names = world.names[:2]
        self.key = gate_key(min(self.names), "group", CHANNEL)
        self._world = world

    @asynccontextmanager
    async def open(self, *, turned: bool = False) -> AsyncIterator[Gates]:
        its = settings(self._world._server, streams=self.names[::-1] if turned else self.names)
        async with open_client(its) as client:
            yield RedisGates(client, its)

    def move_clock(self, seconds: float) -> None:
        kept = self.client.hgetall(self.key)
        for name in TIMES:
            if name.encode() in kept:
                self.client.hset(self.key, name, int(kept[name.encode()]) - round(seconds * 1e6))

    def lose(self) -> None:
        self.client.delete(self.key)


@pytest.fixture
def kept(world: RedisWorld) -> RedisGatesWorld:
    return RedisGatesWorld(world)


class TestRedisGates(GatesContract):
    """The contract on Valkey and on Redis 7."""

    @pytest.fixture
    async def world(self, kept: RedisGatesWorld) -> GatesWorld:
        return kept


async def test_a_gate_stays_small(kept: RedisGatesWorld) -> None:
    """Ten IDs at most, however many alerts fail; an acceptance leaves nothing of them."""
    async with kept.open() as gates:
        for start in range(0, 1000, 10):
            await look(gates, failures(start, start + 9))
        assert 10 == kept.client.hlen(kept.key) - len(("attempts", "reason", "first", "row"))
        await look(gates, failures(1, 0, accepted=True))
    assert [] == kept.client.hkeys(kept.key)


async def test_a_key_that_holds_something_else_is_an_outage(kept: RedisGatesWorld) -> None:
    """As for every other key: named, and waited for."""
    kept.client.set(kept.key, "x")
    async with kept.open() as gates:
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await gates.ask(CHANNEL)
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await gates.exchange({}, [CHANNEL])


async def test_what_somebody_wrote_there_keeps_nothing_closed(kept: RedisGatesWorld) -> None:
    """Times that are none mean nothing."""
    kept.client.hset(kept.key, mapping=dict.fromkeys(("tat", "until", "row", "first", "attempts"), "soon"))
    async with kept.open() as gates:
        assert Admitted() == await gates.ask(CHANNEL)
        assert (0, 0) == ((seen := await look(gates)).row, seen.attempts)
