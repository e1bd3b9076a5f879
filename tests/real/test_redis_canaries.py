"""Canaries on real servers: the contract, and what only Redis has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contracts.canaries import CanariesContract, CanaryWorld, bring, opened
from tests.real.test_redis_stream import RedisWorld, settings
from trio_alerts.backends.redis import canaries
from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.keys import canaries_key
from trio_alerts.ports.canaries import Canaries


class RedisCanaryWorld(RedisWorld):
    """The contract's world on a server."""

    def move_other_group(self, stream: str, last_id: str) -> None:
        self.run("XGROUP", "SETID", stream, "other", last_id)

    @asynccontextmanager
    async def other_canaries(self) -> AsyncIterator[Canaries]:
        async with open_client(settings(self._server)) as client:
            yield RedisCanaries(client, "other")


@pytest.fixture
def canary_world(world: RedisWorld) -> RedisCanaryWorld:
    return RedisCanaryWorld(world._server, world.names[0])


class TestRedisCanaries(CanariesContract):
    """The contract on Valkey and on Redis 7."""

    @pytest.fixture
    def world(self, canary_world: RedisCanaryWorld) -> CanaryWorld:
        return canary_world


async def test_what_a_dead_group_leaves_unread_does_not_grow_for_ever(
    canary_world: RedisCanaryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so many canaries the last one goes at once: whoever has not read a thousand of them reads none."""
    monkeypatch.setattr(canaries, "MOST_KEPT", 3)
    name, client = canary_world.names[0], canary_world.client
    async with opened(canary_world) as stream:
        canary_world.other_group(name, "0-0")
        for _ in range(6):
            await bring(stream, name)

    assert 3 == client.hlen(canaries_key(name)) == len(canary_world.entries(name))
