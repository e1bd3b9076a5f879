"""What /readyz says of the canary, with a real pipeline on fake backends: when it is late, and where it hangs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.canaries import FakeCanaries
from tests.support.fakes.world import STREAM, World
from trio_alerts.meter.cells import Cells, now_ms, own_cells
from trio_alerts.meter.layout import Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.settings.settings import Settings
from trio_alerts.web.backends import Check
from trio_alerts.web.canary import CanaryWatch
from trio_alerts.web.health import Health

EVERY_S = 60.0
LAYOUT = Layout(["webhook"])


class Watched:
    """A world whose canaries are watched; both backends answer as long as nobody takes them away."""

    def __init__(self, every_s: float | None = EVERY_S, **settings: Any) -> None:
        self.world = World(**settings)
        self.cells: Cells = own_cells(LAYOUT)
        self.cells[LAYOUT.beat] = now_ms()
        given = self.world.settings(canary_every_s=every_s)
        self.canaries = FakeCanaries(self.world.server, given)
        self.redis = SimpleNamespace(canaries=self.canaries)
        well = {name: Check(ok=True, reason="") for name in ("redis_check", "store_check", "schema_check")}
        self.backends = SimpleNamespace(redis=self.redis, store=self.world.store, **well)
        health = Health(LAYOUT, {"worker process 1": self.cells}, given)
        backends: Any = self.backends
        self.watch = CanaryWatch(given, backends, health)

    def pipeline(self) -> Pipeline:
        pipeline = self.world.pipeline()
        pipeline.meter = Meter(LAYOUT, self.cells)
        return pipeline

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        async with self.world.serving(self.pipeline()), trio.open_nursery() as nursery:
            nursery.start_soon(self.watch.watch)
            yield
            nursery.cancel_scope.cancel()

    @property
    def says(self) -> dict[str, Any]:
        says = self.watch.as_json()
        assert says is not None
        return says


async def test_as_long_as_canaries_come_through_it_is_ready(autojump_clock: MockClock, lines: list[str]) -> None:
    """The age runs from when one was written to when the next one is known to have come through."""
    watched, most = Watched(), 0.0
    async with watched.going():
        for _ in range(600):
            await trio.sleep(1)
            assert watched.says["ok"], watched.says
            most = max(most, watched.watch.ages()[STREAM])
            assert len(watched.world.server.streams[STREAM].entries) <= 1

    assert EVERY_S <= most <= EVERY_S + 2 * EVERY_S / 10
    assert {"ok", "since", "age_s"} == watched.says.keys()
    assert not [line for line in lines if "canary" in line]


async def test_two_periods_without_one_are_too_long(autojump_clock: MockClock, lines: list[str]) -> None:
    """It says for how long and where it hangs; that is logged when it begins and when it ends, and not in between."""
    watched = Watched()
    async with watched.going():
        await trio.sleep(30)
        watched.world.server.decide = lambda call: "down" if call.method == "read" else None
        for second in range(30, 3 * 60):
            assert watched.says["ok"] == (watched.says["age_s"] <= 120), (second, watched.says)
            await trio.sleep(1)
        late = watched.says
        watched.world.server.decide = lambda _: None
        await trio.sleep(60)

    assert "no canary has come through for 180 s: the last one waits to be read" in late["reason"]
    assert watched.says["ok"]
    begun, ended = (line for line in lines if "canary" in line)
    where = "no canary has come through for 121 s: the last one waits to be read; workers wait for Redis"
    assert f"ERROR the canary shows that alerts may not get through: {where}" == begun
    assert "INFO the canary comes through again" == ended


@pytest.mark.parametrize(
    ("away", "check", "where"),
    [
        ("redis", "redis_check", "Redis: no connection"),
        ("store", "store_check", "the store: no connection"),
        ("store", "schema_check", "the index: no connection"),
    ],
)
async def test_a_backend_that_is_away_is_named(away: str, check: str, where: str, autojump_clock: MockClock) -> None:
    """The age goes on, whoever could not be asked; why that is, its own check says."""
    watched = Watched()
    async with watched.going():
        await trio.sleep(30)
        setattr(watched.backends, away, None)
        getattr(watched.backends, check).note("no connection")
        await trio.sleep(100)
        assert watched.says["reason"].endswith(f"for 130 s: {where}")


async def test_a_store_that_takes_no_writes_is_named(autojump_clock: MockClock) -> None:
    """It answers reads, so nothing else here sees it: the canary waits with a worker."""
    watched = Watched()
    async with watched.going():
        await trio.sleep(30)
        watched.world.store.decide = lambda call: "down" if call.method in ("create", "replace") else None
        await trio.sleep(100)
        assert "the last one is held by consumer me" in watched.says["reason"]
        assert watched.says["reason"].endswith("; workers wait for the store")


async def test_workers_that_all_wait_for_a_receiver_are_named(autojump_clock: MockClock) -> None:
    """With as many alerts behind them as there are workers, the canary waits to be read."""
    watched = Watched(latency_s=10_000.0, workers=2, send_timeout_s=9_000.0, lease_s=20_000.0)
    async with watched.going():
        await trio.sleep(30)
        for _ in range(5):
            watched.world.emit()
        await trio.sleep(100)
        assert "the last one waits to be read" in watched.says["reason"]
        assert watched.says["reason"].endswith("; every worker is busy")


async def test_a_process_that_hangs_is_named_before_a_canary_is_late(autojump_clock: MockClock) -> None:
    """Whatever it has in its hands would hang with it, and a canary goes to whoever asks for it: the others."""
    watched = Watched()
    async with watched.going():
        await trio.sleep(30)
        watched.cells[LAYOUT.beat] = now_ms() - 14_000
        assert (False, "worker process 1: its loop has not turned for 14 s") == (
            watched.says["ok"],
            watched.says["reason"],
        )


async def test_without_canaries_it_says_nothing(autojump_clock: MockClock) -> None:
    """Neither here nor in the metrics; and none is written."""
    watched = Watched(every_s=None)
    async with watched.going():
        await trio.sleep(300)
        assert (None, {}) == (watched.watch.as_json(), watched.watch.ages())
        assert {} == watched.world.server.streams[STREAM].entries


async def test_whatever_goes_wrong_it_goes_on(autojump_clock: MockClock, logged: list[str]) -> None:
    """A bug is logged; the next look may work."""
    watched = Watched()
    async with watched.going():
        watched.backends.redis = SimpleNamespace(canaries=None)
        await trio.sleep(150)
        assert "an unexpected answer (AttributeError)" in watched.says["reason"]
        watched.backends.redis = watched.redis
        await trio.sleep(30)
        assert watched.says["ok"]
    assert [line for line in logged if "please report this bug" in line]


def test_it_is_made_before_the_loop_runs() -> None:
    """A port that is taken ends the program before anything is opened: so the pages are made first."""
    watch = CanaryWatch(Settings(canary_every_s=5.0), Any, Any)  # type: ignore[arg-type]
    assert (None, {}) == (watch.as_json(), watch.ages())


async def test_a_backend_that_is_lost_while_it_is_asked_is_named(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """Whoever watches it closes what the canary goes over: that is no bug, and what the watch found is the reason."""
    watched = Watched()
    async with watched.going():

        async def left(*_: object) -> None:
            raise trio.ClosedResourceError("it was left")

        monkeypatch.setattr(watched.canaries, "write", left)
        watched.backends.redis_check.note("refused")
        await trio.sleep(2.5 * EVERY_S)
        assert ": Redis: refused" in watched.says["reason"]
    assert not [line for line in logged if "report this bug" in line]
