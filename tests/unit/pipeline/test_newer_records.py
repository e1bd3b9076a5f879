"""Records that a newer version wrote, while both versions run: this one leaves them alone, whoever meets them."""

from collections import Counter
from collections.abc import Sequence

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.opensearch import Kept
from tests.support.fakes.world import GROUP, STREAM, World, bring_through
from tests.unit.backends.opensearch.test_front import Fronted, served
from tests.unit.pipeline.test_process import cut_off, put, redelivered
from trio_alerts.alert import Entry
from trio_alerts.outcome import Accepted, Retry
from trio_alerts.pipeline import refund
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.record import Record
from trio_alerts.transitions import taken_over

PAUSED = "delivery.state 'paused'"


def deliveries(world: World) -> list[int]:
    """Return how often each pending entry was delivered, as far as it counts."""
    return [held.deliveries for held in world.server.pending(STREAM, GROUP).values()]


@pytest.mark.parametrize("delivered", [1, 2, 6])
async def test_its_entry_is_left_alone_and_not_counted(delivered: int, autojump_clock: MockClock) -> None:
    """Nothing is sent, written or quarantined, not even at `max_deliveries`: the entry stays pending as it was."""
    world = World()
    entry, pipeline = await cut_off(world)
    world.server.pending(STREAM, GROUP)[entry.id].deliveries = delivered
    world.store.unknown_in = lambda _: PAUSED
    before = dict(world.store.records)

    assert Disposition.WALK_AWAY is await bring_through(replace(entry, deliveries=delivered), pipeline)
    assert ([], [], before) == (world.channel.sends, world.dead, world.store.records)
    assert ({entry.id: "me"}, [delivered - 1]) == (world.pending, deliveries(world))
    assert (1, 0) == (pipeline.newer_records.count, pipeline.quarantined_in_a_row)


async def test_it_may_come_back_for_hours(autojump_clock: MockClock, lines: list[str]) -> None:
    """Claimed again and again it never gets nearer to the quarantine, and is logged once; other alerts go on.

    When the upgrade is over, whoever knows it goes on with it.
    """
    world = World(claim_idle_s=45.0)
    entry, _ = await cut_off(world)
    world.store.unknown_in = lambda record: PAUSED if record.id == entry.record_id else ""
    pipeline = world.pipeline("old")
    async with world.serving(pipeline):
        await trio.sleep(1800)
        other = world.emit(alert_id="another")
        await trio.sleep(1800)
        assert ([2], []) == (deliveries(world), world.dead)
        assert {other: 1} == world.channel.accepted
        assert 70 <= pipeline.newer_records.count <= 81
        assert 1 == sum(PAUSED in line for line in lines)
        world.store.unknown_in = lambda _: ""
        await trio.sleep(120)

    assert {entry.id: "delivered", other: "delivered"} == world.states


