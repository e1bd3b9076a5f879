import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from loguru import logger
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.store import Call, Fault
from tests.support.fakes.world import EVENT, STREAM, World, bring_through
from tests.support.waiting import waiting
from trio_alerts.alert import Alert, Entry
from trio_alerts.delivery import Delivery
from trio_alerts.errors import QuarantineHalt, Stopping
from trio_alerts.held_back import first_state
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.process import process_entry
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import Message
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record
from trio_alerts.routing.routes import Routing
from trio_alerts.routing.windows import DAYS
from trio_alerts.settings.settings import RouteSettings
from trio_alerts.transitions import lease_expired, quarantined

UNSEEN = Retry("reset", unseen=True)


@contextmanager
def fields_logged(level: str) -> Iterator[list[dict[str, Any]]]:
    """Give the fields of what is logged in the block."""
    logged: list[dict[str, Any]] = []
    sink = logger.add(lambda line: logged.append(line.record["extra"]), level=level)
    yield logged
    logger.remove(sink)


async def redelivered(world: World, pipeline: Pipeline, *, claimed: bool, **fields: Any) -> Entry:
    """Let another process read an alert and die at once; then take it, by a claim or as a new read."""
    world.emit(**fields)
    dead = world.pipeline("dead")
    await world.take(dead)
    pipeline.clock.set(await pipeline.stream.server_time())
    (pending,) = await pipeline.stream.look(0.0, 1)
    (entry,) = await pipeline.stream.claim([pending], 0.0)
    return replace(entry, claimed=claimed)


async def put(world: World, entry: Entry) -> Record:
    """Put the record of an entry into the store, as a first owner would have done it."""
    shadow = World()
    shadow.server.add(STREAM, entry.fields, entry.id)
    first = shadow.pipeline("first")
    await bring_through(await shadow.take(first), first)
    record = being_sent(shadow.store.records[entry.record_id].record, "dead/1")
    world.store.put(record)
    return record


async def cut_off(world: World, *, claimed: bool = True) -> tuple[Entry, Pipeline]:
    """Take over an alert whose process died in the middle of its attempt, as the record says."""
    pipeline = world.pipeline()
    entry = await redelivered(world, pipeline, claimed=claimed)
    await put(world, entry)
    return entry, pipeline


@asynccontextmanager
async def under_way(world: World, steps: list[Disposition] | None = None) -> AsyncIterator[tuple[Entry, Pipeline]]:
    """Give an alert 5 s after it was taken, in the middle of its send; what became of it is put into `steps`."""
    pipeline = world.pipeline()
    world.emit()
    entry = await world.take(pipeline)

    async def carry() -> None:
        step = await bring_through(entry, pipeline)
        if steps is not None:
            steps.append(step)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry)
        await trio.sleep(5)
        yield entry, pipeline


def being_sent(record: Record, owner: str) -> Record:
    """Return the record as it is while this owner sends it."""
    channels = tuple(replace(channel, state="sending", log=()) for channel in record.delivery.channels)
    until = dt.datetime.fromtimestamp(trio.current_time() + 60.0, dt.UTC)
    delivery = replace(
        record.delivery, state="sending", owner=owner, lease_until=until, delivered_at=None, channels=channels
    )
    return Record(record.id, record.body, delivery)


async def test_the_four_steps_happen_in_order(autojump_clock: MockClock) -> None:
    """Stored as `sending` before the send, as `delivered` after it, and acknowledged last."""
    world = World(latency_s=3.0)
    world.server.latency_s = world.store.latency_s = 1.0
    entry, step = await world.carry()

    assert Disposition.ACKNOWLEDGE is step
    created, replaced = world.store.called("create", "replace")
    (acknowledged,) = world.server.called("ack")
    assert ("sending", "delivered") == (created.state, replaced.state)
    start_s = created.at_s
    assert [0.0, 1.0, 4.0, 5.0] == [
        at_s - start_s for at_s in (created.at_s, world.channel.sends[0].at_s, replaced.at_s, acknowledged.at_s)
    ]
    assert {} == world.pending
    assert entry.id == world.channel.sends[0].id == entry.record_id


