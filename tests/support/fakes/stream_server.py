"""A stream server in memory, in virtual time, with the real ones' rules and, on request, their faults.

One `FakeServer` holds the streams; each process of a test has its own views of it, for one consumer: see `FakeStream`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from tests.support.fakes.store import Fault
from tests.support.fakes.wire import Wire
from trio_alerts.alert import Entry
from trio_alerts.errors import Unavailable
from trio_alerts.ports.hints import Queued
from trio_alerts.ports.silences import Silence
from trio_alerts.ports.stream import Pending
from trio_alerts.record_ids import order
from trio_alerts.settings.settings import Settings

T = TypeVar("T")
Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port: when it began in virtual seconds, by which consumer, and its number or IDs."""

    at_s: float
    consumer: str
    method: str
    count: int = 0
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Held:
    """An item of a group's pending list. Tests may change it: an older `since_s` makes it idle for longer."""

    consumer: str
    since_s: float
    deliveries: int

    @property
    def idle_s(self) -> float:
        return max(0.0, trio.current_time() - self.since_s)


@dataclass(slots=True)
class Group:
    """A consumer group: up to where it has read, who is in it, what is pending, by ID.

    `seen_s` is when each consumer was last seen, `lost` how many entries went before the group had read them, and
    `reported` how many of these were reported.
    """

    last_id: str
    pending: dict[str, Held] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)
    seen_s: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    reported: int = 0

    def meet(self, consumer: str) -> None:
        """A consumer takes something, or tries to."""
        self.consumers.add(consumer)
        self.seen_s[consumer] = trio.current_time()


@dataclass(slots=True)
class Stream:
    """A stream: its entries in order, its last ID, its groups, and what lies in its dead-letter stream."""

    entries: dict[str, Fields] = field(default_factory=dict)
    last_id: str = "0-0"
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptSilences:
    """The silences of one deployment, by ID, and their version."""

    version: str = ""
    by_id: Mapping[str, Silence] = field(default_factory=dict)


@dataclass(slots=True)
class HintKeys:
    """What the server keeps of a group's hints: due times in ms, queues by channel, and when was swept."""

    due: dict[str, int] = field(default_factory=dict)
    queues: dict[str, dict[str, Queued]] = field(default_factory=dict)
    sweep_began_ms: int | None = None
    sweep_ended_ms: int | None = None
    sweeping_since_ms: int = 0

    def lose(self) -> None:
        """DEL of every hint key."""
        self.due.clear()
        self.queues.clear()


@dataclass(slots=True)
class KeptGate:
    """One channel's gate; all times are the server's."""

    tat_s: float = -math.inf
    until_s: float = -math.inf
    first_s: float | None = None
    failed: list[str] = field(default_factory=list)
    attempts: int = 0
    reason: str = ""
    open_s: float | None = None
    probe_s: float = -math.inf


@dataclass(slots=True)
class KeptCanary:
    """What the server keeps of one group's canary in one stream."""

    entry_id: str = ""
    written_s: float | None = None
    through_s: float | None = None
    lost: str = ""


