"""The bulkhead: how many workers a channel may have whose sends take too long."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World
from trio_alerts.pipeline.bulkhead import Bulkhead, Send

CHANNELS = [("pager", "old-pager"), ("chat",), ("mail",)]


def start(bulkhead: Bulkhead, name: str, count: int, *, retry: bool = False) -> list[Send]:
    sends = [bulkhead.started(name, retry=retry) for _ in range(count)]
    return [send for send in sends if send is not None]


async def answer_after(bulkhead: Bulkhead, name: str, seconds: float) -> None:
    sends = start(bulkhead, name, 1)
    await trio.sleep(seconds)
    sends[0].ended(accepted=True)


@pytest.mark.parametrize(("channels", "workers"), [(CHANNELS[:1], 512), (CHANNELS, 3)])
async def test_nothing_to_share(channels: Sequence[tuple[str, ...]], workers: int, autojump_clock: MockClock) -> None:
    """With one channel, or too few workers for shares, nothing is counted and nobody is turned away."""
    bulkhead = Bulkhead(channels, workers)
    assert [] == start(bulkhead, "pager", workers)
    await trio.sleep(60)
    assert bulkhead.may_start("pager")


async def test_a_quarter_of_the_workers(autojump_clock: MockClock) -> None:
    """A channel of which nobody knows how long it takes has a quarter in slow sends after 0.2 s; others go on."""
    bulkhead = Bulkhead(CHANNELS, 16)
    sends = start(bulkhead, "pager", 4)
    await trio.sleep(0.2)
    assert bulkhead.may_start("pager")
    await trio.sleep(0.001)
    assert [False, False] == [bulkhead.may_start(name) for name in CHANNELS[0]]
    assert bulkhead.may_start("chat")
    sends[0].ended(accepted=False)
    assert bulkhead.may_start("pager")


async def test_four_workers(autojump_clock: MockClock) -> None:
    """The smallest share is one worker."""
    bulkhead = Bulkhead(CHANNELS, 4)
    start(bulkhead, "pager", 1)
    assert bulkhead.may_start("pager")
    await trio.sleep(0.201)
    assert not bulkhead.may_start("pager")


@pytest.mark.parametrize(("took_s", "slow_after_s"), [(0.01, 0.1), (0.3, 0.6), (1.5, 2.0)])
async def test_slow_is_twice_the_usual_time(took_s: float, slow_after_s: float, autojump_clock: MockClock) -> None:
    """It is learned from acceptances, and lies between 0.1 and 2 s."""
    bulkhead = Bulkhead(CHANNELS, 4)
    await answer_after(bulkhead, "pager", took_s)
    start(bulkhead, "pager", 1)
    await trio.sleep(slow_after_s - 0.001)
    assert bulkhead.may_start("pager")
    await trio.sleep(0.002)
    assert not bulkhead.may_start("pager")


async def test_failures_say_nothing_of_the_usual_time(autojump_clock: MockClock) -> None:
    """A receiver that refuses connections at once, or lets a send time out, is not known any better."""
    bulkhead = Bulkhead(CHANNELS, 4)
    for took_s in (0.0, 15.0):
        sends = start(bulkhead, "pager", 1)
        await trio.sleep(took_s)
        sends[0].ended(accepted=False)
    start(bulkhead, "pager", 1)
    await trio.sleep(0.2)
    assert bulkhead.may_start("pager")
    await trio.sleep(0.001)
    assert not bulkhead.may_start("pager")


async def test_a_channel_that_slows_down_is_learned(autojump_clock: MockClock) -> None:
    """From 0.1 to 0.5 s: what it usually takes now is not slow for long."""
    bulkhead = Bulkhead(CHANNELS, 4)
    await answer_after(bulkhead, "pager", 0.1)
    for _ in range(20):
        await answer_after(bulkhead, "pager", 0.5)
    start(bulkhead, "pager", 1)
    await trio.sleep(0.6)
    assert bulkhead.may_start("pager")


async def test_young_sends_of_a_channel_that_answers_do_not_count(autojump_clock: MockClock) -> None:
    """One slow send among many that end in time: it may have every worker. Once none ends, the young ones count."""
    bulkhead = Bulkhead(CHANNELS, 16)
    start(bulkhead, "pager", 1)
    for _ in range(30):
        await answer_after(bulkhead, "pager", 0.01)
    start(bulkhead, "pager", 10)
    assert bulkhead.may_start("pager")
    await trio.sleep(0.06)
    assert not bulkhead.may_start("pager")


async def test_all_that_are_slow_together_have_half(autojump_clock: MockClock) -> None:
    """Two have a quarter each; a third may have its part of the half, and one that is well anything."""
    bulkhead = Bulkhead([*CHANNELS, ("file",)], 16)
    for name, count in (("pager", 4), ("chat", 4), ("mail", 1)):
        start(bulkhead, name, count)
    await trio.sleep(0.201)
    assert [False, False, True, True] == [bulkhead.may_start(name) for name in ("pager", "chat", "mail", "file")]
    start(bulkhead, "mail", 1)
    assert [False, True] == [bulkhead.may_start(name) for name in ("mail", "file")]


async def test_retries_have_the_same_within_their_share(autojump_clock: MockClock) -> None:
    """A quarter of the workers is for retries; of it, too, one channel's slow ones get a quarter."""
    bulkhead = Bulkhead(CHANNELS, 32)
    start(bulkhead, "pager", 2, retry=True)
    await trio.sleep(0.201)
    assert not bulkhead.may_start("pager", retry=True)
    assert [True, True] == [bulkhead.may_start("pager"), bulkhead.may_start("chat", retry=True)]
    start(bulkhead, "pager", 6)
    assert not bulkhead.may_start("pager")


