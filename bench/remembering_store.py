"""The store that a run without a store has: it remembers, and costs next to nothing."""

import datetime as dt
from array import array
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from trio_alerts.ports.store import Conflict, Counts, Due, Pruned, RecordFilter, Stored, Vitals
from trio_alerts.record import Record

SEQUENCE_BITS = 20  # of an entry's ID, its part behind the dash: a million entries a millisecond


class RememberingStore:
    """An `AlertStore` in memory, as far as a worker process asks.

    A record is kept whole until it is delivered; of a delivered one just its ID is kept, in 8 bytes, so that the
    memory that is measured is the program's.
    """

    def __init__(self) -> None:
        self._live: dict[str, Stored] = {}
        self._delivered: dict[str, array[int]] = defaultdict(lambda: array("Q"))  # by stream, if it is in the IDs
        self._versions = 0
        self._deployment: str | None = None

    def __repr__(self) -> str:
        return f"<RememberingStore: {len(self._live)} live, {sum(map(len, self._delivered.values()))} delivered>"

    def delivered_ids(self) -> list[str]:
        """Return the ID of every record that was written as delivered, as often as it was."""
        return [f"{stream}{unpacked_id(packed)}" for stream, ids in self._delivered.items() for packed in ids]

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    async def guard(self) -> None:
        await trio.lowlevel.checkpoint()

    async def deployment(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return self._deployment

    async def keep_deployment(self, identity: str) -> str:
        await trio.lowlevel.checkpoint()
        self._deployment = self._deployment or identity
        return self._deployment

    async def remove(self, record_id: str) -> None:
        await trio.lowlevel.checkpoint()
        self._live.pop(record_id, None)

    async def pruned(self) -> Mapping[str, Pruned]:
        await trio.lowlevel.checkpoint()
        return {}

    async def create(self, record: Record) -> Stored | Conflict:
        """See the port. It yields, as every store does: what workers then do one after the other costs less."""
        await trio.lowlevel.checkpoint()
        return Conflict() if record.id in self._live else self._keep(record)

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        current = self._live.get(record.id)
        if current is None or current.version != version:
            return Conflict()
        return self._keep(record)

    async def get(self, record_id: str) -> Stored | None:
        await trio.lowlevel.checkpoint()
        return self._live.get(record_id)

    async def due(
        self,
        now: dt.datetime,
        count: int,
        after: Due | None = None,
        *,
        ahead_s: float = 0.0,  # noqa: ARG002
    ) -> list[Due]:
        """See the port. No hint of a benchmark is lost, so nobody need look ahead."""
        await trio.lowlevel.checkpoint()
        records = [one.record for one in self._live.values() if after is None or one.record.id > after.id]
        return [
            Due(record.id, tuple(part.name for part in record.delivery.channels if part.is_due(now)))
            for record in sorted((one for one in records if _is_due(one, now)), key=lambda record: record.id)[:count]
        ]

    async def counts(self, now: dt.datetime) -> Counts:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        states: Counter[str] = Counter(one.record.delivery.state for one in self._live.values())
        delivered = sum(map(len, self._delivered.values()))
        return Counts(states | Counter(delivered=delivered), overdue=0, in_doubt=0)

    async def waiting(self) -> Mapping[str, int]:
        """See the port. No receiver of a benchmark fails for long enough to be asked about."""
        await trio.lowlevel.checkpoint()
        return {}

    async def inspect(self) -> list[str]:
        """See the port. Only `check` asks, as only operators ask for what follows."""
        raise NotImplementedError

    async def replace_deployment(self, identity: str) -> None:
        raise NotImplementedError

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        raise NotImplementedError

    async def count(self, wanted: RecordFilter, stop_at: int | None = None) -> int:
        raise NotImplementedError

    async def old(self, stream: str, before: str, count: int, after: str = "") -> list[str]:
        raise NotImplementedError

    async def raise_pruned_before(self, stream: str, before: str) -> None:
        raise NotImplementedError

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        raise NotImplementedError

    async def vitals(self) -> Vitals:
        """See the port; whoever scrapes asks."""
        await trio.lowlevel.checkpoint()
        return Vitals(waiting_since=None, repeated=0)

    def _keep(self, record: Record) -> Stored:
        self._versions += 1
        stored = Stored(record, (self._versions, 1))
        if record.delivery.state == "delivered":
            self._live.pop(record.id, None)
            stream, bar, entry_id = record.id.rpartition("|")
            self._delivered[stream + bar].append(packed_id(entry_id))
        else:
            self._live[record.id] = stored
        return stored


def packed_id(entry_id: str) -> int:
    """Return an entry's ID as one number of 64 bits."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds) << SEQUENCE_BITS | int(sequence)


def unpacked_id(packed: int) -> str:
    """Return the ID that `packed_id` packed."""
    return f"{packed >> SEQUENCE_BITS}-{packed & (1 << SEQUENCE_BITS) - 1}"


def _is_due(record: Record, now: dt.datetime) -> bool:
    delivery = record.delivery
    moment = delivery.next_attempt_at if delivery.state == "retrying" else delivery.lease_until
    return delivery.state in ("retrying", "sending") and moment is not None and moment <= now
