"""When is looked: by hints to the millisecond, by the sweep once a minute, and for how long an alert may wait."""

import datetime as dt

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.store import Fault
from tests.support.fakes.stream_server import Call
from tests.support.fakes.world import GROUP, World
from tests.support.waiting import waiting
from trio_alerts.held_back import first_state
from trio_alerts.outcome import Retry
from trio_alerts.pipeline import sweep
from trio_alerts.pipeline.service import serve

MINUTE_S, HOUR_S = 60.0, 3600.0
STEADY_S = 10 * MINUTE_S  # in place of the hour, since every virtual second costs some real time
BUSY = Retry("busy", 503)
HINT_CALLS = ("put_due", "take_due", "recall_due", "begin_sweep", "end_sweep", "put_queued", "take_queued", "heads")


def searches(world: World) -> list[float]:
    """Return when the store was searched."""
    return [call.at_s for call in world.store.called("due", "search", "count", "counts", "waiting", "vitals")]


async def lose_hints(world: World) -> None:
    """Delete every hint key, again and again."""
    while True:
        world.server.hints_of(GROUP).lose()
        await trio.sleep(0.05)


async def add_waiting(world: World, wait_s: float) -> str:
    """Put a record there that began to wait now, and may wait for so long; nothing tells of it but the store."""
    other = World()
    entry, _ = await other.carry()
    now = dt.datetime.fromtimestamp(world.server.time(), dt.UTC)
    wait = waiting("webhook", now, now + dt.timedelta(seconds=wait_s))
    record = other.store.records[entry.id].record
    world.store.put(replace(record, id="5-0", delivery=first_state((wait,), "them/1", now, 60.0)))
    return "5-0"


