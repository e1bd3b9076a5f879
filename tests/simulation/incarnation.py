"""One process from its start to its end: served by the real service, and watched."""

import dataclasses
import datetime as dt
import math
import sys
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from msgspec.structs import replace

from tests.simulation.bulk import BulkStore
from tests.simulation.gates import WatchedGates, WatchedHints
from tests.simulation.history import History
from tests.simulation.network import Backend, Killed, Network, Request
from tests.simulation.plan import EPOCH_S, Event
from tests.simulation.schedule import OWNER, FreezingQueue
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer
from trio_alerts.alert import Entry
from trio_alerts.clock import ServerClock
from trio_alerts.errors import AlertError
from trio_alerts.event import AlertEvent
from trio_alerts.pipeline.in_flight import InFlight
from trio_alerts.pipeline.retired import RetiredChannels
from trio_alerts.pipeline.service import serve
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import Channel
from trio_alerts.ports.store import AlertStore
from trio_alerts.routing.routes import Deliver, Routing, Suppress
from trio_alerts.settings.settings import Settings

if TYPE_CHECKING:
    from tests.simulation.promises import Promises


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes share."""

    server: FakeServer
    store: FakeStore
    network: Network
    receivers: Mapping[str, Channel]
    promises: "Promises"
    history: History
    queue: FreezingQueue
    bulk: bool
    upgraded_from_s: float


class Incarnation:
    """A process: killed, it does nothing more, whatever it was awaiting.

    Attributes:
        dead: It has ended, in whatever way.
        requests: What it has sent and not been answered.
        tokens: The owner tokens that it has made.
        saw_accepted: When which records' channels told it that they accepted, in what it holds now.
        disturbed_at_s: When it last was frozen, or could not reach the stream: others may take it for dead then.
        resumed_at_s: When it was last thawed.
        traps: At which calls it will be killed.
        born_at_s: When it was started.
        configured_at_s: When it was, or last took up other settings.
        newer: Of which version it is: whether it can read what the newer one wrote.
        unwritable_since_s: Since when each of its writes to the store has failed; infinite if the last did not.
    """

    def __init__(self, slot: int, settings: Settings, around: Surroundings, chance: Random) -> None:
        self.slot = slot
        self.name = settings.consumer
        self.dead = self.paused = False
        self.ended_by: list[BaseException] = []
        self.requests: dict[Request[Any], None] = {}
        self.tokens: set[str] = set()
        self.saw_accepted: dict[tuple[str, str], float] = {}
        self.disturbed_at_s = self.resumed_at_s = self.stopped_at_s = -(10.0**6)
        self.traps: list[Event] = []
        self.unwritable_since_s = math.inf
        self.born_at_s = self.configured_at_s = trio.current_time()
        self.newer = self.born_at_s >= around.upgraded_from_s
        self._around = around
        self._scope = trio.CancelScope()
        store: AlertStore = around.store
        self._bulk = BulkStore(around.store, around.network, settings.store_timeout_s) if around.bulk else None
        if self._bulk is not None:
            store = self._bulk
        stream = FakeStream(around.server, settings)
        self.pipeline = WatchedPipeline(
            settings=settings,
            stream=stream,
            upkeep=stream.upkeep,
            store=store,
            silences=FakeSilences(around.server, settings),
            hints=WatchedHints(around.server, settings, around.promises),
            gates=WatchedGates(around.server, settings, around.promises),
            channels=_channels(settings, around.receivers),
            routing=_Routing(settings, self, around.promises),
            clock=ServerClock(lambda: EPOCH_S + trio.current_time()),
            random=chance,
            who=self,
            promises=around.promises,
        )

    async def live(self) -> None:
        """Serve until stopped, killed or crashed; tells how it ended in `ended_by`."""
        token = OWNER.set(self)
        self._around.history.note(self.name, "starts")
        try:
            async with AsyncExitStack() as stack:
                if self._bulk is not None:  # around the service, as it is in the program: it outlives a hard stop
                    nursery = await stack.enter_async_context(trio.open_nursery())
                    stack.callback(nursery.cancel_scope.cancel)
                    for task in self._bulk.tasks():
                        nursery.start_soon(task)
                with self._scope:
                    await serve(self.pipeline)
        except BaseExceptionGroup as group:
            self.ended_by = _leaves(group)
        except (AlertError, Killed) as fault:
            self.ended_by = [fault]
        finally:
            OWNER.reset(token)
            self.dead = True
            self._around.queue.thaw(self)
        self._around.history.note(self.name, "ended", *sorted({repr(fault) for fault in self.ended_by}))

    def kill(self, why: str = "") -> None:
        """End it as SIGKILL does."""
        if self.dead:
            return
        self.dead = True
        self._around.promises.died(self)
        self._around.history.note(self.name, "KILLED", why)
        for request in list(self.requests):
            request.interrupt("dead")
        self._scope.cancel()  # and the backend's tasks, which await only requests, end with the service
        self._around.queue.thaw(self)

    def stop(self) -> None:
        """Stop it softly."""
        if not self.dead and not self.pipeline.stopping.is_set():
            self._around.history.note(self.name, "STOP")
            self.stopped_at_s = trio.current_time()
            self.pipeline.stop()

    def reload(self, settings: Settings) -> None:
        """Let it take up other settings; one that is frozen does not hear of them."""
        if self.dead or self.paused:
            return
        self._around.history.note(self.name, "RELOAD", *(channel.name for channel in settings.channels))
        self.configured_at_s = trio.current_time()
        settings = dataclasses.replace(settings, consumer=self.name)
        routing = _Routing(settings, self, self._around.promises)
        self.pipeline.reconfigure(settings, _channels(settings, self._around.receivers), routing)

    def stop_now(self) -> None:
        """Stop it as a second signal does: cancelled, with what is shielded."""
        if not self.dead:
            self._around.history.note(self.name, "STOP NOW")
            self._scope.cancel()

    def pause(self) -> None:
        """Freeze it; what it has put on the wire goes on."""
        if self.dead or self.paused:
            return
        self.paused = True
        self._around.history.note(self.name, "PAUSE")
        self._around.queue.freeze(self)
        for request in self.requests:
            if not request.done and self._around.network.chance.random() < 0.5:
                self._around.network.go_on(request)

    def resume(self) -> None:
        """Let it go on."""
        if self.paused:
            self.paused = False
            self.resumed_at_s = trio.current_time()
            self.disturbed()
            self._around.history.note(self.name, "RESUME")
            self._around.queue.thaw(self)

    def disconnect(self, backend: Backend) -> None:
        """Break its connections to a backend."""
        for request in list(self.requests):
            if request.backend == backend:
                request.interrupt("connection")
        self.disturbed()

    def disturbed(self) -> None:
        """Note that something kept it from being on time just now."""
        self.disturbed_at_s = trio.current_time()
        self._around.promises.stream_troubled = True

    def trip(self, call: object, moment: str) -> None:
        """Die here, or be told twice to stop, if a trap is set for this call.

        Raises:
            Killed: It did.
        """
        method = getattr(call, "method", "")
        for trap in self.traps:
            if trap.target == method and trap.how == moment:
                self.traps.remove(trap)
                if trap.number > 1:
                    self.traps.append(replace(trap, number=trap.number - 1))
                    return
                if trap.what == "stop_on":
                    self.stop()
                    self.stop_now()
                    return
                self.kill(f"{moment} its {method} had an effect")
                raise Killed


class _Routing(Routing):
    """Decides as ever, but that an alert that is lethal kills its process before it has a record."""

    def __init__(self, settings: Settings, who: Incarnation, promises: "Promises") -> None:
        super().__init__(settings)
        self._who = who
        self._promises = promises

    def decide(self, alert: AlertEvent, now: dt.datetime) -> Deliver | Suppress:
        if alert.alert_id in self._promises.lethal and not self._who.dead:
            self._promises.poisoned(self._who, self._promises.lethal[alert.alert_id])
            self._who.kill("poisoned by " + alert.alert_id)
            raise Killed
        return super().decide(alert, now)


class WatchedInFlight(InFlight):
    """What a process holds, and the promises about it."""

    def __init__(self, workers: int, who: Incarnation, promises: "Promises") -> None:
        super().__init__(workers)
        self._who = who
        self._promises = promises

    def hold(
        self, record_id: str, entry: Entry | None, channels: Collection[str] = (), *, drained: bool = False
    ) -> bool:
        held = super().hold(record_id, entry, channels, drained=drained)
        if held and not self._who.dead:
            self._promises.held(self._who)
        return held

    def release(self, record_id: str, *, untouched: bool) -> None:
        if not self._who.dead:
            fault = sys.exc_info()[1]
            if fault is None:
                self._promises.released(self._who, record_id, untouched=untouched)
            elif isinstance(fault, trio.Cancelled):
                self._promises.cut_off(self._who, record_id)
        for one in [one for one in self._who.saw_accepted if one[0] == record_id]:
            del self._who.saw_accepted[one]
        super().release(record_id, untouched=untouched)


@dataclass(kw_only=True)
class WatchedPipeline(Pipeline):
    """A pipeline whose owner tokens and holdings are known."""

    who: Incarnation
    promises: "Promises" = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.in_flight = WatchedInFlight(self.settings.workers, self.who, self.promises)
        self.retired = RetiredChannels(self.in_flight)

    def new_owner(self) -> str:
        token = super().new_owner()
        self.who.tokens.add(token)
        if not self.who.dead:
            self.promises.new_token(self.who, token)
        return token


def _channels(settings: Settings, receivers: Mapping[str, Channel]) -> dict[str, Channel]:
    return {name: receivers[name] for channel in settings.channels for name in channel.names}


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for fault in group.exceptions:
        found += _leaves(fault) if isinstance(fault, BaseExceptionGroup) else [fault]
    return found
