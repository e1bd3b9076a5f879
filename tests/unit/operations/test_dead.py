"""Dead letters of several streams, found page by page."""

from typing import Any, cast

import pytest

from tests.contracts.store import as_async
from trio_alerts.backends.redis.dead_letters import DeadLetter, RedisDeadLetters
from trio_alerts.errors import SettingsError
from trio_alerts.operations.dead import DeadLetters
from trio_alerts.record_ids import order


class Kept:
    """The dead letters of some streams, read two at a time."""

    def __init__(self, **ids: list[str]) -> None:
        self._ids = ids

    async def page(self, stream: str, _: int, after: str = "") -> list[DeadLetter]:
        behind = [one for one in self._ids[stream] if not after or order(one) > order(after)]
        return await as_async(lambda: [_letter(stream, one) for one in behind[:2]])()


def _letter(stream: str, dead_id: str) -> DeadLetter:
    reason = "bad_json" if dead_id.startswith("2-") else "bad_event"
    return DeadLetter(stream, dead_id, "r", reason, "", 1, "2026-11-16T08:00:00Z", "g", 10)


def letters(**ids: list[str]) -> DeadLetters:
    return DeadLetters(cast("RedisDeadLetters", Kept(**ids)), list(ids))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["a|1-0", "a|2-0", "a|3-0", "b|1-0", "b|2-0"]),
        ({"limit": 4}, ["a|1-0", "a|2-0", "a|3-0", "b|1-0"]),
        ({"after": "a|2-0", "limit": 2}, ["a|3-0", "b|1-0"]),
        ({"after": "a|3-0"}, ["b|1-0", "b|2-0"]),
        ({"after": "b|1-0"}, ["b|2-0"]),
        ({"after": "b|2-0"}, []),
        ({"reasons": ["bad_json"]}, ["a|2-0", "b|2-0"]),
        ({"reasons": ["bad_json"], "after": "a|2-0"}, ["b|2-0"]),
    ],
)
async def test_pages_go_on_through_all_streams(asked: dict[str, Any], expected: list[str]) -> None:
    """Behind an entry come those of its stream, then those of the streams that follow, each once."""
    found = await letters(a=["1-0", "2-0", "3-0"], b=["1-0", "2-0"]).find(**asked)
    assert expected == [one.dead_id for one in found]


@pytest.mark.parametrize("after", ["", "1-0", "c|1-0", "a|x"])
async def test_what_is_no_name_of_an_entry_is_refused(after: str) -> None:
    """Beginning again in its place would show the first page for ever."""
    with pytest.raises(SettingsError, match="is not the ID of a dead letter"):
        await letters(a=["1-0"], b=["1-0"]).find(after=after)
