"""What the producer says of each alert when Redis fails in the middle, on a client in memory."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.backends.redis import producer
from trio_alerts.backends.redis.answers import Refusal, shaped
from trio_alerts.backends.redis.producer import AddResult, RedisProducer
from trio_alerts.errors import Unavailable

if TYPE_CHECKING:
    from trio_alerts.backends.redis.client import RedisClient

T = TypeVar("T")

ADDRESS = "redis://127.0.0.1:6379/0"


class FakeClient:
    """Answers an XADD after a virtual second, those of a window one after the other.

    Args:
        fault: Says what happens instead, by the number of the XADD; of the pings, by the negative of theirs.
        at_once: No command takes any time.

    Attributes:
        parked_from: The XADDs from this number on wait a virtual minute for the connection before they are sent.
    """

    address = ADDRESS

    def __init__(self, fault: Callable[[int], Exception | None] = lambda _: None, *, at_once: bool = False) -> None:
        self.sent: list[bytes] = []
        self.pings = 0
        self.most_at_once = 0
        self.parked_from = math.inf
        self._fault = fault
        self._answers_at_once = at_once
        self._at_once = 0
        self._started = 0

    async def ping(self) -> bool:
        self.pings += 1
        await trio.lowlevel.checkpoint()
        if fault := self._fault(-self.pings):
            raise fault
        return True

    async def xadd(self, stream: str, fields: dict[bytes, bytes]) -> bytes:
        number = self._started
        self._started += 1
        if number >= self.parked_from:
            await trio.sleep(60)
        await trio.lowlevel.checkpoint_if_cancelled()
        self.sent.append(fields[b"event"])
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if not self._answers_at_once:
            await trio.sleep(1 + number % 4 / 8)
        self._at_once -= 1
        if fault := self._fault(number):
            raise fault
        return b"1-0"

    def expect(self, shape: type[T], answer: object, *_: object) -> T:
        return shaped(answer, shape)

    def producer(self) -> RedisProducer:
        return RedisProducer(cast("RedisClient", self))


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "WINDOW", 4)
    monkeypatch.setattr(producer, "WINDOW_BYTES", 100)


async def added(client: FakeClient, entries: Sequence[tuple[str, bytes]]) -> tuple[Sequence[AddResult], str]:
    emission = await client.producer().add(entries)
    assert [result == "added" for result in emission.results] == [bool(one) for one in emission.entry_ids]
    return emission.results, emission.reason


def entries(count: int, size: int = 1) -> list[tuple[str, bytes]]:
    return [("Alerts", b"%d" % number * size) for number in range(count)]


async def test_alerts_go_out_in_order_many_at_once(autojump_clock: MockClock) -> None:
    """The order of the stream is that of the file; a window of commands is on the way at once."""
    client = FakeClient()
    results, reason = await added(client, entries(10))

    assert (["added"] * 10, "") == (results, reason)
    assert [payload for _, payload in entries(10)] == client.sent
    assert 4 == client.most_at_once
    assert 1.375 + 1.375 + 1.125 == trio.current_time()


async def test_window_is_bounded_in_bytes_too(autojump_clock: MockClock) -> None:
    """Large alerts go out fewer at once; one that is larger than the bound goes alone."""
    client = FakeClient()
    results, _ = await added(client, entries(4, size=60))
    assert 2 == client.most_at_once

    results, _ = await added(client, entries(4, size=600))
    assert ["added"] * 4 == results


async def test_after_a_lost_connection_nothing_more_goes_out(autojump_clock: MockClock) -> None:
    """What was on its way is unknown, what came before is certain, what follows was not sent; nothing is repeated."""
    client = FakeClient(lambda number: Unavailable("lost") if number >= 5 else None)
    results, reason = await added(client, entries(12))

    assert ["added"] * 5 + ["unknown"] * 3 + ["not added"] * 4 == results
    assert "Redis: lost" == reason
    assert 8 == len(client.sent) == len(set(client.sent))


async def test_what_waits_for_the_connection_is_not_sent_later(autojump_clock: MockClock) -> None:
    """After the first lost answer, those that wait for the connection's return never go out behind it."""
    client = FakeClient(lambda number: Unavailable("lost") if number == 1 else None)
    client.parked_from = 2
    _, reason = await added(client, entries(6))

    assert "Redis: lost" == reason
    assert [b"0", b"1"] == client.sent
    assert 1.125 == trio.current_time()


@pytest.mark.parametrize("fault", [Unavailable("lost"), Refusal("NOPERM")])
async def test_nothing_starts_after_a_failure(autojump_clock: MockClock, fault: Exception) -> None:
    """A failure that comes while a window is being sent keeps the rest of it back, but for one that was starting."""
    client = FakeClient(lambda number: fault if number >= 1 else None, at_once=True)
    results, _ = await added(client, entries(6))

    assert client.sent in ([b"0", b"1"], [b"0", b"1", b"2"])
    assert ["not added"] * 3 == results[3:]


async def test_a_refusal_is_certain(autojump_clock: MockClock) -> None:
    """The server's "no" means that it was not added; those beside it are still heard out."""
    client = FakeClient(lambda number: Refusal("h refuses XADD: WRONGTYPE") if number == 1 else None)
    results, reason = await added(client, entries(6))

    assert ["added", "not added", "added", "added", "not added", "not added"] == results
    assert "Redis: h refuses XADD: WRONGTYPE" == reason


async def test_without_a_connection_nothing_is_unknown(autojump_clock: MockClock) -> None:
    """A window begins only on a connection that answers: else nothing of it was sent."""
    client = FakeClient(lambda number: Unavailable("away") if number == -2 else None)
    results, reason = await added(client, entries(6))

    assert (["added"] * 4 + ["not added"] * 2, "Redis: away") == (results, reason)
