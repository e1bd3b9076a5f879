"""What is asked of Redis and the store for scrapes: never without one, never too often, and nothing old is shown."""

import datetime as dt
from collections import Counter
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.store import FakeStore
from trio_alerts.errors import Unavailable
from trio_alerts.ports.store import Counts, Vitals
from trio_alerts.settings.settings import Settings
from trio_alerts.web.backends import Backends
from trio_alerts.web.figures import ASK_EVERY_S, KEPT_S, WAIT_S, Figures

SINCE = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)


class CountedStore(FakeStore):
    """Counts what it is asked, and takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.slow_s = 0.0
        self.retrying = 1
        self.fault: Exception | None = None

    async def counts(self, now: dt.datetime) -> Counts:
        self.asked["counts"] += 1
        await trio.sleep(self.slow_s)
        if self.fault is not None:
            raise self.fault
        return Counts({"delivered": 5, "retrying": self.retrying}, overdue=0, in_doubt=0)

    async def vitals(self) -> Vitals:
        self.asked["vitals"] += 1
        return Vitals(SINCE, 0)


@pytest.fixture
def store() -> CountedStore:
    return CountedStore()


@pytest.fixture
def figures(store: CountedStore, nursery: trio.Nursery) -> Figures:
    backends = Backends(Settings(), cast("Any", None))
    backends.store = store
    figures = Figures(backends, Settings)
    nursery.start_soon(figures.keep_asking)
    return figures


async def test_nobody_is_asked_without_a_scrape(
    figures: Figures, store: CountedStore, autojump_clock: MockClock
) -> None:
    """An hour without a scrape costs no search."""
    await trio.sleep(3600)
    assert {} == store.asked


async def test_however_many_scrape_it_is_asked_every_few_seconds(
    figures: Figures, store: CountedStore, autojump_clock: MockClock
) -> None:
    """Ten scrapers, each ten times a second, for a minute: one look in `ASK_EVERY_S`, and one at what is slow."""

    async def scrape() -> None:
        for _ in range(600):
            assert (await figures.look())[1] is not None
            await trio.sleep(0.1)

    async with trio.open_nursery() as scrapers:
        for _ in range(10):
            scrapers.start_soon(scrape)
    assert 60 / ASK_EVERY_S >= store.asked["counts"] - 1
    assert 1 <= store.asked["vitals"] <= 2


async def test_nothing_waits_as_soon_as_no_record_does(
    figures: Figures, store: CountedStore, autojump_clock: MockClock
) -> None:
    """What is slow to find is looked for only while a record waits, and forgotten at once when none does."""
    _, found = await figures.look()
    assert found is not None
    assert SINCE == found.waiting_since
    store.retrying = 0
    await trio.sleep(ASK_EVERY_S + 1)
    _, found = await figures.look()
    assert found is not None
    assert (None, 1) == (found.waiting_since, store.asked["vitals"])


async def test_a_scrape_that_comes_seldom_gets_what_is_new(
    figures: Figures, store: CountedStore, autojump_clock: MockClock
) -> None:
    """The first look after a pause waits for its answer."""
    await figures.look()
    await trio.sleep(20)
    before = store.asked["counts"]
    await figures.look()
    assert before + 1 == store.asked["counts"]


async def test_a_slow_store_holds_no_scrape_up(
    figures: Figures, store: CountedStore, autojump_clock: MockClock
) -> None:
    """A scrape waits for `WAIT_S`, then shows the last figures, until they are too old."""
    _, first = await figures.look()
    store.slow_s = 1000.0
    await trio.sleep(ASK_EVERY_S + 1)
    began_s = trio.current_time()
    assert first == (await figures.look())[1]
    assert began_s + WAIT_S == trio.current_time()
    await trio.sleep(KEPT_S - ASK_EVERY_S)
    assert None is (await figures.look())[1]


@pytest.mark.parametrize("fault", [Unavailable("away"), ValueError("odd")])
async def test_figures_come_back_with_the_store(
    figures: Figures, store: CountedStore, autojump_clock: MockClock, fault: Exception
) -> None:
    """An outage leaves them out, and ends; so does an answer that nobody foresaw."""
    store.fault = fault
    assert None is (await figures.look())[1]
    store.fault = None
    await trio.sleep(ASK_EVERY_S + 1)
    assert None is not (await figures.look())[1]


async def test_a_backend_that_is_away_is_not_asked(figures: Figures, autojump_clock: MockClock) -> None:
    """There was never a connection to Redis here."""
    assert None is (await figures.look())[0]