class FakeServer:
    """What several consumers share.

    Args:
        latency_s: How long every call takes, half of it before anything happens, in virtual seconds.

    Attributes:
        down: Nobody is answered; a blocked read fails at once.
        calls: Every call of every consumer, in order.
        decide: Called with each call; a fault it returns happens. The simulation's seeds choose here.
        dead: The entries of each dead-letter stream, by the name of the stream that they come from.
        deleted: The IDs of entries that were found deleted while they were pending, by the stream's name.
        owners: The identity of the deployment of each stream and group that has one.
        silences: Those of each deployment that ever had one, by the first of its streams and its group.
        hints: What is kept of the hints of each group.
        gates: Those that were ever asked about, by the first of the streams, the group and the channel.
        canaries: The group of each entry that is noted as a canary, by stream and ID.
        wire: Carries the calls, if it is set; `latency_s`, `down`, `fail_next` and `decide` then mean nothing.
    """

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.streams: dict[str, Stream] = {}
        self.dead: dict[str, list[Fields]] = {}
        self.deleted: dict[str, list[str]] = {}
        self.locks: dict[str, float] = {}
        self.owners: dict[tuple[str, str], str] = {}
        self.silences: dict[tuple[str, str], KeptSilences] = {}
        self.silence_writes = 0
        self.hints: dict[str, HintKeys] = {}
        self.gates: dict[tuple[str, str, str], KeptGate] = {}
        self.canaries: dict[str, dict[str, str]] = {}
        self._canaries: dict[tuple[str, str], KeptCanary] = {}
        self.calls: list[Call] = []
        self.decide: Callable[[Call], Fault | None] = lambda _: None
        self.changed = trio.lowlevel.ParkingLot()
        self.wire: Wire | None = None
        self.ahead_s = 0.0  # of the virtual time
        self._down = False
        self._planned: dict[str, list[Fault]] = {}

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        self.changed.unpark_all()

    def time(self) -> float:
        """Return the server's time in seconds: the virtual time, but for the jumps of its clock."""
        return trio.current_time() + self.ahead_s

    def jump(self, seconds: float) -> None:
        """Set the server's clock forward or back: idle times and locks are measured by it."""
        self.ahead_s += seconds
        for stream in self.streams.values():
            for group in stream.groups.values():
                for held in group.pending.values():
                    held.since_s -= seconds
        for name in self.locks:
            self.locks[name] -= seconds

    def add(self, stream: str, fields: Mapping[bytes, bytes] | Fields, entry_id: str = "*") -> str:
        """XADD; IDs are made of the virtual milliseconds."""
        there = self.streams.setdefault(stream, Stream())
        if entry_id == "*":
            last_ms, last_sequence = order(there.last_id)
            now_ms = max(round(self.time() * 1000), last_ms)
            entry_id = f"{now_ms}-{last_sequence + 1 if now_ms == last_ms else 0}"
        assert order(entry_id) > order(there.last_id), "an ID must be larger than the last one"
        there.entries[entry_id] = tuple(fields.items() if isinstance(fields, Mapping) else fields)
        there.last_id = entry_id
        self.changed.unpark_all()
        return entry_id

    def delete(self, stream: str, entry_id: str) -> None:
        """XDEL, or what trimming does: a pending entry stays on the pending list, an unread one is lost."""
        del self.streams[stream].entries[entry_id]
        for group in self.streams[stream].groups.values():
            group.lost += order(entry_id) > order(group.last_id)

    def trim(self, stream: str, maxlen: int) -> None:
        """XTRIM MAXLEN."""
        entries = self.streams[stream].entries
        for entry_id in list(entries)[: max(0, len(entries) - maxlen)]:
            self.delete(stream, entry_id)

    def destroy_group(self, stream: str, group: str) -> None:
        """XGROUP DESTROY: what was pending is forgotten."""
        del self.streams[stream].groups[group]
        self.changed.unpark_all()

    def flush(self) -> None:
        """FLUSHALL: streams, groups, dead letters, locks, silences, gates and identities are gone."""
        self.streams.clear()
        self.owners.clear()
        self.dead.clear()
        self.deleted.clear()
        self.locks.clear()
        self.silences.clear()
        for kept in self.hints.values():
            kept.lose()
            kept.sweep_began_ms = kept.sweep_ended_ms = None
        self.gates.clear()
        self.canaries.clear()
        self._canaries.clear()
        self.changed.unpark_all()

    def keep_silence(self, stream: str, group: str, silence: Silence, forgotten: Sequence[str] = ()) -> None:
        """Write a silence of a deployment over the one of its ID, if there is one; no version comes twice."""
        kept = self.silences.get((stream, group), KeptSilences())
        by_id = {one: there for one, there in kept.by_id.items() if one not in forgotten} | {silence.id: silence}
        self.silence_writes += 1
        self.silences[stream, group] = KeptSilences(f"{self.silence_writes}", by_id)

    def set_id(self, stream: str, group: str, entry_id: str) -> None:
        """XGROUP SETID: the group reads on behind this entry, whatever it has read before."""
        self.streams[stream].groups[group].last_id = entry_id
        self.changed.unpark_all()

    def pending(self, stream: str, group: str) -> dict[str, Held]:
        """Return the pending list in the order of the stream; empty if there is no such group."""
        there = self.streams.get(stream, Stream()).groups.get(group, Group("0-0"))
        return {entry_id: there.pending[entry_id] for entry_id in sorted(there.pending, key=order)}

    def hints_of(self, group: str) -> HintKeys:
        """Return what is kept of a group's hints."""
        return self.hints.setdefault(group, HintKeys())

    def canary_of(self, stream: str, group: str) -> KeptCanary:
        """Return what is kept of a group's canary."""
        return self._canaries.setdefault((stream, group), KeptCanary())

    def called(self, *methods: str) -> list[Call]:
        """Return the calls of these methods."""
        return [call for call in self.calls if call.method in methods]

    def fail_next(self, method: str, fault: Fault, times: int = 1) -> None:
        """Let the next calls of a method fail, before `decide` is asked."""
        self._planned.setdefault(method, []).extend([fault] * times)

    def fault_of(self, call: Call) -> Fault | None:
        """Choose what goes wrong with a call."""
        planned = self._planned.get(call.method)
        return planned.pop(0) if planned else self.decide(call)


class View:
    """What one consumer of a server sees of it, and how its calls reach it.

    Every call has two checkpoints: cancelled at the first, nothing has happened; at the second, a write has.

    Args:
        server: Shared with the other consumers.
        settings: Streams, group and consumer.
    """

    def __init__(self, server: FakeServer, settings: Settings) -> None:
        self.server = server
        self._settings = settings
        self._names = settings.stream_names
        self._group = settings.group
        self._consumer = settings.consumer

    async def serve(self, method: str, effect: Callable[[], T], *args: object) -> T:
        if self.server.wire is not None:
            return await self.server.wire.carry(self._log(method, *args), effect)
        fault = await self._begin(method, *args)
        result = effect()
        await self._end(fault)
        return result

    def _log(self, method: str, *args: object) -> Call:
        named = [one for arg in args for one in (arg if isinstance(arg, Sequence) else [arg])]
        ids = tuple(one.record_id for one in named if isinstance(one, Entry | Pending))
        count = next((arg for arg in args if isinstance(arg, int)), len(ids))
        call = Call(trio.current_time(), self._consumer, method, count, ids)
        self.server.calls.append(call)
        return call

    async def _begin(self, method: str, *args: object) -> Fault | None:
        fault = self.server.fault_of(self._log(method, *args))
        await trio.sleep(self.server.latency_s / 2)
        if self.server.down or fault == "down":
            raise Unavailable("the server is down")
        return fault

    async def _end(self, fault: Fault | None) -> None:
        await trio.sleep(self.server.latency_s / 2)
        if self.server.down or fault == "answer_lost":
            raise Unavailable("the answer was lost")

    def _found(self, name: str) -> Group | None:
        return self.server.streams.get(name, Stream()).groups.get(self._group)