async def test_what_is_stored_before_the_send(autojump_clock: MockClock) -> None:
    """Before anything goes out the record says who sends, until when, and that this is attempt 1."""
    world = World()
    seen: list[Delivery] = []

    def look(message: Any) -> Accepted:
        seen.append(world.delivery(message.id))
        return Accepted(200)

    world.channel.decide = look
    await world.carry()
    assert ("sending", 1, 0) == (seen[0].state, seen[0].attempts, seen[0].in_doubt)
    assert seen[0].owner.startswith("me/")
    assert dt.datetime.fromtimestamp(60.0, dt.UTC) == seen[0].lease_until
    assert b'"delivered":false' in Record("x", b'{"a":1}', seen[0]).to_json()


@pytest.mark.parametrize(
    ("outcome", "state", "next_s"),
    [
        (Accepted(200), "delivered", None),
        (Retry("busy", 503), "retrying", 5.0),
        (Retry("busy", 429), "retrying", 60.0),
        (Refused("no", 410), "failed", None),
        (UNSEEN, "retrying", 5.0),
    ],
)
async def test_every_outcome_is_stored_and_acknowledged(
    autojump_clock: MockClock, outcome: Accepted | Retry | Refused, state: str, next_s: float | None
) -> None:
    """A failed send stays recorded with its next attempt; the stream is done with it."""
    world = World([outcome])
    entry, _ = await world.carry()
    delivery = world.delivery(entry.id)
    assert state == delivery.state
    assert next_s == (delivery.next_attempt_at.timestamp() if delivery.next_attempt_at else None)
    assert {} == world.pending
    assert 1 == len(world.channel.sends)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, b"missing_event"),
        ({b"event": b"{"}, b"bad_json"),
        ({b"event": b'{"alert_id":"a"}'}, b"bad_event"),
        ({b"event": b" " * 300 * 1024}, b"too_large"),
    ],
)
async def test_what_cannot_be_parsed_goes_to_the_quarantine(
    autojump_clock: MockClock, fields: dict[bytes, bytes], reason: bytes
) -> None:
    """It is moved with its fields and the reason, nothing is stored or sent, and the pipeline goes on."""
    world, original = World(), {b"odd": b"\xff", **fields}
    pipeline = world.pipeline()
    entry_id = world.server.add(STREAM, original)
    await bring_through(await world.take(pipeline), pipeline)

    assert {} == world.pending
    assert original == {name: world.dead[0][name] for name in original}
    assert (reason, entry_id.encode()) == (world.dead[0][b"_reason"], world.dead[0][b"_id"])
    assert ({}, []) == (world.store.records, world.channel.sends)
    await world.carry(pipeline)
    assert ["delivered"] == list(world.states.values())


async def test_what_the_store_refuses_by_its_content_goes_to_the_quarantine(autojump_clock: MockClock) -> None:
    """Nothing was stored, so nothing is sent."""
    world = World()
    world.store.refuses = lambda _: True
    await world.carry()
    assert ({}, [], b"refused_content") == (world.pending, world.channel.sends, world.dead[0][b"_reason"])


async def test_too_many_quarantined_in_a_row_stop_the_process(autojump_clock: MockClock) -> None:
    """A broken producer is not a thousand broken alerts; one good alert in between starts the count anew."""
    world = World(quarantine_halt=3)
    pipeline = world.pipeline()

    async def bad() -> None:
        world.server.add(STREAM, {b"event": b"{"})
        await bring_through(await world.take(pipeline), pipeline)

    for _ in range(2):
        await bad()
    await world.carry(pipeline)
    for _ in range(2):
        await bad()
    with pytest.raises(QuarantineHalt, match="3 entries in a row"):
        await bad()
    assert 5 == len(world.dead)


