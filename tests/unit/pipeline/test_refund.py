"""Whose delivery counts when a process dies: the entry that was being worked on, and no other."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.store import Call, Fault
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline

DEATHS = 25


def deliveries(world: World) -> list[int]:
    return [held.deliveries for held in world.server.pending(STREAM, GROUP).values()]


async def killed_after(seconds: float, pipeline: Pipeline, world: World) -> None:
    """Serve a process and end it as SIGKILL does: it writes nothing any more."""
    plain, name = world.server.decide, pipeline.settings.consumer
    with trio.move_on_after(seconds) as life:
        await serve(pipeline)
    assert life.cancelled_caught
    world.server.decide = lambda call: "down" if call.consumer == name else plain(call)


def nonsense(_: object) -> Fault | None:
    raise KeyError("took")


def down(_: object) -> Fault | None:
    return "down"


def writes(fault: Callable[[object], Fault | None]) -> Callable[[Call], Fault | None]:
    """Return what goes wrong with each write; the start and the reads are well."""
    return lambda call: fault(call) if call.method in ("create", "replace") else None


async def test_a_process_killed_while_it_waits_for_the_store_leaves_no_suspect(autojump_clock: MockClock) -> None:
    """The delivery of what waits is taken back as soon as the wait begins; nothing of it was being worked on."""
    world = World()
    ids = [world.emit(alert_id=f"a-{n}") for n in range(4)]
    world.store.decide = writes(down)
    await killed_after(0.5, world.pipeline("killed"), world)
    assert [0] * 4 == deliveries(world)
    assert set(ids) == set(world.pending)


async def test_a_store_that_does_not_answer_at_all_is_waited_for(autojump_clock: MockClock) -> None:
    """No try has failed yet: whoever asks for longer than a healthy store takes is waiting as well."""
    world = World()
    world.emit()

    def hangs(_: object) -> None:
        world.store.latency_s = 1000.0

    world.store.decide = writes(hangs)
    pipeline = world.pipeline("killed")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(killed_after, 3.0, pipeline, world)
        await trio.sleep(0.9)
        assert [1] == deliveries(world)
        await trio.sleep(1.2)
        assert [0] == deliveries(world)


async def test_the_delivery_counts_again_when_the_work_goes_on(autojump_clock: MockClock) -> None:
    """What kills its process after a wait was being worked on when it did."""
    world = World(latency_s=10.0)
    world.emit()
    world.store.decide = lambda call: "down" if call.method == "create" and trio.current_time() < 5 else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(killed_after, 7.0, world.pipeline("killed"), world)
        await trio.sleep(4)
        assert [0] == deliveries(world)
        await trio.sleep(2.9)
        assert ([1], 1) == (deliveries(world), len(world.channel.sends))


async def test_a_wait_takes_back_one_delivery_and_a_stop_no_second(autojump_clock: MockClock) -> None:
    """What earlier owners died of stays counted: an entry with two deaths is handed over with two."""
    world = World()
    entry_id = world.emit()
    await world.take(world.pipeline("gone"))
    world.server.pending(STREAM, GROUP)[entry_id].deliveries = 2
    world.store.decide = writes(down)
    async with world.serving(world.pipeline("stopping")):
        await trio.sleep(60)
        assert [2] == deliveries(world)
    assert [2] == deliveries(world)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("fault", [down, nonsense])
async def test_25_deaths_of_a_worker_whose_store_is_away_quarantine_nothing(
    autojump_clock: MockClock, workers: int, fault: Callable[[object], Fault | None]
) -> None:
    """An impatient supervisor kills it in the wait, whatever the store says; then every alert is delivered."""
    world = World(workers=workers)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(8)]
    world.store.decide = writes(fault)
    for number in range(DEATHS):
        await killed_after(70.0, world.pipeline(f"p-{number}"), world)
    assert {0} == set(deliveries(world))
    world.store.decide = lambda _: None
    async with world.serving(world.pipeline("last")):
        await trio.sleep(300)
    assert (dict.fromkeys(ids, "delivered"), []) == (world.states, world.dead)
    assert dict.fromkeys(ids, 1) == world.channel.accepted


async def test_25_deaths_by_a_fault_quarantine_nothing(autojump_clock: MockClock) -> None:
    """A helper meets an unexpected exception and the process ends: what it held is handed over, undelivered."""
    world = World(workers=4, latency_s=50.0, send_timeout_s=60.0, lease_s=200.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(8)]
    world.server.decide = lambda call: nonsense(call) if call.method == "begin_sweep" else None
    for number in range(DEATHS):
        with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
            await serve(world.pipeline(f"p-{number}"))
    assert {0} == set(deliveries(world))
    world.server.decide = lambda _: None
    async with world.serving(world.pipeline("last")):
        await trio.sleep(300)
    assert (dict.fromkeys(ids, "delivered"), []) == (world.states, world.dead)


async def test_a_fault_of_a_worker_is_held_against_its_entry_alone(autojump_clock: MockClock) -> None:
    """Its own alert brings the process to its end: the others, cut at the end of the grace time, are no suspects."""
    world = World(workers=3, latency_s=50.0, send_timeout_s=60.0, lease_s=200.0, grace_s=5.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(3)]
    pipeline = world.pipeline()
    decide = pipeline.routing.decide
    pipeline.routing.decide = lambda event, now: nonsense(event) if event.alert_id == "a-1" else decide(event, now)  # type: ignore[assignment, method-assign, return-value]
    with pytest.RaisesGroup(KeyError):
        await serve(pipeline)
    assert [0, 1, 0] == deliveries(world)
    assert [True, False, True] == [held.idle_s >= 86_400 for held in world.server.pending(STREAM, GROUP).values()]
    assert set(ids) == set(world.pending)
