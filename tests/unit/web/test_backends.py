"""What /readyz knows of the store and its schema, and since when."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.store import FakeStore
from trio_alerts.errors import AlertError, SchemaError, StartError, Unavailable
from trio_alerts.ports.store import AlertStore, Stored
from trio_alerts.settings.settings import Settings
from trio_alerts.web.backends import BOUND_S, LOOK_EVERY_S, Backends, Check


class Store(FakeStore):
    """A store that is guarded by a test."""

    fault: Exception | None = None
    opened = 0
    answers_after_s = 0.0

    async def guard(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault

    async def get(self, record_id: str) -> Stored | None:
        await trio.sleep(self.answers_after_s)
        return await super().get(record_id)


@asynccontextmanager
async def watched(store: Store, cannot_open: Callable[[], bool] = lambda: False) -> AsyncIterator[Backends]:
    @asynccontextmanager
    async def open_store(settings: Settings) -> AsyncIterator[AlertStore]:
        assert BOUND_S >= settings.store_timeout_s
        if cannot_open():
            raise StartError("no connection")
        store.opened += 1
        yield store

    backends = Backends(Settings(), open_store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backends.watch_store)
        yield backends
        nursery.cancel_scope.cancel()


async def test_before_the_first_look_nothing_is_ready(autojump_clock: MockClock) -> None:
    """It says so, rather than that anything is wrong."""
    says = Check().as_json()
    assert (False, "not looked at yet") == (says["ok"], says["reason"])


async def test_a_store_that_answers_is_asked_on_over_one_connection(autojump_clock: MockClock) -> None:
    """Its figures can be asked for, too; what is well gives no reason."""
    store = Store()
    async with watched(store) as backends:
        await trio.sleep(60)
        assert (store, 1) == (backends.store, store.opened)
        assert {"ok", "since"} == backends.store_check.as_json().keys() == backends.schema_check.as_json().keys()
        assert backends.store_check.ok
        assert backends.schema_check.ok


@pytest.mark.parametrize("fault", [Unavailable("no answer within 3 s"), ValueError("odd")])
async def test_an_outage_shows_within_a_look(autojump_clock: MockClock, fault: Exception) -> None:
    """The store is not well, the schema is as it was; when it is back, both are, over a new connection."""
    store = Store()
    async with watched(store) as backends:
        await trio.sleep(10)
        since = backends.store_check.since
        store.fault = fault
        await trio.sleep(LOOK_EVERY_S)
        assert (False, None) == (backends.store_check.ok, backends.store)
        assert ("no answer" in backends.store_check.reason) == isinstance(fault, AlertError)
        assert backends.schema_check.ok
        assert since < backends.store_check.since
        began = backends.store_check.since
        await trio.sleep(30)
        assert began == backends.store_check.since
        store.fault = None
        await trio.sleep(LOOK_EVERY_S + 0.1)
        assert backends.store_check.ok
        assert 1 < store.opened


async def test_a_wrong_index_is_not_an_outage(autojump_clock: MockClock) -> None:
    """The store has answered: it is the schema that cannot be trusted."""
    store = Store()
    store.fault = SchemaError("Index alerts-000001 lacks fields")
    async with watched(store) as backends:
        await trio.sleep(1)
        assert (True, False) == (backends.store_check.ok, backends.schema_check.ok)
        assert "lacks fields" in backends.schema_check.reason


async def test_it_is_ready_once_the_whole_look_has_succeeded(autojump_clock: MockClock) -> None:
    """An index that `run` creates just now is there before its shard answers: until then there are no figures."""
    store = Store()
    store.fault = SchemaError("There is no index")
    async with watched(store) as backends:
        await trio.sleep(1)
        store.fault, store.answers_after_s = None, 5.0
        await trio.sleep(LOOK_EVERY_S)
        assert (True, False, None) == (backends.store_check.ok, backends.schema_check.ok, backends.store)
        await trio.sleep(5.0)
        assert (True, True, store) == (backends.store_check.ok, backends.schema_check.ok, backends.store)


async def test_a_store_that_cannot_be_opened_is_tried_again(autojump_clock: MockClock) -> None:
    """At start, too."""
    async with watched(Store(), lambda: trio.current_time() < 10) as backends:
        await trio.sleep(9)
        assert (False, "no connection") == (backends.store_check.ok, backends.store_check.reason)
        await trio.sleep(2 * LOOK_EVERY_S)
        assert backends.store_check.ok