async def test_a_suppressed_alert_is_recorded_and_not_sent(autojump_clock: MockClock) -> None:
    """The record names the rule."""
    world = World()
    pipeline = world.pipeline()
    routes = (
        RouteSettings(name="maintenance", match={"view": ("Lending",)}, suppress=True),
        RouteSettings(name="rest", channels=("webhook",)),
    )
    pipeline.routing = Routing(dataclasses.replace(pipeline.settings, routes=routes))
    entry, _ = await world.carry(pipeline)
    assert ("suppressed", "maintenance") == (world.delivery(entry.id).state, world.delivery(entry.id).suppressed_by)
    assert ([], {}) == (world.channel.sends, world.pending)


async def test_the_server_s_time_chooses_the_route(autojump_clock: MockClock) -> None:
    """A window is open or not by the clock of the Redis server, whatever that of this machine says."""
    world = World()
    pipeline = world.pipeline()
    pipeline.clock.set(await pipeline.stream.server_time())
    today = DAYS[pipeline.clock.now().weekday()]
    routes = (
        RouteSettings(name="today", active=({"days": [today]},), suppress=True),
        RouteSettings(name="rest", channels=("webhook",)),
    )
    pipeline.routing = Routing(dataclasses.replace(pipeline.settings, routes=routes))

    entry, _ = await world.carry(pipeline)
    assert "today" == world.delivery(entry.id).suppressed_by


@pytest.mark.parametrize("outcome", [Accepted(200), Retry("busy", 503), Refused("no", 410)])
@pytest.mark.parametrize(("claimed", "deliveries"), [(True, 2), (False, 2), (True, 6)])
async def test_a_redelivery_of_what_has_an_outcome_is_acknowledged_without_a_send(
    autojump_clock: MockClock, outcome: Accepted | Retry | Refused, claimed: bool, deliveries: int
) -> None:
    """The record decides, and it does not change: no bystander of a poison entry is condemned with it."""
    world = World([outcome])
    pipeline = world.pipeline()
    world.server.fail_next("ack", "down", times=10**6)
    with trio.move_on_after(100):
        await world.carry()
    before = dict(world.store.records)
    world.server._planned.clear()
    (pending,) = await pipeline.stream.look(0.0, 1)
    (entry,) = await pipeline.stream.claim([pending], 0.0)

    again = replace(entry, claimed=claimed, deliveries=deliveries)
    assert Disposition.ACKNOWLEDGE is await bring_through(again, pipeline)
    assert (1, before, {}, []) == (len(world.channel.sends), world.store.records, world.pending, world.dead)


@pytest.mark.parametrize("deliveries", [2, 6])
async def test_a_redelivery_of_what_waits_in_a_queue_is_acknowledged(
    autojump_clock: MockClock, deliveries: int
) -> None:
    """Its process died between the create and the acknowledgement: the record is there, and its queue has it."""
    world = World()
    entry, pipeline = await cut_off(world)
    now = pipeline.clock.now()
    delivery = first_state((waiting("webhook", now, now + dt.timedelta(hours=1)),), "dead/1", now, 60.0)
    kept = world.store.put(replace(world.store.records[entry.id].record, delivery=delivery))

    assert Disposition.ACKNOWLEDGE is await bring_through(replace(entry, deliveries=deliveries), pipeline)
    assert ([], {entry.id: kept}, {}, []) == (world.channel.sends, world.store.records, world.pending, world.dead)


async def test_an_attempt_cut_by_a_crash_is_repeated_and_counted(autojump_clock: MockClock) -> None:
    """The entry came by a claim and is ours: its owner is gone, nobody saw the outcome; same `webhook-id`."""
    world = World()
    entry, pipeline = await cut_off(world)

    assert Disposition.ACKNOWLEDGE is await bring_through(entry, pipeline)
    delivery = world.delivery(entry.id)
    assert ("delivered", 2, 1) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert [entry.id] == [send.id for send in world.channel.sends]
    assert {} == world.pending


