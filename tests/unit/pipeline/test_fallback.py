"""Fallbacks in whole processes: sent in time, at once or not at all, in exact virtual seconds."""

import datetime as dt
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.world import GROUP, World
from trio_alerts.held_back import silence_lifted
from trio_alerts.operations.silences import add_silence, end_silence
from trio_alerts.outcome import Outcome, Refused, Retry
from trio_alerts.pipeline.fault_points import FaultPoint, InjectedFault
from trio_alerts.pipeline.service import serve
from trio_alerts.settings.settings import RouteSettings
from trio_alerts.transitions import lease_expired

AFTER_S = 100.0


class Standby:
    """A world in which `email` stands by for `pager` (and more primaries), and a process looks every second.

    Args:
        pager: What it answers first; then it accepts.
        others: More primaries, by name; they refuse.
        after_s: How long the primaries have.
        settings: Settings that are not the defaults.
    """

    def __init__(
        self, *pager: Outcome, others: tuple[str, ...] = (), after_s: float = AFTER_S, **settings: Any
    ) -> None:
        self.pager, self.email = FakeChannel("pager", [*pager]), FakeChannel("email")
        refusing = [FakeChannel(name, [Refused("no", 410)] * 9) for name in others]
        route = RouteSettings(name="all", channels=("pager", *others), fallback=("email",), fallback_after_s=after_s)
        self.world = World(
            channels=[self.pager, *refusing, self.email], routes=(route,), **{"redrive_every_s": 1.0, **settings}
        )
        del self.world.channels["webhook"]

    async def run_for(self, seconds: float) -> str:
        """Emit an alert, serve for so long, and return its ID."""
        record_id = self.world.emit()
        async with self.world.serving(self.world.pipeline()):
            await trio.sleep(seconds)
        return record_id

    def states(self, record_id: str) -> dict[str, str]:
        """Return the state of each channel of a record, and of the record itself."""
        delivery = self.world.delivery(record_id)
        return {channel.name: channel.state for channel in delivery.channels} | {"": delivery.state}


async def test_a_primary_that_accepts_spares_the_fallback(autojump_clock: MockClock) -> None:
    """The usual case: one attempt, and nothing is left to do."""
    places = Standby()
    record_id = await places.run_for(2 * AFTER_S)
    assert {"pager": "delivered", "email": "spared", "": "delivered"} == places.states(record_id)
    assert ([0.0], []) == (places.pager.sent_at_s, places.email.sent_at_s)
    assert {} == places.world.pending


async def test_a_primary_that_hangs_has_its_time_and_no_more(autojump_clock: MockClock) -> None:
    """It is tried at 0, 20 and 65 s, each time until the time-out; at 100 s the fallback gets it, and pager goes on."""
    places = Standby(retry_schedule_s=(5.0, 30.0, 120.0))
    places.pager.latency_s = 1000.0
    record_id = await places.run_for(150)
    assert ([0.0, 20.0, 65.0], [100.0]) == (places.pager.sent_at_s, places.email.sent_at_s)
    assert {"pager": "retrying", "email": "delivered", "": "retrying"} == places.states(record_id)


async def test_a_doubt_that_is_held_does_not_hold_up_the_fallback(autojump_clock: MockClock) -> None:
    """`hold`: the pager is not tried again; the fallback gets the alert at its time, and the doubt needs nobody."""
    places = Standby(Retry("cut", unseen=True), hold=("pager",))
    record_id = await places.run_for(AFTER_S - 1)
    assert ("in_doubt", []) == (places.states(record_id)[""], places.email.sent_at_s)
    async with places.world.serving(places.world.pipeline()):
        await trio.sleep(10)
    assert [100.0] == places.email.sent_at_s
    assert {"pager": "in_doubt", "email": "delivered", "": "delivered"} == places.states(record_id)


async def test_a_primary_that_fails_for_good_needs_the_fallback_at_once(autojump_clock: MockClock) -> None:
    """The write that stores the failure engages it; the next look sends it, and makes the failure good."""
    places = Standby(Refused("no", 410))
    record_id = await places.run_for(5)
    assert [0.1] == places.email.sent_at_s
    assert {"pager": "spared", "email": "delivered", "": "delivered"} == places.states(record_id)


async def test_one_failure_of_two_is_no_reason_yet(autojump_clock: MockClock) -> None:
    """As long as another primary may accept, the fallback waits; when that one has failed too, it goes."""
    places = Standby(*[Retry("busy", 503)] * 9, others=("chat",), retry_schedule_s=(5.0, 30.0))
    record_id = await places.run_for(34)
    assert {"pager": "retrying", "chat": "failed", "email": "standby", "": "retrying"} == places.states(record_id)
    async with places.world.serving(places.world.pipeline()):
        await trio.sleep(5)
    assert [35.0] == places.email.sent_at_s  # 35 s: pager's last attempt
    assert {"pager": "spared", "chat": "spared", "email": "delivered", "": "delivered"} == places.states(record_id)


async def test_an_attempt_that_is_under_way_ends_first(autojump_clock: MockClock) -> None:
    """The time is over while pager has the alert: it accepts, and the fallback is spared; or it does not."""
    accepts, hangs = Standby(after_s=3.0), Standby(after_s=3.0)
    accepts.pager.latency_s, hangs.pager.latency_s = 12.0, 1000.0
    await accepts.run_for(30)
    await hangs.run_for(30)
    assert ([], [45.1]) == (accepts.email.sent_at_s, hangs.email.sent_at_s)  # begun at 30 s, ended by the time-out


