"""Silences at work, in virtual time: what is kept back, from when, until when, and that a doubt makes noise."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.world import World, bring_through
from tests.unit.pipeline.test_process import cut_off
from trio_alerts.operations.silences import add_silence, end_silence
from trio_alerts.outcome import Refused, Retry
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.silences import watch_silences
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.silences import Silence, SilenceList, Silences


def silences_of(world: World) -> Silences:
    return FakeSilences(world.server, world.settings())


async def silence(world: World, matcher: str = "view = Lending", for_s: float = 3600.0) -> Silence:
    return await add_silence(silences_of(world), [matcher], dt.timedelta(seconds=for_s), "oracle moves", "ann@desk")


@asynccontextmanager
async def watching(pipeline: Pipeline) -> AsyncIterator[Pipeline]:
    """Look for changes while the block runs, in a process that does nothing else."""
    await pipeline.measure_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_silences, pipeline)
        yield pipeline
        nursery.cancel_scope.cancel()


async def emit_each_tenth(world: World, seconds: float) -> None:
    for number in range(round(seconds * 10)):
        world.emit(alert_id=f"a-{number}")
        await trio.sleep(0.1)


async def test_a_silenced_alert_is_recorded_and_not_sent(autojump_clock: MockClock) -> None:
    """The record names the silence, its reason and the channels, counts no attempt, and the entry is acknowledged."""
    world = World(channels=[FakeChannel("pager")])
    mine = await silence(world)
    async with watching(world.pipeline()) as pipeline:
        entry, step = await world.carry(pipeline)

    delivery = world.delivery(entry.id)
    assert (Disposition.ACKNOWLEDGE, {}, []) == (step, world.pending, world.channel.sends)
    assert ("suppressed", f"silence:{mine.id}", "oracle moves") == (
        delivery.state,
        delivery.suppressed_by,
        delivery.reason,
    )
    assert [("webhook", "suppressed", 0), ("pager", "suppressed", 0)] == [
        (channel.name, channel.state, channel.attempts) for channel in delivery.channels
    ]
    assert (0, 0, None, None) == (
        delivery.attempts,
        delivery.in_doubt,
        delivery.lease_until,
        delivery.delivered_at,
    )
    assert 1 == len(world.store.called("create", "replace"))


async def test_what_does_not_match_is_sent(autojump_clock: MockClock) -> None:
    """All matchers of a silence have to hold."""
    world = World()
    await add_silence(silences_of(world), ["view = Lending", "severity < high"], dt.timedelta(hours=1), "why", "ann")
    async with watching(world.pipeline()) as pipeline:
        entry, _ = await world.carry(pipeline)
        quiet, _ = await world.carry(pipeline, severity="low")

    assert {entry.id: "delivered", quiet.id: "suppressed"} == world.states


async def test_a_silence_works_within_a_second_and_ends_by_itself(autojump_clock: MockClock) -> None:
    """Set 0.1 s after a look, it is known 0.7 s later; from its end on, to the millisecond, alerts are sent again."""
    world = World()
    async with world.serving(world.pipeline()):
        await trio.sleep(0.1)
        await silence(world, for_s=2.0)
        await trio.sleep(0.001)
        await emit_each_tenth(world, 3.0)

    assert [0.101, 0.201, 0.301, 0.401, 0.501, 0.601, 0.701] == world.channel.sent_at_s[:7]
    assert [2.101, 2.201] == world.channel.sent_at_s[7:9]
    assert 13 == list(world.states.values()).count("suppressed")


async def test_an_end_is_known_within_a_second(autojump_clock: MockClock) -> None:
    """What was kept back by then stays so."""
    world = World()
    mine = await silence(world)
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(0.1)
        await end_silence(silences_of(world), mine.id, "bob@desk")
        await trio.sleep(0.9)
        world.emit()
        await trio.sleep(0.1)

    assert ["suppressed", "delivered"] == list(world.states.values())
    assert [1.0] == world.channel.sent_at_s


async def test_it_is_known_before_the_first_alert(autojump_clock: MockClock) -> None:
    """A process that starts over a silenced backlog sends none of it."""

    class Slow(FakeSilences):
        async def latest(self, known: str | None = None) -> SilenceList | None:
            await trio.sleep(1)
            return await super().latest(known)

    world = World()
    await silence(world)
    for _ in range(10):
        world.emit()
    pipeline = world.pipeline()
    pipeline.silences = Slow(world.server, pipeline.settings)
    async with world.serving(pipeline):
        await trio.sleep(1)

    assert (["suppressed"] * 10, []) == (list(world.states.values()), world.channel.sends)


async def test_what_cannot_be_checked_for_two_seconds_silences_nothing(
    autojump_clock: MockClock, logged: list[str]
) -> None:
    """The last look that was answered was at 0 s; after the outage the next one silences again. Logged once."""
    world = World()
    await silence(world)
    async with world.serving(world.pipeline()):
        world.server.decide = lambda call: "down" if call.method == "latest" else None
        await trio.sleep(0.001)
        await emit_each_tenth(world, 3.0)
        world.server.decide = lambda _: None
        await trio.sleep(1.0)
        world.emit()
        await trio.sleep(0.1)

    assert [2.001, 2.101] == world.channel.sent_at_s[:2]
    assert [*["suppressed"] * 20, *["delivered"] * 10, "suppressed"] == list(world.states.values())
    said = [line for line in logged if "cannot be checked" in line]
    assert ["WARNING the silences cannot be checked; until then nothing is silenced: the server is down"] == said


async def test_losing_the_silences_makes_noise(autojump_clock: MockClock) -> None:
    """A Redis that starts without its data silences nothing, within a second."""
    world = World()
    await silence(world)
    async with world.serving(world.pipeline()):
        world.server.silences.clear()
        await trio.sleep(1.0)
        world.emit()
        await trio.sleep(0.1)

    assert ["delivered"] == list(world.states.values())


async def test_what_cannot_be_understood_silences_nothing(autojump_clock: MockClock, logged: list[str]) -> None:
    """A newer version wrote it: an error line names it, the others work."""
    world = World()
    strange = Silence(
        id="5tr4",
        matchers=("mood ~ bad",),
        since=dt.datetime.fromtimestamp(0, dt.UTC),
        until=dt.datetime.fromtimestamp(99, dt.UTC),
        why="",
        by="",
    )
    await silences_of(world).add(strange)
    await silence(world, "severity = low")
    async with watching(world.pipeline()) as pipeline:
        entry, _ = await world.carry(pipeline)
        quiet, _ = await world.carry(pipeline, severity="low")

    assert {entry.id: "delivered", quiet.id: "suppressed"} == world.states
    assert 1 == len([line for line in logged if line.startswith("ERROR silence 5tr4 silences nothing: ")])


async def test_a_retry_that_is_silenced_by_now_is_not_sent(autojump_clock: MockClock) -> None:
    """The first attempt stays in the record, and no other is counted."""
    world = World([Retry("busy", 503)] * 2, retry_schedule_s=(5.0, 5.0))
    async with world.serving(world.pipeline()):
        entry_id = world.emit()
        await trio.sleep(1)
        await silence(world)
        await trio.sleep(3600)

    delivery = world.delivery(entry_id)
    (channel,) = delivery.channels
    assert ("suppressed", 1, 0) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert ("suppressed", 1, "busy", None, 1) == (
        channel.state,
        channel.attempts,
        channel.last_error,
        channel.next_attempt_at,
        len(channel.log),
    )
    assert [0.0] == world.channel.sent_at_s


async def test_a_retry_after_its_silence_is_sent(autojump_clock: MockClock) -> None:
    """A silence that is over when the retry is due leaves it alone."""
    world = World([Retry("busy", 503)], retry_schedule_s=(5.0,))
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(1)
        await silence(world, for_s=3.0)
        await trio.sleep(10)

    assert ["delivered"] == list(world.states.values())


@pytest.mark.parametrize(("outcome", "state"), [(None, "delivered"), (Refused("no", 410), "failed")])
async def test_a_silenced_channel_leaves_the_others_word(
    autojump_clock: MockClock, outcome: Refused | None, state: str
) -> None:
    """What the quick channel made of it decides the record's state; the other's retry is suppressed."""
    world = World([Retry("busy", 503)], channels=[FakeChannel("pager", [outcome] if outcome else [])])
    async with world.serving(world.pipeline()):
        entry_id = world.emit()
        await trio.sleep(1)
        mine = await silence(world)
        await trio.sleep(60)

    delivery = world.delivery(entry_id)
    assert (state, f"silence:{mine.id}") == (delivery.state, delivery.suppressed_by)
    assert {"webhook": "suppressed", "pager": state} == {one.name: one.state for one in delivery.channels}
    assert (state == "delivered") == (delivery.delivered_at is not None)


async def test_a_takeover_counts_its_doubt_first(autojump_clock: MockClock) -> None:
    """Nobody knows whether the dead owner's attempt arrived: that is counted, and it is not repeated."""
    world = World()
    entry, pipeline = await cut_off(world)
    await silence(world)
    async with watching(pipeline):
        assert Disposition.ACKNOWLEDGE is await bring_through(entry, pipeline)

    delivery = world.delivery(entry.id)
    (channel,) = delivery.channels
    assert ("suppressed", 1, 1) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert ("suppressed", 1, 1) == (channel.state, channel.attempts, channel.in_doubt)
    assert channel.log[-1].unseen
    assert ([], {}) == (world.channel.sends, world.pending)


async def test_what_is_held_in_doubt_stays_for_a_human(autojump_clock: MockClock) -> None:
    """A silence keeps attempts back, and there would be none."""
    world = World(hold=["webhook"])
    entry, pipeline = await cut_off(world)
    await silence(world)
    async with watching(pipeline):
        await bring_through(entry, pipeline)

    assert ("in_doubt", None) == (world.delivery(entry.id).state, world.delivery(entry.id).suppressed_by)


async def test_without_a_silence_no_record_is_read_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual path costs one look at an empty list, a retry's too."""

    def never(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("trio_alerts.record.Record.event", never)
    world = World([Retry("busy", 503)])
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(60)

    assert ["delivered"] == list(world.states.values())
