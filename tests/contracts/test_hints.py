"""The hints that the deterministic tests stand on keep the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from tests.contracts.hints import GROUP, HintsContract, HintsWorld
from tests.support.fakes.hints import FakeHints
from tests.support.fakes.stream_server import FakeServer
from trio_alerts.ports.hints import Hints
from trio_alerts.settings.settings import Settings


class FakeWorld:
    """The contract's world in memory."""

    names = ("AlertStream", "second", "third")

    def __init__(self) -> None:
        self.server = FakeServer(latency_s=0.002)

    @asynccontextmanager
    async def open(self, *, streams: int = 1) -> AsyncIterator[Hints]:
        yield FakeHints(self.server, Settings(streams=self.names[:streams], group=GROUP, consumer="a"))


class TestFakeHints(HintsContract):
    """The contract on the fake."""

    @pytest.fixture
    async def world(self, autojump_clock: MockClock) -> HintsWorld:
        return FakeWorld()
