"""The hints on the server in memory."""

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence

from tests.support.fakes.stream_server import FakeServer, View
from tests.support.fakes.wire import served
from trio_alerts.ports.hints import BREAK_S, DueHint, DueNow, Head, Queued, Taken
from trio_alerts.record_ids import order
from trio_alerts.settings.settings import Settings


class FakeHints(View):
    """`Hints` of one group of a `FakeServer`."""

    def __init__(self, server: FakeServer, settings: Settings) -> None:
        super().__init__(server, settings)
        self._kept = server.hints_of(settings.group)

    @served
    def put_due(self, hints: Sequence[DueHint]) -> None:
        due = self._kept.due
        for hint in hints:
            there = due.get(hint.record_id)
            unchanged = there is not None and there == hint.taken_until_ms
            if hint.at is None:
                if unchanged:
                    del due[hint.record_id]
                continue
            at_ms = _rounded_up_ms(hint.at)
            due[hint.record_id] = at_ms if there is None or unchanged else min(there, at_ms)

    @served
    def take_due(self, count: int, lease_s: float, *, newest: bool = False) -> DueNow:
        due, now_ms = self._kept.due, self._now_ms()
        until_ms = now_ms + round(lease_s * 1000)
        found = sorted((one for one in due if due[one] <= now_ms), key=lambda one: (due[one], one), reverse=newest)
        ids = found[:count]
        due.update(dict.fromkeys(ids, until_ms))
        next_in_s = max(0, min(due.values()) - now_ms) / 1000 if due else math.inf
        at = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
        return DueNow(at, [Taken(one, until_ms) for one in ids], next_in_s)

    @served
    def recall_due(self) -> None:
        now_ms = self._now_ms()
        self._kept.due = {one: min(due_ms, now_ms) for one, due_ms in self._kept.due.items()}

    @served
    def begin_sweep(self, every_s: float, *, broken: bool = False) -> float | None:
        now_ms, kept = self._now_ms(), self._kept
        if not broken and kept.sweep_began_ms is not None and 0 <= now_ms - kept.sweep_began_ms < every_s * 1000:
            return None
        ended_ms = kept.sweep_ended_ms
        if broken or ended_ms is None or not 0 <= now_ms - ended_ms <= BREAK_S * 1000:
            kept.sweeping_since_ms = now_ms
        kept.sweep_began_ms = now_ms
        return (now_ms - kept.sweeping_since_ms) / 1000

    @served
    def end_sweep(self) -> None:
        self._kept.sweep_ended_ms = self._now_ms()

    @served
    def put_queued(self, queued: Collection[Queued]) -> None:
        for one in queued:
            self._kept.queues.setdefault(one.channel, {})[one.record_id] = one

    @served
    def take_queued(self, channel: str, lease_s: float, *, probe: bool = False) -> Taken | None:
        queue = self._kept.queues.get(channel, {})
        if not queue:
            return None
        first = min(queue.values(), key=(lambda one: (one.attempts, _place(one))) if probe else _place)
        del queue[first.record_id]
        due, until_ms = self._kept.due, self._now_ms() + round(lease_s * 1000)
        due[first.record_id] = min(due.get(first.record_id, until_ms), until_ms)
        return Taken(first.record_id, until_ms)

    @served
    def heads(self, channels: Collection[str]) -> Mapping[str, Head]:
        waiting = {one: queue for one in channels if (queue := self._kept.queues.get(one))}
        firsts = {channel: min(queue.values(), key=_place) for channel, queue in waiting.items()}
        return {
            channel: Head(first.record_id, first.severity_rank, len(waiting[channel]))
            for channel, first in firsts.items()
        }

    def _now_ms(self) -> int:
        return int(round(self.server.time() * 1_000_000) // 1000)


def _place(queued: Queued) -> tuple[int, int, str]:
    return -queued.severity_rank, order(queued.record_id.rpartition("|")[2])[0], queued.record_id


def _rounded_up_ms(at: dt.datetime) -> int:
    microseconds = round(at.timestamp() * 1_000_000)
    return -(-microseconds // 1000)
