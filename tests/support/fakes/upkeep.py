"""What the janitor does, on the server in memory."""

import trio

from tests.support.fakes.stream_server import Stream, View
from tests.support.fakes.wire import served
from trio_alerts.ports.stream import Gone
from trio_alerts.record_ids import RecordIds, id_behind, order


class FakeUpkeep(View):
    """A `StreamUpkeep` for one consumer of a `FakeServer`."""

    @served
    def newly_lost(self) -> int:
        groups = [group for name in self._names if (group := self._found(name)) is not None]
        unreported = sum(group.lost - group.reported for group in groups)
        for group in groups:
            group.reported = group.lost
        return unreported

    @served
    def dead_letters(self) -> int:
        return sum(len(self.server.dead.get(name, [])) for name in self._names)

    @served
    def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
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

    @served
    def trim(self, keep_s: float) -> int:
        return sum(self._trim(name, keep_s) for name in self._names)

    @served
    def gone(self) -> dict[str, Gone]:
        gone: dict[str, Gone] = {}
        for name in self._names:
            group = self._found(name)
            if group is not None:
                stream = self.server.streams[name]
                needed = sorted([*stream.entries, *group.pending], key=order)
                ids = RecordIds(self._names)
                noted = frozenset(ids.of(name, one) for one in self.server.deleted.get(name, []))
                before = needed[0] if needed else id_behind(stream.last_id) or stream.last_id
                gone[name] = Gone(before, not needed, noted)
        return gone

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
