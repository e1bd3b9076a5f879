"""The redriver's claims; whole schedules and leases are in `test_service.py`."""

import datetime as dt
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.hints import FakeHints
from tests.support.fakes.store import Call
from tests.support.fakes.stream_server import FakeServer
from tests.support.fakes.world import GROUP, STREAM, World
from tests.support.waiting import waiting
from trio_alerts.delivery import ChannelDelivery, ChannelState
from trio_alerts.errors import RefusedContent, Unavailable
from trio_alerts.held_back import first_state, standby
from trio_alerts.outcome import Accepted, Later, Outcome, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.ports.store import Stored
from trio_alerts.record import Record
from trio_alerts.transitions import next_attempt


async def world_of_due(count: int, **settings: Any) -> tuple[World, list[str]]:
    """Return a world whose first process is gone, and the IDs of what it left behind: all is due after a second."""
    world = World([Retry("busy", 503)] * count, **{"retry_schedule_s": (1.0, 1000.0), **settings})
    first = world.pipeline("first")
    ids = [(await world.carry(first, alert_id=f"a-{n}"))[0].id for n in range(count)]
    world.channel.sends.clear()
    return world, ids


async def world_of_an_orphan() -> tuple[World, str]:
    """Return a world with one record whose process died while it sent it, and its ID; 61 s of its lease are left."""
    world, (record_id,) = await world_of_due(1, lease_s=60.0)
    record, dying = world.store.records[record_id].record, world.pipeline("dying")
    dying.clock.set(await dying.stream.server_time())
    sending = next_attempt(record.delivery, dying.new_owner(), dying.clock.now() + dt.timedelta(seconds=1), 60.0)
    world.store.put(Record(record_id, record.body, sending))
    return world, record_id