@pytest.fixture
def short_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first hour after a break be shorter."""
    assert HOUR_S == sweep.STEADY_S
    monkeypatch.setattr(sweep, "STEADY_S", STEADY_S)


@pytest.mark.parametrize("processes", [1, 5])
async def test_an_idle_deployment_searches_twice_a_minute(processes: int, autojump_clock: MockClock) -> None:
    """However many processes there are: one sweep, and one count of what needs a human."""
    world = World()
    async with world.serving(*[world.pipeline(f"p-{number}") for number in range(processes)]):
        await trio.sleep(10 * MINUTE_S + 30.0)
    at_s = searches(world)
    assert 2 * 11 == len(at_s)
    assert all(later - earlier >= 59.0 for earlier, later in zip(at_s, at_s[2:], strict=False))


@pytest.mark.parametrize("processes", [1, 3])
async def test_a_due_retry_goes_out_at_its_time(processes: int, autojump_clock: MockClock) -> None:
    """To the millisecond, although nobody looks more often than every `redrive_every_s`."""
    world = World([BUSY] * 3, retry_schedule_s=(2.0, 3.0, 7.0), redrive_every_s=600.0)
    async with world.serving(*[world.pipeline(f"p-{number}") for number in range(processes)]):
        await trio.sleep(0.123)
        world.emit()
        await trio.sleep(20)
    first_s, *later_s = world.channel.sent_at_s
    assert [2.0, 5.0, 12.0] == [round(at_s - first_s, 2) for at_s in later_s]


async def test_another_process_sends_what_a_dead_one_has_noted(autojump_clock: MockClock) -> None:
    """It asks every `redrive_every_s`, and then sleeps until exactly the time that the hint names."""
    world = World([BUSY], retry_schedule_s=(7.5,))
    await world.carry(world.pipeline("dead"))
    async with world.serving(world.pipeline("living")):
        await trio.sleep(10)
    assert [0.0, 7.5] == world.channel.sent_at_s


async def test_without_any_hint_a_retry_is_a_minute_late_at_most(autojump_clock: MockClock) -> None:
    """Every hint is lost, all the time: the sweep finds each of ten retries within a minute of its time."""
    world = World([BUSY] * 10, retry_schedule_s=(125.0,), workers=40)
    for number in range(10):
        world.emit(alert_id=f"a-{number}")
    async with trio.open_nursery() as losses, world.serving(world.pipeline("one"), world.pipeline("two")):
        losses.start_soon(lose_hints, world)
        await trio.sleep(250)
        losses.cancel_scope.cancel()
    late_s = [at_s - 125.0 for at_s in world.channel.sent_at_s[10:]]
    assert (10, True) == (len(late_s), all(0 <= one <= 60.0 for one in late_s))
    assert {"delivered"} == set(world.states.values())


async def test_a_long_backlog_is_shared(autojump_clock: MockClock) -> None:
    """One process finds all of it, and takes only what its workers can begin soon: the other one works as well."""
    world = World([BUSY] * 80, retry_schedule_s=(30.0,), workers=8)
    for number in range(80):
        world.emit(alert_id=f"a-{number}")
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        await trio.sleep(29)
        world.channel.sends.clear()
        world.channel.latency_s = 1.0
        await trio.sleep(30)
    assert (80, 4) == (len(world.channel.sends), max(map(world.channel.sent_at_s.count, world.channel.sent_at_s)))
    assert world.channel.sent_at_s[-1] <= 55.0  # two slots in each of two processes, 1 s each


async def test_what_takes_no_hint_hinders_nothing(autojump_clock: MockClock) -> None:
    """A full server refuses them: entries are acknowledged all the same, and every process sweeps for itself."""
    world = World([BUSY], retry_schedule_s=(10.0,))
    world.server.decide = lambda call: "down" if call.method in HINT_CALLS else None
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        world.emit()
        await trio.sleep(1)
        assert {} == world.pending
        await trio.sleep(70)
    assert ["delivered"] == list(world.states.values())
    assert 60.0 >= world.channel.sent_at_s[1] - 10.0


@pytest.mark.parametrize("after_s", [0.3, 7.0, 62.0])
async def test_a_retry_without_a_hint_goes_out_at_its_time(after_s: float, autojump_clock: MockClock) -> None:
    """A store adopted by a new Redis: the first sweep finds what is due before the next one, and leaves a hint."""
    world = World([BUSY], retry_schedule_s=(after_s,))
    await world.carry()
    world.server.hints_of(GROUP).lose()
    async with world.serving(world.pipeline("new")):
        await trio.sleep(after_s + 1.0)
    assert [0.0, after_s] == [round(at_s, 2) for at_s in world.channel.sent_at_s]


async def test_what_comes_next_is_known_before_the_next_sweep_may_come(autojump_clock: MockClock) -> None:
    """A sweep comes up to five seconds late if the process is gone that made the last one."""
    world = World([BUSY], retry_schedule_s=(64.9,))
    await world.carry()
    world.server.hints_of(GROUP).lose()
    async with trio.open_nursery() as life:
        await life.start(serve, world.pipeline("dying"))
        await trio.sleep(1.0)
        life.cancel_scope.cancel()
    assert 1 == len(world.server.hints_of(GROUP).due)


@pytest.mark.parametrize("dies_at", ["put_due", "ack"])
async def test_whoever_dies_around_the_hint_leaves_the_retry_to_others(dies_at: str, autojump_clock: MockClock) -> None:
    """The outcome is stored; the hint, or the acknowledgement, is not: the entry is claimed, and all is made good."""
    world = World([BUSY], retry_schedule_s=(1.0,))

    def decide(call: Call) -> Fault | None:
        return "down" if call.consumer == "dying" and call.method in (dies_at, "ack", "hand_over") else None

    world.server.decide = decide
    world.emit()
    with trio.move_on_after(20):
        async with world.serving(world.pipeline("dying")):
            await trio.sleep_forever()
    assert ["dying"] == list(world.pending.values())
    sent = len(world.channel.sends)
    async with world.serving(world.pipeline("living")):
        await trio.sleep(150)
    assert ({}, ["delivered"]) == (world.pending, list(world.states.values()))
    assert 2 == len(world.channel.sends) >= sent


async def test_the_sweep_puts_back_what_waits_into_its_queue(autojump_clock: MockClock) -> None:
    """The hint is lost, and the record says where it waits."""
    world = World()
    record_id = await add_waiting(world, HOUR_S)
    pipeline = world.pipeline()
    pipeline.channel_gates.clear()  # nothing is drained
    async with world.serving(pipeline):
        await trio.sleep(1)
        assert [record_id] == list(world.server.hints_of(GROUP).queues["webhook"])


async def run(world: World, seconds: float) -> None:
    """Let a deployment run that takes nothing out of a queue."""
    pipeline = world.pipeline(f"p-{trio.current_time():g}")
    pipeline.channel_gates.clear()  # nothing is drained
    async with world.serving(pipeline):
        await trio.sleep(seconds)


async def test_nothing_expires_in_the_first_hour_after_a_stop_of_two_days(
    autojump_clock: MockClock, short_hour: None
) -> None:
    """What waited meanwhile gets its chance first; what is still there after an hour of sweeps has failed."""
    world = World()
    await run(world, 2 * STEADY_S)
    record_id = await add_waiting(world, HOUR_S)
    await trio.sleep(48 * HOUR_S)
    await run(world, STEADY_S - 90.0)
    assert {record_id: "waiting"} == world.states
    await run(world, 300.0)
    assert {record_id: "failed"} == world.states
    assert "given up: it waited for too long" == world.delivery(record_id).last_error


async def test_a_wait_ends_when_its_time_is_over(autojump_clock: MockClock, short_hour: None) -> None:
    """In a deployment that has run all the time: at the sweep that follows; not before."""
    world = World()
    await run(world, STEADY_S + 120.0)
    record_id = await add_waiting(world, 300.0)
    began_s = trio.current_time()
    await run(world, 295.0)
    assert {record_id: "waiting"} == world.states
    await run(world, 70.0)
    assert ({record_id: "failed"}, True) == (world.states, trio.current_time() - began_s < 400)


@pytest.mark.parametrize("seconds", [2 * HOUR_S, -2 * HOUR_S])
async def test_nothing_expires_because_the_clock_was_set(
    seconds: float, autojump_clock: MockClock, short_hour: None
) -> None:
    """Set forward, every wait looks over; it counts from when the clock jumped that an hour has passed."""
    world = World()
    world.server.jump(10 * HOUR_S)
    await run(world, STEADY_S + 120.0)
    record_id = await add_waiting(world, 500.0)
    pipeline = world.pipeline("watching")
    pipeline.channel_gates.clear()
    async with world.serving(pipeline):
        await trio.sleep(100)
        world.server.jump(seconds)
        await trio.sleep(STEADY_S - 30.0)
        assert {record_id: "waiting"} == world.states
