from contextlib import suppress
from random import Random

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.errors import Stopping, Unavailable
from trio_alerts.pipeline.outage import LONGEST_WAIT_S, Outage


class Steady(Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Backend:
    def __init__(self, failures: int, fault: Exception | None = None) -> None:
        self.failures = failures
        self.fault = fault or Unavailable("connection refused")
        self.asked_at_s: list[float] = []

    async def ask(self) -> str:
        await trio.lowlevel.checkpoint()
        self.asked_at_s.append(round(trio.current_time(), 6))
        if len(self.asked_at_s) <= self.failures:
            raise self.fault
        return "answer"


async def test_an_outage_is_outlasted_with_growing_capped_waits(autojump_clock: MockClock) -> None:
    """0.1 s, doubling, at most 5 s; the first answer ends it."""
    backend = Backend(failures=8)
    start_s = trio.current_time()
    assert "answer" == await Outage("the store", Steady()).outlast(backend.ask)
    waits_s = [
        round(later - earlier, 6) for earlier, later in zip(backend.asked_at_s, backend.asked_at_s[1:], strict=False)
    ]
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_WAIT_S, LONGEST_WAIT_S] == waits_s
    assert 16.3 == round(trio.current_time() - start_s, 6)


async def test_an_outage_is_logged_once_each_way(autojump_clock: MockClock, lines: list[str]) -> None:
    """However many workers wait: one line when it begins, naming the cause, and one when it ends."""
    outage = Outage("the store", Random(1))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(outage.outlast, Backend(failures=3).ask)
    assert 2 == len([line for line in lines if "the store" in line]), lines
    assert "connection refused" in lines[0]
    assert "answers again" in lines[-1]


async def test_what_still_answers_is_no_end_of_an_outage(autojump_clock: MockClock, lines: list[str]) -> None:
    """A backend that refuses only some operations: still one line each way, the last when all were done."""
    outage = Outage("the store", Steady())
    async with trio.open_nursery() as nursery:
        for failures in (3, 6):
            nursery.start_soon(outage.outlast, Backend(failures).ask)
        for _ in range(100):
            await outage.outlast(Backend(failures=0).ask)
            await trio.sleep(0.1)
    assert [
        "WARNING the store does not answer: connection refused (waiting; entries stay pending)",
        "INFO the store answers again, after 6.3 s",
    ] == lines


async def test_a_long_outage_is_said_each_minute(autojump_clock: MockClock, lines: list[str]) -> None:
    """For how long, and the last cause; its end says how long it took."""
    outage = Outage("the store", Steady())
    outage.report()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outage.outlast, Backend(failures=45).ask)
        for _ in range(4):
            await trio.sleep(60)
            outage.report()
    waiting = "connection refused (waiting; entries stay pending)"
    assert [
        f"WARNING the store does not answer: {waiting}",
        f"ERROR the store has not answered for 60 s: {waiting}",
        f"ERROR the store has not answered for 2 min: {waiting}",
        f"ERROR the store has not answered for 3 min: {waiting}",
        "INFO the store answers again, after 3 min",
    ] == lines


async def test_a_backend_that_comes_and_goes_is_said_once_a_minute(autojump_clock: MockClock, lines: list[str]) -> None:
    """One failed request every two seconds: the first is said at once, the others are counted; a later one is new."""
    outage = Outage("the store", Steady())
    for minute in range(4):
        for _ in range(30 if minute < 2 else 0):
            await outage.outlast(Backend(failures=1).ask)
            await trio.sleep(1.9)
        await trio.sleep_until(60.0 * (minute + 1))
        outage.report()
    await outage.outlast(Backend(failures=1).ask)
    alone = ["WARNING the store does not answer: connection refused (waiting; entries stay pending)"]
    alone.append("INFO the store answers again, after 0.1 s")
    often = "WARNING the store is unstable: it did not answer {} more times in the last minute; the last: "
    often += "connection refused"
    assert [*alone, often.format(29), often.format(30), *alone] == lines


async def test_waiting_ends_when_the_process_stops(autojump_clock: MockClock) -> None:
    """A soft stop is not held up by a store that is away."""
    stopping = trio.Event()
    outage = Outage("the store", Random(1))
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(Stopping):
                await outage.outlast(Backend(failures=10**6).ask, stopping)

        nursery.start_soon(wait)
        await trio.sleep(30)
        stopping.set()
    assert outage.under_way
    assert "<Outage of the store: under way>" == repr(outage)


async def test_an_answer_that_nobody_foresaw_is_an_outage(autojump_clock: MockClock, lines: list[str]) -> None:
    """Named and waited for: nothing is wrong with the alert, nor with the process."""
    backend = Backend(failures=8, fault=KeyError("took"))
    assert "answer" == await Outage("the store", Steady(), finished=lambda: 7).outlast(backend.ask)
    assert "the store does not answer: an unexpected answer (KeyError('took'))" in lines[0]


async def test_what_fails_alone_while_others_get_through_is_a_fault(autojump_clock: MockClock) -> None:
    """The sixth try in a row: the backend is well, so it is not waited for, and nobody else is held up."""
    backend, finished = Backend(failures=10**6, fault=KeyError("took")), iter(range(100))
    with pytest.raises(KeyError):
        await Outage("the store", Steady(), finished=lambda: next(finished)).outlast(backend.ask)
    assert 6 == len(backend.asked_at_s)


async def test_an_outage_is_no_time_in_which_it_answered(autojump_clock: MockClock) -> None:
    """Owners of records get the time in which the store answered, and an outage is not of it."""
    outage = Outage("the store", Steady())
    await trio.sleep(100)
    await outage.outlast(Backend(failures=1).ask)
    await trio.sleep(10)
    assert [110, 29.9, 10] == [round(outage.uptime.since(moment_s), 6) for moment_s in (0, 80.1, 100.05)]


async def test_writes_that_are_refused_are_an_outage_while_reads_are_answered(autojump_clock: MockClock) -> None:
    """Nobody can write an outcome then; it is over when a write succeeds, or when nobody waits to write."""
    outage, give_up = Outage("the store", Steady()), trio.Event()

    async def write(backend: Backend) -> None:
        with suppress(Stopping):
            await outage.outlast(backend.ask, give_up, write=True)

    async def read(after_s: float) -> float:
        await trio.sleep(after_s)
        await outage.outlast(Backend(failures=0).ask)
        return round(outage.uptime.since(0), 6)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, Backend(failures=6))  # is done after 6.3 s
        assert [0, 0, 2.7, 5.7] == [await read(3) for _ in range(4)]
        nursery.start_soon(write, Backend(failures=10**6))
        assert [5.7, 5.7] == [await read(3) for _ in range(2)]
        give_up.set()
        await trio.sleep(1)
        assert [5.7, 6.7] == [await read(1) for _ in range(2)]
