"""Admission: what may go now, what waits, and what that costs."""

import datetime as dt

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import EVENT, GROUP, STREAM, World, bring_through
from trio_alerts.delivery import UNCONFIGURED, Delivery
from trio_alerts.event import AlertEvent, parse_event
from trio_alerts.exact_json import encode
from trio_alerts.outcome import Later, Retry
from trio_alerts.pipeline.admission import ask_gate, unless_closed
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.gates import Admitted, Closed, News, Rate
from trio_alerts.ports.hints import Queued
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.transitions import first_attempt

NOW = dt.datetime(2026, 11, 26, 2, 0, tzinfo=dt.UTC)
LIMITED = ChannelSettings(name="slack", aliases=("old-slack",), rate_per_s=1.0, burst=2)
RARE = ChannelSettings(name="webhook", rate_per_s=0.001)
PAGER = ChannelSettings(name="pager", aliases=("old-pager",))


def alert(severity: str = "high") -> AlertEvent:
    return parse_event(encode(EVENT | {"severity": severity}))


def process(world: World, consumer: str = "me") -> Pipeline:
    return world.pipeline(consumer, channels=(LIMITED, PAGER))


@pytest.fixture
def world() -> World:
    world = World(channels=[FakeChannel("slack"), FakeChannel("pager")])
    world.channels["old-pager"] = world.channels["pager"]  # or it would wait for a process that knows it
    return world


async def admitted(pipeline: Pipeline, *names: str, severity: str = "high") -> Delivery:
    begun = first_attempt(names or ("slack",), "me/1", NOW, 60.0)
    return await unless_closed(begun, alert(severity), pipeline)


def states(delivery: Delivery) -> list[str]:
    return [channel.state for channel in delivery.channels]


async def test_a_channel_that_is_well_and_has_no_rate_costs_no_command(world: World, autojump_clock: MockClock) -> None:
    """Nor does its other name."""
    pipeline = process(world)
    begun = first_attempt(("pager", "old-pager"), "me/1", NOW, 60.0)
    assert begun is await unless_closed(begun, alert(), pipeline)
    assert [] == world.server.calls


async def test_what_is_not_known_here_waits_for_who_knows_it(
    world: World, autojump_clock: MockClock, lines: list[str]
) -> None:
    """Only that channel; it costs no command, and one line however many alerts there are."""
    pipeline = process(world)
    for _ in range(2):
        mixed = await admitted(pipeline, "gone", "pager")
        assert ("sending", ["waiting", "sending"], (UNCONFIGURED,)) == (mixed.state, states(mixed), mixed.queues)
        alone = await admitted(pipeline, "gone")
        assert ("waiting", 0, 0) == (alone.state, alone.attempts, alone.channels[0].attempts)
    assert [] == world.server.calls
    expected = "channel gone is not configured here, and records name it: its alerts wait for a process that knows it"
    assert [f"ERROR {expected}, and fail after 60 min"] == lines


async def test_a_rate_lets_in_so_many_and_the_others_wait(world: World, autojump_clock: MockClock) -> None:
    """Over all processes; and one that was turned away costs no command until there may be a token."""
    ours, theirs = process(world), process(world, "them")
    assert ["sending"] == states(await admitted(ours))
    assert ["sending"] == states(await admitted(theirs))
    assert ["waiting"] == states(await admitted(ours))
    asked = len(world.server.calls)
    for _ in range(100):
        assert ["waiting"] == states(await admitted(ours))
    assert asked == len(world.server.calls)
    await trio.sleep(1.0)
    assert ["sending"] == states(await admitted(ours))


async def test_one_gate_is_closed_and_the_other_open(world: World, autojump_clock: MockClock) -> None:
    """One record: the first waits, the second is sent; it waits for as long as the schedule would last."""
    pipeline = process(world)
    await admitted(pipeline)
    await admitted(pipeline)
    mixed = await admitted(pipeline, "slack", "pager")
    assert ("sending", ["waiting", "sending"], ("slack",)) == (mixed.state, states(mixed), mixed.queues)
    whole_s = sum(pipeline.settings.retry_schedule_s)
    since = mixed.channels[0].since
    assert since is not None
    assert since + dt.timedelta(seconds=whole_s) == mixed.channels[0].next_attempt_at


