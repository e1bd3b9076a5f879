"""What gates must do wherever they are kept: one suite for the fake and for real servers.

A test module makes a class of it, and says what a world is. No test waits: the server's clock is moved instead.
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from trio_alerts.ports.gates import Admitted, Closed, Gates, GateView, News, Rate, Why

CHANNEL = "pager"
SLOW = Rate(0.01, 3)  # a token in 100 s: what a test itself takes earns none
WELL = GateView()
PROBE = Admitted(probe=True)
DAY_S = 86_400.0


def is_well(view: GateView) -> bool:
    """Tell whether nothing failed since the last acceptance, and nothing is closed but for a rate."""
    return not view.attempts and view.open_s is None and not view.limited_s


class GatesWorld(Protocol):
    """A server without gates, whose probes keep others away for 30 s."""

    def open(self, *, turned: bool = False) -> AbstractAsyncContextManager[Gates]:
        """Open the gates of two streams, as one process; `turned`: named in the other order."""

    def move_clock(self, seconds: float) -> None:
        """Set the server's clock forward or back, as seen from what it has stored about gates."""

    def lose(self) -> None:
        """Lose all gates, as a server without persistence does when it starts again."""


def failures(first: int, last: int, **more: bool) -> News:
    ids = [f"{number}-0" for number in range(first, last + 1)]
    return News(failed=ids, attempts=len(ids), reason="answered 500", **more)


async def look(gates: Gates, news: News | None = None, channel: str = CHANNEL) -> GateView:
    """Report, and return how the channel stands."""
    return (await gates.exchange({} if news is None else {channel: news}, [channel]))[channel]


async def open_breaker(gates: Gates, world: GatesWorld) -> None:
    """Let ten alerts fail within two seconds."""
    await look(gates, failures(1, 5))
    world.move_clock(2.0)
    assert (await look(gates, failures(6, 10))).open_s is not None


async def granted(gates: Gates, rate: Rate | None = None) -> int:
    """Ask until the gate is closed, and return how often it was not."""
    for count in range(100):
        if isinstance(await gates.ask(CHANNEL, rate), Closed):
            return count
    return 100


async def closed(gates: Gates, why: Why, for_s: float, rate: Rate | None = None, *, probe: bool = False) -> None:
    """See that the gate is closed, and for how long, but for what the test itself took."""
    answer = await gates.ask(CHANNEL, rate, probe=probe)
    assert isinstance(answer, Closed)
    assert why == answer.why
    assert for_s - 5.0 <= answer.for_s <= for_s + 0.001