async def test_a_channel_that_was_turned_away_is_tried_one_by_one(autojump_clock: MockClock) -> None:
    """When a send times out, one of many that ask is let in; the next one not before that one is slow or in time."""
    bulkhead = Bulkhead(CHANNELS, 64)
    sends = start(bulkhead, "pager", 16)
    await trio.sleep(0.201)
    assert not bulkhead.may_start("pager")
    await trio.sleep(15)
    for send in sends[:8]:
        send.ended(accepted=False)
    assert [True] + 9 * [False] == [bulkhead.may_start("pager") for _ in range(10)]
    start(bulkhead, "pager", 1)
    await trio.sleep(0.201)
    assert [True] + 9 * [False] == [bulkhead.may_start("pager") for _ in range(10)]
    await answer_after(bulkhead, "pager", 0.1)
    assert 10 * [True] == [bulkhead.may_start("pager") for _ in range(10)]


async def test_a_channel_that_always_takes_long_keeps_its_quarter(autojump_clock: MockClock) -> None:
    """It is no channel that hangs: as soon as its sends are accepted, it has its whole share again, and no more."""
    bulkhead = Bulkhead(CHANNELS, 64)
    for _ in range(3):
        sends: list[Send] = []
        while bulkhead.may_start("pager") and len(sends) < 64:
            sends += start(bulkhead, "pager", 1)
            await trio.sleep(0.02)
        assert 16 == len(sends)
        await trio.sleep(15)
        assert not bulkhead.may_start("pager")
        for send in sends:
            send.ended(accepted=True)


@pytest.mark.parametrize(("workers", "rate", "most"), [(16, 22, 5), (512, 300, 128)])
async def test_the_first_second_of_a_hang(workers: int, rate: int, most: int, autojump_clock: MockClock) -> None:
    """What begins before anybody can know takes workers too: they stay few enough for the others."""
    bulkhead = Bulkhead(CHANNELS, workers)
    for _ in range(100):
        await answer_after(bulkhead, "pager", 0.1)
    sends: list[Send] = []
    for _ in range(rate):
        if bulkhead.may_start("pager"):
            sends += start(bulkhead, "pager", 1)
        await trio.sleep(1 / rate)
    assert most == len(sends)


async def test_an_attempt_is_counted_from_its_send_to_its_end(autojump_clock: MockClock) -> None:
    """A channel that hangs has its quarter until the attempt times out after 15 s; its sibling answers at once."""
    world = World(latency_s=10**6, channels=[FakeChannel("chat")])
    pipeline = world.pipeline()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry, pipeline)
        await trio.sleep(14.9)
        assert [False, True] == [pipeline.bulkhead.may_start(name) for name in ("webhook", "chat")]
        await trio.sleep(0.2)
        assert pipeline.bulkhead.may_start("webhook")
