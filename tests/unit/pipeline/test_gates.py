"""Breakers over several processes: what opens one, what never does, and what the log says of it."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World
from trio_alerts.outcome import Accepted, Later, Outcome, Retry
from trio_alerts.pipeline.gates import watch_gates
from trio_alerts.pipeline.state import Pipeline

BUSY = Retry("answered 503", 503)
CHANNEL = "webhook"


@pytest.fixture
def world() -> World:
    return World()


def is_open(pipeline: Pipeline) -> bool:
    return pipeline.channel_gates[CHANNEL].view.open_s is not None


@asynccontextmanager
async def watched(*pipelines: Pipeline) -> AsyncIterator[trio.Nursery]:
    """Let processes exchange what they see of their channels, until the block ends."""
    async with trio.open_nursery() as tasks:
        for pipeline in pipelines:
            await tasks.start(watch_gates, pipeline)
        yield tasks
        tasks.cancel_scope.cancel()


async def feed(pipeline: Pipeline, outcomes: Sequence[Outcome | Later], per_s: float, first: int = 0) -> None:
    """Note outcomes of different alerts, so many a second."""
    for number, outcome in enumerate(outcomes, first):
        pipeline.channel_gates[CHANNEL].note(outcome, f"{number}-0", trio.current_time())
        await trio.sleep(1 / per_s)


async def test_ten_failures_open_it_in_every_process(world: World, lines: list[str], autojump_clock: MockClock) -> None:
    """Five in each of two processes, within four seconds; one of them says so, and a third one knows too."""
    pipelines = [world.pipeline(name) for name in ("a", "b", "c")]
    async with watched(*pipelines) as tasks:
        tasks.start_soon(feed, pipelines[0], [BUSY] * 5, 1.3)
        await feed(pipelines[1], [BUSY] * 5, 1.3, 5)
        await trio.sleep(2.0)
        assert [True, True, True] == [is_open(one) for one in pipelines]
    (line,) = [one for one in lines if "takes no alerts" in one]
    assert "channel webhook takes no alerts: 10 in a row have failed" in line
    assert "one is tried every 30 s; the last answer: answered 503" in line


async def test_two_failures_in_a_hundred_never_open_it(
    world: World, lines: list[str], autojump_clock: MockClock
) -> None:
    """3,000 a second over three processes, and the failures all in one of them that accepts hardly anything."""
    pipelines = [world.pipeline(name) for name in ("a", "b", "c")]
    seconds = 20
    async with watched(*pipelines):
        async with trio.open_nursery() as feeds:
            feeds.start_soon(feed, pipelines[0], [BUSY] * (60 * seconds), 60.0)
            for number in (1, 2):
                feeds.start_soon(feed, pipelines[number], [Accepted(200)] * (1470 * seconds), 1470.0)
        assert [False] * 3 == [is_open(one) for one in pipelines]
    assert [] == [one for one in lines if "takes no alerts" in one]
    exchanges = len(world.server.called("exchange"))
    assert exchanges <= 3 * seconds * 3


async def test_an_acceptance_closes_it_at_once_for_all(
    world: World, lines: list[str], autojump_clock: MockClock
) -> None:
    """The line says how long it took, and how many attempts; nothing of before counts any more."""
    ours, theirs = world.pipeline("a"), world.pipeline("b")
    async with watched(ours, theirs):
        await feed(ours, [BUSY] * 12, 4.0)
        await trio.sleep(60.0)
        assert is_open(theirs)
        ours.channel_gates[CHANNEL].note(Accepted(200), "99-0", trio.current_time())
        await trio.sleep(0.2)
        assert not is_open(ours)
        await trio.sleep(1.0)
        assert (False, True) == (is_open(theirs), theirs.channel_gates[CHANNEL].is_free)
    (line,) = [one for one in lines if "takes alerts again" in one]
    assert re.search(r"after 6[12] s and 12 failed attempts; those that wait are sent now", line)


async def test_a_services_word_opens_it_for_all_within_a_second(
    world: World, lines: list[str], autojump_clock: MockClock
) -> None:
    """One answer is enough; a limit is known as soon."""
    ours, theirs = world.pipeline("a"), world.pipeline("b")
    async with watched(ours, theirs):
        await feed(ours, [Retry("Slack said invalid_auth", 200, stop=True)], 5.0)
        assert is_open(ours)
        await feed(ours, [Later("limited: answered 429", 60.0)], 1.0)
        assert is_open(theirs)
        assert 58.0 < theirs.channel_gates[CHANNEL].view.limited_s <= 60.0
    (line,) = [one for one in lines if "takes no alerts" in one]
    assert "takes no alerts: the service says so; they wait" in line


async def test_a_server_that_is_away_leaves_the_gates_as_they_are(world: World, autojump_clock: MockClock) -> None:
    """What was known stays, and one command a second goes on asking."""
    pipeline = world.pipeline()
    async with watched(pipeline):
        await feed(pipeline, [BUSY] * 12, 4.0)
        await trio.sleep(1.5)
        world.server.down = True
        await trio.sleep(10.0)
        assert is_open(pipeline)
        world.server.flush()
        world.server.down = False
        before = len(world.server.called("exchange"))
        await trio.sleep(10.0)
        assert not is_open(pipeline)
        assert 10 <= len(world.server.called("exchange")) - before <= 11
