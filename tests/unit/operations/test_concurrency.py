"""Bounded concurrency."""

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.errors import Unavailable
from trio_alerts.operations.concurrency import for_each


async def test_what_goes_wrong_comes_out_as_it_is() -> None:
    """Not in a group: who catches an outage finds it. The others are cancelled."""

    async def work(item: str) -> None:
        if item == "b":
            raise Unavailable("away")
        await trio.sleep_forever()

    with pytest.raises(Unavailable, match="away"), trio.fail_after(10):
        await for_each("abc", work, at_most=3)


async def test_no_more_at_once_than_allowed(autojump_clock: MockClock) -> None:
    """However many there are to do."""
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(trio.current_time())
        await trio.sleep(1)

    await for_each("abcde", work, at_most=2)
    assert [0, 0, 1, 1, 2] == times
