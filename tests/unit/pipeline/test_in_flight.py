import trio
from trio.testing import MockClock

from trio_alerts.alert import Entry
from trio_alerts.pipeline.in_flight import InFlight


def entry(number: int, deliveries: int = 1) -> Entry:
    return Entry("S", f"{number}-0", {}, f"{number}-0", deliveries)


async def test_an_id_is_held_once() -> None:
    """However an ID arrives, a second worker never gets it while the first has it."""
    in_flight = InFlight(2)
    assert in_flight.hold("1-0", entry(1))
    assert not in_flight.hold("1-0", entry(1))
    assert not in_flight.hold("1-0", None)
    in_flight.release("1-0", untouched=True)
    assert in_flight.hold("1-0", None)


async def test_idle_workers_are_counted_and_never_negative() -> None:
    """What is held beyond the workers waits; it does not make the count negative."""
    in_flight = InFlight(1)
    assert 1 == in_flight.idle
    for number in (1, 2):
        in_flight.hold(f"{number}-0", entry(number))
    assert 0 == in_flight.idle


async def test_a_release_wakes_who_waits(autojump_clock: MockClock) -> None:
    """The reader sleeps while all workers are busy, and looks again when one is done."""
    in_flight = InFlight(1)
    in_flight.hold("1-0", entry(1))
    start_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_flight.changed)
        await trio.sleep(5)
        in_flight.release("1-0", untouched=True)
    assert 5 == trio.current_time() - start_s


async def test_only_what_is_old_is_renewed(autojump_clock: MockClock) -> None:
    """The oldest come first, redrives have no entry to renew, and the search ends at the first young one."""
    in_flight = InFlight(9)
    in_flight.hold("1-0", entry(1))
    in_flight.hold("2-0", None)
    await trio.sleep(10)
    in_flight.hold("3-0", entry(3))
    assert ["1-0"] == [old.id for old in in_flight.older_than(10)]
    assert ["1-0", "3-0"] == [old.id for old in in_flight.older_than(0)]


async def test_what_was_begun_and_not_ended_stays_marked() -> None:
    """A cut or crashed entry must not be handed over as if it were untouched."""
    in_flight = InFlight(9)
    for number in (1, 2):
        in_flight.hold(f"{number}-0", entry(number))
        in_flight.start(f"{number}-0")
    in_flight.release("1-0", untouched=False)
    in_flight.release("2-0", untouched=True)
    assert {"1-0"} == set(in_flight.started)
    assert set() == set(in_flight.ids)


async def test_redrives_are_counted() -> None:
    """At most a quarter of the workers may have some."""
    in_flight = InFlight(9)
    in_flight.hold("1-0", entry(1))
    in_flight.hold("2-0", None)
    assert 1 == in_flight.redrives
    for number in (1, 2):
        in_flight.release(f"{number}-0", untouched=True)
    assert 0 == in_flight.redrives
    assert "<InFlight 0 of 9, 0 redrives>" == repr(in_flight)


async def test_a_suspect_is_one_until_it_is_released() -> None:
    """The next one may come when nothing of the last is held."""
    in_flight = InFlight(9)
    for number in (1, 2):
        in_flight.hold(f"{number}-0", entry(number, deliveries=3))
    in_flight.suspect = "2-0"
    assert "<InFlight 2 of 9, 0 redrives, suspect 2-0>" == repr(in_flight)
    in_flight.release("1-0", untouched=True)
    assert "2-0" == in_flight.suspect
    in_flight.release("2-0", untouched=True)
    assert in_flight.suspect is None
