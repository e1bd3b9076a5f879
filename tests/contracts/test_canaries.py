"""The canaries that the deterministic tests stand on keep the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from tests.contracts.canaries import CanariesContract, CanaryWorld
from tests.contracts.test_stream import FakeWorld
from tests.support.fakes.canaries import FakeCanaries
from trio_alerts.ports.canaries import Canaries
from trio_alerts.settings.settings import Settings


class FakeCanaryWorld(FakeWorld):
    """The contract's world in memory."""

    def move_other_group(self, stream: str, last_id: str) -> None:
        self.server.set_id(stream, "other", last_id)

    @asynccontextmanager
    async def other_canaries(self) -> AsyncIterator[Canaries]:
        yield FakeCanaries(self.server, Settings(stream=self.names[0], group="other"))


class TestFakeCanaries(CanariesContract):
    """The contract on the fake."""

    @pytest.fixture
    async def world(self, autojump_clock: MockClock) -> CanaryWorld:
        return FakeCanaryWorld()
