import signal

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.errors import Interrupted, QuarantineHalt, SchemaError
from trio_alerts.outcome import Accepted, Retry
from trio_alerts.pipeline.fault_points import FaultPoint, InjectedFault
from trio_alerts.pipeline.service import serve, watch_signals
from trio_alerts.ports.channel import Message


async def test_alerts_flow_from_the_stream_to_the_receiver(autojump_clock: MockClock) -> None:
    """Everything that is emitted ends delivered once and acknowledged."""
    world = World(latency_s=1.0)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(20)]
    async with world.serving(world.pipeline()):
        await trio.sleep(10)
    assert dict.fromkeys(ids, "delivered") == world.states
    assert dict.fromkeys(ids, 1) == world.channel.accepted
    assert {} == world.pending
    assert [0.0] * 4 + [1.0] * 4 + [2.0] * 4 + [3.0] * 4 + [4.0] * 4 == world.channel.sent_at_s


async def test_the_reader_asks_for_no_more_than_idle_workers(autojump_clock: MockClock) -> None:
    """Pressure goes back to the stream: with every receiver slow, nothing more is taken than can be started."""
    world = World(latency_s=7.0, workers=3)
    for n in range(50):
        world.emit(alert_id=f"a-{n}")
    async with world.serving(world.pipeline()):
        await trio.sleep(5)
        assert 3 == len(world.pending)
        await trio.sleep(30)
        assert 3 == len(world.pending)
    assert {1, 2, 3} >= {call.count for call in world.server.called("read")}


async def test_batch_bounds_one_read(autojump_clock: MockClock) -> None:
    """However many workers are idle."""
    world = World(workers=50, batch=10)
    for n in range(30):
        world.emit(alert_id=f"a-{n}")
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
    assert 10 == max(call.count for call in world.server.called("read"))


async def test_one_hanging_receiver_does_not_slow_the_others(autojump_clock: MockClock) -> None:
    """Workers wait for the hanging one, up to the bound; the others' alerts are sent meanwhile."""
    world = World(workers=4)
    hanging = world.emit(alert_id="hanging")

    class Sticky(FakeChannel):
        async def send(self, message: Message) -> Accepted | Retry:
            if message.id == hanging:
                await trio.sleep_until(message.deadline)
                raise trio.TooSlowError
            await super().send(message)
            return Accepted(200)

    world.channels["webhook"] = world.channel = Sticky()
    ids = [world.emit(alert_id=f"a-{n}") for n in range(30)]
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
        assert sorted(ids) == sorted(send.id for send in world.channel.sends)
        await trio.sleep(20)
    assert "retrying" == world.delivery(hanging).state


async def test_the_whole_schedule_in_exact_virtual_seconds(autojump_clock: MockClock) -> None:
    """A failing receiver is tried at the documented times (found every `redrive_every_s`), then the alert is failed."""
    world = World([Retry("busy", 503)] * 5, retry_schedule_s=(5.0, 30.0, 120.0), redrive_every_s=1.0)
    entry_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(1000)
    assert [0.0, 5.0, 35.0, 155.0] == world.channel.sent_at_s
    delivery = world.delivery(entry_id)
    assert ("failed", 4, 0, "busy") == (delivery.state, delivery.attempts, delivery.in_doubt, delivery.last_error)


async def test_a_retry_that_succeeds_delivers(autojump_clock: MockClock) -> None:
    """503 and 503 again, then accepted: one record, three sends, one acceptance."""
    world = World([Retry("busy", 503)] * 2, retry_schedule_s=(5.0, 30.0), redrive_every_s=1.0)
    entry_id = world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(100)
    assert [0.0, 5.0, 35.0] == world.channel.sent_at_s
    assert ("delivered", {entry_id: 1}) == (world.delivery(entry_id).state, world.channel.accepted)


async def test_retries_use_at_most_a_quarter_of_the_workers(autojump_clock: MockClock) -> None:
    """New alerts are not held up by a crowd of old ones."""
    world = World([Retry("busy", 503)] * 100, workers=8, retry_schedule_s=(5.0, 5.0, 5.0))
    for n in range(100):
        world.emit(alert_id=f"a-{n}")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(4)
        world.channel.latency_s = 10.0
        most = 0
        for _ in range(200):
            await trio.sleep(0.5)
            most = max(most, pipeline.in_flight.redrives)
        fresh = world.emit(alert_id="fresh")
        await trio.sleep(0.1)
        assert fresh in {send.id for send in world.channel.sends}
    assert 2 == most


