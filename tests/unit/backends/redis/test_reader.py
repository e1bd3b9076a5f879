"""What a read believes of an answer with new entries."""

from typing import cast

import pytest

from tests.support.fakes.redis_wire import array, bulk
from tests.support.fakes.world import STREAM, World
from tests.unit.backends.redis.test_client import Network, served
from trio_alerts.backends.redis.groups import Groups
from trio_alerts.backends.redis.reader import RedisReader
from trio_alerts.errors import Unavailable


class NothingLost:
    async def look_if_due(self) -> None: ...


def entries(stream: bytes, entry_id: bytes) -> bytes:
    return array([array([bulk(stream), array([array([bulk(entry_id), array([bulk(b"event"), bulk(b"{}")])])])])])


async def test_fewer_workers_than_streams_wait_only_when_all_streams_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is empty does not keep an idle worker from what another one has."""
    commands: list[list[bytes]] = []
    full = b"{s}:2"

    def answer(command: list[bytes]) -> bytes:
        commands.append(command)
        return entries(full, b"1-0") if full in command else b"*-1\r\n"

    async with Network(monkeypatch).opened(served(answer, {"CLIENT": b":1\r\n"})) as client:
        settings = World().settings(streams=("{s}:0", "{s}:1", "{s}:2", "{s}:3"))
        reader = RedisReader(settings, client, client, cast("Groups", NothingLost()))
        for _ in range(4):
            await reader.read(1)
        full = b"nothing"
        for _ in range(6):
            await reader.read(1)

    # It begins with the second one; behind the full one two are empty, then all four are in turn.
    assert [False] * 6 + [True] * 4 == [b"BLOCK" in command for command in commands]


@pytest.mark.parametrize(
    ("stream", "entry_id"),
    [
        (b"Other", b"1-0"),
        (STREAM.encode(), b"1"),
        (STREAM.encode(), b"01-0"),
        (STREAM.encode(), b"%d-0" % 2**64),
        (STREAM.encode(), b"1-0\xff"),
    ],
)
async def test_what_is_no_entry_of_ours_drops_the_connection(
    monkeypatch: pytest.MonkeyPatch, stream: bytes, entry_id: bytes
) -> None:
    """Another stream, or an ID that no server writes: the answer may be another command's."""
    wire = [entries(STREAM.encode(), b"%d-0" % (2**64 - 1)), entries(stream, entry_id)]
    answers = served(lambda _: wire.pop(0), {"CLIENT": b":1\r\n"})
    async with Network(monkeypatch).opened(answers) as client:
        reader = RedisReader(World().settings(), client, client, cast("Groups", NothingLost()))
        assert [(STREAM, f"{2**64 - 1}-0", {b"event": b"{}"}, 7)] == await reader.read(1)
        with pytest.raises(Unavailable, match="gave an unexpected answer to XREADGROUP"):
            await reader.read(1)
        assert not client.connected
