"""What lies between the processes and their backends: latency, faults, and requests that outlive who sent them."""

import contextvars
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import trio

from tests.simulation.history import History
from tests.simulation.plan import Event
from tests.simulation.schedule import OWNER
from tests.support.fakes import store as fake_store
from tests.support.fakes import stream_server
from trio_alerts.errors import Unavailable
from trio_alerts.ports.store import Stored

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation

T = TypeVar("T")

Backend = Literal["stream", "store"]
Cut = Literal["", "dead", "connection"]

WRITES = ("create", "replace", "bulk")
AT_START = frozenset(
    {"deployment", "guard", "prepare", "keep_deployment", "pruned"}
)  # one that fails ends the start: exit 4
SLOW_S = 2.5  # longer than the processes wait for the stream, and nearly as long as they wait for the store
LATE_S = 20.0  # a request whose caller is gone is carried out at most this much later, if at all


class Nonsense(Exception):
    """What the program's border makes of an unexpected answer: an unexpected exception."""


class Killed(BaseException):
    """The process is dead: whatever it awaits, shielded or not, goes no further."""


@dataclass(frozen=True, slots=True)
class BulkCall:
    """A `_bulk` request of several writes."""

    ids: tuple[str, ...]
    method: str = "bulk"


@dataclass(eq=False)
class Request(Generic[T]):
    """A request on its way. Once it is on the wire it may have its effect without its caller.

    Args:
        effect: What happens at the other end.
        until, within_s: See `Wire.carry`.
        ghostly: How likely it is carried out when its caller is gone.
        backend: Where it goes to; None for a receiver.
    """

    effect: Callable[[], T]
    until: Callable[[], bool] | None = None
    within_s: float = 0.0
    ghostly: float = 0.5
    backend: Backend | None = None

    def __post_init__(self) -> None:
        self.done = False
        self.cut: Cut = ""
        self.scope = trio.CancelScope()
        self._result: T | Exception | None = None

    def apply(self) -> None:
        """Let it have its effect, unless it has had it."""
        if self.done:
            return
        self.done = True
        try:
            self._result = self.effect()
        except Exception as fault:  # noqa: BLE001 - it is the answer
            self._result = fault

    def answer(self) -> T:
        """Return what the other end said, or raise it."""
        if isinstance(self._result, Exception):
            raise self._result
        return self._result  # type: ignore[return-value]  # None only where the answer is None

    def interrupt(self, cut: Cut) -> None:
        """Let its caller wait no longer."""
        self.cut = self.cut or cut
        self.scope.cancel()


@dataclass(slots=True)
class _Trip:
    forward_s: float
    back_s: float
    refused: bool = False
    lost: bool = False
    nonsense: bool = False


