"""What producers and operators do to the data: each method is named as its event, and notes what it took away."""

import datetime as dt
import hashlib
import json
from random import Random

import trio

from tests.simulation.history import History
from tests.simulation.ledger import Emitted
from tests.simulation.plan import EPOCH_S, POISON, Event
from tests.simulation.promises import Promises
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream_server import FakeServer, Fields, Group, Stream
from tests.support.fakes.world import EVENT, GROUP, STREAM
from trio_alerts.clock import ServerClock
from trio_alerts.held_back import silence_lifted
from trio_alerts.ports.silences import Silence
from trio_alerts.record import Record
from trio_alerts.record_ids import CANARY_FIELD, REPLAY_OF, order
from trio_alerts.transitions import redelivery_requested


class Operators:
    """Everybody but the program who touches the stream and the store.

    Args:
        server, store: What they touch.
        promises: Their ledger knows of every alert, and of what was taken away.
        chance: Chooses severities.
    """

    def __init__(
        self, server: FakeServer, store: FakeStore, promises: Promises, history: History, chance: Random
    ) -> None:
        self._server = server
        self._store = store
        self._promises = promises
        self._history = history
        self._chance = chance
        self._emitted = 0
        self._trimmed: dict[str, Fields] = {}

    @property
    def _stream(self) -> Stream:
        return self._server.streams.get(STREAM, Stream())

    @property
    def _pending(self) -> set[str]:
        return {self._promises.entries[one] for one in self._server.pending(STREAM, GROUP)}

    @property
    def _group(self) -> Group | None:
        return self._stream.groups.get(GROUP)

    def emit(self, event: Event) -> None:
        for _ in range(event.number):
            self._emitted += 1
            severity = self._chance.choice(("high", "critical"))
            occurred_at = dt.datetime.fromtimestamp(EPOCH_S + trio.current_time(), dt.UTC).isoformat()
            alert = {**EVENT, "alert_id": f"a-{self._emitted}", "severity": severity, "occurred_at": occurred_at}
            if event.target == "suppressed":
                alert["view"] = "Maintenance"
            payload = json.dumps(alert).encode()
            if event.target == "bad":
                payload = payload[:-1]
            if event.target == "newline":
                payload = payload[:-1] + b'\n,"x":1}\n'  # in a naive `_bulk` body, the line would end there
            entry_id = self._add({b"event": payload}, event.target, payload)
            if event.target == "lethal":
                self._promises.lethal[alert["alert_id"]] = entry_id

    def replay(self, _: Event) -> None:
        letters = self._server.dead.get(STREAM, [])
        fields = dict(letters[0]) if letters else {}
        if b"event" not in fields:
            return
        emitted = self._promises.ledger[fields[b"_record"].decode()]
        if emitted.kind not in POISON:
            self._server.dead[STREAM] = letters[1:]
            emitted.redelivered += emitted.pruned  # a human sends again what may have been sent
            self._add({b"event": fields[b"event"], REPLAY_OF: fields[b"_record"]}, emitted.kind, fields[b"event"])

    def redeliver(self, _: Event) -> None:
        clock = ServerClock()
        clock.set(self._server.time())
        for record_id, stored in list(self._store.records.items()):
            delivery = stored.record.delivery
            if delivery.state not in ("failed", "in_doubt"):
                continue
            again = redelivery_requested(delivery, "", clock.now(), in_doubt=True)
            assert again is not None, f"{record_id} is {delivery.state}, and nothing of it can be sent again"
            self._put(Record(record_id, stored.record.body, again))
            self._promises.ledger[record_id].redelivered += 1
            self._history.note("operator", "redelivers", record_id)

    def silence(self, event: Event) -> None:
        now, silences = self._promises.now(), self._promises.held_back.silences
        until = now + dt.timedelta(seconds=event.lasts_s)
        silence = Silence(
            id=f"{len(silences)}", matchers=("severity = high",), since=now, until=until, why="why", by="eve"
        )
        silences[silence.id] = trio.current_time()
        self._server.keep_silence(STREAM, GROUP, silence)

    def lift(self, _: Event) -> None:
        clock = ServerClock()
        clock.set(self._server.time())
        for record_id, stored in list(self._store.records.items()):
            again = silence_lifted(stored.record.delivery, "", clock.now())
            if again is not None and again.state == "retrying" and record_id not in self._pending:
                self._put(Record(record_id, stored.record.body, again))
                self._history.note("operator", "lifts", record_id)

    def _put(self, record: Record) -> None:
        """Write a record that is due now, and its hint, as the commands do."""
        self._store.put(record)
        now_ms, due = int(self._server.time() * 1000), self._server.hints_of(GROUP).due
        due[record.id] = min(now_ms, due.get(record.id, now_ms))

    def lose_hints(self, _: Event) -> None:
        self._server.hints_of(GROUP).lose()
        self._promises.gates.hints_gone()

    def lose_gates(self, _: Event) -> None:
        self._server.gates.clear()
        self._promises.gates.lost()

    def delete_record(self, event: Event) -> None:
        chosen = _pick(sorted(self._store.records), event.number)
        if chosen is not None:
            self._history.note("operator", "deletes record", chosen)
            del self._store.records[chosen]
            self._promises.ledger[chosen].forgotten += 1

    def delete_entry(self, event: Event) -> None:
        chosen = _pick(list(self._stream.entries), event.number)
        if chosen is not None:
            self._history.note("operator", "deletes entry", chosen)
            self._server.delete(STREAM, chosen)
            self._promises.ledger[self._promises.entries[chosen]].lost = True

    def trim(self, _: Event) -> None:
        group, pending = self._group, self._server.pending(STREAM, GROUP)
        for entry_id, fields in list(self._stream.entries.items()):
            if group is not None and order(entry_id) <= order(group.last_id) and entry_id not in pending:
                self._trimmed[entry_id] = fields
                self._server.delete(STREAM, entry_id)
        self._history.note("producer", "has trimmed", len(self._trimmed))

    def restore(self, _: Event) -> None:
        if self._group is None or not self._trimmed:
            return
        self._promises.regrouped_at_s = self._promises.restored_at_s = trio.current_time()
        noted = self._server.canaries.setdefault(STREAM, {})  # the copy says so as well
        noted.update({one: GROUP for one, fields in self._trimmed.items() if CANARY_FIELD in dict(fields)})
        there = self._trimmed | self._stream.entries
        self._trimmed = {}
        self._stream.entries.clear()
        self._stream.entries.update({entry_id: there[entry_id] for entry_id in sorted(there, key=order)})
        self._server.set_id(STREAM, GROUP, "0-0")

    def lose_group(self, _: Event) -> None:
        if self._group is not None:
            self._promises.regrouped_at_s = trio.current_time()
            self._server.destroy_group(STREAM, GROUP)

    def set_id(self, event: Event) -> None:
        chosen = _pick(list(self._stream.entries), event.number)
        if chosen is not None and self._group is not None and order(chosen) < order(self._group.last_id):
            self._promises.regrouped_at_s = trio.current_time()
            self._server.set_id(STREAM, GROUP, chosen)

    def flush(self, _: Event) -> None:
        self._promises.regrouped_at_s = trio.current_time()
        for emitted in self._promises.ledger.values():
            emitted.lost = True
        self._trimmed = {}
        self._promises.flushed = True
        self._server.flush()
        self._promises.gates.hints_gone()
        self._promises.gates.lost()

    def jump(self, event: Event) -> None:
        self._promises.jumped_at_s = trio.current_time()
        self._server.jump(event.lasts_s)
        self._promises.gates.lost()  # they go by the server's time

    def _add(self, fields: dict[bytes, bytes], kind: str, payload: bytes) -> str:
        entry_id = self._server.add(STREAM, fields)  # nobody reads it before the ledger knows of it: this is one step
        record_id = fields.get(REPLAY_OF, entry_id.encode()).decode()
        self._promises.entries[entry_id] = record_id
        if REPLAY_OF not in fields:
            self._promises.ledger[entry_id] = Emitted(entry_id, kind, hashlib.sha256(payload).hexdigest())
        self._history.note("producer", "adds", entry_id, kind)
        return entry_id


def _pick(of: list[str], number: int) -> str | None:
    return of[number % len(of)] if of else None
