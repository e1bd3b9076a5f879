"""A whole world in memory: one stream server, one store, receivers, and as many processes as a test wants."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.gates import FakeGates
from tests.support.fakes.hints import FakeHints
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer, KeptGate
from trio_alerts.alert import Entry
from trio_alerts.clock import ServerClock
from trio_alerts.delivery import Delivery
from trio_alerts.outcome import Later, Outcome
from trio_alerts.pipeline.claim import Disposition
from trio_alerts.pipeline.process import process_entry
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.store import AlertStore
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import ChannelSettings, Settings

STREAM, GROUP = "AlertStream", "alert-processor"
EVENT = {
    "alert_id": "a-1",
    "rule_id": "r-1",
    "view": "Lending",
    "scope": "aave v3",
    "severity": "high",
    "title": "Position liquidatable",
    "occurred_at": "2026-11-23T11:59:58Z",
}


async def bring_through(entry: Entry, pipeline: Pipeline) -> Disposition:
    """Bring an entry to its outcome and acknowledge it, as a worker and the acknowledger do."""
    left = await process_entry(entry, pipeline)
    if left is Disposition.ACKNOWLEDGE:
        await pipeline.patient_stream.ack([entry])
    return left


class NoJitter(Random):
    """Chance without chance: jitter is zero, and waits that are drawn from a range take its upper end."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0 if a == -b else b


class World:
    """Everything but the program.

    Args:
        outcomes: What the receiver of the channel `webhook` answers first; then it accepts.
        latency_s: How long it takes for an answer.
        channels: More channels, by name.
        hold: The channels whose policy is `hold`.
        settings: Settings that are not the defaults.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome | Later] = (),
        *,
        latency_s: float = 0.0,
        channels: Sequence[FakeChannel] = (),
        hold: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.server = FakeServer()
        self.store = FakeStore()
        self.channel = FakeChannel(outcomes=list(outcomes), latency_s=latency_s)
        self.channels = {channel.name: channel for channel in (self.channel, *channels)}
        self.clock: Callable[[], ServerClock] = ServerClock
        self._hold = hold
        self._settings = {"workers": 4, **settings}

    def settings(self, **changed: Any) -> Settings:
        """Return the settings of one process."""
        channels = tuple(
            ChannelSettings(name=name, in_doubt_policy="hold" if name in self._hold else "resend")
            for name in self.channels
        )
        return Settings(**{"consumer": "me", "channels": channels, **self._settings, **changed})

    def pipeline(self, consumer: str = "me", *, store: AlertStore | None = None, **changed: Any) -> Pipeline:
        """Return one process, ready to be served; on another store than the fake one, if given."""
        settings = self.settings(consumer=consumer, **changed)
        stream = FakeStream(self.server, settings)
        return Pipeline(
            settings=settings,
            stream=stream,
            upkeep=stream.upkeep,
            store=store or self.store,
            silences=FakeSilences(self.server, settings),
            hints=FakeHints(self.server, settings),
            gates=FakeGates(self.server, settings),
            channels=self.channels,
            routing=Routing(settings),
            clock=self.clock(),
            random=NoJitter(),
        )

    def emit(self, **fields: Any) -> str:
        """Add one alert to the stream and return its ID."""
        return self.server.add(STREAM, {b"event": json.dumps(EVENT | fields).encode()})

    def limit(self, channel: str, seconds: float = 3600.0) -> None:
        """Let a channel's service have said that it wants nothing for so long, an hour at most."""
        self.server.gates[STREAM, GROUP, channel] = KeptGate(until_s=self.server.time() + seconds)

    async def take(self, pipeline: Pipeline) -> Entry:
        """Read one entry, as the reader of this process."""
        await pipeline.stream.prepare()
        pipeline.clock.set(await pipeline.stream.server_time())
        entries = await pipeline.stream.read(1)
        pipeline.in_flight.hold(entries[0].record_id, entries[0])
        return entries[0]

    async def carry(self, pipeline: Pipeline | None = None, **fields: Any) -> tuple[Entry, Disposition]:
        """Emit one alert and bring it to its outcome."""
        pipeline = pipeline or self.pipeline()
        self.emit(**fields)
        entry = await self.take(pipeline)
        return entry, await bring_through(entry, pipeline)

    @asynccontextmanager
    async def serving(self, *pipelines: Pipeline) -> AsyncIterator[None]:
        """Serve these processes while the block runs, then stop them softly and wait for their end."""
        async with trio.open_nursery() as processes:
            for pipeline in pipelines:
                await processes.start(serve, pipeline)
            yield
            for pipeline in pipelines:
                pipeline.stop()

    @property
    def pending(self) -> dict[str, str]:
        """The consumer of each pending entry, by ID."""
        return {entry_id: held.consumer for entry_id, held in self.server.pending(STREAM, GROUP).items()}

    @property
    def dead(self) -> list[dict[bytes, bytes]]:
        """What lies in the dead-letter stream."""
        return [dict(fields) for fields in self.server.dead.get(STREAM, [])]

    @property
    def states(self) -> dict[str, str]:
        """The state of each record, by ID."""
        return {record_id: stored.record.delivery.state for record_id, stored in self.store.records.items()}

    def lease_left_s(self, record_id: str) -> float:
        """Return for how many seconds the running attempt of a record still has its lease."""
        lease_until = self.delivery(record_id).lease_until
        assert lease_until is not None
        return lease_until.timestamp() - self.server.time()

    def delivery(self, record_id: str) -> Delivery:
        """Return what became of a record."""
        return self.store[record_id]
