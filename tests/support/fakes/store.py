"""A store in memory with the real ones' rules and, on request, their faults."""

import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
import trio

from tests.support.fakes.wire import Wire, served
from trio_alerts.delivery import Delivery
from trio_alerts.errors import NewerRecord, RefusedContent, SchemaError, Unavailable
from trio_alerts.ports.hints import Queued
from trio_alerts.ports.store import (
    STATES_BESIDE_A_DOUBT,
    Conflict,
    Counts,
    Due,
    Pruned,
    RecordFilter,
    Stored,
    Vitals,
)
from trio_alerts.record import Record
from trio_alerts.record_ids import is_canary, order
from trio_alerts.text import words

T = TypeVar("T")
Fault = Literal["down", "answer_lost"]
"""`down`: nothing happened. `answer_lost`: a write happened, and nobody is told. Both come out as `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store: when it came in virtual seconds, and the state that a write would have stored."""

    at_s: float
    method: str
    record_id: str = ""
    state: str = ""


Decide = Callable[[Call], Fault | None]
Refuses = Callable[[Record], bool]


class FakeStore:
    """An `AlertStore` in memory.

    Every method has two checkpoints: cancelled at the first, nothing has happened; at the second, a write has. Only
    `replace` holds a cancellation off.

    Args:
        latency_s: How long every call takes, half of it before anything happens, in virtual seconds.
        lagging: Searches see only what was there at the last `refresh`; a `count` and the first page of a `search`
            make one.

    Attributes:
        records: What is stored, by ID; tests may change it as an operator would.
        calls: Every call, in order.
        decide: Called with each call; a fault it returns happens. The simulation's seeds choose here.
        refuses: Tells which records are refused for their content.
        unknown_in: Tells what the reader's version does not know in a record; empty: it knows all of it.
        forbids_refresh: Only tests may refresh.
        schema_fault: What the guard finds wrong, if anything.
        kept: What was pruned, by stream.
        owner: The identity of the deployment that it belongs to, if it has one.
        wire: Carries the calls, if it is set; `latency_s`, `fail_next` and `decide` then mean nothing.
    """

    def __init__(self, *, latency_s: float = 0.0, lagging: bool = False) -> None:
        self.latency_s = latency_s
        self.lagging = lagging
        self.records: dict[str, Stored] = {}
        self.calls: list[Call] = []
        self.decide: Decide = lambda _: None
        self.refuses: Refuses = lambda _: False
        self.unknown_in: Callable[[Record], str] = lambda _: ""
        self.forbids_refresh = False
        self.schema_fault = ""
        self.kept: dict[str, Pruned] = {}
        self.owner: str | None = None
        self.wire: Wire | None = None
        self._searchable: dict[str, Stored] = {}
        self._planned: dict[str, list[Fault]] = {}
        self._writes, self._term = 0, 1

    def __getitem__(self, record_id: str) -> Delivery:
        """Return what became of a record so far."""
        return self.records[record_id].record.delivery

    def fail_next(self, method: str, fault: Fault, times: int = 1) -> None:
        """Let the next calls of a method fail, before `decide` is asked."""
        self._planned.setdefault(method, []).extend([fault] * times)

    def put(self, record: Record) -> Stored:
        """Store a record at once, as if another process had written it."""
        self._writes += 1
        stored = Stored(record, (self._writes, self._term))
        self.records[record.id] = stored
        return stored

    def begin_anew(self) -> None:
        """Give every record another version, as a new index does: numbers begin anew, in a higher term."""
        self._writes, self._term = 0, self._term + 1
        for record_id, stored in self.records.items():
            self._writes += 1
            self.records[record_id] = Stored(stored.record, (self._writes, self._term))

    def refresh(self) -> None:
        """Make searches see everything up to now."""
        self._searchable = dict(self.records)

    def called(self, *methods: str) -> list[Call]:
        """Return the calls of these methods, in order."""
        return [call for call in self.calls if call.method in methods]

    async def prepare(self) -> None:
        await self.guard()

    async def inspect(self) -> list[str]:
        await self.guard()
        return []

    @served
    def guard(self) -> None:
        if self.schema_fault:
            raise SchemaError(self.schema_fault)

    @served
    def deployment(self) -> str | None:
        return self.owner

    @served
    def keep_deployment(self, identity: str) -> str:
        self.owner = self.owner or identity
        return self.owner

    @served
    def replace_deployment(self, identity: str) -> None:
        self.owner = identity

    async def create(self, record: Record) -> Stored | Conflict:
        return await self._write("create", record, None)

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        with trio.CancelScope(shield=True):
            written = await self._write("replace", record, version)
        return written  # noqa: RET504 - to the type checker, a scope may swallow a return

    async def remove(self, record_id: str) -> None:
        call = Call(trio.current_time(), "remove", record_id)
        await self._call(call, lambda: self.records.pop(record_id, None))

    async def get(self, record_id: str) -> Stored | None:
        call = Call(trio.current_time(), "get", record_id)
        return await self._call(call, lambda: self._read(record_id))

    @served
    def due(self, now: dt.datetime, count: int, after: Due | None = None, *, ahead_s: float = 0.0) -> list[Due]:
        until, rest = now + dt.timedelta(seconds=ahead_s), after.id if after else ""
        found = [one for one in self._seen() if one.id > rest and _is_due(one.delivery, now, until)]
        return [_due(one, now) for one in sorted(found, key=lambda record: record.id)[:count]]

    @served
    def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        if after is None and not self.forbids_refresh:
            self.refresh()
        found = [record for record in self._seen() if _matches(record, wanted)]
        older = [record for record in found if after is None or _place(record) < _place(after)]
        page = sorted(older, key=_place, reverse=True)[:count]
        return [Record(one.id, one.body, Delivery(state="unknown")) if self.unknown_in(one) else one for one in page]

    @served
    def count(self, wanted: RecordFilter, stop_at: int | None = None) -> int:
        return sum(_matches(record, wanted) for record in self._seen())

    @served
    def counts(self, now: dt.datetime) -> Counts:
        deliveries = [record.delivery for record in self._alerts()]
        late = now - dt.timedelta(seconds=60)
        overdue = sum(
            delivery.state == "retrying" and delivery.next_attempt_at is not None and delivery.next_attempt_at < late
            for delivery in deliveries
        )
        return Counts(
            dict(Counter(delivery.state for delivery in deliveries)), overdue, sum(map(_is_in_doubt, deliveries))
        )

    @served
    def waiting(self) -> dict[str, int]:
        return dict(
            Counter(
                channel.name
                for record in self._alerts()
                if record.delivery.state == "retrying"
                for channel in record.delivery.channels
                if channel.state == "retrying"
            )
        )

    def write(self, record: Record, expected: tuple[int, int] | None) -> Stored | Conflict:
        """Write at once, if the record is still of this version (None: if it does not exist).

        Raises:
            RefusedContent: `refuses` says so.
        """
        if self.refuses(record):
            raise RefusedContent(f"record {record.id!r} is refused")
        there = self.records.get(record.id)
        return self.put(record) if (there.version if there else None) == expected else Conflict()

    @served
    def vitals(self) -> Vitals:
        records = self._alerts()
        waiting = [
            record.delivery.first_at
            for record in records
            if record.delivery.state in ("sending", "retrying", "waiting", "in_doubt") and record.delivery.first_at
        ]
        ids = [alert_id for one in records if (alert_id := msgspec.json.decode(one.body, type=_Keys).alert_id)]
        return Vitals(min(waiting, default=None), len(ids) - len(set(ids)))

    @served
    def old(self, stream: str, before: str, count: int, after: str = "") -> list[str]:
        found = [one for one in self._alerts() if one.fields().get("stream") == stream and _may_be_settled(one)]
        between = [one for one in found if (_place(one)[0] < order(before)) and (not after or _after(one, after))]
        return [one.id for one in sorted(between, key=_place)[:count]]

    @served
    def raise_pruned_before(self, stream: str, before: str) -> None:
        known = self.kept.get(stream, Pruned(0, before))
        self.kept[stream] = Pruned(known.count, max(known.before, before, key=order))

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        if not record_ids:
            return 0
        await reach("before_prune")
        count = await self.serve("prune", lambda: self._prune(stream, record_ids, settled))
        await reach("after_prune")
        return count

    @served
    def pruned(self) -> dict[str, Pruned]:
        return dict(self.kept)

    def forget(self, record_id: str) -> None:
        """Remove one record that retention prunes."""
        del self.records[record_id]

    def _prune(self, stream: str, record_ids: Sequence[str], settled: Callable[[Record], bool]) -> int:
        there = [stored.record for one in record_ids if (stored := self.records.get(one)) is not None]
        going = [one for one in there if not self.unknown_in(one) and settled(one)]
        for one in going:
            self.forget(one.id)
        if going:
            known = self.kept[stream]
            self.kept[stream] = Pruned(known.count + len(going), known.before)
        return len(going)

    async def serve(self, method: str, effect: Callable[[], T], *_: object) -> T:
        return await self._call(Call(trio.current_time(), method), effect)

    async def _write(self, method: str, record: Record, expected: tuple[int, int] | None) -> Stored | Conflict:
        call = Call(trio.current_time(), method, record.id, record.delivery.state)
        return await self._call(call, lambda: self.write(record, expected))

    async def _call(self, call: Call, effect: Callable[[], T]) -> T:
        self.calls.append(call)
        if self.wire is not None:
            return await self.wire.carry(call, effect)
        planned = self._planned.get(call.method)
        fault = planned.pop(0) if planned else self.decide(call)
        await trio.sleep(self.latency_s / 2)
        if fault == "down":
            raise Unavailable("the store is down")
        result = effect()
        await trio.sleep(self.latency_s / 2)
        if fault == "answer_lost":
            raise Unavailable("the answer was lost")
        return result

    def _read(self, record_id: str) -> Stored | None:
        stored = self.records.get(record_id)
        if stored is not None and (unknown := self.unknown_in(stored.record)):
            raise NewerRecord(record_id, unknown, stored.record.body)
        return stored

    def _alerts(self) -> list[Record]:
        return [record for record in self._seen() if not is_canary(record.id)]

    def _seen(self) -> list[Record]:
        return [stored.record for stored in (self._searchable if self.lagging else self.records).values()]