async def test_two_redrivers_send_each_due_record_once(autojump_clock: MockClock) -> None:
    """A thousand due records, two processes, lagging searches: a thousand sends."""
    world = World([Retry("busy", 503)] * 1000, workers=64, retry_schedule_s=(5.0,))
    world.store.lagging = True
    for n in range(1000):
        world.emit(alert_id=f"a-{n}")
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        for _ in range(60):
            await trio.sleep(1)
            world.store.refresh()
    assert (2000, 1000) == (len(world.channel.sends), len(world.channel.accepted))
    assert {1} == set(world.channel.accepted.values())


async def test_the_redriver_leaves_pending_entries_to_the_stream(autojump_clock: MockClock) -> None:
    """While an entry is pending the stream decides who owns it, lapsed lease or not."""
    world = World([Retry("busy", 503)], retry_schedule_s=(1.0,))
    entry_id = world.emit()
    world.server.decide = lambda call: "down" if call.method == "ack" else None
    async with world.serving(world.pipeline(grace_s=1.0)):
        await trio.sleep(200)
        assert 1 == len(world.channel.sends)
        world.server.decide = lambda _: None
        await trio.sleep(20)
        assert 2 == len(world.channel.sends)
    assert "delivered" == world.delivery(entry_id).state


async def test_a_slow_receiver_is_not_a_dead_worker(autojump_clock: MockClock) -> None:
    """Held for ten times `claim_idle_s` beside an idle peer: renewed, never taken over, sent to once."""
    world = World(latency_s=450.0, send_timeout_s=500.0, lease_s=600.0)
    world.emit()
    async with world.serving(world.pipeline("one"), world.pipeline("two")):
        await trio.sleep(500)
    assert [1] == list(world.channel.accepted.values())
    assert {0} == {stored.record.delivery.in_doubt for stored in world.store.records.values()}
    assert [] == world.server.called("claim")


async def test_the_entries_of_a_dead_process_are_taken_over(autojump_clock: MockClock) -> None:
    """Within `claim_idle_s` and two looks, with its doubt counted."""
    world = World(latency_s=1.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, world.pipeline("living"))
        async with trio.open_nursery() as dying:
            await dying.start(serve, world.pipeline("dying", workers=64))
            await trio.sleep(30)
            died_s = trio.current_time()
            ids = [world.emit(alert_id=f"a-{n}") for n in range(20)]
            await trio.sleep(0.5)
            mine = [entry_id for entry_id, consumer in world.pending.items() if consumer == "dying"]
            assert mine
            world.store.decide = lambda _: "down"  # a killed process writes nothing any more
            dying.cancel_scope.cancel()
        world.store.decide = lambda _: None
        await trio.sleep(60)
        assert dict.fromkeys(ids, "delivered") == world.states
        again = [send.at_s - died_s for send in world.channel.sends if send.id in mine][len(mine) :]
        assert 45.0 <= min(again) <= max(again) <= 45.0 + 2 + 1.2 * len(mine) / 4
        assert {1} == {world.delivery(entry_id).in_doubt for entry_id in mine}
        nursery.cancel_scope.cancel()


async def test_a_soft_stop_finishes_what_runs_and_takes_nothing_new(autojump_clock: MockClock) -> None:
    """Running sends get their grace time, outcomes are stored, and the consumer leaves the group."""
    world = World(latency_s=10.0, workers=2)
    ids = [world.emit(alert_id=f"a-{n}") for n in range(5)]
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(3)
        pipeline.stop()
    assert 10.0 == trio.current_time()
    assert {ids[0]: "delivered", ids[1]: "delivered"} == world.states
    assert {} == world.pending
    assert set() == world.server.streams[STREAM].groups[GROUP].consumers


async def test_a_soft_stop_while_idle_ends_at_once(autojump_clock: MockClock) -> None:
    """A blocked read is woken: nobody waits for `block_s`."""
    world = World(block_s=60.0)
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(3)
    assert 3.0 == trio.current_time()


async def test_what_was_not_started_is_handed_over_at_once(autojump_clock: MockClock) -> None:
    """A living, idle peer starts it within two looks, and no delivery is counted against it."""
    world = World(latency_s=20.0, workers=1, send_timeout_s=100.0, lease_s=500.0)
    stopping, peer = world.pipeline("stopping"), world.pipeline("peer", workers=8)
    first = world.emit(alert_id="first")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, stopping)
        await trio.sleep(1)
        await world.pipeline("stopping").stream.read(3)  # what an answer brought that nobody saw
        second = world.emit(alert_id="second")
        await world.pipeline("stopping").stream.read(3)
        await nursery.start(serve, peer)
        await trio.sleep(1)
        stopping.stop()
        stopped_s = trio.current_time()
        await trio.sleep(3)
        sends = {send.id: send.at_s for send in world.channel.sends}
        assert first in sends
        assert sends[second] - stopped_s <= 2.0
        assert 1 == world.server.pending(STREAM, GROUP)[second].deliveries
        await trio.sleep(60)
        peer.stop()
    assert {first: 1, second: 1} == world.channel.accepted