class GatesContract:
    """The suite; `world` comes from the subclass."""

    @pytest.fixture
    async def world(self) -> GatesWorld:
        raise NotImplementedError

    async def test_what_nobody_said_anything_about_is_open(self, world: GatesWorld) -> None:
        """Without a rate there is no end to it; nobody who looks is told of anything."""
        async with world.open() as gates:
            assert 100 == await granted(gates)
            assert {CHANNEL: WELL, "other": WELL} == await gates.exchange({}, [CHANNEL, "other"])
            assert {} == await gates.exchange({}, [])
            assert is_well(WELL)

    async def test_a_rate_grants_its_burst_and_then_what_time_earns(self, world: GatesWorld) -> None:
        """Three at once, one in each 100 s after them, and never more than three, however long nobody asked."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            await closed(gates, "rate", 100.0, SLOW)
            world.move_clock(250.0)
            assert 2 == await granted(gates, SLOW)
            await closed(gates, "rate", 50.0, SLOW)
            world.move_clock(DAY_S)
            assert 3 == await granted(gates, SLOW)

    async def test_a_token_that_was_not_used_is_put_back_first(self, world: GatesWorld) -> None:
        """Whoever is let in again spends no second one; from then on the time counts that earns the next."""
        async with world.open() as ours, world.open() as theirs:
            assert 3 == await granted(ours, SLOW)
            world.move_clock(50.0)
            assert Admitted() == await ours.ask(CHANNEL, SLOW, again=True)
            await closed(theirs, "rate", 50.0, SLOW)
            world.move_clock(DAY_S)
            assert Admitted() == await ours.ask(CHANNEL, SLOW, again=True)
            assert 2 == await granted(theirs, SLOW)

    async def test_all_processes_together_get_time_by_rate_and_one_burst(self, world: GatesWorld) -> None:
        """Four processes that always ask get exactly 10 * 1 + 3 in 1,000 s, in whichever order they name streams."""
        count = 0
        async with world.open() as one, world.open(turned=True) as two, world.open() as three, world.open() as four:
            for _ in range(20):
                for gates in (one, two, three, four):
                    count += await granted(gates, SLOW)
                world.move_clock(50.0)
            count += await granted(two, SLOW)
        assert 13 == count

    async def test_a_limit_closes_until_it_is_over(self, world: GatesWorld) -> None:
        """For all processes, and whatever the breaker says; a shorter one does not end it."""
        async with world.open() as ours, world.open() as theirs:
            seen = await look(ours, News(limited_s=60.0))
            assert 55.0 < seen.limited_s < 60.001
            assert not is_well(seen)
            await look(theirs, News(limited_s=20.0, accepted=True))
            await closed(theirs, "limit", 60.0, SLOW)
            world.move_clock(60.0)
            assert 0.0 == (await look(ours)).limited_s
            assert 3 == await granted(ours, SLOW)

    async def test_a_limit_lasts_an_hour_at_most(self, world: GatesWorld) -> None:
        """A service that names a day is asked again after an hour."""
        async with world.open() as gates:
            await look(gates, News(limited_s=DAY_S))
            await closed(gates, "limit", 3600.0)

    async def test_ten_alerts_that_failed_within_two_seconds_open_the_breaker(self, world: GatesWorld) -> None:
        """Every process sees it, and for how long, and how often; who opened it is told."""
        async with world.open() as ours, world.open() as theirs:
            first = await look(ours, failures(1, 9))
            assert (9, 9, None) == (first.row, first.attempts, first.open_s)
            assert not is_well(first)
            assert Admitted() == await theirs.ask(CHANNEL)
            world.move_clock(2.0)
            opened = await look(theirs, failures(10, 10))
            assert opened.changed
            seen = await look(ours)
            await closed(ours, "breaker", 30.0)
        assert not seen.changed
        assert (10, 10, "answered 500") == (seen.row, seen.attempts, seen.reason)
        assert seen.open_s is not None
        assert 2.0 <= seen.failing_s < 7.0

    @pytest.mark.parametrize(
        ("before", "seconds", "after"),
        [
            (failures(1, 10), 1.0, failures(11, 20)),
            (failures(1, 5), DAY_S, failures(6, 9)),
            (failures(1, 1), 60.0, News(failed=["1-0"] * 20, attempts=20)),
            (failures(1, 9), 60.0, failures(10, 12, accepted=True)),
        ],
        ids=["too soon", "too few", "one alert", "accepted"],
    )
    async def test_less_leaves_it_closed(self, before: News, seconds: float, after: News, world: GatesWorld) -> None:
        """Ten within a second, nine in a day, one that failed twenty times, and a row that an acceptance ended."""
        async with world.open() as gates:
            await look(gates, before)
            world.move_clock(seconds)
            assert (await look(gates, after)).open_s is None
            assert Admitted() == await gates.ask(CHANNEL)

    async def test_an_acceptance_forgets_what_failed_before(self, world: GatesWorld) -> None:
        """And no more than that: what failed after it, in the same news, begins the next row; tokens stay spent."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            await look(gates, failures(1, 9))
            after = await look(gates, failures(10, 12, accepted=True))
            assert (3, 3) == (after.row, after.attempts)
            assert WELL == await look(gates, News(accepted=True))
            await closed(gates, "rate", 100.0, SLOW)

    async def test_the_services_own_word_opens_it_at_once(self, world: GatesWorld) -> None:
        """With the first alert; other channels go on."""
        async with world.open() as gates:
            opened = await look(gates, failures(1, 1, stopped=True))
            assert opened.changed
            assert opened.open_s is not None
            await closed(gates, "breaker", 30.0)
            assert Admitted() == await gates.ask("other")

    async def test_every_thirty_seconds_one_probe_goes_out(self, world: GatesWorld) -> None:
        """Of all processes one is granted it; its failure changes nothing about the next."""
        async with world.open() as ours, world.open() as theirs:
            await open_breaker(ours, world)
            await closed(theirs, "breaker", 30.0, probe=True)
            world.move_clock(30.0)
            await closed(ours, "breaker", 0.0)
            assert PROBE == await theirs.ask(CHANNEL, probe=True)
            await closed(ours, "breaker", 30.0, probe=True)
            await closed(ours, "breaker", 30.0)
            assert not (await look(theirs, failures(99, 99))).changed
            await closed(ours, "breaker", 30.0, probe=True)
            world.move_clock(30.0)
            assert PROBE == await ours.ask(CHANNEL, probe=True)

    async def test_a_probe_spends_a_token(self, world: GatesWorld) -> None:
        """Without one it waits, and none is granted in its name meanwhile."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            await open_breaker(gates, world)
            world.move_clock(30.0)
            await closed(gates, "rate", 70.0, SLOW, probe=True)
            world.move_clock(70.0)
            assert PROBE == await gates.ask(CHANNEL, SLOW, probe=True)
            await closed(gates, "breaker", 30.0, probe=True)

    async def test_an_acceptance_closes_it(self, world: GatesWorld) -> None:
        """For everybody at once; who reported it is told, and nothing of before counts any more."""
        async with world.open() as ours, world.open() as theirs:
            await open_breaker(ours, world)
            closing = await look(theirs, News(accepted=True))
            assert closing.changed
            assert WELL == await look(ours)
            assert Admitted() == await ours.ask(CHANNEL, probe=True)

    async def test_a_clock_that_is_set_keeps_nothing_closed(self, world: GatesWorld) -> None:
        """Set back by a day: a token is earned in its time, a limit means nothing any more, and a probe goes out."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            world.move_clock(-DAY_S)
            await closed(gates, "rate", 100.0, SLOW)
            world.move_clock(100.0)
            assert 1 == await granted(gates, SLOW)

            await look(gates, News(limited_s=3600.0))
            world.move_clock(-DAY_S)
            assert Admitted() == await gates.ask(CHANNEL)

            await open_breaker(gates, world)
            world.move_clock(-DAY_S)
            seen = await look(gates)
            assert (0.0, 0.0) == (seen.open_s, seen.failing_s)
            assert PROBE == await gates.ask(CHANNEL, probe=True)
            await closed(gates, "breaker", 30.0, probe=True)

    async def test_losing_them_opens_them(self, world: GatesWorld) -> None:
        """Nothing is left that could keep an alert back."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            await open_breaker(gates, world)
            await look(gates, News(limited_s=60.0))
            world.lose()
            assert WELL == await look(gates)
            assert 3 == await granted(gates, SLOW)

    async def test_names_and_reasons_are_kept_as_they_are(self, world: GatesWorld) -> None:
        """Whatever a receiver answered, and whatever a stream is called."""
        reason = "answered 500: ☕\n'; return redis.call('FLUSHALL')"
        async with world.open() as gates:
            news = News(failed=["a stream|1-0", "{b}|1-0"], attempts=3, reason=reason)
            seen = await look(gates, news)
        assert (2, 3, reason) == (seen.row, seen.attempts, seen.reason)

    async def test_a_closed_gate_says_why(self, world: GatesWorld) -> None:
        """A limit comes before a breaker, and a breaker before a rate: the longest is said."""
        async with world.open() as gates:
            assert 3 == await granted(gates, SLOW)
            await look(gates, failures(1, 1, stopped=True))
            await closed(gates, "breaker", 30.0, SLOW)
            await look(gates, News(limited_s=600.0))
            await closed(gates, "limit", 600.0, SLOW)
