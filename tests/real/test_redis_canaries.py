"""Canaries on real servers: the contract, and what only Redis has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.contracts.canaries import EVERY_S, PAYLOAD, CanariesContract, CanaryWorld, bring, opened
from tests.contracts.stream import fields, read_all
from tests.real.test_redis_stream import RedisWorld, settings
from trio_alerts.backends.redis import canaries
from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.keys import canaries_key, canary_key
from trio_alerts.backends.redis.standing import open_ledger
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


async def test_the_ledger_knows_of_alerts_alone(canary_world: RedisCanaryWorld) -> None:
    """Wherever the canary is: unread, pending or done with. So it is in no figure of `stats`, and `audit` balances."""
    name = canary_world.names[0]
    async with opened(canary_world) as stream, open_ledger(settings(canary_world._server, stream=name)) as ledger:

        async def seen() -> tuple[object, ...]:
            standing = await ledger.standing(name)
            consumers = [one.pending for one in standing.consumers]
            lists = (await ledger.entries(name), await ledger.pending(name))
            return (
                *lists,
                standing.length,
                standing.not_read,
                standing.pending,
                sum(consumers),
                standing.waiting_since_s,
            )

        canary = await stream.canaries.write(name, EVERY_S, PAYLOAD)
        unread = await seen()
        (entry,) = await read_all(stream, 1)
        alert_id = canary_world.add(name, fields())
        pending = await seen()
        await stream.ack([entry])
        await stream.canaries.settle(name, canary.entry_id)
        done = await seen()

    since_s = int(alert_id.partition("-")[0]) / 1000
    assert ([], [], 0, 0, 0, 0, None) == unread
    assert ([(alert_id, alert_id)], [], 1, 1, 0, 0, since_s) == pending == done


async def test_a_clock_that_was_set_back_keeps_none_from_being_written(canary_world: RedisCanaryWorld) -> None:
    """By the server's clock, the last one lies in the future then."""
    name = canary_world.names[0]
    async with opened(canary_world) as stream:
        first = await stream.canaries.write(name, EVERY_S, PAYLOAD)
        await stream.canaries.settle(name, first.entry_id)
        later_ms = round(first.now_s * 1000) + 3_600_000
        canary_world.client.hset(canary_key(name, "group"), "written", str(later_ms))
        assert "" != (await stream.canaries.write(name, EVERY_S, PAYLOAD)).entry_id