@pytest.mark.parametrize(
    ("waits", "comes", "state"),
    [("critical", "high", "waiting"), ("high", "high", "waiting"), ("high", "critical", "sending")],
)
async def test_what_is_as_severe_and_waits_goes_first(
    waits: str, comes: str, state: str, world: World, autojump_clock: MockClock
) -> None:
    """A token is there, and no arrival takes it from who waits; only something more severe does."""
    pipeline = process(world)
    ranks = ("info", "low", "medium", "high", "critical")
    await pipeline.hints.put_queued([Queued("slack", "1-0", ranks.index(waits))])
    assert [state] == states(await admitted(pipeline, severity=comes))
    assert Admitted() == await ask_gate("slack", pipeline)


async def test_what_waits_under_an_older_name_goes_first_too(world: World, autojump_clock: MockClock) -> None:
    """A channel that was renamed has one gate for both."""
    pipeline = process(world)
    await pipeline.hints.put_queued([Queued("old-slack", "1-0", 4)])
    assert ["waiting"] == states(await admitted(pipeline, severity="high"))


async def test_without_a_rate_arrivals_never_wait_behind_a_backlog(world: World, autojump_clock: MockClock) -> None:
    """The queue of a channel that is well is drained beside them."""
    pipeline = process(world)
    await pipeline.hints.put_queued([Queued("pager", "1-0", 4)])
    assert ["sending"] == states(await admitted(pipeline, "pager", severity="info"))


async def test_a_gate_that_does_not_answer_makes_alerts_wait(world: World, autojump_clock: MockClock) -> None:
    """For a second nobody asks again; the alert of a channel without a rate is sent as ever."""
    pipeline = process(world)
    world.server.down = True
    assert ["waiting", "sending"] == states(await admitted(pipeline, "slack", "pager"))
    assert Closed("unanswered", 1.0) == await ask_gate("slack", pipeline)
    world.server.down = False
    await trio.sleep(1.0)
    assert ["sending"] == states(await admitted(pipeline))


async def test_a_breaker_that_is_open_takes_one_probe(world: World, autojump_clock: MockClock) -> None:
    """Arrivals wait without a command; the queue's probe goes out when its time has come, one for all processes."""
    pipeline, other = process(world), process(world, "them")
    news = {"pager": News(failed=["1-0"], attempts=1, reason="no", stopped=True)}
    for one in (pipeline, other):
        views = await one.gates.exchange(news, ["pager"])
        one.channel_gates["pager"].saw(views["pager"], trio.current_time())
    asked = len(world.server.calls)
    assert ["waiting"] == states(await admitted(pipeline, "old-pager", severity="critical"))
    assert asked == len(world.server.calls)

    assert Closed("breaker", 30.0) == await ask_gate("pager", pipeline, probe=True)
    await trio.sleep(30.0)
    assert Admitted(probe=True) == await ask_gate("pager", pipeline, probe=True)
    assert Closed("breaker", 30.0) == await ask_gate("pager", other, probe=True)


async def test_a_limit_holds_for_every_name_of_a_channel(world: World, autojump_clock: MockClock) -> None:
    """What the service said to one process, this one does not say again to it."""
    pipeline = process(world)
    pipeline.channel_gates["pager"].note(Later("limited: answered 429", 30.0), "1-0", trio.current_time())
    assert ["waiting"] == states(await admitted(pipeline, "old-pager"))
    assert Closed("limit", 30.0) == await ask_gate("old-pager", pipeline, probe=True)


async def test_workers_that_are_all_with_slow_sends_are_a_closed_gate(world: World, autojump_clock: MockClock) -> None:
    """A channel that hangs gets its share of the workers, and what comes meanwhile waits; its rate is not asked."""
    pipeline = process(world)
    pipeline.bulkhead.started("slack")
    await trio.sleep(1.0)
    assert ["waiting"] == states(await admitted(pipeline))
    assert Closed("workers", 1.0) == await ask_gate("slack", pipeline)
    assert [] == world.server.calls


async def test_a_record_says_how_severe_it_is(world: World, autojump_clock: MockClock) -> None:
    """A retry is asked for by its record, which somebody may have changed by hand."""
    pipeline = process(world)
    entry, _ = await world.carry(pipeline)
    record = world.store.records[entry.record_id].record
    begun = first_attempt(("slack",), "me/1", NOW, 60.0)
    await pipeline.hints.put_queued([Queued("slack", "1-0", 2)])
    assert ["sending"] == states(await unless_closed(begun, record, pipeline, retry=True))
    changed = replace(record, body=record.body.replace(b'"severity_rank":3', b'"severity_rank":"3"'))
    assert record.body != changed.body
    assert ["waiting"] == states(await unless_closed(begun, changed, pipeline, retry=True))