class Channels:
    """A world with a few channels, to which records are due at once that were never sent elsewhere."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.channels = {name: FakeChannel(name) for name in names}
        self.world = World(channels=list(self.channels.values()), send_timeout_s=500.0, lease_s=2000.0, **settings)
        del self.world.channels["webhook"]
        self._template: Record | None = None

    async def add(self, count: int, *names: str) -> list[str]:
        """Let so many records be due through these channels; their IDs are in the order of the calls."""
        if self._template is None:
            other = World()
            entry, _ = await other.carry()
            self._template = other.store.records[entry.id].record
        first = len(self.world.store.records)
        ids = [f"{10**12}-{number:05}" for number in range(first, first + count)]
        due_at = dt.datetime.fromtimestamp(0, dt.UTC)
        parts = tuple(ChannelDelivery(name, "retrying", next_attempt_at=due_at) for name in names)
        delivery = replace(
            self._template.delivery, state="retrying", delivered_at=None, next_attempt_at=due_at, channels=parts
        )
        for record_id in ids:
            self.world.store.put(Record(record_id, self._template.body, delivery))
        self.world.server.hints_of(GROUP).due |= dict.fromkeys(ids, 0)
        return ids


async def test_a_hanging_channel_holds_up_no_other_channel_s_retries(autojump_clock: MockClock) -> None:
    """Two hundred retries to one that hangs, around those to a healthy one: these go out at the first look."""
    retries = Channels("hanging", "healthy", workers=16)
    retries.channels["hanging"].latency_s = 3.0
    for count, name in ((100, "hanging"), (1, "healthy"), (100, "hanging"), (1, "healthy")):
        await retries.add(count, name)
    async with retries.world.serving(retries.world.pipeline()):
        await trio.sleep(220)
    assert [0.0, 0.0] == retries.channels["healthy"].sent_at_s
    # Three of four slots: one is left to the healthy channel, whatever comes.
    assert [3.0 * (number // 3) for number in range(200)] == retries.channels["hanging"].sent_at_s


async def test_a_channel_that_comes_later_finds_a_slot(autojump_clock: MockClock) -> None:
    """However many retries hang, each of the other channels has a slot at once, and the first gets none of these."""
    names = ("hanging", "second", "third", "fourth")
    retries = Channels(*names, workers=20, redrive_every_s=1.0)
    for channel in retries.channels.values():
        channel.latency_s = 100.0
    await retries.add(10, "hanging")
    pipeline = retries.world.pipeline()
    async with retries.world.serving(pipeline):
        for name in names[1:]:
            await trio.sleep(5)
            await retries.add(10, name)
        await trio.sleep(5)
        assert [2, 1, 1, 1] == [len(retries.channels[name].sends) for name in names]
        assert 5 == pipeline.in_flight.redrives
        pipeline.stop()


async def test_a_slot_that_is_kept_for_nobody_is_used(autojump_clock: MockClock) -> None:
    """The other channel has its slot already: all the rest are for the one with the backlog."""
    retries = Channels("other", "backlog", workers=16, redrive_every_s=1.0)
    for channel in retries.channels.values():
        channel.latency_s = 100.0
    await retries.add(1, "other")
    async with retries.world.serving(retries.world.pipeline()):
        await trio.sleep(5)
        await retries.add(10, "backlog")
        await trio.sleep(5)
        assert (1, 3) == (len(retries.channels["other"].sends), len(retries.channels["backlog"].sends))


async def test_more_channels_than_slots_get_one_each(autojump_clock: MockClock) -> None:
    """With more channels than slots nobody has two while others have none, and no slot is left unused."""
    retries = Channels("a", "b", "c", workers=8, redrive_every_s=1.0)
    for name, channel in retries.channels.items():
        channel.latency_s = 10.0
        await retries.add(4, name)
    pipeline = retries.world.pipeline()
    async with retries.world.serving(pipeline):
        for _ in range(3):
            await trio.sleep(10)
            assert [0, 1, 1] == sorted(pipeline.in_flight.redriving[name] for name in "abc")
        await trio.sleep(60)
    assert {"delivered"} == set(retries.world.states.values())


async def test_an_alert_is_sent_again_through_those_of_its_channels_that_have_a_slot(autojump_clock: MockClock) -> None:
    """The part of a hanging channel waits, the other one does not; with slots for both it is one attempt."""
    retries = Channels("hanging", "healthy", workers=8, redrive_every_s=1.0)
    retries.channels["hanging"].latency_s = 20.0
    await retries.add(2, "hanging")
    async with retries.world.serving(retries.world.pipeline()):
        await trio.sleep(1.5)
        (both,) = await retries.add(1, "hanging", "healthy")
        await trio.sleep(10)
        assert [2.0] == retries.channels["healthy"].sent_at_s
        assert ["retrying", "delivered"] == [one.state for one in retries.world.delivery(both).channels]
        await trio.sleep(100)
        (again,) = await retries.add(1, "hanging", "healthy")
        await trio.sleep(30)
    assert ("delivered", "delivered") == (retries.world.delivery(both).state, retries.world.delivery(again).state)
    attempts = retries.world.delivery(both).attempts
    assert (attempts - 1, 1) == (retries.world.delivery(again).attempts, retries.channels["healthy"].accepted[both])


async def test_what_waits_is_bounded(autojump_clock: MockClock) -> None:
    """A backlog that is longer than what may wait is carried in several rounds, each record a few times read."""
    retries = Channels("only", workers=4, redrive_every_s=1.0)
    retries.channels["only"].latency_s = 0.9
    ids = await retries.add(40, "only")
    async with retries.world.serving(retries.world.pipeline()):
        await trio.sleep(60)
    assert dict.fromkeys(ids, "delivered") == retries.world.states
    assert len(retries.world.store.called("get")) < 10 * len(ids)


async def test_the_claims_of_a_page_run_side_by_side(autojump_clock: MockClock) -> None:
    """As many as there are slots: a backlog costs two requests to the store for each of these, not for each record."""
    world, ids = await world_of_due(40, workers=40, lease_s=600.0)
    world.store.latency_s, world.channel.latency_s = 1.0, 10.0
    async with world.serving(world.pipeline()):
        await trio.sleep(60)
    # The start takes 4 s, the first look takes 1; then, by ten: read 1, claim 1, send 10, store 1.
    assert [7.0] * 10 + [20.0] * 10 + [33.0] * 10 + [46.0] * 10 == world.channel.sent_at_s
    assert dict.fromkeys(ids, "delivered") == world.states


async def test_a_slot_is_used_again_as_soon_as_it_is_free(autojump_clock: MockClock) -> None:
    """One slow receiver keeps one slot: the others do not wait for it, in this page or the next."""
    world, ids = await world_of_due(300, workers=8, send_timeout_s=500.0, lease_s=2000.0)
    slow = min(ids)

    class SlowOnce(FakeChannel):
        async def send(self, message: Message) -> Outcome | Later:
            outcome = await super().send(message)
            await trio.sleep(400.0 if message.id == slow else 1.0)
            return outcome

    world.channels["webhook"] = world.channel = SlowOnce()
    async with world.serving(world.pipeline()):
        await trio.sleep(500)
    assert dict.fromkeys(ids, "delivered") == world.states
    assert {1.0 + second for second in range(299)} == set(world.channel.sent_at_s)


async def test_what_is_due_again_is_not_starved_by_what_becomes_due(autojump_clock: MockClock) -> None:
    """Retries that come as fast as they are sent: a round ends all the same, and the next begins with the oldest."""
    world, ids = await world_of_due(10, workers=4, retry_schedule_s=(1.0, 1.0))
    template = world.store.records[ids[0]].record
    answers: list[Outcome] = [Retry("busy", 503)]
    world.channel.latency_s = 1.0
    world.channel.decide = lambda message: answers.pop() if answers and message.id == ids[0] else Accepted(200)
    pipeline = world.pipeline()

    async def become_due() -> None:
        for number in range(100):
            due = replace(template.delivery, state="retrying", next_attempt_at=pipeline.clock.now())
            world.store.put(Record(f"9999999999999-{number:05}", template.body, due))
            await trio.sleep(0.9)

    async with world.serving(pipeline), trio.open_nursery() as others:
        others.start_soon(become_due)
        await trio.sleep(60)
        others.cancel_scope.cancel()
    sent_at_s = [sent.at_s for sent in world.channel.sends if sent.id == ids[0]]
    assert 2 == len(sent_at_s)


async def test_retries_take_only_workers_that_are_idle(autojump_clock: MockClock) -> None:
    """Nothing is claimed that would have to wait for a worker while its lease runs."""
    world, ids = await world_of_due(5, workers=8, send_timeout_s=500.0, lease_s=2000.0)
    world.channel.latency_s = 100.0
    for n in range(7):
        world.emit(alert_id=f"busy-{n}")
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(50)
        assert (1, 8) == (pipeline.in_flight.redrives, len(world.channel.sends))
        assert 1 == [world.states[one] for one in ids].count("sending")


@pytest.mark.parametrize("workers", [1, 16])
async def test_retries_get_their_share_under_a_backlog(autojump_clock: MockClock, workers: int) -> None:
    """Every worker is busy all the time, and the reader has always something new: both go on."""
    world, ids = await world_of_due(8, workers=workers)
    world.channel.latency_s = 1.0
    for number in range(2000):
        world.emit(alert_id=f"new-{number}")
    async with world.serving(world.pipeline()):
        await trio.sleep(40)
        sent = [send.id for send in world.channel.sends]
    assert set(ids) <= set(sent)
    assert (len(sent) - 8) * 2 >= len(sent)


@pytest.mark.parametrize(("cuts", "most"), [(2, 6), (3, 1)])
async def test_suspects_are_sent_one_at_a_time(autojump_clock: MockClock, cuts: int, most: int) -> None:
    """After three attempts in a row that ended with their process: the next may, too, and must take no others along."""
    world, ids = await world_of_due(6, workers=40)
    for stored in list(world.store.records.values()):
        world.store.put(replace(stored.record, delivery=replace(stored.record.delivery, cuts=cuts)))
    world.channel.latency_s = 1.0
    seen: list[int] = []
    world.channel.decide = lambda _: seen.append(1 + world.channel.under_way) or Accepted(200)  # type: ignore[func-returns-value]
    async with world.serving(world.pipeline()):
        await trio.sleep(30)
    assert (most, dict.fromkeys(ids, "delivered")) == (max(seen), world.states)


async def test_one_that_cannot_be_read_stops_no_claim_beside_it(autojump_clock: MockClock) -> None:
    """Its neighbours are under way when it is found, and are sent; its slot is free again."""
    world, ids = await world_of_due(10, workers=40)
    world.store.latency_s = 1.0
    pipeline, broken = world.pipeline(), ids[4]
    plain = world.store.get

    async def get(record_id: str) -> Stored | None:
        if record_id == broken:
            raise RefusedContent("delivery.state is 'sent'")
        return await plain(record_id)

    pipeline.store.get = get  # type: ignore[method-assign]
    async with world.serving(pipeline):
        await trio.sleep(20)
        assert 0 == pipeline.in_flight.redrives
    assert dict.fromkeys(ids, "delivered") | {broken: "retrying"} == world.states


async def test_a_record_that_is_not_due_any_more_gives_its_slot_back(autojump_clock: MockClock) -> None:
    """A search lags behind: what it found is read again, and what has moved on is left alone."""
    world, ids = await world_of_due(3, workers=4)
    world.store.refresh()
    world.store.lagging = True
    for moved_on in sorted(ids)[:2]:
        record = world.store.records[moved_on].record
        world.store.put(Record(record.id, record.body, replace(record.delivery, state="failed")))
    async with world.serving(world.pipeline()):
        await trio.sleep(3)
    assert [max(ids)] == [send.id for send in world.channel.sends]


async def test_what_is_claimed_is_sent_also_when_stopping(autojump_clock: MockClock) -> None:
    """A soft stop in the middle of ten claims: these ten are sent, and nothing else is begun."""
    world, ids = await world_of_due(40, workers=40)
    world.store.latency_s, world.channel.latency_s = 1.0, 10.0
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(6.0 - trio.current_time() + 0.2)  # all ten are read and none is written
        pipeline.stop()
    begun = sorted(ids)[:10]
    assert [7.0] * 10 == world.channel.sent_at_s
    assert dict.fromkeys(ids, "retrying") | dict.fromkeys(begun, "delivered") == world.states
    assert set() == set(pipeline.in_flight.ids)


async def test_claims_that_wait_for_the_store_end_with_a_soft_stop(autojump_clock: MockClock) -> None:
    """Nothing is claimed, nothing is sent, and nothing is held up: the records are due for the next process."""
    world, ids = await world_of_due(10, workers=40)
    # What is due is read once by the look, then by its claim.
    world.store.decide = lambda call: "down" if call.method == "get" and len(world.store.called("get")) > 10 else None
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(30)
        assert 10 == pipeline.in_flight.redrives
        pipeline.stop()
    assert 30.0 == trio.current_time()
    assert ([], set()) == (world.channel.sends, set(pipeline.in_flight.ids))
    assert dict.fromkeys(ids, "retrying") == world.states


async def test_a_claim_that_succeeds_can_be_handed_over(autojump_clock: MockClock) -> None:
    """Its entry comes again in the middle of the claim: the claim has the ID already, and no doubt is left behind."""
    world, (record_id,) = await world_of_due(1)
    world.store.latency_s = 4.0
    pipeline = world.pipeline()
    async with world.serving(pipeline):
        await trio.sleep(21 - trio.current_time())  # it is found at 20, read at 24, claimed at 28
        world.server.set_id(STREAM, GROUP, "0-0")
        await trio.sleep(2)
        assert {record_id: "me"} == world.pending
        await trio.sleep(200)
    delivery = world.delivery(record_id)
    assert ([28.0], {}) == (world.channel.sent_at_s, world.pending)
    assert ("delivered", 2, 0) == (delivery.state, delivery.attempts, delivery.in_doubt)


async def test_what_another_process_has_pending_is_left_alone(autojump_clock: MockClock) -> None:
    """Its lease has lapsed long ago: as long as the entry is pending, only whoever claims that takes it over."""
    world = World(latency_s=1000.0, send_timeout_s=30.0, lease_s=60.0, claim_idle_s=500.0)
    with trio.move_on_after(5):
        await world.carry(world.pipeline("dead"))
    (record_id,) = world.pending
    world.server.hints_of(GROUP).due[record_id] = 0
    world.channel.latency_s = 0.0
    async with world.serving(world.pipeline("living")):
        await trio.sleep(400)
        assert ("sending", 1) == (world.delivery(record_id).state, world.delivery(record_id).attempts)
        await trio.sleep(200)
    assert [0.0, 500.0] == world.channel.sent_at_s
    assert ("delivered", 1) == (world.delivery(record_id).state, world.delivery(record_id).in_doubt)


async def test_two_redrivers_that_claim_the_same_records_send_each_once(autojump_clock: MockClock) -> None:
    """Led by hints of their own, both begin with the same records at one moment: the conditional writes decide."""
    world, ids = await world_of_due(200, workers=32)
    processes = [world.pipeline(name) for name in ("one", "two")]
    other = FakeServer()
    other.hints_of(GROUP).due |= world.server.hints_of(GROUP).due
    processes[1].hints = FakeHints(other, processes[1].settings)
    async with world.serving(*processes):
        world.store.latency_s, world.channel.latency_s = 0.5, 3.0
        await trio.sleep(300)
    refused = len(world.store.called("replace")) - 3 * 200  # a record has three that succeed: two outcomes, one claim
    assert refused >= 4
    assert dict.fromkeys(ids, 1) == world.channel.accepted
    assert {(2, 0)} == {(world.delivery(one).attempts, world.delivery(one).in_doubt) for one in ids}


async def test_a_store_that_fails_now_and_then_delays_an_orphan_by_little(autojump_clock: MockClock) -> None:
    """One refused request every 2 s: whose process is gone is taken over after its lease and a few of these moments."""
    world, record_id = await world_of_an_orphan()
    refused_at_s: list[float] = []

    def decide(_: Call) -> Literal["down"] | None:
        if refused_at_s and trio.current_time() - refused_at_s[-1] < 2:
            return None
        refused_at_s.append(trio.current_time())
        return "down"

    async def ask() -> None:
        while True:
            with suppress(Unavailable):
                await pipeline.store_outage.outlast(partial(world.store.get, "another"))
            await trio.sleep(0.5)

    pipeline = world.pipeline()
    async with world.serving(pipeline), trio.open_nursery() as others:
        world.store.decide = decide
        others.start_soon(ask)
        await trio.sleep_until(61)
        assert "sending" == world.delivery(record_id).state
        await trio.sleep_until(75)
        assert "retrying" == world.delivery(record_id).state
        assert len(refused_at_s) > 20
        others.cancel_scope.cancel()
    assert 1 == world.delivery(record_id).in_doubt


async def test_an_attempt_of_a_dead_owner_is_never_taken_for_ours(autojump_clock: MockClock) -> None:
    """The index is a new one when what became of it is written: the dead owner's token is still there, not ours."""
    world, record_id = await world_of_an_orphan()
    moves = iter((True,))

    def decide(call: Call) -> None:
        if call.method == "replace" and next(moves, False):
            world.store.begin_anew()

    world.store.decide = decide
    in_doubt: list[int] = []

    def note(message: Message) -> Outcome:
        in_doubt.append(world.delivery(message.id).in_doubt)
        return Accepted(200)

    world.channel.decide = note
    async with world.serving(world.pipeline()):
        await trio.sleep_until(1300)
    assert [1] == in_doubt
    assert "delivered" == world.delivery(record_id).state