async def test_the_grace_time_is_the_longest_wait(autojump_clock: MockClock) -> None:
    """What is not done by then is cut: its record says `sending`, and others take its entry at once, no suspect."""
    world = World(latency_s=1000.0, send_timeout_s=2000.0, lease_s=5000.0, grace_s=25.0)
    entry_id = world.emit()
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(5)
        pipeline.stop()
    assert 30.0 == trio.current_time()
    assert ({entry_id: "sending"}, {entry_id: "me"}) == (world.states, world.pending)
    held = world.server.pending(STREAM, GROUP)[entry_id]
    assert (0, True) == (held.deliveries, held.idle_s >= 86_400)


async def test_a_channel_that_answered_before_the_cut_is_not_forgotten(autojump_clock: MockClock) -> None:
    """The grace time is over while the second channel hangs: the first one's acceptance is stored."""
    world = World(channels=[FakeChannel("hanging", latency_s=10**6)], send_timeout_s=100.0, lease_s=5000.0, grace_s=5.0)
    entry_id = world.emit()
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(5)
        pipeline.stop()
    states = {channel.name: channel.state for channel in world.delivery(entry_id).channels}
    assert {"webhook": "delivered", "hanging": "retrying"} == states


@pytest.mark.usefixtures("hang_up_means_something")
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_second_signal_stops_now(first: signal.Signals) -> None:
    """The first signal is a soft stop; the second ends the process at once, with an error."""
    world = World()
    pipeline = world.pipeline()
    with pytest.RaisesGroup(Interrupted):
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, pipeline.stop)
            signal.raise_signal(first)
            with trio.fail_after(5):
                await pipeline.stopping.wait()
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("hang_up_means_something")
async def test_a_hangup_asks_for_a_reload_where_there_is_something_to_read() -> None:
    """However often, it is no first signal, and not the second one either; who stops has nothing to read any more."""
    asked: list[str] = []
    pipeline = World().pipeline()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, pipeline.stop, lambda: asked.append("reload"))
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
            await trio.sleep(0.1)
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep(0.1)
        assert (["reload"] * 2, True) == (asked, pipeline.stopping.is_set())
        nursery.cancel_scope.cancel()


async def test_a_crash_in_a_worker_stops_the_process_and_leaves_its_entry_pending(autojump_clock: MockClock) -> None:
    """The others finish; the unexpected exception comes out of the service."""
    world = World(latency_s=5.0)
    for n in range(3):
        world.emit(alert_id=f"a-{n}")
    pipeline = world.pipeline()
    pipeline.fault_point = FaultPoint("before_send:raise:2")
    with pytest.RaisesGroup(pytest.RaisesGroup(InjectedFault)):
        async with world.serving(pipeline):
            await trio.sleep(100)
    assert 5.0 == trio.current_time()
    assert ["delivered", "delivered", "sending"] == sorted(world.states.values())
    assert {"me"} == set(world.pending.values())
    (held,) = world.server.pending(STREAM, GROUP).values()
    assert (1, True) == (held.deliveries, held.idle_s < 86_400)  # not handed over: its delivery counts


async def test_a_broken_producer_stops_the_process(autojump_clock: MockClock) -> None:
    """`quarantine_halt` in a row: nothing is lost, and somebody has to look."""
    world = World(quarantine_halt=5)
    for _ in range(20):
        world.server.add(STREAM, {b"event": b"{"})
    with pytest.RaisesGroup(pytest.RaisesGroup(QuarantineHalt, match="a worker failed")):
        async with world.serving(world.pipeline(workers=1)):
            await trio.sleep(100)
    assert 5 == len(world.dead)


async def test_nothing_is_consumed_when_the_store_cannot_be_trusted(autojump_clock: MockClock) -> None:
    """The guard comes before the group: no read, no pending entry."""
    world = World()
    world.emit()
    world.store.schema_fault = "view is text, must be keyword"
    with pytest.raises(SchemaError, match="view is text"):
        await serve(world.pipeline())
    assert (["deployment"], {}) == ([call.method for call in world.server.calls], world.pending)


