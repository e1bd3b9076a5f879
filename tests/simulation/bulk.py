"""The real way of writes to OpenSearch up to its edge: the batcher, the `_bulk` bodies, the meaning of answers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import httpx
import msgspec
import trio
from opensearchpy import AsyncOpenSearch

from tests.simulation.network import BulkCall, Network
from tests.simulation.schedule import OWNER
from tests.support.fakes.opensearch import answer
from tests.support.fakes.store import FakeStore
from trio_alerts.backends.opensearch.answers import Answer
from trio_alerts.backends.opensearch.bulk import DONE, BulkWrite, WriteResult, write_all, write_of
from trio_alerts.backends.opensearch.documents import Target
from trio_alerts.batcher import Batcher
from trio_alerts.errors import RefusedContent
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation

INDEX = "alerts-000001"
MAX_ITEMS = 4


class BulkStore:
    """An `AlertStore` of one process that writes in batches to the common store.

    Args:
        store: What all processes share.
        network: The way to it.
        timeout_s: The bound of a request.
    """

    def __init__(self, store: FakeStore, network: Network, timeout_s: float) -> None:
        self._store = store
        self._network = network
        self._timeout_s = timeout_s
        self._writes = Batcher[BulkWrite, Stored | Conflict](
            self._flush,
            max_items=MAX_ITEMS,
            max_bytes=10**6,
            size_of=lambda write: len(write.lines),
            patience_s=timeout_s,
        )
        self.prepare = store.prepare
        self.inspect = store.inspect
        self.guard = store.guard
        self.deployment = store.deployment
        self.keep_deployment = store.keep_deployment
        self.replace_deployment = store.replace_deployment
        self.remove = store.remove
        self.get = store.get
        self.due = store.due
        self.search = store.search
        self.count = store.count
        self.counts = store.counts
        self.vitals = store.vitals
        self.waiting = store.waiting
        self.old, self.pruned = store.old, store.pruned
        self.raise_pruned_before, self.prune = store.raise_pruned_before, store.prune

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what must run beside the store's methods."""
        return [self._writes.run] * 2

    async def create(self, record: Record) -> Stored | Conflict:
        return await self._writes.submit(write_of(record, None))

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        return await self._writes.submit(write_of(record, version), held=True)

    async def bulk(self, *, body: bytes, **_: Any) -> Answer:
        """Stand in for the client: one request over the network."""
        lines = body.split(b"\n")
        ids = tuple(_action(line)[1].get("_id", "?") for line in lines[:-1:2])
        items = await self._network.carry(BulkCall(ids), lambda: self._items(lines))
        answered = answer({"items": items})
        answered.request = httpx.Request("POST", "http://store/alerts/_bulk", content=body)
        return Answer("the store", "POST /alerts/_bulk", answered)

    async def _flush(self, writes: Sequence[BulkWrite]) -> list[WriteResult]:
        deadline_s = trio.current_time() + self._timeout_s
        return await write_all(cast(AsyncOpenSearch, self), Target("alerts", INDEX), writes, deadline_s=deadline_s)

    def _items(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Do what the lines say, one action after the other, as OpenSearch does."""
        items, left = [], list(reversed(lines))
        while left and left[-1]:
            name, meta = _action(left.pop())
            if name in ("create", "index"):
                items.append({name: {"_index": INDEX, "_id": meta["_id"], **self._do(name, meta, left.pop())}})
            else:
                self._store.records.pop(meta["_id"], None)
                items.append({name: {"_index": INDEX, "_id": meta["_id"], "status": 200}})
        return items

    def _do(self, name: str, meta: dict[str, Any], document: bytes) -> dict[str, Any]:
        who = cast("Incarnation | None", OWNER.get())
        for event in self._network.weather:
            hit = event.how == "some" and event.slot in (-1, getattr(who, "slot", -1))
            if hit and self._network.chance.random() < event.rate / 2:
                self._network.store_troubled_at_s = trio.current_time()
                return {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "busy"}}
        record = Record.from_json(meta["_id"], document)
        there = self._store.records.get(record.id)
        expected = (meta["if_seq_no"], meta["if_primary_term"]) if "if_seq_no" in meta else None
        if name == "index" and expected is None and there is not None:
            expected = there.version
        try:
            written = self._store.write(record, expected)
        except RefusedContent:
            return {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse"}}
        if isinstance(written, Conflict):
            return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "conflict"}}
        return {"status": DONE[name], "_seq_no": written.version[0], "_primary_term": written.version[1]}


def _action(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        ((name, meta),) = msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items()
    except (msgspec.DecodeError, ValueError):
        return "?", {}
    return name, meta