@pytest.mark.parametrize("unseen", [False, True])
async def test_only_what_may_have_arrived_is_sent_as_a_repeat(unseen: bool, autojump_clock: MockClock) -> None:
    """People are told of it where the outcome of an earlier attempt was not seen, and only there."""
    world = World([Retry("first", unseen=unseen)])
    answer, repeats = world.channel.decide, list[bool]()

    def decide(message: Message) -> Outcome | Later:
        repeats.append(message.may_be_repeat)
        return answer(message)

    world.channel.decide = decide
    async with world.serving(world.pipeline()):
        world.emit()
        await trio.sleep(60)

    assert [False, unseen] == repeats


async def test_a_limit_makes_an_alert_wait(autojump_clock: MockClock) -> None:
    """Nobody has the alert, and no step is used; the next one is not even sent."""
    world = World([Later("limited", after_s=45.0)])
    pipeline = world.pipeline()
    entry, disposition = await world.carry(pipeline)
    delivery = world.delivery(entry.id)
    assert ("waiting", 0, "limited", 0) == (
        *(delivery.state, delivery.in_doubt, delivery.last_error),
        delivery.channels[0].attempts,
    )
    assert (Disposition.ACKNOWLEDGE, {}) == (disposition, world.pending)

    entry, disposition = await world.carry(pipeline)
    assert ("waiting", 0, Disposition.ACKNOWLEDGE) == (
        *(world.delivery(entry.id).state, world.delivery(entry.id).attempts),
        disposition,
    )
    assert 1 == len(world.channel.sends)


async def test_an_attempt_in_doubt_is_held_where_the_policy_says_so(autojump_clock: MockClock) -> None:
    """The alert waits for a human, acknowledged and not sent."""
    world = World(hold=["webhook"])
    entry, pipeline = await cut_off(world)
    await bring_through(entry, pipeline)
    assert ("in_doubt", [], {}) == (world.delivery(entry.id).state, world.channel.sends, world.pending)


async def test_a_living_owner_s_alert_is_left_alone(autojump_clock: MockClock) -> None:
    """Read anew (a re-created group, a SETID), not claimed: no send, no acknowledgement, no change."""
    world = World()
    pipeline = world.pipeline()
    entry = await redelivered(world, pipeline, claimed=False)
    record = await put(world, entry)
    assert Disposition.WALK_AWAY is await bring_through(entry, pipeline)
    assert ([], record) == (world.channel.sends, world.store.records[entry.id].record)
    assert [entry.id] == list(world.pending)


async def test_a_claimed_entry_that_is_not_ours_any_more_is_left_alone(autojump_clock: MockClock) -> None:
    """While we looked, somebody else claimed it: the server decides."""
    world = World()
    entry, pipeline = await cut_off(world)
    other = world.pipeline("other").stream
    await other.claim(await other.look(0.0, 1), 0.0)
    assert Disposition.WALK_AWAY is await bring_through(entry, pipeline)
    assert ([], {entry.id: "other"}) == (world.channel.sends, world.pending)


async def test_a_lapsed_lease_frees_a_record(autojump_clock: MockClock) -> None:
    """After the lease nobody who keeps to the rules is still sending."""
    world = World()
    entry, pipeline = await cut_off(world, claimed=False)
    await trio.sleep(60)
    assert Disposition.ACKNOWLEDGE is await bring_through(entry, pipeline)
    assert ("delivered", 1) == (world.delivery(entry.id).state, world.delivery(entry.id).in_doubt)


