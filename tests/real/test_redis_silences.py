"""Silences on real servers: the contract, and what only Redis has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from loguru import logger

from tests.contracts.silences import SilencesContract, SilencesWorld, silence
from tests.real.test_redis_stream import RedisWorld, settings
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.keys import silences_key
from trio_alerts.backends.redis.silences import RedisSilences
from trio_alerts.errors import Unavailable
from trio_alerts.ports.silences import Silences

GROUP = "group"


class RedisSilencesWorld:
    """The contract's world on a server: two streams of a world whose names no other test uses."""

    def __init__(self, world: RedisWorld) -> None:
        self.client = world.client
        self.names = world.names[:2]
        self.key = silences_key(min(self.names), GROUP)
        self._settings = settings(world._server)

    @asynccontextmanager
    async def open(self, *, turned: bool = False) -> AsyncIterator[Silences]:
        async with open_client(self._settings) as client:
            yield RedisSilences(client, self.names[::-1] if turned else self.names, GROUP)

    def lose(self) -> None:
        self.client.delete(self.key)


@pytest.fixture
def kept(world: RedisWorld) -> RedisSilencesWorld:
    return RedisSilencesWorld(world)


class TestRedisSilences(SilencesContract):
    """The contract on Valkey and on Redis 7."""

    @pytest.fixture
    async def world(self, kept: RedisSilencesWorld) -> SilencesWorld:
        return kept


async def test_what_nobody_can_read_silences_nothing(kept: RedisSilencesWorld) -> None:
    """It is left out, with an error line that names it; the others are read."""
    async with kept.open() as silences:
        await silences.add(silence("1a"))
        copied = msgspec.json.encode(silence("1a"))
        narrowed = msgspec.json.encode(silence("5e"))[:-1] + b',"channels":["pager"]}'  # by a newer version
        written: dict[str | bytes, bytes] = {
            "2b": b"{",
            "3c": b'{"id":"3c"}',
            "4d": copied,
            "5e": narrowed,
            b"\xff": b"\xff",
        }
        kept.client.hset(kept.key, items=[part for pair in written.items() for part in pair])
        lines: list[str] = []
        sink = logger.add(lines.append, level="ERROR", format="{message}")
        found = await silences.latest()
        logger.remove(sink)

    assert found is not None
    assert (silence("1a"),) == found.silences
    assert 5 == len(lines)
    for name in ("'2b'", "'3c'", "'4d'", "'5e'", "'\ufffd'"):
        assert any(name in line for line in lines), name


async def test_a_version_that_somebody_wrote_is_a_version(kept: RedisSilencesWorld) -> None:
    """Lower, or no number at all: it is another one, so the silences are read; and the next one of ours works."""
    async with kept.open() as silences:
        await silences.add(silence("1a"))
        for version in ("1", "soon", ""):
            kept.client.hset(kept.key, "version", version)
            found = await silences.latest("0")
            assert found is not None
            assert version == found.version
        await silences.add(silence("2b"))
        found = await silences.latest("")
    assert found is not None
    assert int(found.version) > 10**15


async def test_a_key_that_holds_something_else_is_an_outage(kept: RedisSilencesWorld) -> None:
    """As for every other key: named, and waited for."""
    kept.client.set(kept.key, "x")
    async with kept.open() as silences:
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await silences.latest()
