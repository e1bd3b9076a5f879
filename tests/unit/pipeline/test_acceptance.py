"""What a quick channel has accepted is stored while its sibling is still under way."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.store import Call, Fault
from tests.support.fakes.world import World
from trio_alerts.backoff import RetryPolicy
from trio_alerts.outcome import Retry
from trio_alerts.transitions import taken_over

BUSY = Retry("answered 503", 503)


def siblings(latency_s: float, *more: FakeChannel, **settings: Any) -> World:
    """Return a world whose channel `webhook` accepts at once, while `slow` takes its time."""
    return World(channels=[FakeChannel("slow", latency_s=latency_s), *more], **settings)


def states(world: World, record_id: str) -> Mapping[str, str]:
    return {channel.name: channel.state for channel in world.delivery(record_id).channels}


def writes(world: World) -> list[tuple[float, str, str]]:
    """Return what was asked of the store about the record once it was there: when, what, and the state to write."""
    return [(call.at_s, call.method, call.state) for call in world.store.called("get", "replace")]


async def test_siblings_that_answer_within_a_second_cost_one_write(autojump_clock: MockClock) -> None:
    """The usual case."""
    world = siblings(0.9)
    await world.carry()
    assert [(0.9, "replace", "delivered")] == writes(world)


async def test_an_acceptance_does_not_wait_for_a_sibling_that_hangs(autojump_clock: MockClock) -> None:
    """One write more, 1 s after it; the last one builds on its version, and nothing needs to be read again."""
    world = siblings(10.0)
    entry, _ = await world.carry()
    assert [(1.0, "replace", "sending"), (10.0, "replace", "delivered")] == writes(world)
    assert {"webhook": 1, "slow": 1} == {one.name: len(one.log) for one in world.delivery(entry.id).channels}


async def test_only_acceptances_are_stored_under_way(autojump_clock: MockClock) -> None:
    """A sibling that failed is `sending` until all are through: its retry must not begin beside this attempt."""
    world = siblings(10.0, FakeChannel("busy", [BUSY]), FakeChannel("late", latency_s=0.7), FakeChannel("later", [], 3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry)
        await trio.sleep(5)
        (entry_id,) = world.store.records
        sending = dict.fromkeys(("slow", "busy", "later"), "sending")
        assert {**sending, "webhook": "delivered", "late": "delivered"} == states(world, entry_id)
        assert "sending" == world.delivery(entry_id).state
    delivered = dict.fromkeys(("webhook", "slow", "late", "later"), "delivered")
    assert {**delivered, "busy": "retrying"} == states(world, entry_id)
    assert 2 == len(writes(world))


async def test_a_death_under_way_puts_no_acceptance_in_doubt(autojump_clock: MockClock) -> None:
    """Whoever takes it over leaves alone what was accepted, also of a channel that holds; only the sibling is cut."""
    world = siblings(10.0, hold=["webhook"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry)
        await trio.sleep(1.1)
        (entry_id,) = world.store.records
        policy = RetryPolicy((), hold=frozenset({"webhook"}))
        now = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
        after = taken_over(world.delivery(entry_id), "other/1", now, 60.0, policy)
    assert [("webhook", "delivered", 0), ("slow", "sending", 1)] == [
        (channel.name, channel.state, channel.in_doubt) for channel in after.channels
    ]


@pytest.mark.parametrize(("fault", "asked"), [("down", []), ("answer_lost", ["get", "replace"])])
async def test_a_store_that_is_away_under_way_delays_no_sibling(
    fault: Fault, asked: list[str], autojump_clock: MockClock
) -> None:
    """The extra write is given up when the last outcome is there; if it did happen, the last write finds out."""
    world = siblings(3.0)

    def decide(call: Call) -> Fault | None:
        return fault if call.method == "replace" and 1.0 <= call.at_s < 3.0 else None

    world.store.decide = decide
    entry, _ = await world.carry()
    assert 3.0 == trio.current_time()
    assert {"webhook": "delivered", "slow": "delivered"} == states(world, entry.id)
    assert ["replace", *asked] == [call.method for call in world.store.called("get", "replace") if call.at_s >= 3.0]


async def test_an_extra_write_whose_answer_was_lost(autojump_clock: MockClock) -> None:
    """It meets itself when it is repeated, and leaves the rest to the last write."""
    world = siblings(10.0)
    world.store.fail_next("replace", "answer_lost")
    entry, _ = await world.carry()
    assert {"webhook": "delivered", "slow": "delivered"} == states(world, entry.id)
    assert ["replace", "replace", "replace", "get", "replace"] == [method for _, method, _ in writes(world)]
    assert ("delivered", 1) == (world.delivery(entry.id).state, world.delivery(entry.id).attempts)


async def test_a_record_that_was_taken_over_is_left_to_the_last_write(autojump_clock: MockClock) -> None:
    """The extra write overwrites nobody; what was accepted is merged at the end."""
    world = siblings(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry)
        await trio.sleep(0.5)
        (stored,) = world.store.records.values()
        theirs = replace(stored.record, delivery=replace(stored.record.delivery, owner="other/1"))
        taken = world.store.put(theirs)
        await trio.sleep(5)
        assert taken == world.store.records[theirs.id]
    delivery = world.delivery(theirs.id)
    assert ("other/1", "delivered") == (delivery.owner, delivery.state)


async def test_an_extra_write_that_is_refused_cuts_no_sibling(autojump_clock: MockClock) -> None:
    """Whatever the store has against it, it is the last write that says so."""
    world = siblings(10.0)
    world.store.refuses = lambda record: bool(record.delivery.channels[0].log) and trio.current_time() < 5.0
    entry, _ = await world.carry()
    assert {"webhook": "delivered", "slow": "delivered"} == states(world, entry.id)


async def test_what_is_known_is_stored_when_an_attempt_is_cut(autojump_clock: MockClock) -> None:
    """Also what was accepted behind the extra write; the record was written since the claim, and is read again."""
    world = siblings(10**6, FakeChannel("later", latency_s=3.0), send_timeout_s=100.0, lease_s=1000.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    (entry_id,) = world.store.records
    assert {"webhook": "delivered", "slow": "retrying", "later": "delivered"} == states(world, entry_id)