async def test_both_may_accept(autojump_clock: MockClock) -> None:
    """What the fallback has got it has got: the primary that accepts later changes nothing of it."""
    places = Standby(*[Retry("busy", 503)] * 3, retry_schedule_s=(5.0, 30.0, 120.0))
    record_id = await places.run_for(200)
    assert ([0.0, 5.0, 35.0, 155.0], [100.0]) == (places.pager.sent_at_s, places.email.sent_at_s)
    assert {"pager": "delivered", "email": "delivered", "": "delivered"} == places.states(record_id)


async def test_a_fallback_that_fails_is_spared_by_a_primary_that_accepts_after_all(autojump_clock: MockClock) -> None:
    """Engaged, refused for now and never seen by anybody: nobody needs it any more."""
    places = Standby(*[Retry("busy", 503)] * 3, retry_schedule_s=(5.0, 30.0, 120.0, 600.0))
    places.email.decide = lambda _: Retry("busy", 503)
    record_id = await places.run_for(1000)
    assert ([0.0, 5.0, 35.0, 155.0], [100.0, 105.0, 135.0]) == (places.pager.sent_at_s, places.email.sent_at_s)
    assert {"pager": "delivered", "email": "spared", "": "delivered"} == places.states(record_id)


async def test_an_acceptance_that_comes_late_spares_the_fallback(autojump_clock: MockClock) -> None:
    """Others took the owner for dead, which engaged the fallback; then the primary's acceptance is merged."""
    places = Standby(after_s=5.0, redrive_every_s=60.0)
    world = places.world
    places.pager.latency_s = 14.0
    pipeline = world.pipeline()
    record_id = world.emit()
    async with world.serving(pipeline):
        await trio.sleep(10)
        record = world.store.records[record_id].record
        taken = lease_expired(record.delivery, pipeline.clock.now(), pipeline.retry_policy())
        world.store.put(replace(record, delivery=replace(taken, owner="them/1")))
        assert {"pager": "retrying", "email": "retrying", "": "retrying"} == places.states(record_id)
        await trio.sleep(100)
    assert {"pager": "delivered", "email": "spared", "": "delivered"} == places.states(record_id)
    assert ([0.0], []) == (places.pager.sent_at_s, places.email.sent_at_s)


async def test_a_process_that_dies_before_it_sends_the_fallback_leaves_it_to_others(autojump_clock: MockClock) -> None:
    """The record says that it is due, and nobody has claimed it: the next process sends it, and no doubt is counted."""
    places = Standby(Refused("no", 410))
    dying = places.world.pipeline("dying")
    dying.fault_point = FaultPoint("before_fallback:raise")
    record_id = places.world.emit()
    with pytest.RaisesGroup(InjectedFault, flatten_subgroups=True):
        async with places.world.serving(dying):
            await trio.sleep(100)
    assert ("retrying", []) == (places.states(record_id)["email"], places.email.sent_at_s)

    async with places.world.serving(places.world.pipeline("other")):
        await trio.sleep(61)  # as long as the hint was the dead one's
    assert ({"pager": "spared", "email": "delivered", "": "delivered"}, 1) == (
        places.states(record_id),
        len(places.email.sends),
    )
    assert 0 == places.world.delivery(record_id).in_doubt


@pytest.mark.parametrize("dies_at_s", [3.0, 17.0])
async def test_whoever_is_left_sends_the_fallback(dies_at_s: float, autojump_clock: MockClock) -> None:
    """The process dies in the middle of pager's attempt, or after it: another one sends the fallback in time."""
    places = Standby(retry_schedule_s=(1000.0, 1000.0))
    world = places.world
    places.pager.latency_s = 1000.0
    record_id = world.emit()
    async with trio.open_nursery() as dying:
        await dying.start(serve, world.pipeline("dying"))
        await trio.sleep(dies_at_s)
        world.store.decide = lambda _: "down"  # a killed process writes nothing any more
        dying.cancel_scope.cancel()
    world.store.decide = lambda _: None
    assert "standby" == places.states(record_id)["email"]
    async with world.serving(world.pipeline("other")):
        await trio.sleep(AFTER_S - 0.5 - trio.current_time())
        assert [] == places.email.sent_at_s
        await trio.sleep(10)
    assert [100.0] == places.email.sent_at_s
    assert "delivered" == places.states(record_id)["email"]


async def test_a_silence_keeps_the_fallback_back_as_well(autojump_clock: MockClock) -> None:
    """Sent after all, the primary has its whole time again before the fallback is needed."""
    places = Standby(*[Retry("busy", 503)] * 9)
    world = places.world
    silences, pipeline = FakeSilences(world.server, world.settings()), world.pipeline("other")
    mine = await add_silence(silences, ["view = Lending"], dt.timedelta(hours=1), "a drill", "ann")
    record_id = await places.run_for(2 * AFTER_S)
    assert {"pager": "suppressed", "email": "suppressed", "": "suppressed"} == places.states(record_id)

    await end_silence(silences, mine.id, "ann")
    await pipeline.measure_time()
    stored = world.store.records[record_id].record
    lifted = silence_lifted(stored.delivery, "ann/1", pipeline.clock.now())
    assert lifted is not None
    world.store.put(replace(stored, delivery=lifted))
    world.server.hints_of(GROUP).due[record_id] = 0
    async with world.serving(pipeline):
        await trio.sleep(2 * AFTER_S)
    assert ([200.0, 205.0], [300.0]) == (places.pager.sent_at_s[:2], places.email.sent_at_s)
