"""Canaries in a history: who tends them, as a process with `http_bind` does, and dies in the middle of that as well."""

from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import TypeVar

import trio

from tests.simulation.history import History
from tests.simulation.promises import Promises, WatchedStore
from tests.support.fakes.canaries import FakeCanaries
from tests.support.fakes.stream_server import FakeServer, Stream
from tests.support.fakes.world import GROUP, STREAM
from trio_alerts.delivery import SINK
from trio_alerts.errors import Unavailable
from trio_alerts.operations.canaries import remove_orphans, tend
from trio_alerts.ports.canaries import Sighting
from trio_alerts.ports.store import RecordFilter, Stored
from trio_alerts.record import Record
from trio_alerts.record_ids import CANARY_FIELD, RecordIds
from trio_alerts.settings.settings import Settings

T = TypeVar("T")

EVERY_S = 5.0
DIES = 0.15  # how likely a step is its last, before it or after it
LAST_LOOKS = 3


class Keepers:
    """Two members of the deployment that tend its canaries; each step of theirs may be cut off.

    Args:
        server, store: Where canaries lie.
        settings: Of every process.
        promises: Hear which entries are canaries.
        history: Notes what they do.
        chance: When they look, and which step is their last.

    Attributes:
        every_s: How often they write one; None: no more, and those that are there come to their end.
    """

    def __init__(
        self,
        server: FakeServer,
        store: WatchedStore,
        settings: Settings,
        promises: Promises,
        history: History,
        chance: Random,
    ) -> None:
        self._server = server
        self._store = store
        self._promises = promises
        self._history = history
        self._chance = chance
        self._canaries = FakeCanaries(server, settings)
        self._dies = DIES
        self._ids = RecordIds([STREAM])
        self.every_s: float | None = EVERY_S

    async def run(self) -> None:
        """Tend them until cancelled."""
        while True:
            await trio.sleep(self._chance.uniform(0.2, 2.0))
            await self._look(self.every_s)

    async def end(self) -> None:
        """Clear away what is left, now that nobody works any more, and check that nothing is."""
        self._dies = 0.0
        for _ in range(LAST_LOOKS):
            await self._look(None)
        await remove_orphans(self._canaries, self._store, self._ids)
        own, stream = self._server.canary_of(STREAM, GROUP), self._server.streams.get(STREAM, Stream())
        entries = {one for one, fields in stream.entries.items() if [CANARY_FIELD] == [name for name, _ in fields]}
        notes = {*self._server.canaries.get(STREAM, {}), own.entry_id} - {""}
        records = [one.id for one in await self._store.search(RecordFilter(channel=(SINK,), canaries=True), 100)]
        if entries or notes or records:
            self._promises.breach("P9", f"of canaries are left: {entries=} {notes=} {records=}")

    async def _look(self, every_s: float | None) -> None:
        try:
            seen, says = await tend(STREAM, self, self, self._ids, every_s)  # type: ignore[arg-type]
        except Unavailable:
            self._history.note("keeper", "dies")
        else:
            self._history.note("keeper", seen.place, seen.entry_id, says, seen.lost)

    # --- both ports, as far as a keeper asks: each step happens, or not, and may be the last -------------------------

    async def write(self, stream: str, every_s: float | None, payload: bytes) -> Sighting:
        async def write() -> Sighting:
            seen = await self._canaries.write(stream, every_s, payload)
            if seen.entry_id:
                self._promises.entries[seen.entry_id] = self._ids.of_canary(stream, seen.entry_id)
            return seen

        return await self._step(write)

    async def settle(self, stream: str, entry_id: str, lost: str = "") -> None:
        await self._step(lambda: self._canaries.settle(stream, entry_id, lost))

    async def drop(self, stream: str, entry_id: str) -> None:
        await self._step(lambda: self._canaries.drop(stream, entry_id))

    async def noted(self, stream: str, entry_ids: Collection[str]) -> dict[str, str]:
        return await self._canaries.noted(stream, entry_ids)

    async def get(self, record_id: str) -> Stored | None:
        self._store.caller = None
        return await self._step(lambda: self._store.get(record_id))

    async def remove(self, record_id: str) -> None:
        await self._step(lambda: self._store.remove(record_id))

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        return await self._store.search(wanted, count, after)

    async def _step(self, do: Callable[[], Awaitable[T]]) -> T:
        if self._chance.random() < self._dies / 2:
            raise Unavailable("killed before it")
        done = await do()
        if self._chance.random() < self._dies / 2:
            raise Unavailable("killed after it")
        return done