class _Keys(msgspec.Struct):
    view: str = ""
    scope: str = ""
    severity: str = ""
    rule_id: str = ""
    alert_id: str = ""
    tx_hash: str = ""
    addresses: tuple[str, ...] = ()
    contract: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    fingerprint: str = ""
    title: str = ""
    occurred_at: dt.datetime | None = None


def _due(record: Record, now: dt.datetime) -> Due:
    delivery = record.delivery
    rank = int(record.fields().get("severity_rank", 0))
    waits = [part for part in delivery.channels if part.state == "waiting"]
    tried = [part for part in delivery.channels if part.state in ("retrying", "standby")]
    later = [part.next_attempt_at for part in tried if part.next_attempt_at is not None and part.next_attempt_at > now]
    return Due(
        record.id,
        tuple(part.name for part in delivery.channels if part.is_due(now) and delivery.state != "sending"),
        next_at=None if delivery.state == "sending" else min(later, default=None),
        cut=delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until <= now,
        queues=tuple(Queued(part.name, record.id, rank, part.attempts) for part in waits),
        expired=any(part.next_attempt_at is not None and part.next_attempt_at <= now for part in waits),
    )


def _is_due(delivery: Delivery, now: dt.datetime, until: dt.datetime) -> bool:
    if delivery.queues and delivery.state in ("sending", "retrying", "waiting"):
        return True
    if delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until <= now:
        return True
    return delivery.next_attempt_at is not None and delivery.next_attempt_at <= until