async def test_a_message_id_used_again_is_quarantined_and_its_record_untouched(autojump_clock: MockClock) -> None:
    """A restored or re-created stream can repeat IDs: other content must never be merged into a record."""
    world = World()
    pipeline = world.pipeline()
    entry = await redelivered(world, pipeline, claimed=True, title="another alert")
    record = await put(world, replace(entry, fields={b"event": __import__("json").dumps(EVENT).encode()}))
    await bring_through(entry, pipeline)
    assert (b"id_reused", record) == (world.dead[0][b"_reason"], world.store.records[entry.id].record)
    assert ([], {}) == (world.channel.sends, world.pending)


@pytest.mark.parametrize("fault", ["down", "answer_lost"])
@pytest.mark.parametrize("method", ["create", "replace", "get"])
async def test_a_lost_answer_of_the_store_changes_nothing(autojump_clock: MockClock, method: str, fault: Fault) -> None:
    """Whether the write happened or not: one record, one send, the right outcome."""
    world = World()
    world.store.fail_next(method, fault, times=3)
    entry, _ = await world.carry()
    delivery = world.delivery(entry.id)
    assert ("delivered", 1, 0) == (delivery.state, delivery.attempts, delivery.in_doubt)
    assert (1, {}) == (len(world.channel.sends), world.pending)


@pytest.mark.parametrize("fault", ["down", "answer_lost"])
async def test_a_lost_answer_to_the_acknowledgement_changes_nothing(autojump_clock: MockClock, fault: Fault) -> None:
    """XACK may be repeated."""
    world = World()
    world.server.fail_next("ack", fault, times=3)
    await world.carry()
    assert (1, {}) == (len(world.channel.sends), world.pending)


async def test_nothing_is_sent_while_the_store_is_down(autojump_clock: MockClock) -> None:
    """The entry waits, pending, and a soft stop is not held up by it."""
    world = World()
    pipeline = world.pipeline()
    world.store.fail_next("create", "down", times=10**6)
    world.emit()
    entry = await world.take(pipeline)
    async with trio.open_nursery() as nursery:

        async def carry() -> None:
            with pytest.raises(Stopping):
                await bring_through(entry, pipeline)

        nursery.start_soon(carry)
        await trio.sleep(3600)
        assert ([], [entry.id]) == (world.channel.sends, list(world.pending))
        pipeline.stop()
    assert ([], [entry.id], {}) == (world.channel.sends, list(world.pending), world.store.records)


@pytest.mark.parametrize(("lease_s", "tries"), [(60.0, 12), (21.0, 5)])
async def test_a_lease_that_grew_old_is_renewed_before_the_send(
    autojump_clock: MockClock, lease_s: float, tries: int
) -> None:
    """A send never outlives its lease, however little longer that is: else others could take it for lapsed."""
    world = World(lease_s=lease_s)
    faults: dict[str, list[Fault]] = {"create": ["answer_lost"], "get": ["down"] * tries}
    world.store.decide = lambda call: faults[call.method].pop() if faults.get(call.method) else None
    entry, _ = await world.carry()
    lease_until = world.delivery(entry.id).lease_until
    assert lease_until is None
    writes = [(call.method, call.state) for call in world.store.called("create", "replace")]
    assert ("replace", "sending") in writes
    assert ("delivered", 1) == (world.delivery(entry.id).state, world.delivery(entry.id).attempts)


async def test_a_renewal_that_was_not_stored_is_stored_before_the_send(autojump_clock: MockClock) -> None:
    """The index is a new one by then: our token is in the record, but from the claim, whose lease is old."""
    world = World(lease_s=60.0)
    faults: dict[str, list[Fault]] = {"create": ["answer_lost"], "get": ["down"] * 12}
    moves = iter((True,))
    left_s: list[float] = []

    def decide(call: Call) -> Fault | None:
        if call.method == "replace" and next(moves, False):
            world.store.begin_anew()
        return faults[call.method].pop() if faults.get(call.method) else None

    def note(message: Message) -> Outcome:
        left_s.append(world.lease_left_s(message.id))
        return Accepted(200)

    world.store.decide, world.channel.decide = decide, note
    entry, _ = await world.carry()
    assert [60.0] == [round(one) for one in left_s]
    assert ("delivered", 1, 0) == (
        world.delivery(entry.id).state,
        world.delivery(entry.id).attempts,
        world.delivery(entry.id).in_doubt,
    )


