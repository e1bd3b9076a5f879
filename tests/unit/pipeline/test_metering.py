"""What a process counts while it carries alerts, and what it shows of itself each second."""

import time

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.world import World, bring_through
from trio_alerts.meter.cells import now_ms
from trio_alerts.meter.layout import REASONS, RESULTS, STATES, Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.outcome import Accepted, Retry
from trio_alerts.pipeline import pulse
from trio_alerts.pipeline.pulse import beat
from trio_alerts.pipeline.state import Pipeline

LAYOUT = Layout(["webhook"])
WEBHOOK = 1  # its place; before it are those of no configured channel


def metered(pipeline: Pipeline) -> Pipeline:
    pipeline.meter = Meter(LAYOUT)
    return pipeline


def states(pipeline: Pipeline) -> dict[str, int]:
    cells = pipeline.meter.cells[LAYOUT.states : LAYOUT.states + len(STATES)]
    return {state: count for state, count in zip(STATES, cells, strict=True) if count}


def results(pipeline: Pipeline) -> dict[str, int]:
    begin = LAYOUT.attempts + WEBHOOK * len(RESULTS)
    cells = pipeline.meter.cells[begin : begin + len(RESULTS)]
    return {result: count for result, count in zip(RESULTS, cells, strict=True) if count}


def doubts(pipeline: Pipeline) -> int:
    return int(pipeline.meter.cells[LAYOUT.doubts + WEBHOOK])


async def test_each_step_of_an_alert_counts_once(autojump_clock: MockClock) -> None:
    """An attempt that nobody saw, a retry that is accepted: two attempts, two states, one doubt, one latency."""
    world = World([Retry("reset", unseen=True), Accepted()], retry_schedule_s=(5.0,))
    pipeline = metered(world.pipeline())
    async with world.serving(pipeline):
        world.emit()
        await trio.sleep(20)
    assert {"unseen": 1, "accepted": 1} == results(pipeline)
    assert {"retrying": 1, "delivered": 1} == states(pipeline)
    assert 1 == doubts(pipeline)


async def test_an_entry_that_comes_again_counts_no_more(autojump_clock: MockClock) -> None:
    """What has its outcome already is acknowledged, and nothing happened."""
    world = World()
    pipeline = metered(world.pipeline())
    entry, _ = await world.carry(pipeline)
    before = list(pipeline.meter.cells)
    world.server.add("AlertStream", dict(entry.fields))
    await bring_through(entry, pipeline)
    assert before == list(pipeline.meter.cells)


async def test_a_write_whose_answer_is_lost_counts_once(autojump_clock: MockClock) -> None:
    """The outcome is found in the record when it is written again: it was stored, and it counts."""
    world = World()
    pipeline = metered(world.pipeline())
    lost = 0

    def lose(call: object) -> str | None:
        nonlocal lost
        if getattr(call, "method", "") == "replace" and not lost:
            lost += 1
            return "answer_lost"
        return None

    world.store.decide = lose  # type: ignore[assignment]
    await world.carry(pipeline)
    assert 1 == lost
    assert {"delivered": 1} == states(pipeline)


async def test_an_attempt_cut_by_a_crash_is_a_doubt_of_who_takes_it_over(autojump_clock: MockClock) -> None:
    """The process that died could not count it."""
    world = World()
    first, second = metered(world.pipeline("first")), metered(world.pipeline("second"))
    world.emit()
    entry = await world.take(first)
    with trio.move_on_after(1.0):
        world.channel.latency_s = 100.0
        await bring_through(entry, first)
    world.channel.latency_s = 0.0
    async with world.serving(second):
        await trio.sleep(120)
    assert (0, 1) == (doubts(first), doubts(second))
    assert {"delivered": 1} == states(second)


async def test_a_dead_letter_counts_by_its_reason(autojump_clock: MockClock) -> None:
    """An entry that is no alert."""
    world = World()
    pipeline = metered(world.pipeline())
    await world.carry(pipeline, severity="loud")
    assert 1 == pipeline.meter.cells[LAYOUT.quarantined + REASONS.index("bad_event")]


async def test_the_gauges_show_what_is_held_and_since_when(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second: alerts in flight, workers, how old the oldest is; the time of an outage is not held against it."""
    monkeypatch.setattr(pulse, "now_ms", lambda: round(trio.current_time() * 1000))
    world = World(latency_s=10.0)
    pipeline = metered(world.pipeline(workers=3))
    cells = pipeline.meter.cells
    await trio.sleep(5)
    async with world.serving(pipeline):
        held_at_s = trio.current_time()
        world.emit()
        await trio.sleep(6.5)
        assert (1, 3) == (cells[LAYOUT.in_flight], cells[LAYOUT.workers])
        assert held_at_s * 1000 == cells[LAYOUT.holding_since]
        pipeline.store_outage.began("down")
        await trio.sleep(1.0)
        assert [0, 1] == list(cells[LAYOUT.outages : LAYOUT.outages + 2])
        assert (held_at_s + 7) * 1000 == cells[LAYOUT.holding_since]
        await trio.sleep(10.0)
        assert (0, 0) == (cells[LAYOUT.in_flight], cells[LAYOUT.holding_since])


async def test_the_gauges_show_a_read_that_does_not_come_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is under way, since when; a read that ends begins anew."""
    monkeypatch.setattr(pulse, "now_ms", lambda: round(trio.current_time() * 1000))
    world = World()
    pipeline = metered(world.pipeline())
    cells = pipeline.meter.cells

    async def hang(_: int) -> None:
        await trio.sleep_forever()

    async with world.serving(pipeline):
        await trio.sleep(60.5)
        assert 0 <= 60_500 - cells[LAYOUT.reading_since] <= 1000 * (pipeline.settings.block_s + pulse.EVERY_S)
        monkeypatch.setattr(pipeline.stream, "read", hang)
        await trio.sleep(60)
        assert 120_500 - cells[LAYOUT.reading_since] >= 1000 * (60 - pipeline.settings.block_s - pulse.EVERY_S)


async def test_the_gauges_show_a_channel_that_fails_and_its_breaker(autojump_clock: MockClock) -> None:
    """For how long nothing was accepted, and that its alerts wait; both end with an acceptance."""
    world = World([Retry("503")] * 10, retry_schedule_s=(3600.0,))
    pipeline = metered(world.pipeline())
    cells = pipeline.meter.cells
    async with world.serving(pipeline):
        for _ in range(10):
            world.emit()
            await trio.sleep(0.5)
        await trio.sleep(4)
        assert 1 == cells[LAYOUT.open_breakers + WEBHOOK]
        assert 7_000 <= cells[LAYOUT.failing_ms + WEBHOOK] <= 9_000
        world.emit()
        await trio.sleep(120)
        assert (0, 0) == (cells[LAYOUT.open_breakers + WEBHOOK], cells[LAYOUT.failing_ms + WEBHOOK])


async def test_a_beat_each_second(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """The loop notes that it turns, and since when it lives, long before there is a pipeline."""
    meter, began_s = Meter(LAYOUT), int(time.time())
    nursery.start_soon(beat, meter)
    await trio.testing.wait_all_tasks_blocked()
    assert began_s <= meter.cells[LAYOUT.started_s] <= time.time()
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()
        assert now_ms() >= meter.cells[LAYOUT.beat] > 0
        meter.cells[LAYOUT.beat] = 0
        mock_clock.jump(1.0)