async def test_a_new_alert_is_recorded_as_waiting_before_anything_is_sent(
    world: World, autojump_clock: MockClock
) -> None:
    """It is acknowledged, with no attempt; nobody is asked about what was silenced or suppressed."""
    pipeline = world.pipeline(channels=(RARE,))
    sent, _ = await world.carry(pipeline)
    entry, disposition = await world.carry(pipeline)
    waiting = world.delivery(entry.record_id)
    assert ("delivered", "waiting", Disposition.ACKNOWLEDGE) == (
        *(world.delivery(sent.record_id).state, waiting.state),
        disposition,
    )
    assert (0, 0, None) == (waiting.attempts, waiting.channels[0].attempts, waiting.last_at)
    assert ({}, 1) == (world.pending, len(world.channel.sends))


async def test_a_takeover_waits_as_well(world: World, autojump_clock: MockClock) -> None:
    """Its doubt is counted; the repeat is sent when there is a token."""
    dying, living = (world.pipeline(name, channels=(RARE,)) for name in ("dying", "living"))
    world.emit()
    entry = await world.take(dying)
    with trio.move_on_after(1.0):
        world.channel.latency_s = 60.0
        await bring_through(entry, dying)
    await trio.sleep(60.0)
    taken = replace(entry, claimed=True, deliveries=2)
    world.server.pending(STREAM, GROUP)[entry.id].consumer = "living"
    assert Disposition.ACKNOWLEDGE is await bring_through(taken, living)
    delivery = world.delivery(entry.record_id)
    assert ("waiting", 1, 1, 1) == (
        *(delivery.state, delivery.in_doubt, delivery.attempts),
        delivery.channels[0].attempts,
    )
    assert 1 == delivery.cuts  # its entry has gone, and with it the server's count of deaths
    assert 1 == len(world.channel.sends)


async def test_a_retry_that_finds_its_gate_closed_waits(world: World, autojump_clock: MockClock) -> None:
    """No step of the schedule is used, and nothing is sent."""
    world.channel.decide = lambda _: Retry("busy", 503)
    async with world.serving(world.pipeline(channels=(RARE,), retry_schedule_s=(5.0, 5.0))):
        record_id = world.emit()
        await trio.sleep(20.0)
        delivery = world.delivery(record_id)
    assert ("waiting", 1, 1, "busy") == (
        *(delivery.state, delivery.attempts, delivery.channels[0].attempts),
        delivery.last_error,
    )
    assert 1 == len(world.channel.sends)


@pytest.mark.parametrize(("created_in_s", "state"), [(0.9, "delivered"), (1.1, "waiting")])
async def test_a_token_is_good_for_a_second(
    created_in_s: float, state: str, world: World, autojump_clock: MockClock
) -> None:
    """A store that took longer leaves one that others have had since: it is asked again, and no byte goes out."""
    often = ChannelSettings(name="webhook", rate_per_s=2.0)
    pipeline = world.pipeline(channels=(often,))
    world.store.latency_s = created_in_s

    async def take_it() -> None:
        await trio.sleep(1.05)
        assert Admitted() == await pipeline.gates.ask("webhook", Rate(2.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_it)
        entry, _ = await world.carry(pipeline)
    delivery = world.delivery(entry.record_id)
    assert (state, int(state == "delivered")) == (delivery.state, len(world.channel.sends))
    assert int(state == "delivered") == delivery.channels[0].attempts


async def test_a_token_is_kept_while_nobody_else_can_have_it(world: World, autojump_clock: MockClock) -> None:
    """However slow the store: else a channel of few alerts would have none at all. It is spent once."""
    pipeline = world.pipeline(channels=(RARE,))
    world.store.latency_s = 5.0
    entry, _ = await world.carry(pipeline)
    assert ("delivered", 1) == (world.delivery(entry.record_id).state, len(world.channel.sends))
    closed = await pipeline.gates.ask("webhook", Rate(0.001))
    assert isinstance(closed, Closed)
    assert 980.0 < closed.for_s <= 1000.0


async def test_a_gate_that_answers_too_late_lets_nothing_out(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease must outlast the send, and asking again takes its time, too: nothing is sent, and it is tried again."""
    pipeline = world.pipeline(channels=(RARE,))
    world.store.latency_s = 5.0
    ask = pipeline.gates.ask

    async def slow(
        channel: str, rate: Rate | None = None, *, probe: bool = False, again: bool = False
    ) -> Closed | Admitted:
        await trio.sleep(pipeline.send_within_s if again else 0.0)
        return await ask(channel, rate, probe=probe, again=again)

    monkeypatch.setattr(pipeline.gates, "ask", slow)
    entry, _ = await world.carry(pipeline)
    assert ("waiting", 0) == (world.delivery(entry.record_id).state, len(world.channel.sends))
