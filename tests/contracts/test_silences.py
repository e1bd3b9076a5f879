"""The silences that the deterministic tests stand on keep the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from tests.contracts.silences import SilencesContract, SilencesWorld
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.stream_server import FakeServer
from trio_alerts.ports.silences import Silences
from trio_alerts.settings.settings import Settings


class FakeWorld:
    """The contract's world in memory."""

    def __init__(self) -> None:
        self.server = FakeServer(latency_s=0.002)

    @asynccontextmanager
    async def open(self, *, turned: bool = False) -> AsyncIterator[Silences]:
        names = ("b", "a") if turned else ("a", "b")
        yield FakeSilences(self.server, Settings(streams=names))

    def lose(self) -> None:
        self.server.silences.clear()


class TestFakeSilences(SilencesContract):
    """The contract on the fake."""

    @pytest.fixture
    async def world(self, autojump_clock: MockClock) -> SilencesWorld:
        return FakeWorld()