async def test_a_record_that_was_taken_over_gets_our_acceptance(autojump_clock: MockClock) -> None:
    """Our receiver accepted after somebody took us for dead: the record becomes delivered, and they stay its owner."""
    world = World(latency_s=10.0)
    async with under_way(world) as (entry, _):
        stored = world.store.records[entry.id]
        theirs = being_sent(stored.record, "other/1")
        world.store.put(theirs)
    assert ("delivered", "other/1") == (world.delivery(entry.id).state, world.delivery(entry.id).owner)


async def test_our_failure_does_not_touch_a_record_that_was_taken_over(autojump_clock: MockClock) -> None:
    """What failed for us says nothing about the present owner's attempt."""
    world = World([Retry("busy", 503)], latency_s=10.0)
    async with under_way(world) as (entry, _):
        theirs = being_sent(world.store.records[entry.id].record, "other/1")
        world.store.put(theirs)
    assert theirs == world.store.records[entry.id].record


async def test_a_vanished_record_is_written_again_with_its_outcome(autojump_clock: MockClock) -> None:
    """Somebody deleted the document while its alert was being sent: the outcome is not lost with it."""
    world = World(latency_s=10.0)
    with fields_logged("ERROR") as logged:
        async with under_way(world) as (entry, _):
            world.store.records.clear()
    assert ("delivered", {}) == (world.delivery(entry.id).state, world.pending)
    assert [{"record_id": entry.id, "severity": EVENT["severity"]}] == logged


async def test_an_attempt_is_logged_as_fields(autojump_clock: MockClock) -> None:
    """What a machine asks for: which alert, through what, which attempt, with which status, and why."""
    world = World([Accepted(202)])
    with fields_logged("DEBUG") as logged:
        entry, _ = await world.carry()
    attempt = {"record_id": entry.id, "channel": "webhook", "reason": "accepted", "status": 202, "attempt": 1}
    assert attempt in logged


async def test_channels_are_sent_to_at_once_and_settled_apart(autojump_clock: MockClock) -> None:
    """A slow or failing channel does not keep the alert from the others; each keeps its own state."""
    slow, failing = FakeChannel("slow", latency_s=10.0), FakeChannel("failing", [Retry("busy", 503)])
    world = World(latency_s=1.0, channels=[slow, failing])
    entry, _ = await world.carry()
    delivery = world.delivery(entry.id)
    assert 10.0 == trio.current_time()
    assert "retrying" == delivery.state
    assert {"webhook": "delivered", "slow": "delivered", "failing": "retrying"} == {
        channel.name: channel.state for channel in delivery.channels
    }


async def test_a_hanging_receiver_is_cut_at_the_bound_and_in_doubt(autojump_clock: MockClock) -> None:
    """After `send_timeout_s` the attempt is over; nobody knows whether the receiver has it."""
    world = World(latency_s=10**6)
    entry, _ = await world.carry()
    assert 15.0 == trio.current_time()
    delivery = world.delivery(entry.id)
    assert ("retrying", 1, "no answer within 15 s") == (delivery.state, delivery.in_doubt, delivery.last_error)