def _is_in_doubt(delivery: Delivery) -> bool:
    beside = delivery.state in STATES_BESIDE_A_DOUBT and delivery.in_doubt_channels
    return delivery.state == "in_doubt" or bool(beside)


def _may_be_settled(record: Record) -> bool:
    return not is_canary(record.id) and record.delivery.state in ("delivered", "failed", "suppressed")


def _after(record: Record, record_id: str) -> bool:
    return _place(record)[0] > order(record_id.rpartition("|")[2])


def _place(record: Record) -> tuple[tuple[int, int], str]:
    milliseconds, _, sequence = record.id.rpartition("|")[2].partition("-")
    return (int(milliseconds), int(sequence)), record.id


def _matches(record: Record, wanted: RecordFilter) -> bool:
    if is_canary(record.id) and not wanted.canaries:
        return False
    keys = msgspec.json.decode(record.body, type=_Keys)
    exact = (
        (wanted.view, keys.view),
        (wanted.scope, keys.scope),
        (wanted.severity, keys.severity),
        (wanted.rule_id, keys.rule_id),
        (wanted.alert_id, keys.alert_id),
        (wanted.suppressed_by, record.delivery.suppressed_by),
        (wanted.fingerprint, keys.fingerprint),
        ([text.lower() for text in wanted.tx], keys.tx_hash.lower()),
    )
    if not all(value in alternatives for alternatives, value in exact if alternatives):
        return False
    if not _has_any(record, keys, wanted):
        return False
    if wanted.state and record.delivery.state not in wanted.state:
        return "in_doubt" in wanted.state and _is_in_doubt(record.delivery) and _is_between(keys, wanted)
    return _is_between(keys, wanted)


def _has_any(record: Record, keys: _Keys, wanted: RecordFilter) -> bool:
    """Tell whether a record has what is looked for among the many that it may have."""
    addresses = {address.lower() for address in (*keys.addresses, keys.contract)}
    if wanted.address and not any(address.lower() in addresses for address in wanted.address):
        return False
    if wanted.channel and not any(channel.name in wanted.channel for channel in record.delivery.channels):
        return False
    by_key: dict[str, list[str]] = {}
    for key, value in wanted.label:
        by_key.setdefault(key, []).append(value)
    if not all(keys.labels.get(key) in values for key, values in by_key.items()):
        return False
    has = set(words(keys.title))
    return not wanted.title or any(set(words(text)) <= has for text in wanted.title if words(text))


def _is_between(keys: _Keys, wanted: RecordFilter) -> bool:
    if wanted.since is None and wanted.until is None:
        return True
    return (
        keys.occurred_at is not None
        and (wanted.since is None or wanted.since <= keys.occurred_at)
        and (wanted.until is None or keys.occurred_at < wanted.until)
    )
