"""The canaries' port on the server in memory."""

from collections.abc import Collection

from tests.support.fakes.stream_server import Stream, View
from tests.support.fakes.wire import served
from trio_alerts.ports.canaries import Place, Sighting
from trio_alerts.record_ids import CANARY_FIELD, order

MOST_KEPT = 1000


class FakeCanaries(View):
    """A `Canaries` for one process."""

    @served
    def look(self, stream: str) -> Sighting:
        return self._look(stream)

    @served
    def write(self, stream: str, every_s: float | None, payload: bytes) -> Sighting:
        own, now_s = self.server.canary_of(stream, self._group), self.server.time()
        noted = self.server.canaries.setdefault(stream, {})
        passed_s = None if own.written_s is None else now_s - own.written_s
        due = every_s is not None and (passed_s is None or passed_s < 0 or passed_s >= every_s)
        if self._found(stream) is not None and not own.entry_id and due:
            own.entry_id, own.written_s = self.server.add(stream, {CANARY_FIELD: payload}), now_s
            noted[own.entry_id] = self._group
        for entry_id in [one for one, group in noted.items() if not group]:
            self._remove(stream, entry_id)
        return self._look(stream)

    @served
    def settle(self, stream: str, entry_id: str, lost: str = "") -> None:
        own = self.server.canary_of(stream, self._group)
        if own.entry_id == entry_id:
            own.entry_id, own.lost = "", lost
            own.through_s = own.through_s if lost else own.written_s

    @served
    def drop(self, stream: str, entry_id: str) -> None:
        if entry_id in self.server.canaries.get(stream, {}):
            self.server.canaries[stream][entry_id] = ""
            self._remove(stream, entry_id)

    @served
    def noted(self, stream: str, entry_ids: Collection[str]) -> dict[str, str]:
        noted = self.server.canaries.get(stream, {})
        return {entry_id: noted[entry_id] for entry_id in entry_ids if entry_id in noted}

    def _look(self, stream: str) -> Sighting:
        own = self.server.canary_of(stream, self._group)
        noted = self.server.canaries.get(stream, {})
        held = self.server.pending(stream, self._group).get(own.entry_id)
        return Sighting(
            now_s=self.server.time(),
            entry_id=own.entry_id,
            written_s=own.written_s,
            through_s=own.through_s,
            place=self._place(stream, own.entry_id),
            consumer=held.consumer if held else "",
            held_s=held.idle_s if held else 0.0,
            lost=own.lost,
            spent=tuple(one for one, group in noted.items() if group == self._group and one != own.entry_id),
        )

    def _place(self, stream: str, entry_id: str) -> Place:
        group = self._found(stream)
        if not entry_id:
            return "none"
        if group is not None and entry_id in group.pending:
            return "pending"
        if group is not None and order(group.last_id) >= order(entry_id):
            return "acknowledged"
        return "unread" if entry_id in self.server.streams.get(stream, Stream()).entries else "trimmed"

    def _remove(self, stream: str, entry_id: str) -> None:
        noted, there = self.server.canaries[stream], self.server.streams.get(stream, Stream())
        needed = entry_id in there.entries and any(
            order(group.last_id) < order(entry_id) or entry_id in group.pending for group in there.groups.values()
        )
        if needed and len(noted) <= MOST_KEPT:
            return
        if entry_id in there.entries:
            self.server.delete(stream, entry_id)
        del noted[entry_id]