async def test_an_exception_out_of_a_channel_is_its_attempt_s_outcome(autojump_clock: MockClock) -> None:
    """Unseen, for the request may have gone out; other channels, alerts and the process go on; one traceback."""
    world = World(channels=[FakeChannel("other")])
    pipeline = world.pipeline()
    answers: dict[str, Accepted] = {}
    world.channel.decide = lambda _: answers["took"]
    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR")
    for number in range(3):
        entry, step = await world.carry(pipeline, alert_id=f"a-{number}")
        delivery = world.delivery(entry.id)
        assert (Disposition.ACKNOWLEDGE, "retrying", 1) == (step, delivery.state, delivery.in_doubt)
        assert {"webhook": "a bug in this channel (KeyError)", "other": None} == {
            channel.name: channel.last_error for channel in delivery.channels
        }
    logger.remove(sink)
    assert 1 == "".join(lines).count("Traceback")
    assert ([], {}) == (pipeline.faults, world.pending)


async def test_an_entry_that_crashed_its_workers_is_quarantined(autojump_clock: MockClock) -> None:
    """Delivered more than `max_deliveries` times without an outcome: marked in the record first, then moved."""
    world = World()
    entry, pipeline = await cut_off(world)
    await bring_through(replace(entry, deliveries=6), pipeline)
    assert (b"max_deliveries", "quarantined") == (world.dead[0][b"_reason"], world.delivery(entry.id).state)
    assert ([], {}) == (world.channel.sends, world.pending)


async def test_a_move_that_did_not_follow_its_mark_is_completed(autojump_clock: MockClock) -> None:
    """The record says quarantined, the entry is still pending: a crash came in between."""
    world = World()
    entry, pipeline = await cut_off(world)
    world.server.fail_next("quarantine", "down", times=10**6)
    with trio.move_on_after(100):
        await bring_through(replace(entry, deliveries=6), pipeline)
    assert ("quarantined", []) == (world.delivery(entry.id).state, world.dead)
    world.server._planned.clear()
    await bring_through(replace(entry, deliveries=2), pipeline)
    assert (b"max_deliveries", {}, []) == (world.dead[0][b"_reason"], world.pending, world.channel.sends)


async def test_a_replayed_entry_keeps_its_identity_and_is_sent(autojump_clock: MockClock) -> None:
    """A quarantined record leaves that state by a replay, under its first `webhook-id`."""
    world = World()
    entry, pipeline = await cut_off(world)
    await bring_through(replace(entry, deliveries=6), pipeline)
    world.server.add(STREAM, {**entry.fields, b"replay_of": entry.record_id.encode()})
    again = await world.take(pipeline)
    assert Disposition.ACKNOWLEDGE is await bring_through(again, pipeline)
    assert ("delivered", None) == (world.delivery(entry.id).state, world.delivery(entry.id).reason)
    assert [entry.id] == [send.id for send in world.channel.sends]


async def test_a_cancellation_at_every_await_leaves_what_the_record_says(autojump_clock: MockClock) -> None:
    """Cut anywhere: never acknowledged without an outcome, never sent without a record, never an outcome forgotten."""
    seen: set[tuple[str | None, bool, int]] = set()
    for cut_at_s in range(40):
        world = World(latency_s=4.0)
        pipeline = world.pipeline()
        world.emit()
        entry = await world.take(pipeline)
        world.server.latency_s = world.store.latency_s = 4.0
        start_s = trio.current_time()
        with trio.CancelScope(deadline=start_s + cut_at_s + 0.5):
            await bring_through(entry, pipeline)
        world.server.latency_s = world.store.latency_s = 0.0
        state = world.states.get(entry.id)
        pending, sends = entry.id in world.pending, len(world.channel.sends)
        seen.add((state, pending, sends))
        if sends and state == "delivered":  # an outcome that is known is stored and acknowledged, cut or not
            assert not pending
        other = world.pipeline("other")
        if pending:  # whoever takes over brings it to its end
            other.clock.set(await other.stream.server_time())
            (again,) = await other.stream.claim(await other.stream.look(0.0, 1), 0.0)
            await bring_through(again, other)
        after = world.delivery(entry.id)
        repeats = world.channel.accepted[entry.id] - 1
        assert ("delivered", {}) == (after.state, world.pending)
        assert repeats <= after.in_doubt <= 1
    assert {(None, True, 0), ("sending", True, 0), ("sending", True, 1), ("delivered", False, 1)} == seen


