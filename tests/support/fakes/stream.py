"""The stream port on the server in memory."""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Sequence

import trio
from msgspec.structs import replace

from tests.support.fakes.canaries import FakeCanaries
from tests.support.fakes.hints import FakeHints
from tests.support.fakes.stream_server import FakeServer, Group, Held, Stream, View
from tests.support.fakes.upkeep import FakeUpkeep
from tests.support.fakes.wire import served
from trio_alerts.alert import Entry
from trio_alerts.deployment import foreign_stream
from trio_alerts.errors import SchemaError, SettingsError, Unavailable
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, Pending, is_suspect
from trio_alerts.record_ids import CANARY_FIELD, REPLAY_OF, RecordIds, order
from trio_alerts.settings.settings import Settings

MANY_WAITING = 1_000


class FakeStream(View):
    """An `AlertStream` for one consumer of a `FakeServer`.

    Attributes:
        upkeep: The janitor's view of the same server.
        hints: The group's hints on it.
        canaries: The group's canaries on it.
    """

    def __init__(self, server: FakeServer, settings: Settings) -> None:
        super().__init__(server, settings)
        self.upkeep = FakeUpkeep(server, settings)
        self.hints = FakeHints(server, settings)
        self.canaries = FakeCanaries(server, settings)
        self._ids = RecordIds(settings.stream_names)
        self._replays: dict[tuple[str, str], str] = {}
        self._cursors: dict[str, str] = {}
        self._turn = 0
        self._woken = False
        self._deployment: str | None = None
        self._ahead_s = math.inf  # what the server's clock was ahead when it was last asked

    @served
    def prepare(self) -> None:
        starts = {name: self._start(name) for name in self._names if self._found(name) is None}
        for name, start in starts.items():
            self._create_group(name, start)

    @served
    def inspect(self) -> list[str]:
        missing = [name for name in self._names if self._found(name) is None]
        for name in missing:
            self._start(name)
        return [f"group {self._group!r} of stream {name!r} would be created" for name in missing]

    @served
    def deployment(self) -> str | None:
        return self._owner()

    @served
    def keep_deployment(self, identity: str) -> str:
        self._deployment = self._keep(identity)
        return self._deployment

    @served
    def replace_deployment(self, identity: str) -> None:
        self.server.owners |= {(name, self._group): identity for name in self._names}

    @served
    def guard(self) -> None:
        self._write_back()

    async def read(self, count: int) -> list[Entry]:
        self._woken = False
        if self.server.wire is not None:
            call = self._log("read", count)
            return await self.server.wire.carry(
                call, lambda: self._read_or_create(count), self._readable, self._settings.block_s
            )
        fault = await self._begin("read", count)
        with trio.move_on_after(self._settings.block_s):
            while not self._readable():
                await self.server.changed.park()
                if self.server.down:
                    raise Unavailable("the connection was lost")
        taken = self._read_or_create(count)
        await self._end(fault)
        return taken

    async def wake(self) -> None:
        await trio.lowlevel.checkpoint()
        self._woken = True
        self.server.changed.unpark_all()

    @served
    def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        entries: list[Entry] = []
        for one in self._pending():
            mine = one.consumer == self._consumer and one.record_id not in holding and not is_suspect(one)
            if mine and len(entries) < count:
                entries += self._take(one.stream, one.id, claimed=False)
        return self._recognize(entries)

    @served
    def look(self, min_idle_s: float, count: int) -> list[Pending]:
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

    @served
    def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        entries: list[Entry] = []
        if self.server.ahead_s > self._ahead_s + self._settings.keepalive_s:
            return entries
        for one in pending:
            held = self._held(one.stream, one.id)
            if held is not None and held.idle_s >= min_idle_s:
                entries += self._take(one.stream, one.id, claimed=True)
        return self._recognize(entries)

    @served
    def restart_idle_times(self) -> None:
        for name in self._names:
            for held in self.server.pending(name, self._group).values():
                if not held.idle_s:
                    held.since_s = trio.current_time()

    @served
    def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        ours: set[str] = set()
        for entry in entries:
            held = self._own(entry)
            if held is not None and not self._dropped(entry.stream, entry.id):
                held.since_s = trio.current_time()
                held.deliveries = held.deliveries if counted is None else entry.deliveries - (not counted)
                ours.add(entry.record_id)
        return ours

    @served
    def owns(self, entry: Entry) -> bool:
        return self._own(entry) is not None

    @served
    def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        return {one.record_id for one in self._pending()} & set(record_ids)

    @served
    def ack(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._acknowledge(entry.stream, entry.id)

    @served
    def quarantine(self, entry: Entry, reason: str, error: str) -> bool:
        if self._own(entry) is None:
            return False
        ours = {
            "_id": entry.id,
            "_record": entry.record_id,
            "_stream": entry.stream,
            "_group": self._group,
            "_consumer": self._consumer,
            "_reason": reason,
            "_error": error,
            "_deliveries": str(entry.deliveries),
            "_at": f"{dt.datetime.fromtimestamp(trio.current_time(), dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        fields = self.server.streams[entry.stream].entries.get(entry.id, tuple(entry.fields.items()))
        added = [(name.encode(), value.encode()) for name, value in ours.items()]
        self.server.dead.setdefault(entry.stream, []).append([*fields, *added])
        self._acknowledge(entry.stream, entry.id)
        return True

    @served
    def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        count = 0
        for one in self._pending():
            held = self._held(one.stream, one.id)
            if held is None or one.consumer != self._consumer or one.record_id in keeping:
                continue
            if held.idle_s >= HANDED_OVER_IDLE_S:
                continue
            if self._dropped(one.stream, one.id):
                continue
            held.since_s = trio.current_time() - HANDED_OVER_IDLE_S
            held.deliveries = max(held.deliveries - (one.record_id not in refunded), 0)
            count += 1
        return count

    @served
    def leave(self) -> bool:
        busy = {one.stream for one in self._pending() if one.consumer == self._consumer}
        for name in self._names:
            group = self._found(name)
            if group is not None and name not in busy:
                group.consumers.discard(self._consumer)
        return not busy

    @served
    def server_time(self) -> float:
        self._ahead_s = self.server.ahead_s
        return self.server.time()

    @served
    def lock(self, name: str, ttl_s: float) -> bool:
        key = f"{self._group}:{name}"
        free = self.server.locks.get(key, 0.0) <= trio.current_time()
        if free:
            self.server.locks[key] = trio.current_time() + ttl_s
        return free

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
        return self._recognize(taken)

    def _take(self, name: str, entry_id: str, *, claimed: bool) -> Iterator[Entry]:
        """Make a pending entry ours; nothing if it is deleted."""
        group = self.server.streams[name].groups[self._group]
        if self._dropped(name, entry_id):
            return
        deliveries = group.pending[entry_id].deliveries + 1
        group.pending[entry_id] = Held(self._consumer, trio.current_time(), deliveries)
        group.meet(self._consumer)
        yield self._entry(name, entry_id, deliveries, claimed=claimed)

    def _dropped(self, name: str, entry_id: str) -> bool:
        """Take a deleted entry off the pending list, as XCLAIM does, and note it; false if it is not deleted."""
        if entry_id in self.server.streams[name].entries:
            return False
        if entry_id not in self.server.canaries.get(name, {}):
            self.server.deleted.setdefault(name, []).append(entry_id)
        self._acknowledge(name, entry_id)
        return True

    def _entry(self, name: str, entry_id: str, deliveries: int, *, claimed: bool) -> Entry:
        fields = dict(self.server.streams[name].entries[entry_id])
        original = self._ids.of_replay(name, entry_id, fields) if REPLAY_OF in fields else None
        if original is not None:
            self._replays[name, entry_id] = original
        record_id = original or self._ids.of(name, entry_id)
        return Entry(name, entry_id, fields, record_id, deliveries, claimed, original is not None)

    def _recognize(self, entries: list[Entry]) -> list[Entry]:
        """Return what was read, canaries as such; those of other groups are done with."""
        recognized = []
        for one in entries:
            group = self.server.canaries.get(one.stream, {}).get(one.id) if CANARY_FIELD in one.fields else None
            if group is None or b"event" in one.fields:
                recognized.append(one)
            elif group == self._group:
                record_id = self._replays[one.stream, one.id] = self._ids.of_canary(one.stream, one.id)
                written = {b"event": one.fields[CANARY_FIELD]}
                recognized.append(replace(one, fields=written, record_id=record_id, canary=True))
            else:
                self._acknowledge(one.stream, one.id)
        return recognized

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

    def _own(self, entry: Entry) -> Held | None:
        held = self._held(entry.stream, entry.id)
        return held if held is not None and held.consumer == self._consumer else None

    def _held(self, name: str, entry_id: str) -> Held | None:
        group = self._found(name)
        return None if group is None else group.pending.get(entry_id)

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