async def test_a_lease_begins_after_a_read_that_had_to_wait(autojump_clock: MockClock) -> None:
    """The store is away when the claim reads its record: the time that passed is not taken from the lease."""
    world, _ = await world_of_due(1, lease_s=60.0)
    reads_at_s: list[float] = []
    left_s: list[float] = []

    def decide(call: Call) -> Literal["down"] | None:
        if call.method != "get":
            return None
        reads_at_s.append(trio.current_time())
        return "down" if len(reads_at_s) > 1 and trio.current_time() < 30 else None

    def note(message: Message) -> Outcome:
        left_s.append(world.lease_left_s(message.id))
        return Accepted(200)

    world.store.decide, world.channel.decide = decide, note
    async with world.serving(world.pipeline()):
        await trio.sleep_until(60)
    assert reads_at_s[-1] > 30
    assert [60.0] == [round(one, 1) for one in left_s]


@pytest.mark.parametrize("primary", ["in_doubt", "waiting", "retrying"])
async def test_a_fallback_is_sent_when_its_time_has_come(primary: ChannelState, autojump_clock: MockClock) -> None:
    """Whatever its primaries wait for, the claim engages it; and they are left as they are."""
    places = Channels("pager", "email")
    world = places.world
    (record_id,) = await places.add(1, "email")
    record, now = world.store.records[record_id].record, dt.datetime.fromtimestamp(0, dt.UTC)
    far = now + dt.timedelta(days=9)
    pager = ChannelDelivery("pager", primary, next_attempt_at=None if primary == "in_doubt" else far)
    fallback = standby("email", ["pager"], now + dt.timedelta(seconds=100))
    world.store.put(replace(record, delivery=first_state((pager, fallback), "them/1", now, 60.0)))
    world.limit("pager")
    async with world.serving(world.pipeline()):
        await trio.sleep(99)
        assert [] == places.channels["email"].sends
        await trio.sleep(5)
        assert [record_id] == [send.id for send in places.channels["email"].sends]
    assert [] == places.channels["pager"].sends
    states = [channel.state for channel in world.delivery(record_id).channels]
    assert [primary, "delivered"] == states


async def test_what_waits_is_left_to_its_queue(autojump_clock: MockClock) -> None:
    """Its time is the end of the wait: the redriver sends nothing then."""
    places = Channels("pager", "email")
    world = places.world
    (record_id,) = await places.add(1, "email")
    record, now = world.store.records[record_id].record, dt.datetime.fromtimestamp(0, dt.UTC)
    waits = first_state((waiting("email", now, now + dt.timedelta(seconds=10)),), "them/1", now, 60.0)
    world.store.put(replace(record, delivery=waits))
    world.limit("email")
    async with world.serving(world.pipeline()):
        await trio.sleep(60)
    assert ("waiting", []) == (world.delivery(record_id).state, places.channels["email"].sends)
