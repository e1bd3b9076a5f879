"""The gates that the deterministic tests stand on keep the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from tests.contracts.gates import GatesContract, GatesWorld
from tests.support.fakes.gates import FakeGates
from tests.support.fakes.stream_server import FakeServer
from trio_alerts.ports.gates import Gates
from trio_alerts.settings.settings import Settings


class FakeWorld:
    """The contract's world in memory."""

    def __init__(self) -> None:
        self.server = FakeServer(latency_s=0.002)

    @asynccontextmanager
    async def open(self, *, turned: bool = False) -> AsyncIterator[Gates]:
        names = ("b", "a") if turned else ("a", "b")
        yield FakeGates(self.server, Settings(streams=names))

    def move_clock(self, seconds: float) -> None:
        self.server.jump(seconds)

    def lose(self) -> None:
        self.server.gates.clear()


class TestFakeGates(GatesContract):
    """The contract on the fake."""

    @pytest.fixture
    async def world(self, autojump_clock: MockClock) -> GatesWorld:
        world = FakeWorld()
        world.server.jump(1_700_000_000.0)  # a server's time is never near zero
        return world