class Network:
    """A `Wire` for the fakes, and the receivers' one.

    Args:
        chance: Latencies, and which calls a fault hits.
        history: Every effect is noted there.
        tasks: Requests that outlive their callers run here.
        latency_s: The longest way there and back.
        timeouts_s: How long processes wait for each backend.
        refuses_every_s: See `Plan`.

    Attributes:
        weather: The faults that are going on.
        frozen_until_s: The stream's server makes no step until then.
        store_troubled_at_s: When a call of the store last failed or was slow.
        after_effect: Called after each effect, with the process that asked for it.
    """

    def __init__(
        self,
        chance: Random,
        history: History,
        tasks: trio.Nursery,
        latency_s: float,
        timeouts_s: dict[Backend, float],
        refuses_every_s: float = 0.0,
    ) -> None:
        self.chance = chance
        self.weather: list[Event] = []
        self.frozen_until_s = 0.0
        self.store_troubled_at_s = self._refused_at_s = -(10.0**6)
        self._has_refused = False
        self.changed = trio.lowlevel.ParkingLot()  # the stream's server's: whoever waits there looks again
        self.before_effect: Callable[[Incarnation, object], None] = lambda _who, _call: None
        self.after_effect: Callable[[Incarnation, object, object], None] = lambda _who, _call, _result: None
        self._history = history
        self._tasks = tasks
        self._nobody = contextvars.copy_context()
        self.latency_s = latency_s
        self._timeouts_s = timeouts_s
        self._refuses_every_s = refuses_every_s

    async def carry(
        self, call: object, effect: Callable[[], T], until: Callable[[], bool] | None = None, within_s: float = 0.0
    ) -> T:
        """See `Wire.carry`; the caller is the process that the task belongs to."""
        who: Incarnation | None = OWNER.get()  # type: ignore[assignment]  # nothing else is ever set
        if who is None:
            return effect()
        backend: Backend = "stream" if isinstance(call, stream_server.Call) else "store"
        trip = self._trip(backend, who, call)
        request = Request(
            lambda: self._effect(who, call, effect), until, within_s, 0.5 if until is None else 0.1, backend
        )
        try:
            result = await self.travel(who, call, request, trip.forward_s, trip.back_s, trip)
        except (Unavailable, Nonsense):
            if _method(call) in WRITES:
                who.unwritable_since_s = min(who.unwritable_since_s, trio.current_time())
            raise
        if _method(call) in WRITES:
            who.unwritable_since_s = math.inf
        return result

    async def travel(
        self,
        who: "Incarnation",
        call: object,
        request: Request[T],
        forward_s: float,
        back_s: float,
        trip: _Trip | None = None,
    ) -> T:
        """Bring a request to its other end and its answer back.

        Raises:
            Unavailable: The backend did not answer in time, or the connection broke.
            Killed: Its process is dead.

        Cancellation: it may have its effect all the same, now or later.
        """
        if who.dead:
            raise Killed
        backend = request.backend
        who.requests[request] = None
        began_s = trio.current_time()
        with request.scope:
            if backend is not None:
                request.scope.deadline = began_s + self._timeouts_s[backend] + request.within_s
            try:
                await trio.sleep(forward_s)
                if trip is not None and trip.refused:
                    request.done = True
                    self._disturbed(who, backend)
                    raise Unavailable("connection refused")
                if trip is not None and trip.nonsense:
                    request.done = True
                    self._disturbed(who, backend)
                    raise Nonsense("took")
                await self._wait(request)
                who.trip(call, "before")
                request.apply()
                who.trip(call, "after")
                await trio.sleep(back_s)
                if trip is not None and trip.lost:
                    self._disturbed(who, backend)
                    raise Unavailable("the connection broke")
                return request.answer()
            finally:
                del who.requests[request]
                if not request.done and self.chance.random() < request.ghostly:
                    self.go_on(request)
        if request.cut == "dead":
            raise Killed
        if self.frozen_until_s < began_s:
            self._disturbed(who, backend)  # while nobody was answered, nobody may be taken for dead
        raise Unavailable("the connection broke" if request.cut else "no answer in time")

    def go_on(self, request: Request[T]) -> None:
        """Let a request reach its other end without its caller, later."""
        delay_s = self.chance.choice((0.0, self.chance.uniform(0.0, 2.0), self.chance.uniform(0.0, LATE_S)))
        self._nobody.run(self._tasks.start_soon, self._arrive, request, delay_s)

    async def _arrive(self, request: Request[T], delay_s: float) -> None:
        await trio.sleep(delay_s)
        await self._wait(request)
        request.apply()

    def _disturbed(self, who: "Incarnation", backend: Backend | None) -> None:
        if backend == "stream":
            who.disturbed()
        else:
            self.store_troubled_at_s = trio.current_time()

    async def _wait(self, request: Request[T]) -> None:
        if request.backend == "stream" and self.frozen_until_s > trio.current_time():
            await trio.sleep_until(self.frozen_until_s)
        if request.until is None:
            return
        with trio.move_on_after(request.within_s):
            while not request.done and not request.until():
                await self.changed.park()

    def _effect(self, who: "Incarnation", call: object, effect: Callable[[], T]) -> T:
        self.before_effect(who, call)
        try:
            result = effect()
        except Exception as fault:
            self._history.note(who.name, _method(call), *_ids(call), repr(fault))
            raise
        self._history.note(who.name, _method(call), *_ids(call), _brief(result))
        self.after_effect(who, call, result)
        return result

    def _trip(self, backend: Backend, who: "Incarnation", call: object) -> _Trip:
        chance = self.chance
        trip = _Trip(chance.random() * self.latency_s / 2, chance.random() * self.latency_s / 2)
        refuses = backend == "store" and _method(call) not in AT_START
        if refuses and 0 < self._refuses_every_s <= trio.current_time() - self._refused_at_s:
            # Not twice in a row: who is alone and waits for longer than that would never get through.
            trip.refused = self._has_refused = not self._has_refused
            if trip.refused:
                self._refused_at_s = trio.current_time()
        for event in self.weather:
            if event.target != backend or event.slot not in (-1, who.slot) or chance.random() >= event.rate:
                continue
            match event.how:
                case "refused":
                    trip.refused = True
                case "lost":
                    trip.lost = True
                case "read_only" if _method(call) in WRITES:
                    trip.refused = True
                case "nonsense" if _method(call) in WRITES:
                    trip.nonsense = True
                case "slow":
                    trip.forward_s += chance.uniform(0.0, SLOW_S)
                    self._disturbed(who, backend)
                case "hang":
                    trip.forward_s += chance.uniform(3.0, LATE_S)
                    self._disturbed(who, backend)
        return trip


def _method(call: object) -> str:
    return call.method if isinstance(call, stream_server.Call | fake_store.Call | BulkCall) else type(call).__name__


def _ids(call: object) -> tuple[object, ...]:
    match call:
        case stream_server.Call(count=count, ids=ids):
            return (",".join(ids) or count,)
        case fake_store.Call(record_id=record_id, state=state):
            return (f"{record_id} {state}".strip(),)
        case BulkCall(ids=ids):
            return (",".join(ids),)
    return ()


def _brief(result: object) -> str:
    """Say what came out, in a few words that are the same in every run."""
    match result:
        case Stored(record=record, version=version):
            delivery = record.delivery
            channels = ",".join(f"{one.name}={one.state}/{one.attempts}/{one.in_doubt}" for one in delivery.channels)
            return f"{delivery.state} v{version[0]} {delivery.owner} {channels}"
        case list() | set():
            return "[" + ", ".join(sorted(_brief(one) for one in result)) + "]"
        case dict():
            return "; ".join(f"{name}: {_brief(value)}" for name, value in result.items())
    if hasattr(result, "record_id"):
        return f"{result.record_id}#{getattr(result, 'deliveries', '')}"
    return type(result).__name__ if type(result).__module__.startswith("trio_alerts") else str(result)