async def test_a_restart_under_the_same_name_does_not_take_a_dead_attempt_for_its_own(
    autojump_clock: MockClock,
) -> None:
    """With a fixed consumer name two incarnations count their attempts alike: their tokens must differ all the same."""
    world = World()
    dead = world.pipeline()
    world.emit()
    entry = await world.take(dead)
    await put(world, entry)
    world.store.put(being_sent(world.store.records[entry.id].record, dead.new_owner()))
    restarted = world.pipeline()
    restarted.clock.set(await restarted.stream.server_time())
    (again,) = await restarted.stream.own_pending(set(), 1)
    assert Disposition.WALK_AWAY is await bring_through(again, restarted)
    assert ([], [entry.id]) == (world.channel.sends, list(world.pending))


@pytest.mark.parametrize("state", ["retrying", "quarantined"])
async def test_a_late_acceptance_survives_a_record_that_kept_our_token(autojump_clock: MockClock, state: str) -> None:
    """Others cut our attempt while we were paused, and our token stayed: an acceptance is never forgotten."""
    world = World(latency_s=10.0)
    async with under_way(world) as (entry, pipeline):
        record = world.store.records[entry.id].record
        by_others = lease_expired(record.delivery, pipeline.clock.now(), pipeline.retry_policy())
        if state == "quarantined":
            by_others = quarantined(record.delivery, "max_deliveries")
        world.store.put(Record(record.id, record.body, by_others))
    assert "delivered" == world.delivery(entry.id).state


async def test_another_owner_s_running_attempt_is_not_acknowledged_by_us(autojump_clock: MockClock) -> None:
    """Our attempt failed after somebody took over: the entry is theirs to acknowledge, with their outcome."""
    world = World([Retry("busy", 503)], latency_s=10.0)
    steps: list[Disposition] = []
    async with under_way(world, steps) as (entry, _):
        record = world.store.records[entry.id].record
        world.store.put(being_sent(record, "other/1"))
    assert ([Disposition.WALK_AWAY], [entry.id]) == (steps, list(world.pending))


@pytest.mark.parametrize("method", ["create", "replace"])
async def test_a_store_that_refuses_writes_does_not_answer(method: str, autojump_clock: MockClock) -> None:
    """Reads are answered all the while: nobody can store an outcome, so it is no time that owners had for it."""
    world = World()
    pipeline = world.pipeline()
    world.store.decide = lambda call: "down" if call.method == method else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.carry, pipeline)
        await trio.sleep(30)
        await pipeline.store_before_send.get("1-1")
        await trio.sleep(1)
        assert 0 == pipeline.store_outage.uptime.since(0)
        world.store.decide = lambda _: None
    assert not pipeline.store_outage.uptime.in_gap


@pytest.mark.parametrize(
    ("workers", "steps"),
    [
        pytest.param(64, ["parse", "create", "parse", "create"], id="the loop keeps up"),
        pytest.param(1000, ["parse", "parse", "create", "create"], id="it is behind"),
    ],
)
async def test_workers_let_each_other_catch_up_while_the_loop_is_behind(
    workers: int, steps: list[str], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that many do in a row costs less; else an alert does not wait for others between two steps."""
    world = World(workers=workers)
    pipeline = world.pipeline()
    done: list[str] = []
    parse, create = pipeline.parse, world.store.create

    def parsing(entry: Entry, now: dt.datetime) -> Alert:
        done.append("parse")
        return parse(entry, now)

    async def creating(record: Record) -> Stored | Conflict:
        done.append("create")
        return await create(record)

    pipeline.parse = parsing
    monkeypatch.setattr(world.store, "create", creating)
    entries = []
    for _ in range(2):
        world.emit()
        entries.append(await world.take(pipeline))
    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(process_entry, entry, pipeline)
    assert steps == done
