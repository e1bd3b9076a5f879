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
