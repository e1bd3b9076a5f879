"""A real server whose clock is set: what it says of idle times then, and what the scripts make of it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.stream import add, ids, read_all
from tests.real.test_redis_stream import RedisWorld, settings
from tests.support.obtain import obtain
from tests.support.servers import ValkeyServer
from tests.support.servers.process import UnavailableError
from trio_alerts.backends.redis.stream import open_redis_stream

LIBRARY = "faketime/libfaketime.so.1"
HOUR_S = 3600
NEAR_S = 20


class ServerWithAClock(ValkeyServer):
    """Valkey whose clock can be set; its time goes on as ever. The distribution's Redis hangs under libfaketime."""

    def __init__(self) -> None:
        super().__init__()
        found = [path for folder in ("/usr/lib", "/usr/local/lib") for path in Path(folder).glob(f"**/{LIBRARY}")]
        if not found:
            raise UnavailableError("a server whose clock can be set: needs libfaketime (apt-get install faketime)")
        self._library = found[0]

    def command(self) -> list[str]:
        self._write(0)
        return [
            "env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self.folder / 'clock'}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            *super().command(),
        ]

    def set_clock(self, offset_s: int) -> None:
        """Set the server's clock so far ahead of the machine's, and wait until it shows."""
        self._write(offset_s)
        with self.client() as client:
            while abs(client.time()[0] - time.time() - offset_s) > NEAR_S:
                pass

    def _write(self, offset_s: int) -> None:
        new = self.folder / "clock.new"
        new.write_text(f"{offset_s:+d}s\n")
        new.replace(self.folder / "clock")


@pytest.fixture
def server() -> Iterator[ServerWithAClock]:
    with obtain(ServerWithAClock) as server:
        yield server


@pytest.fixture
def world(server: ServerWithAClock, stream_name: str) -> Iterator[RedisWorld]:
    world = RedisWorld(server, stream_name)
    with world.client:
        yield world


async def test_a_clock_set_forward_makes_nobody_dead(world: RedisWorld, server: ServerWithAClock) -> None:
    """Everything looks idle for an hour more, and nothing is taken until the caller has seen that."""
    added = add(world, 1)
    async with (
        open_redis_stream(settings(server, stream=world.names[0], consumer="a")) as holding,
        open_redis_stream(settings(server, stream=world.names[0], consumer="b")) as looking,
    ):
        await holding.prepare()
        before_s = await looking.server_time()
        (entry,) = await read_all(holding, 1)
        server.set_clock(HOUR_S)
        found = await looking.look(45.0, 1)
        assert added == ids(found)
        assert [] == await looking.claim(found, 45.0)
        assert HOUR_S - 10 < await looking.server_time() - before_s < HOUR_S + 60
        await holding.renew([entry])
        assert [] == await looking.claim(found, 45.0)
        server.set_clock(2 * HOUR_S)
        await looking.server_time()
        assert added == ids(await looking.claim(found, 45.0))


async def test_a_clock_set_back_stops_no_idle_time(world: RedisWorld, server: ServerWithAClock) -> None:
    """What was handed out before looks young until the clock is where it was; its owner and deliveries stay."""
    add(world, 3)
    async with open_redis_stream(settings(server, stream=world.names[0], consumer="a")) as stream:
        await stream.prepare()
        await read_all(stream, 3)
        server.set_clock(-HOUR_S)
        assert [0.0] * 3 == [pending.idle_s for pending in await stream.look(0.0, 3)]
        server.set_clock(-HOUR_S + 100)
        assert [] == await stream.look(60.0, 3)
        await stream.restart_idle_times()
        server.set_clock(-HOUR_S + 200)
        assert [("a", 1)] * 3 == [(pending.consumer, pending.deliveries) for pending in await stream.look(60.0, 3)]


async def test_many_idle_times_are_restarted(world: RedisWorld, server: ServerWithAClock) -> None:
    """More than fit into one call."""
    add(world, 450)
    async with open_redis_stream(settings(server, stream=world.names[0], consumer="a")) as stream:
        await stream.prepare()
        await read_all(stream, 450)
        server.set_clock(-HOUR_S)
        await stream.restart_idle_times()
        server.set_clock(-HOUR_S + 100)
        assert 450 == len(await stream.look(60.0, 500))
