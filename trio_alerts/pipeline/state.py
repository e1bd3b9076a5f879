"""What the tasks of one process share: its ports, its settings, and what is going on."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, TypeAlias

import trio

from trio_alerts.alert import Alert, Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.channels.sink import Sink
from trio_alerts.clock import ServerClock
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.agenda import Agenda
from trio_alerts.pipeline.bulkhead import Bulkhead
from trio_alerts.pipeline.channel_gate import ChannelGate
from trio_alerts.pipeline.channel_health import ChannelHealth
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.pipeline.in_flight import InFlight
from trio_alerts.pipeline.newer_records import NewerRecords
from trio_alerts.pipeline.outage import Outage, Signal
from trio_alerts.pipeline.patient import PatientStore, PatientStream
from trio_alerts.pipeline.retired import Close, RetiredChannels
from trio_alerts.ports.channel import Channel
from trio_alerts.ports.gates import Gates, Rate
from trio_alerts.ports.hints import Hints
from trio_alerts.ports.silences import Silences
from trio_alerts.ports.store import AlertStore
from trio_alerts.ports.stream import AlertStream, StreamUpkeep
from trio_alerts.routing.routes import Routing
from trio_alerts.routing.silences import SilenceCache
from trio_alerts.settings.settings import Settings

# What a worker does with one alert, which returns the entry that is to be acknowledged; see `run_worker`.
Carry: TypeAlias = Callable[[Any, "Pipeline"], Awaitable[Entry | None]]


@dataclass(kw_only=True)
class Pipeline:
    """The shared state of the tasks of one process. One is made per service; nothing here is global.

    `faults` are unexpected exceptions, `deployment` is the identity that both backends keep. `parse` and `traced` are
    where tracing takes its place: see `tracing/steps.py`.
    """

    settings: Settings
    stream: AlertStream
    upkeep: StreamUpkeep
    store: AlertStore
    silences: Silences
    hints: Hints
    gates: Gates
    channels: Mapping[str, Channel]
    routing: Routing
    clock: ServerClock = field(default_factory=ServerClock)
    random: Random = field(default_factory=Random)
    fault_point: FaultPoint = field(default_factory=FaultPoint)
    stopping: trio.Event = field(default_factory=trio.Event)
    faults: list[Exception] = field(default_factory=list)
    deployment: str = ""
    parse: Callable[[Entry, dt.datetime], Alert] = parse_entry
    traced: Callable[[Carry], Carry] = lambda carry: carry
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.in_flight = InFlight(self.settings.workers)
        self.bulkhead = Bulkhead((channel.names for channel in self.settings.channels), self.settings.workers)
        self.sink: Channel = Sink()
        self.waits = Signal()  # a worker begins or ends to wait for a backend
        self.finished = 0  # entries that were acknowledged
        self.stream_outage = Outage("Redis", self.random, self.waits, lambda: self.finished)
        self.store_outage = Outage("the store", self.random, self.waits, lambda: self.finished)
        self.patient_stream = PatientStream(self.stream, self.stream_outage)
        self.store_before_send = PatientStore(self.store, self.store_outage, self.stopping)
        self.store_after_send = PatientStore(self.store, self.store_outage)
        self.silence_cache = SilenceCache()
        self.gate_news = Signal()  # the other processes have to hear of something at once
        self.channel_gates: dict[str, ChannelGate] = {}
        self._make_gates()
        self.retired = RetiredChannels(self.in_flight)
        self.unconfigured: set[str] = set()  # channels that records name and this process does not know: logged
        self.agenda = Agenda(self.hints, self.clock)
        self.health: dict[str, ChannelHealth] = {}
        self.newer_records = NewerRecords()
        self.pruned_before: Mapping[str, tuple[int, int]] = {}  # entries from before it may have had a record
        self.quarantined_in_a_row = 0
        self.reading = False  # before, a stop has nothing to wait for
        self.read_since_s: float | None = None  # when the read under way began
        lease_s, attempt_s = self.settings.lease_s, self.settings.connect_timeout_s + self.settings.send_timeout_s
        self.send_within_s = min(lease_s / 2, lease_s - attempt_s)  # of a claim's stamp: its lease outlasts the send
        self._hold = self.settings.holding_channels
        self._run = f"{self.random.getrandbits(32):08x}"  # a process of the same name may have been here before
        self._attempts = count(1)
        self._intakes: set[trio.CancelScope] = set()

    def retry_policy(self) -> RetryPolicy:
        """Return the policy for one transition: its jitter is drawn anew."""
        settings, jitter = self.settings, self.random.uniform(-1.0, 1.0)
        return RetryPolicy(settings.retry_schedule_s, self._hold, jitter, settings.max_deliveries)

    def health_of(self, channel: str) -> ChannelHealth:
        """Return how a channel does: of any that a record names, which may be configured no more."""
        health = self.health.get(channel)
        if health is None:
            health = self.health[channel] = ChannelHealth(channel)
        return health

    def new_owner(self) -> str:
        """Return a token that no other attempt of any process has."""
        return f"{self.settings.consumer}/{self._run}/{next(self._attempts)}"

    def reconfigure(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        routing: Routing,
        close: Close | None = None,
    ) -> None:
        """Take up other channels and routes, at once: what is under way finds either the old ones or the new ones.

        Args:
            settings: In which nothing else has changed.
            channels: By each of their names; those that have not changed are the same objects.
            routing: By these settings.
            close: Closes what only channels of before used, once no attempt can use it any more.
        """
        gone = {name: channel for name, channel in self.channels.items() if name not in channels}
        if gone or close is not None:
            self.retired.add(gone, close)
        # What a channel holds it holds for attempts that are under way when it leaves, and when it comes back.
        self._hold = settings.holding_channels | {name for name in self._hold if name not in channels}
        self.settings, self.channels, self.routing = settings, channels, routing
        self.unconfigured -= channels.keys()
        self.bulkhead.watch(channel.names for channel in settings.channels)
        self._make_gates()
        self.gate_news.set()  # what the others know of a channel that is new here
        self.meter.configure(settings)

    def _make_gates(self) -> None:
        """Have a gate for each channel, by each of its names; what is known of a channel of that name is kept."""
        gates: dict[str, ChannelGate] = {}
        for one in self.settings.channels:
            rate = None if one.rate_per_s is None else Rate(one.rate_per_s, one.burst or 1)
            gate = self.channel_gates.get(one.name)
            if gate is None or gate.name != one.name:
                gate = ChannelGate(one.names, rate, self.gate_news)
            gate.configure(one.names, rate)
            gates |= dict.fromkeys(one.names, gate)
        self.channel_gates = gates

    async def measure_time(self) -> float:
        """Ask the server for its time; return by how many seconds its clock was set since the last time."""
        asked_at_s = trio.current_time()
        server_time_s = await self.stream.server_time()
        return self.clock.set(server_time_s, trio.current_time() - asked_at_s)

    def stop(self) -> None:
        """Begin the soft stop: nothing new is taken in. Safe to repeat."""
        self.stopping.set()
        for intake in self._intakes:
            intake.cancel()
        self.in_flight.wake()

    @contextmanager
    def intake(self) -> Iterator[None]:
        """A block that a soft stop cuts short. Only for waits after which an entry is still pending, unstarted."""
        with trio.CancelScope() as scope:
            if self.stopping.is_set():
                scope.cancel()
            self._intakes.add(scope)
            try:
                yield
            finally:
                self._intakes.discard(scope)

    async def pause(self, seconds: float) -> None:
        """Sleep, or until the soft stop."""
        with trio.move_on_after(seconds):
            await self.stopping.wait()
