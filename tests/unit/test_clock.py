"""The server's clock: it may be set, and is then seen to jump."""

import datetime as dt

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.clock import ServerClock

EPOCH_S = 1_795_600_000.0


def measured() -> ServerClock:
    clock = ServerClock()
    clock.set(EPOCH_S)
    return clock


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(EPOCH_S + seconds, dt.UTC)


async def test_the_first_measurement_is_no_jump(mock_clock: MockClock) -> None:
    """What was there before is the machine's own time, which may be wrong by years."""
    assert 0.0 == ServerClock().set(5.0)
    assert 0.0 == ServerClock().set(10.0**10)


@pytest.mark.parametrize("seconds", [3600.0, 1.0, -1.0, -3600.0])
async def test_a_clock_that_is_set_jumps(mock_clock: MockClock, seconds: float) -> None:
    """By how much is known, and it is a jump only once."""
    clock = measured()
    mock_clock.jump(10)
    assert seconds == pytest.approx(clock.set(EPOCH_S + 10 + seconds))
    mock_clock.jump(10)
    assert 0.0 == clock.set(EPOCH_S + 20 + seconds)
    assert at(20 + seconds) == clock.now()


async def test_a_slow_answer_is_no_jump(mock_clock: MockClock) -> None:
    """The server may have looked at its clock when it was asked, or when it answered, before or now."""
    clock = measured()
    mock_clock.jump(5)
    assert 0.0 == clock.set(EPOCH_S, took_s=5.0)  # said at once, and then on the way for so long
    mock_clock.jump(5)
    assert 0.0 == clock.set(EPOCH_S + 10.0, took_s=0.0)  # so that this one is 5 s further
    mock_clock.jump(5)
    assert 5.0 == clock.set(EPOCH_S + 20.0)


async def test_a_clock_goes_straight_since_it_last_jumped(mock_clock: MockClock) -> None:
    """As far as this process knows: before it was asked for the first time, not at all."""
    assert ServerClock().straight_for_s < 0
    clock = measured()
    mock_clock.jump(10)
    assert 10 == clock.straight_for_s
    clock.set(EPOCH_S + 10)
    mock_clock.jump(5)
    assert 15 == clock.straight_for_s
    clock.set(EPOCH_S + 3600)
    mock_clock.jump(1)
    assert 1 == clock.straight_for_s


@pytest.mark.parametrize(("machine_s", "earliest_s"), [(-3600.0, -3600.0), (0.0, 0.0), (3600.0, 0.0)])
async def test_one_clock_alone_makes_nothing_old(mock_clock: MockClock, machine_s: float, earliest_s: float) -> None:
    """Of the server's time and this machine's own, the earlier one counts."""
    clock = ServerClock(lambda: EPOCH_S + machine_s)
    clock.set(EPOCH_S)
    assert at(earliest_s) == clock.earliest_now()


async def test_what_was_written_before_is_ahead_for_so_long(mock_clock: MockClock) -> None:
    """Set back twice: until the clock is where it was, times that were written before may lie in the future."""
    clock = measured()
    assert dt.timedelta() == clock.set_back
    clock.set(EPOCH_S - 100)
    assert dt.timedelta(seconds=100) == clock.set_back
    mock_clock.jump(40)
    clock.set(EPOCH_S - 100 + 40 - 50)
    assert dt.timedelta(seconds=150) == clock.set_back
    mock_clock.jump(149)
    assert dt.timedelta(seconds=150) == clock.set_back
    mock_clock.jump(2)
    assert dt.timedelta() == clock.set_back


async def test_no_lease_lapses_by_a_clock_that_is_set_forward(mock_clock: MockClock) -> None:
    """Its owner may be alive: it has as long as any lease, from then on."""
    clock = measured()
    assert not clock.lapsed(at(60), 60.0)
    mock_clock.jump(60)
    assert clock.lapsed(at(60), 60.0)
    clock.set(EPOCH_S + 60 + 3600)
    assert not clock.lapsed(at(60), 60.0)
    mock_clock.jump(59)
    assert not clock.lapsed(at(60), 60.0)
    mock_clock.jump(1)
    assert clock.lapsed(at(60), 60.0)
    assert not clock.lapsed(at(10_000), 60.0)
    await trio.lowlevel.checkpoint()
