"""What the log says of a channel: when attempts fail, while it is failing, and when that is over."""

import trio
from loguru import logger
from trio.testing import MockClock

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.world import World
from trio_alerts.errors import Unavailable
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.pipeline.channel_health import MOST_REASONS, ChannelHealth

BUSY = Retry("answered 503", 503)


def of(lines: list[str], name: str = "webhook") -> list[str]:
    return [line for line in lines if f"channel {name}" in line]


async def test_a_channel_that_is_down_is_said_each_minute(autojump_clock: MockClock, lines: list[str]) -> None:
    """For how long, how many attempts, how many alerts wait, the last answer; its end says how long it took."""
    world = World([BUSY] * 12, retry_schedule_s=(5.0, 30.0, 120.0), redrive_every_s=1.0)
    for n in range(4):
        world.emit(alert_id=f"a-{n}")
    async with world.serving(world.pipeline()):
        await trio.sleep(200)
    failing = "ERROR channel webhook is failing: nothing accepted for {}, {} attempts failed, 4 alerts wait; "
    assert [
        "WARNING channel webhook: answered 503",
        failing.format("60 s", 12) + "the last answer: answered 503",
        failing.format("2 min", 12) + "the last answer: answered 503",
        "INFO channel webhook accepts again, after 3 min and 12 failed attempts",
    ] == [line.partition(" (first with")[0] for line in of(lines)]


async def test_a_channel_that_fails_now_and_then_is_not_failing(autojump_clock: MockClock, lines: list[str]) -> None:
    """Every second attempt fails: one line at once, one a minute, none for each alert; later it is news again."""
    world = World()
    outcomes: list[Outcome] = [BUSY, Accepted(200)] * 300
    world.channel.decide = lambda _: outcomes.pop(0)
    async with world.serving(world.pipeline(retry_schedule_s=(1000.0,))):
        for n in range(90):
            world.emit(alert_id=f"a-{n}")
            await trio.sleep(1)
        await trio.sleep(200)
        assert 3 == len(of(lines)), lines
        lines.clear()
        world.emit(alert_id="later")
        await trio.sleep(5)
    assert [True] == ["(first with" in line for line in of(lines)], lines


async def test_partial_failures_are_counted_once_a_minute(autojump_clock: MockClock, lines: list[str]) -> None:
    """The first is said at once, with its alert; the others by their number."""
    health = ChannelHealth("pager")
    for n in range(100):
        health.note(BUSY if n % 10 == 0 else Accepted(200), f"{n}-0", 1, n * 0.6)
    health.report(60.0, None)
    health.report(120.0, None)
    often = "10 attempts failed in the last minute, others were accepted; the last answer: answered 503"
    assert [
        "WARNING channel pager: answered 503 (first with 0-0; from here on once a minute)",
        f"WARNING channel pager: {often}",
    ] == of(lines, "pager")


async def test_a_receiver_cannot_fill_the_log_with_reasons(autojump_clock: MockClock, lines: list[str]) -> None:
    """Each new reason is said at once, up to a bound; what needs a human is an error."""
    health = ChannelHealth("pager")
    for n in range(100):
        health.note(Refused(f"reason {n}", 410), f"{n}-0", 1, n * 0.1)
    assert MOST_REASONS == len(of(lines, "pager"))
    assert {"ERROR"} == {line.split()[0] for line in lines}


async def test_nothing_waits_any_more(autojump_clock: MockClock, lines: list[str]) -> None:
    """Other processes delivered what failed here: the channel is not called failing for ever."""
    world = World([BUSY])
    async with world.serving(world.pipeline()):
        entry_id = world.emit()
        await trio.sleep(1)
        del world.store.records[entry_id]
        await trio.sleep(300)
    failing = "nothing accepted for 60 s, 1 attempt failed, 0 alerts wait; the last answer: answered 503"
    assert [
        f"ERROR channel webhook is failing: {failing}",
        "INFO channel webhook: no alert waits for it any more",
    ] == of(lines)[1:]


async def test_with_the_store_away_the_number_is_unknown(autojump_clock: MockClock, lines: list[str]) -> None:
    """The line comes all the same."""
    world = World([BUSY], channels=[FakeChannel("steady")])

    async def waiting() -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        raise Unavailable("refused")

    world.store.waiting = waiting  # type: ignore[method-assign]
    async with world.serving(world.pipeline(retry_schedule_s=(1000.0,))):
        world.emit()
        await trio.sleep(65)
    assert "1 attempt failed, how many alerts wait is unknown; " in of(lines)[-1]
    assert [] == of(lines, "steady")


async def test_lines_about_an_attempt_carry_its_fields(autojump_clock: MockClock) -> None:
    """Record, channel, status and attempt, for whoever reads the log by machine."""
    extras: list[dict[str, object]] = []
    sink = logger.add(lambda line: extras.append(line.record["extra"]), level="DEBUG")
    world = World([BUSY], retry_schedule_s=(5.0,))
    async with world.serving(world.pipeline()):
        entry_id = world.emit()
        await trio.sleep(10)
    logger.remove(sink)
    about = [{name: extra.get(name) for name in ("record_id", "channel", "status", "attempt")} for extra in extras]
    failed = {"record_id": entry_id, "channel": "webhook", "status": 503, "attempt": 1}
    assert 2 == about.count(failed)
    assert failed | {"status": 200, "attempt": 2} in about


async def test_an_outage_is_said_each_minute_by_the_service(autojump_clock: MockClock, lines: list[str]) -> None:
    """Of Redis and of the store, while both last, from the first report on."""
    world = World()
    async with world.serving(world.pipeline(grace_s=1.0)):
        world.server.decide = lambda _: "down"
        await trio.sleep(185)
        world.server.decide = lambda _: None
        await trio.sleep(10)
    said = [line.partition(":")[0] for line in lines if "Redis" in line]
    assert "WARNING Redis does not answer" == said[0]
    assert [f"ERROR Redis has not answered for {age}" for age in ("60 s", "2 min", "3 min")] == said[1:4]
    assert said[4].startswith("INFO Redis answers again, after 3 min")
