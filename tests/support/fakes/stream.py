"""A stream server in memory, in virtual time, with the real ones' rules and, on request, their faults.

One `FakeServer` holds the streams; each process of a test has its own `FakeStream`, a view of it for one consumer.
"""

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from tests.support.fakes.store import Fault
from tests.support.fakes.wire import Wire
from trio_alerts.alert import Entry
from trio_alerts.deployment import foreign_stream
from trio_alerts.errors import SchemaError, SettingsError, Unavailable
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, DeadEntry, Pending, is_suspect
from trio_alerts.record_ids import REPLAY_OF, RecordIds, order
from trio_alerts.settings.settings import Settings

T = TypeVar("T")
Fields = Sequence[tuple[bytes, bytes]]

MANY_WAITING = 1_000


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

    `seen_s` is when each consumer was last heard of, `lost` how many entries went before the group had read them, and
    `told` how many of these somebody was told of.
    """

    last_id: str
    pending: dict[str, Held] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)
    seen_s: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    told: int = 0

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


class FakeServer:
    """What several consumers share.

    Args:
        latency_s: How long every call takes, half of it before anything happens, in virtual seconds.

    Attributes:
        down: Nobody is answered; a blocked read fails at once.
        calls: Every call of every consumer, in order.
        decide: Called with each call; a fault it returns happens. The simulation's seeds choose here.
        dead: The entries of each dead-letter stream, by the name of the stream that they come from.
        owners: The identity of the deployment of each stream and group that has one.
        wire: Carries the calls, if it is set; `latency_s`, `down`, `fail_next` and `decide` then mean nothing.
    """

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.streams: dict[str, Stream] = {}
        self.dead: dict[str, list[Fields]] = {}
        self.locks: dict[str, float] = {}
        self.owners: dict[tuple[str, str], str] = {}
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
        """FLUSHALL: streams, groups, dead letters, locks and identities are gone."""
        self.streams.clear()
        self.owners.clear()
        self.dead.clear()
        self.locks.clear()
        self.changed.unpark_all()

    def set_id(self, stream: str, group: str, entry_id: str) -> None:
        """XGROUP SETID: the group reads on behind this entry, whatever it has read before."""
        self.streams[stream].groups[group].last_id = entry_id
        self.changed.unpark_all()

    def pending(self, stream: str, group: str) -> dict[str, Held]:
        """Return the pending list in the order of the stream; empty if there is no such group."""
        there = self.streams.get(stream, Stream()).groups.get(group, Group("0-0"))
        return {entry_id: there.pending[entry_id] for entry_id in sorted(there.pending, key=order)}

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


class FakeStream:
    """An `AlertStream` for one consumer of a `FakeServer`.

    Every method has two checkpoints: cancelled at the first, nothing has happened; at the second, a write has. Only
    `ack` holds a cancellation off.

    Args:
        server: Shared with the other consumers.
        settings: Streams, group, consumer, `block_s` and `start_from`.

    Attributes:
        lost_upstream: How many entries were deleted before anybody had dealt with them.
    """

    def __init__(self, server: FakeServer, settings: Settings) -> None:
        self.server = server
        self.lost_upstream = 0
        self._settings = settings
        self._names = settings.stream_names
        self._group = settings.group
        self._consumer = settings.consumer
        self._ids = RecordIds(settings.stream_names)
        self._replays: dict[tuple[str, str], str] = {}
        self._cursors: dict[str, str] = {}
        self._turn = 0
        self._woken = False
        self._deployment: str | None = None
        self._ahead_s = math.inf  # what the server's clock was ahead when it was last asked

    async def prepare(self) -> None:
        def effect() -> None:
            starts = {name: self._start(name) for name in self._names if self._found(name) is None}
            for name, start in starts.items():
                self._create_group(name, start)

        await self._call("prepare", effect)

    async def inspect(self) -> list[str]:
        def effect() -> list[str]:
            missing = [name for name in self._names if self._found(name) is None]
            for name in missing:
                self._start(name)
            return [f"group {self._group!r} of stream {name!r} would be created" for name in missing]

        return await self._call("inspect", effect)

    async def deployment(self) -> str | None:
        return await self._call("deployment", self._owner)

    async def keep_deployment(self, identity: str) -> str:
        def effect() -> str:
            self._deployment = self._keep(identity)
            return self._deployment

        return await self._call("keep_deployment", effect)

    async def replace_deployment(self, identity: str) -> None:
        def effect() -> None:
            self.server.owners |= {(name, self._group): identity for name in self._names}

        await self._call("replace_deployment", effect)

    async def guard(self) -> None:
        await self._call("guard", self._write_back)

    async def read(self, count: int) -> list[Entry]:
        self._woken = False
        if self.server.wire is not None:
            call = self._log("read", count)
            return await self.server.wire.carry(
                call, lambda: self._read_or_create(count), self._readable, self._settings.block_s
            )
        fault = await self._begin("read", count)
        lost = [name for name in self._names if self._found(name) is None]
        taken: list[Entry] = []
        with trio.move_on_after(self._settings.block_s):
            while not lost and not self._woken:
                taken = self._read(count)
                if taken:
                    break
                await self.server.changed.park()
                if self.server.down:
                    raise Unavailable("the connection was lost")
                lost = [name for name in self._names if self._found(name) is None]
        if lost:
            self._write_back()
        for name in lost:
            self._create_group(name, "0-0")
        await self._end(fault)
        return taken

    async def wake(self) -> None:
        await trio.lowlevel.checkpoint()
        self._woken = True
        self.server.changed.unpark_all()

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        def effect() -> list[Entry]:
            entries: list[Entry] = []
            for one in self._pending():
                mine = one.consumer == self._consumer and one.record_id not in holding and not is_suspect(one)
                if mine and len(entries) < count:
                    entries += self._take(one.stream, one.id, claimed=False)
            return entries

        return await self._call("own_pending", effect, count)

    async def look(self, min_idle_s: float, count: int) -> list[Pending]:
        def effect() -> list[Pending]:
            self._turn += 1
            found: list[Pending] = []
            for number in range(len(self._names)):
                name = self._names[(self._turn + number) % len(self._names)]
                idle = [one for one in self._pending() if one.stream == name and one.idle_s >= min_idle_s]
                behind = order(self._cursors.get(name, "0-0"))
                idle.sort(key=lambda one: (order(one.id) <= behind, order(one.id)))
                page = idle[: count - len(found)]
                self._cursors[name] = page[-1].id if page else "0-0"
                found += page
            return found

        return await self._call("look", effect, count)

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        def effect() -> list[Entry]:
            entries: list[Entry] = []
            if self.server.ahead_s > self._ahead_s + self._settings.keepalive_s:
                return entries
            for one in pending:
                held = self._held(one.stream, one.id)
                if held is not None and held.idle_s >= min_idle_s:
                    entries += self._take(one.stream, one.id, claimed=True)
            return entries

        return await self._call("claim", effect, len(pending), pending)

    async def restart_idle_times(self) -> None:
        def effect() -> None:
            for name in self._names:
                for held in self.server.pending(name, self._group).values():
                    if not held.idle_s:
                        held.since_s = trio.current_time()

        await self._call("restart_idle_times", effect)

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        def effect() -> set[str]:
            ours: set[str] = set()
            for entry in entries:
                held = self._own(entry)
                if held is not None and not self._dropped(entry.stream, entry.id):
                    held.since_s = trio.current_time()
                    held.deliveries = held.deliveries if counted is None else entry.deliveries - (not counted)
                    ours.add(entry.record_id)
            return ours

        return await self._call("renew", effect, len(entries), entries)

    async def owns(self, entry: Entry) -> bool:
        return await self._call("owns", lambda: self._own(entry) is not None, 1, [entry])

    async def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        return await self._call(
            "pending_among",
            lambda: {one.record_id for one in self._pending()} & set(record_ids),
            len(record_ids),
        )

    async def ack(self, entry: Entry) -> None:
        with trio.CancelScope(shield=True):
            await self._call("ack", lambda: self._acknowledge(entry.stream, entry.id), 1, [entry])

    async def quarantine(self, entry: Entry, dead: DeadEntry) -> bool:
        def effect() -> bool:
            if self._own(entry) is None:
                return False
            ours = {
                "_id": entry.id,
                "_record": entry.record_id,
                "_stream": entry.stream,
                "_group": self._group,
                "_consumer": self._consumer,
                "_reason": dead.reason,
                "_error": dead.error,
                "_deliveries": str(entry.deliveries),
                "_at": f"{dt.datetime.fromtimestamp(trio.current_time(), dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            fields = self.server.streams[entry.stream].entries.get(entry.id, tuple(entry.fields.items()))
            added = [(name.encode(), value.encode()) for name, value in ours.items()]
            self.server.dead.setdefault(entry.stream, []).append([*fields, *added])
            self._acknowledge(entry.stream, entry.id)
            return True

        return await self._call("quarantine", effect, 1, [entry])

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        def effect() -> int:
            count = 0
            for one in self._pending():
                held = self._held(one.stream, one.id)
                if held is None or one.consumer != self._consumer or one.record_id in keeping:
                    continue
                if held.idle_s >= HANDED_OVER_IDLE_S:
                    continue
                if self._dropped(one.stream, one.id):
                    self.lost_upstream += 1
                    continue
                held.since_s = trio.current_time() - HANDED_OVER_IDLE_S
                held.deliveries = max(held.deliveries - (one.record_id not in refunded), 0)
                count += 1
            return count

        return await self._call("hand_over", effect)

    async def leave(self) -> bool:
        def effect() -> bool:
            busy = {one.stream for one in self._pending() if one.consumer == self._consumer}
            for name in self._names:
                group = self._found(name)
                if group is not None and name not in busy:
                    group.consumers.discard(self._consumer)
            return not busy

        return await self._call("leave", effect)

    async def newly_lost(self) -> int:
        def effect() -> int:
            groups = [group for name in self._names if (group := self._found(name)) is not None]
            untold = sum(group.lost - group.told for group in groups)
            for group in groups:
                group.told = group.lost
            return untold

        return await self._call("newly_lost", effect)

    async def quarantined(self) -> int:
        return await self._call("quarantined", lambda: sum(len(self.server.dead.get(name, [])) for name in self._names))

    async def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
        def effect() -> list[str]:
            removed: dict[str, None] = {}
            for name in self._names:
                group = self._found(name)
                if group is None:
                    continue
                busy = {held.consumer for held in group.pending.values()} | {self._consumer}
                silent = {
                    one: None
                    for one in sorted(group.consumers - busy)
                    if trio.current_time() - group.seen_s.get(one, 0.0) >= min_idle_s
                }
                group.consumers.difference_update(silent)
                removed |= silent
            return list(removed)

        return await self._call("remove_idle_consumers", effect)

    async def trim(self, keep_s: float) -> int:
        def effect() -> int:
            return sum(self._trim(name, keep_s) for name in self._names)

        return await self._call("trim", effect)

    async def server_time(self) -> float:
        def effect() -> float:
            self._ahead_s = self.server.ahead_s
            return self.server.time()

        return await self._call("server_time", effect)

    async def lock(self, name: str, ttl_s: float) -> bool:
        def effect() -> bool:
            key = f"{self._group}:{name}"
            free = self.server.locks.get(key, 0.0) <= trio.current_time()
            if free:
                self.server.locks[key] = trio.current_time() + ttl_s
            return free

        return await self._call("lock", effect)

    async def _call(
        self, method: str, effect: Callable[[], T], count: int = 0, entries: Sequence[Entry | Pending] = ()
    ) -> T:
        if self.server.wire is not None:
            return await self.server.wire.carry(self._log(method, count, entries), effect)
        fault = await self._begin(method, count, entries)
        result = effect()
        await self._end(fault)
        return result

    def _log(self, method: str, count: int, entries: Sequence[Entry | Pending] = ()) -> Call:
        ids = tuple(entry.record_id for entry in entries)
        call = Call(trio.current_time(), self._consumer, method, count, ids)
        self.server.calls.append(call)
        return call

    async def _begin(self, method: str, count: int, entries: Sequence[Entry | Pending] = ()) -> Fault | None:
        fault = self.server.fault_of(self._log(method, count, entries))
        await trio.sleep(self.server.latency_s / 2)
        if self.server.down or fault == "down":
            raise Unavailable("the server is down")
        return fault

    async def _end(self, fault: Fault | None) -> None:
        await trio.sleep(self.server.latency_s / 2)
        if self.server.down or fault == "answer_lost":
            raise Unavailable("the answer was lost")

    def _readable(self) -> bool:
        """Tell whether a blocked read ends: there is something new, a group is missing, or somebody woke it."""
        if self._woken:
            return True
        for name in self._names:
            group = self._found(name)
            if group is None:
                return True
            newest = next(reversed(self.server.streams[name].entries), "0-0")
            if order(group.last_id) < order(newest):
                return True
        return False

    def _read_or_create(self, count: int) -> list[Entry]:
        lost = [name for name in self._names if self._found(name) is None]
        if lost:
            self._write_back()
        for name in lost:
            self._create_group(name, "0-0")
        return [] if lost or self._woken else self._read(count)

    def _read(self, count: int) -> list[Entry]:
        taken: list[Entry] = []
        self._turn += 1
        for number in range(len(self._names)):
            name = self._names[(self._turn + number) % len(self._names)]
            stream, group = self.server.streams[name], self.server.streams[name].groups[self._group]
            group.meet(self._consumer)
            for entry_id in [one for one in stream.entries if order(one) > order(group.last_id)]:
                if len(taken) == count:
                    break
                group.last_id = entry_id
                group.pending[entry_id] = Held(self._consumer, trio.current_time(), 1)
                taken.append(self._entry(name, entry_id, 1, claimed=False))
        return taken

    def _take(self, name: str, entry_id: str, *, claimed: bool) -> Iterator[Entry]:
        """Make a pending entry ours; nothing if it is deleted: then it is acknowledged and counted."""
        group = self.server.streams[name].groups[self._group]
        if self._dropped(name, entry_id):
            self.lost_upstream += 1
            return
        deliveries = group.pending[entry_id].deliveries + 1
        group.pending[entry_id] = Held(self._consumer, trio.current_time(), deliveries)
        group.meet(self._consumer)
        yield self._entry(name, entry_id, deliveries, claimed=claimed)

    def _dropped(self, name: str, entry_id: str) -> bool:
        """Take a deleted entry off the pending list, as XCLAIM does; false if it is not deleted."""
        if entry_id in self.server.streams[name].entries:
            return False
        self._acknowledge(name, entry_id)
        return True

    def _entry(self, name: str, entry_id: str, deliveries: int, *, claimed: bool) -> Entry:
        fields = dict(self.server.streams[name].entries[entry_id])
        original = self._ids.of_replay(name, entry_id, fields) if REPLAY_OF in fields else None
        if original is not None:
            self._replays[name, entry_id] = original
        record_id = original or self._ids.of(name, entry_id)
        return Entry(name, entry_id, fields, record_id, deliveries, claimed, original is not None)

    def _pending(self) -> list[Pending]:
        return [
            Pending(
                stream=name,
                id=entry_id,
                record_id=self._replays.get((name, entry_id)) or self._ids.of(name, entry_id),
                consumer=held.consumer,
                idle_s=held.idle_s,
                deliveries=held.deliveries,
            )
            for name in self._names
            for entry_id, held in self.server.pending(name, self._group).items()
        ]

    def _trim(self, name: str, keep_s: float) -> int:
        stream = self.server.streams.get(name, Stream())
        if not stream.groups:
            return 0
        limit = (round((self.server.time() - keep_s) * 1000) + 1, 0)
        for group in stream.groups.values():
            needed = [order(one) for one in group.pending]
            last_ms, last_sequence = order(group.last_id)
            limit = min([limit, *needed] if needed else [limit, (last_ms, last_sequence + 1)])
        done = [entry_id for entry_id in stream.entries if order(entry_id) < limit]
        for entry_id in done:
            self.server.delete(name, entry_id)
        return len(done)

    def _own(self, entry: Entry) -> Held | None:
        held = self._held(entry.stream, entry.id)
        return held if held is not None and held.consumer == self._consumer else None

    def _held(self, name: str, entry_id: str) -> Held | None:
        group = self._found(name)
        return None if group is None else group.pending.get(entry_id)

    def _found(self, name: str) -> Group | None:
        return self.server.streams.get(name, Stream()).groups.get(self._group)

    def _acknowledge(self, name: str, entry_id: str) -> None:
        group = self._found(name)
        if group is not None:
            group.pending.pop(entry_id, None)
        self._replays.pop((name, entry_id), None)

    def _owner(self) -> str | None:
        owners = {owner for name in self._names if (owner := self.server.owners.get((name, self._group)))}
        if len(owners) > 1:
            raise SchemaError(f"the streams belong to different deployments: {sorted(owners)}")
        return next(iter(owners), None)

    def _keep(self, identity: str) -> str:
        kept = self._owner() or identity
        for name in self._names:
            self.server.owners.setdefault((name, self._group), kept)
        return kept

    def _write_back(self) -> None:
        if self._deployment is not None and (kept := self._keep(self._deployment)) != self._deployment:
            raise foreign_stream(kept, self._deployment)

    def _create_group(self, name: str, start: str) -> None:
        stream = self.server.streams.setdefault(name, Stream())
        if self._group not in stream.groups:
            stream.groups[self._group] = Group(start)

    def _start(self, name: str) -> str:
        stream = self.server.streams.get(name, Stream())
        if self._settings.start_from == "refuse" and len(stream.entries) > MANY_WAITING:
            raise SettingsError(f"stream {name!r} holds {len(stream.entries):,} entries: set start_from")
        return stream.last_id if self._settings.start_from == "now" else "0-0"
