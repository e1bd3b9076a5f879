"""A canary in the pipeline: it goes as any alert does, and is one to nobody."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.canaries import FakeCanaries
from tests.support.fakes.world import GROUP, STREAM, World, bring_through
from tests.unit.pipeline.test_silences import silence, watching
from trio_alerts.alert import Entry
from trio_alerts.errors import QuarantineHalt
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.state import Pipeline

PAYLOAD = (
    b'{"alert_id":"c","rule_id":"r","view":"Lending","scope":"s","severity":"info","title":"t",'
    b'"occurred_at":"2026-11-23T11:59:58Z"}'
)


async def write(world: World, payload: bytes = PAYLOAD) -> str:
    """Write a canary; return the ID of its entry."""
    return (await FakeCanaries(world.server, world.settings()).write(STREAM, 0.0, payload)).entry_id


async def taken(world: World, pipeline: Pipeline, payload: bytes = PAYLOAD) -> Entry:
    """Write a canary and read it."""
    await pipeline.stream.prepare()
    await write(world, payload)
    return await world.take(pipeline)


async def test_it_goes_to_nobody(autojump_clock: MockClock) -> None:
    """Its record is delivered, through a channel that no settings can name; no receiver and no counter knows of it."""
    world = World()
    pipeline = world.pipeline()
    entry = await taken(world, pipeline)

    assert Disposition.ACKNOWLEDGE is await bring_through(entry, pipeline)
    delivery = world.delivery(entry.record_id)
    assert ("delivered", ["~canary"]) == (delivery.state, [one.name for one in delivery.channels])
    assert ({}, [], {}) == (world.pending, world.channel.sent_at_s, dict(world.server.gates))
    layout = pipeline.meter.layout
    assert not any(pipeline.meter.cells[layout.counters : layout.batches])


async def test_no_silence_holds_it_back(autojump_clock: MockClock) -> None:
    """One that matches it silences the alert beside it, and not the canary."""
    world = World()
    await silence(world)
    async with watching(world.pipeline()) as pipeline:
        entry = await taken(world, pipeline)
        await bring_through(entry, pipeline)
        alert, _ = await world.carry(pipeline)

    assert ("delivered", "suppressed") == (world.delivery(entry.record_id).state, world.delivery(alert.record_id).state)


async def test_one_whose_worker_died_is_taken_over(autojump_clock: MockClock) -> None:
    """As any alert is: its record says that an attempt was cut, and it comes to its end all the same."""
    world = World()
    dead = world.pipeline("dead")
    entry = await taken(world, dead)
    with trio.CancelScope() as life:
        dead.fault_point.reach = _die(life)  # type: ignore[method-assign, assignment]
        await bring_through(entry, dead)
    assert "sending" == world.delivery(entry.record_id).state

    async with world.serving(world.pipeline("alive")):
        await trio.sleep(60)
    assert ("delivered", {}) == (world.delivery(entry.record_id).state, world.pending)


@pytest.mark.parametrize("payload", [PAYLOAD, b"{"])
async def test_no_human_must_look_at_it(payload: bytes, autojump_clock: MockClock) -> None:
    """What can never be processed is acknowledged: no dead letter, and no step towards a halt."""
    world = World(max_deliveries=2)
    pipeline = world.pipeline()
    entry = await taken(world, pipeline, payload)
    for _ in range(2):
        world.server.pending(STREAM, GROUP)[entry.id].since_s -= 100
        (entry,) = await pipeline.stream.claim(await pipeline.stream.look(50, 1), 50)

    assert Disposition.ACKNOWLEDGE is await bring_through(entry, pipeline)
    assert ([], {}, 0) == (world.dead, world.pending, pipeline.quarantined_in_a_row)


async def test_it_does_not_hide_a_broken_producer(autojump_clock: MockClock) -> None:
    """Between entries that are no alerts, one that came through is no sign that the producer is well."""
    world = World(quarantine_halt=3)
    pipeline = world.pipeline()
    await pipeline.stream.prepare()
    for _ in range(2):
        world.server.add(STREAM, {b"event": b"{"})
        await bring_through(await world.take(pipeline), pipeline)
        await write(world)
        await bring_through(await world.take(pipeline), pipeline)
        await FakeCanaries(world.server, world.settings()).settle(
            STREAM, world.server.canary_of(STREAM, GROUP).entry_id
        )
    world.server.add(STREAM, {b"event": b"{"})
    with pytest.raises(QuarantineHalt):
        await bring_through(await world.take(pipeline), pipeline)


async def test_what_only_looks_like_one_is_no_alert(autojump_clock: MockClock) -> None:
    """Whoever writes a canary's field hides nothing: it is a dead letter, as without the field; an alert goes out."""
    world = World()
    pipeline = world.pipeline()
    await pipeline.stream.prepare()
    world.server.add(STREAM, {b"canary": PAYLOAD})
    world.server.add(STREAM, {b"event": PAYLOAD, b"canary": b"1"})
    for _ in range(2):
        await bring_through(await world.take(pipeline), pipeline)

    assert [b"missing_event"] == [letter[b"_reason"] for letter in world.dead]
    assert 1 == len(world.channel.sent_at_s)


async def test_one_that_was_cleared_away_is_not_written_again(autojump_clock: MockClock, logged: list[str]) -> None:
    """A worker that was stopped before it could store the outcome finds no record: it leaves it at that."""
    world = World()
    pipeline = world.pipeline()
    entry = await taken(world, pipeline)

    async def vanish(point: str) -> None:
        if point == "after_send":
            del world.store.records[entry.record_id]

    pipeline.fault_point.reach = vanish  # type: ignore[method-assign]
    await bring_through(entry, pipeline)

    assert {} == world.store.records
    assert not [line for line in logged if "vanished" in line]


def _die(life: trio.CancelScope) -> Callable[[str], Coroutine[Any, Any, None]]:
    async def reach(point: str) -> None:
        if point == "before_send":
            life.cancel()
            await trio.sleep_forever()

    return reach
