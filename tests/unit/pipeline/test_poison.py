"""An entry that kills whoever works on it is given up after `max_deliveries` deaths, and takes nobody with it."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.outcome import Accepted, Outcome, Retry
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import Message


class Deaths:
    """Processes, one after the other, which `kill` ends as SIGKILL does; until one lives for 25 minutes."""

    def __init__(self, world: World) -> None:
        self.count = 0
        self._world = world
        self._life = trio.CancelScope()
        self._dead: set[str] = set()

    def kill(self) -> None:
        """The process that lives just now writes nothing any more."""
        self._dead.add(f"p-{self.count}")
        self._life.cancel()

    async def come(self, prepare: Callable[[Pipeline], None] = lambda _: None, **changed: Any) -> None:
        """Serve until a process lives for 25 minutes."""
        self._world.server.decide = lambda call: "down" if call.consumer in self._dead else None
        while self.count < 20:
            pipeline = self._world.pipeline(f"p-{self.count}", **changed)
            prepare(pipeline)
            with trio.CancelScope() as self._life, trio.move_on_after(1500):
                await serve(pipeline)
            if not self._life.cancelled_caught:
                return
            self.count += 1


def killing_at(deaths: Deaths, poison: str, first: Outcome | None) -> Callable[[Message], Outcome]:
    """Return what a receiver decides: it accepts everything, but one alert kills its sender, if given after `first`."""
    answers = [first] if first is not None else []

    def decide(message: Message) -> Outcome:
        if message.id == poison:
            if answers:
                return answers.pop()
            deaths.kill()
        return Accepted(200)

    return decide


@pytest.mark.parametrize("first", [None, Retry("busy", 503)])
async def test_an_alert_that_kills_whoever_sends_it_has_failed(
    autojump_clock: MockClock, first: Outcome | None
) -> None:
    """Five deaths, counted by its entry or, for a retry, by its record; seven harmless ones beside it are delivered."""
    world = World(workers=8, latency_s=1.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(8)]
    deaths = Deaths(world)
    world.channel.decide = killing_at(deaths, ids[3], first)
    await deaths.come()
    assert (5, "failed", "max_deliveries") == (
        deaths.count,
        world.delivery(ids[3]).state,
        world.delivery(ids[3]).reason,
    )
    assert dict.fromkeys(ids, "delivered") | {ids[3]: "failed"} == world.states
    assert ([], {}) == (world.dead, world.pending)
    for one in ids:
        assert world.channel.accepted[one] - 1 <= world.delivery(one).in_doubt <= 5


async def test_an_alert_that_kills_before_it_has_a_record_is_quarantined(autojump_clock: MockClock) -> None:
    """Five deaths, three of them as the only suspect; nobody else is condemned."""
    world = World(workers=8, latency_s=1.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(8)]
    deaths = Deaths(world)

    def poisoned(pipeline: Pipeline) -> None:
        plain = pipeline.routing.decide

        def decide(event: Any, now: dt.datetime) -> Any:
            if event.alert_id == "a-3":
                deaths.kill()
            return plain(event, now)

        pipeline.routing.decide = decide  # type: ignore[method-assign]

    create = world.store.create

    async def slow(record: Any) -> Any:
        await trio.sleep(0.001)  # so that the process is dead before the record is there
        return await create(record)

    world.store.create = slow  # type: ignore[method-assign]
    await deaths.come(poisoned)
    assert (5, [b"max_deliveries"]) == (deaths.count, [letter[b"_reason"] for letter in world.dead])
    assert dict.fromkeys([*ids[:3], *ids[4:]], "delivered") == world.states


@pytest.mark.parametrize("settled", [False, True])
async def test_what_two_crashes_left_behind_comes_back_at_once_if_it_has_a_record(
    autojump_clock: MockClock, settled: bool
) -> None:
    """200 harmless entries, their records `sending` or delivered: not one after the other, but as retries are sent."""
    world = World(workers=200, latency_s=1.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(200)]
    if settled:
        world.server.decide = lambda call: "down" if call.method == "ack" else None
    else:
        world.channel.latency_s = 1000.0
    with trio.move_on_after(5):
        await serve(world.pipeline("dead"))
    world.server.decide, world.channel.latency_s = lambda _: None, 1.0
    for held in world.server.pending(STREAM, GROUP).values():
        held.deliveries, held.since_s = 2, trio.current_time() - 100.0
    async with world.serving(world.pipeline("living", workers=200)):
        await trio.sleep(21 + 2 + 5)  # the first claim comes after 20 s; then one look of the redriver, four rounds
        assert dict.fromkeys(ids, "delivered") == world.states
        assert {} == world.pending