async def test_its_delivery_is_not_counted_again_after_an_outage(autojump_clock: MockClock) -> None:
    """The delivery was taken back while the store was away; that nobody waits any more does not count it again."""
    world = World()
    await cut_off(world)
    world.store.unknown_in = lambda _: PAUSED
    world.store.decide = lambda call: "down" if call.method == "create" and trio.current_time() < 100 else None
    pipeline = world.pipeline("old", workers=1)
    renew = pipeline.stream.renew

    async def slowly(entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        renewed = await renew(entries, counted=counted)
        await trio.sleep(0.5)
        return renewed

    pipeline.stream.renew = slowly  # type: ignore[method-assign]
    async with world.serving(pipeline):
        await trio.sleep(99)
        assert [2] == deliveries(world)
        await trio.sleep(41)
        assert [2] == deliveries(world)


async def test_its_delivery_is_not_counted_again_while_its_worker_ends(autojump_clock: MockClock) -> None:
    """It was taken back in a wait; a look that comes before the worker has let go of the entry leaves it so."""
    world = World()
    entry, pipeline = await cut_off(world)
    world.store.unknown_in = lambda _: PAUSED
    pipeline.in_flight.hold(entry.record_id, entry)
    pipeline.in_flight.refunded = {entry.record_id}

    await bring_through(entry, pipeline)
    await refund._refund(pipeline)
    assert [entry.deliveries - 1] == deliveries(world)


async def test_a_due_one_is_not_sent(autojump_clock: MockClock, lines: list[str]) -> None:
    """The redriver meets it in every round: it is neither claimed nor in the way of others."""
    world = World(retry_schedule_s=(1.0,))
    world.channel.decide = lambda _: Accepted(200)
    first = world.pipeline("first")
    entry = await redelivered(world, first, claimed=True)
    record = await put(world, entry)
    await first.stream.ack([entry])
    world.store.unknown_in = lambda _: PAUSED
    async with world.serving(world.pipeline("old")):
        await trio.sleep(300)

    assert ([], record) == (world.channel.sends, world.store.records[record.id].record)
    assert 1 == sum(PAUSED in line for line in lines)


async def test_its_hint_is_left_to_a_newer_process(autojump_clock: MockClock) -> None:
    """Whoever takes the hint and cannot read the record puts it back at once: it is not kept for a whole lease."""
    world = World(retry_schedule_s=(5.0,), redrive_every_s=2.0)
    world.channel.decide = lambda _: Retry("answered 503", 503)
    record_id = world.emit()
    async with world.serving(world.pipeline("old")):
        await trio.sleep(3)
        world.store.unknown_in = lambda _: PAUSED
        for _ in range(10):
            await trio.sleep(3)
            [due_ms] = world.server.hints_of(GROUP).due.values()
            assert due_ms / 1000 <= world.server.time() + 2.0

    assert {record_id: 1} == Counter(sent.id for sent in world.channel.sends)


async def test_an_acceptance_that_cannot_be_noted_is_logged(autojump_clock: MockClock, lines: list[str]) -> None:
    """A newer version took the record over while its receiver thought: the process says who accepted, and goes on."""
    world = World(latency_s=5.0)
    pipeline = world.pipeline()
    record_id = world.emit()
    async with world.serving(pipeline):
        await trio.sleep(3)
        record = world.store.records[record_id].record
        now = pipeline.clock.now()
        theirs = taken_over(record.delivery, "newer/1", now, 60.0, pipeline.retry_policy())
        world.store.put(Record(record.id, record.body, theirs))
        world.store.unknown_in = lambda _: PAUSED
        await trio.sleep(10)
        assert ("newer/1", [0]) == (world.delivery(record_id).owner, deliveries(world))

    assert 1 == sum("webhook accepted it after a newer version had taken it over" in line for line in lines)
    assert [] == world.dead


@pytest.mark.parametrize("field", ["channels", "state"])
async def test_what_opensearch_answers_is_recognized(field: str, autojump_clock: MockClock) -> None:
    """A state or a field of a channel that a document there has is enough: its entry is not quarantined."""
    world, server = World(), Fronted()
    record_id = world.emit(alert_id="a")
    async with served(world, server):
        await trio.sleep(1)
    source = server.documents[record_id].source
    newer = {"state": "paused", "channels": [{**source["delivery"]["channels"][0], "pigeon": "grey"}]}
    source["delivery"][field] = newer[field]
    second = world.emit(alert_id="b")
    server.documents[second] = Kept({**source, "record_id": second}, 99)
    async with served(world, server):
        await trio.sleep(10)

    assert ({record_id: 1}, []) == (world.channel.accepted, world.dead)
    assert {second} == world.pending.keys()


async def test_it_is_no_suspect(autojump_clock: MockClock) -> None:
    """It has a record, whoever can read that: after two deaths it keeps no suspect from being looked at."""
    world = World()
    entry, _ = await cut_off(world)
    world.server.pending(STREAM, GROUP)[entry.id].deliveries = 2
    world.store.unknown_in = lambda _: PAUSED
    pipeline = world.pipeline("old")
    async with world.serving(pipeline):
        await trio.sleep(100)
        assert (None, [2]) == (pipeline.in_flight.suspect, deliveries(world))
    assert pipeline.newer_records.count > 0