async def test_a_mapping_that_goes_bad_stops_the_process(autojump_clock: MockClock) -> None:
    """The guard looks every 60 s."""
    world = World()
    with pytest.RaisesGroup(pytest.RaisesGroup(SchemaError)):
        async with world.serving(world.pipeline()):
            await trio.sleep(30)
            world.store.schema_fault = "view is text, must be keyword"
            await trio.sleep(100)
    assert 60.0 == trio.current_time()


async def test_the_stream_server_may_go_away_and_come_back(autojump_clock: MockClock) -> None:
    """Nothing is lost, nothing is sent twice, and what a lost answer carried is found again."""
    world = World(latency_s=1.0)
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(1)
        world.server.fail_next("read", "answer_lost")
        ids = [world.emit(alert_id=f"a-{n}") for n in range(3)]
        await trio.sleep(10)
        world.server.down = True
        await trio.sleep(60)
        world.server.down = False
        ids += [world.emit(alert_id=f"b-{n}") for n in range(3)]
        await trio.sleep(30)
    assert dict.fromkeys(ids, 1) == world.channel.accepted
    assert dict.fromkeys(ids, "delivered") == world.states
    assert {} == world.pending


async def test_a_lost_group_is_found_again_without_a_second_send(autojump_clock: MockClock) -> None:
    """The group is created again at the beginning; delivered records are acknowledged without a send."""
    world = World()
    async with world.serving(world.pipeline()):
        ids = [world.emit(alert_id=f"a-{n}") for n in range(5)]
        await trio.sleep(5)
        world.server.destroy_group(STREAM, GROUP)
        await trio.sleep(5)
        ids.append(world.emit(alert_id="later"))
        await trio.sleep(5)
    assert dict.fromkeys(ids, 1) == world.channel.accepted
    assert {} == world.pending


async def test_one_suspect_at_a_time(autojump_clock: MockClock) -> None:
    """From its third delivery on an entry may be what crashed its workers: it must not take others down with it."""
    world = World(latency_s=10.0)
    pipeline = world.pipeline(workers=16)
    shadow = world.pipeline("shadow")
    await shadow.stream.prepare()
    for n in range(6):
        world.emit(alert_id=f"a-{n}")
    await shadow.stream.read(6)
    for held in world.server.pending(STREAM, GROUP).values():
        held.deliveries, held.since_s = 2, -100.0
    most = 0
    async with world.serving(pipeline):
        for _ in range(200):
            await trio.sleep(0.5)
            most = max(most, len(pipeline.in_flight.ids))
    assert (1, 6) == (most, len(world.channel.accepted))


async def test_a_retry_cut_by_a_crash_goes_on_after_its_lease(autojump_clock: MockClock) -> None:
    """No entry is left to be claimed: the lapsed lease is a failed attempt in doubt, and the schedule goes on."""
    world = World([Retry("busy", 503)], retry_schedule_s=(5.0, 30.0), redrive_every_s=1.0)
    entry_id = world.emit()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as dying:
            await dying.start(serve, world.pipeline("dying"))
            world.channel.latency_s = 10.0
            await trio.sleep(18.0)  # in the middle of the second attempt
            assert "sending" == world.delivery(entry_id).state
            world.store.decide = lambda _: "down"  # a killed process writes nothing any more
            dying.cancel_scope.cancel()
        world.store.decide = lambda _: None
        living = world.pipeline("living")
        await nursery.start(serve, living)
        await trio.sleep(300)
        living.stop()
    delivery = world.delivery(entry_id)
    assert ("delivered", 3, 1) == (delivery.state, delivery.attempts, delivery.in_doubt)
    first, cut_off, again = world.channel.sent_at_s
    assert cut_off + 60 + 30 <= again <= cut_off + 60 + 30 + 5  # lease, schedule, looks
    assert first < cut_off


async def test_after_an_outage_of_the_store_living_owners_may_write_first(autojump_clock: MockClock) -> None:
    """Nobody could write its outcome while the store was away: lapsed leases are trusted only a lease later."""
    world = World([Retry("busy", 503)], retry_schedule_s=(1.0, 1.0), redrive_every_s=1.0)
    entry_id = world.emit()
    slow = world.pipeline("slow", store_timeout_s=10.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, slow)
        await trio.sleep(0.5)
        world.channel.latency_s = 12.0
        await trio.sleep(4.5)
        assert 2 == len(world.channel.sends)
        await nursery.start(serve, world.pipeline("other"))
        world.store.decide = lambda _: "down"
        await trio.sleep(100)  # the attempt ends well, and cannot be stored; its lease lapses
        world.store.decide = lambda _: None
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    delivery = world.delivery(entry_id)
    assert ("delivered", 2, 0) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert [1] == list(world.channel.accepted.values())
