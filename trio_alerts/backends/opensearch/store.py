"""The production store: an `AlertStore` in one OpenSearch index behind an alias.

Writes of many tasks share `_bulk` requests (group commit). Whatever does not go as it should makes the guard look at
the index at once: an index that went bad ends the process within a second, not at the next minute.
"""

import datetime as dt
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from loguru import logger
from opensearchpy import AsyncOpenSearch

from trio_alerts.backends.background import running
from trio_alerts.backends.opensearch import queries
from trio_alerts.backends.opensearch.answers import AccessDenied
from trio_alerts.backends.opensearch.bulk import BulkWrite, WriteResult, is_possible_id, remove, write_all, write_of
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.documents import (
    AliasMoved,
    Document,
    Target,
    aggregate,
    read_document,
    refresh,
    search_documents,
)
from trio_alerts.backends.opensearch.guard import SchemaGuard
from trio_alerts.backends.opensearch.journal import RetentionJournal
from trio_alerts.backends.opensearch.mapping import IDLE_AFTER_S, SEARCH_PAGE, IndexSpec
from trio_alerts.backends.readable import due_record, readable_records
from trio_alerts.batcher import Batcher
from trio_alerts.delivery import Delivery
from trio_alerts.errors import RefusedContent, SchemaError, StartError, Unavailable
from trio_alerts.ports.store import Conflict, Counts, Due, Pruned, RecordFilter, Stored, Vitals
from trio_alerts.record import Record
from trio_alerts.record_ids import entry_order
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.settings import Settings

MAX_BULK_ITEMS = 500  # 40 to 100 ms of a small server's work: what a lone write may have to wait for
MAX_BULK_BYTES = 5 * 1024 * 1024  # far below the 100 MB that OpenSearch takes, and what proxies in front of it take
BULKS = 2  # while OpenSearch works on one, the next is written and the last one read
RESTS_AFTER_S = IDLE_AFTER_S / 2  # without a search: then the next one would wait up to a second for a refresh
LOOK_PAUSE_S = 1.0  # an outage makes the guard look this often, whatever the number of writes that meet it

IN_VAIN = BulkWrite(  # over a version of a record that is not there: a conflict, and nothing is written
    Record(queries.NO_RECORD, b"{", Delivery(state="sending")),
    "index",
    b'{"index":{"_id":"%b","if_seq_no":0,"if_primary_term":1}}\n{}\n' % queries.NO_RECORD.encode(),
)

T = TypeVar("T")


@asynccontextmanager
async def open_opensearch_store(address: OpenSearchAddress, settings: Settings) -> AsyncIterator["OpenSearchStore"]:
    """Connect to the store for as long as the block runs; nothing is created before `prepare`.

    Raises:
        StartError: It cannot be reached, refuses us, or is no OpenSearch that we can use. (What the block raises comes
            out as it is, not in an exception group.)
        ExceptionGroup: A `SchemaError` in it ended the block: the index went bad while running.

    Cancellation: writes that are under way may or may not happen.
    """
    timeout_s = settings.store_timeout_s
    async with open_opensearch(address, ca_file=settings.store_ca_file, timeout_s=timeout_s) as client:
        wanted = IndexSpec(settings.index, settings.stream_names, settings.group)
        removes = settings.keep_records_s is not None or settings.canary_every_s is not None
        store = OpenSearchStore(client, wanted, timeout_s, removes=removes)
        async with running(*store.tasks()):
            yield store


class OpenSearchStore:
    """An `AlertStore`; made by `open_opensearch_store`.

    Args:
        client: The connection.
        wanted: The index that this program trusts.
        timeout_s: The bound of every request.
        removes: Records go, for their age or as canaries: that our user may delete them is tried at start.
    """

    def __init__(self, client: AsyncOpenSearch, wanted: IndexSpec, timeout_s: float, *, removes: bool = False) -> None:
        self._client = client
        self._alias = wanted.alias
        self._timeout_s = timeout_s
        self._removes = removes
        self._guard = guard = SchemaGuard(client, wanted, timeout_s)
        self.guard = guard.compare
        self.deployment = guard.deployment
        self.keep_deployment, self.replace_deployment = guard.keep_deployment, guard.replace_deployment
        self._journal = RetentionJournal(client, lambda: self._target)
        self._suspicion = trio.Event()
        self._searched_at_s = -math.inf
        self.writes = Batcher[BulkWrite, Stored | Conflict](
            self._flush,
            max_items=MAX_BULK_ITEMS,
            max_bytes=MAX_BULK_BYTES,
            size_of=lambda write: len(write.lines),
            patience_s=timeout_s,
        )

    def __repr__(self) -> str:
        """Tell the live state."""
        return f"<OpenSearchStore {self._alias} ({self._guard.index or 'not checked'}): {self.writes!r}>"

    @property
    def _target(self) -> Target:
        return Target(self._alias, self._guard.index)

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what must run beside the store's methods, until cancelled; the last raises `SchemaError`."""
        return [*[self.writes.run] * BULKS, self._look_when_suspicious]

    async def prepare(self) -> None:
        await self._guard.prepare()
        await self._try_rights()

    async def inspect(self) -> list[str]:
        said = await self._guard.inspect()
        if self._guard.exists:
            await self._try_rights()
        return said

    async def create(self, record: Record) -> Stored | Conflict:
        return await self._write(write_of(record, None))

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        return await self._write(write_of(record, version), held=True)

    async def remove(self, record_id: str) -> None:
        await self._read(lambda: remove(self._client, self._target, record_id, timeout_s=self._timeout_s))

    async def get(self, record_id: str) -> Stored | None:
        if not is_possible_id(record_id):
            return None
        document = await self._read(lambda: read_document(self._client, self._target, record_id))
        if document is None:
            return None
        return Stored(Record.from_json(record_id, document.source), (document.seq_no, document.primary_term))

    async def due(self, now: dt.datetime, count: int, after: Due | None = None, *, ahead_s: float = 0.0) -> list[Due]:
        query = queries.due(now, now + dt.timedelta(seconds=ahead_s), after)
        position = () if after is None else (after.id,)
        found = await self._page(query, min(count, SEARCH_PAGE), queries.BY_ID, position, source=queries.DUE_FIELDS)
        return [due_record(str(document.sort[0]), document.source, now) for document in found]

    async def search(self, wanted: RecordFilter, count: int, after: Record | None = None) -> list[Record]:
        # Records of a release that wrote no `entry_order` come after all others, the highest ID, as a string, first.
        records: list[Record] = []
        position: Sequence[Any] = () if after is None else (after.fields().get("entry_order"), after.id)
        if after is None or trio.current_time() - self._searched_at_s > RESTS_AFTER_S:
            await self._refresh()
        self._searched_at_s = trio.current_time()
        while len(records) < count:
            size = min(count - len(records), SEARCH_PAGE)
            found = await self._page(queries.search(wanted, position), size, queries.NEWEST_FIRST, position)
            records += readable_records((document.id, document.source) for document in found)
            if len(found) < size:
                break
            position = found[-1].sort
        return records

    async def count(self, wanted: RecordFilter, stop_at: int | None = None) -> int:  # noqa: ARG002 - it is quick here
        found = await self._aggregate({"found": {"filter": queries.search(wanted)}}, queries.CountAnswer)
        return found.found.doc_count

    async def counts(self, now: dt.datetime) -> Counts:
        found = await self._aggregate(queries.counts_by_state(now), queries.CountsAnswer)
        by_state = Counter({bucket.key: bucket.doc_count for bucket in found.states.buckets})
        by_state.subtract({bucket.key: bucket.doc_count for bucket in found.canaries.states.buckets})
        if found.stateless.doc_count:
            by_state["without a state"] = found.stateless.doc_count
        return Counts(+by_state, found.overdue.doc_count, found.in_doubt.doc_count)

    async def waiting(self) -> Mapping[str, int]:
        # A record that an older release wrote is counted once it is written again.
        found = await self._aggregate(queries.RETRYING_BY_CHANNEL, queries.WaitingAnswer)
        return {bucket.key: bucket.doc_count for bucket in found.retrying.channels.buckets}

    async def vitals(self) -> Vitals:
        found = await self._aggregate(queries.VITALS, queries.VitalsAnswer)
        repeated = sum(bucket.doc_count - 1 for bucket in found.repeated.buckets)
        return Vitals(found.waiting.since.moment, repeated)

    async def old(self, stream: str, before: str, count: int, after: str = "") -> list[str]:
        query, position = queries.old(stream, before, after), (entry_order(after),) if after else ()
        size = min(count, SEARCH_PAGE)
        found = await self._page(query, size, queries.OLDEST_FIRST, position, source=("record_id",))
        return [document.id for document in found]

    async def raise_pruned_before(self, stream: str, before: str) -> None:
        await self._read(lambda: self._journal.raise_pruned_before(stream, before))

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        return await self._read(lambda: self._journal.prune(stream, record_ids, settled, reach))

    async def pruned(self) -> Mapping[str, Pruned]:
        return await self._read(self._journal.pruned)

    async def _refresh(self) -> None:
        await self._read(lambda: refresh(self._client, self._target))

    async def _page(
        self,
        query: Mapping[str, Any],
        size: int,
        sort: Sequence[Mapping[str, Any]],
        after: Sequence[Any],
        *,
        source: Sequence[str] = ("*",),
    ) -> list[Document]:
        found = await self._read(
            lambda: search_documents(self._client, self._target, query, size=size, sort=sort, source=source)
        )
        places = [[str(part or "") for part in place] for place in (after, *(one.sort for one in found)) if place]
        falling = sort is queries.NEWEST_FIRST
        if any(one <= two if falling else one >= two for one, two in itertools.pairwise(places)):
            # A cache that repeats a page would make an endless loop of a reader that goes page by page.
            raise Unavailable(f"a search through {self._alias} returned a page other than the one requested")
        return found

    async def _aggregate(self, aggregations: Mapping[str, Any], kind: type[T]) -> T:
        return await self._read(lambda: aggregate(self._client, self._target, aggregations, kind))

    async def _write(self, write: BulkWrite, *, held: bool = False) -> Stored | Conflict:
        refused: RefusedContent
        try:
            return await self.writes.submit(write, held=held)
        except Unavailable:
            self._suspect()
            raise
        except RefusedContent as fault:
            refused = fault
        await self._check_trust()
        raise refused

    async def _try_rights(self) -> None:
        """Read, search, write, delete in vain: a right that our user lacks is named at start, not by the first alert.

        Raises:
            StartError: A right is missing. (An outage is waited for later, as any other.)
        """
        try:
            await read_document(self._client, self._target, queries.NO_RECORD)
            await aggregate(self._client, self._target, queries.VITALS, queries.VitalsAnswer)
            [result] = await self._flush([IN_VAIN])
            if isinstance(result, AccessDenied):
                raise result
            if self._removes:
                await self._journal.try_rights()
        except AccessDenied as denied:
            raise StartError(str(denied)) from None
        except Unavailable as cause:
            logger.debug("the rights on the index are not known: {reason}", reason=cause)

    async def _check_trust(self) -> None:
        """Look at the index before a document is condemned: a wrong index says nothing about a document."""
        try:
            await self._guard.compare()
        except SchemaError as fault:
            self._suspect()
            raise Unavailable(f"OpenSearch refused a record, and its index is wrong: {fault}") from None

    async def _flush(self, writes: Sequence[BulkWrite]) -> list[WriteResult]:
        deadline_s = trio.current_time() + self._timeout_s
        results = await write_all(self._client, self._target, writes, deadline_s=deadline_s)
        if AliasMoved in map(type, results) and await self._has_followed():
            # No version that was read before means anything in the new index. What was created just now is met again,
            # and its creator's token in it.
            return await write_all(self._client, self._target, writes, deadline_s=deadline_s)
        return results

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        moved: AliasMoved
        try:
            return await ask()
        except AliasMoved as fault:
            moved = fault
        except Unavailable:
            self._suspect()
            raise
        if await self._has_followed():
            return await ask()
        raise moved

    async def _has_followed(self) -> bool:
        """Look where the alias leads to; False: to an index that says nothing about our records, or nobody knows."""
        try:
            await self._guard.compare()
        except (SchemaError, Unavailable):
            self._suspect()
            return False
        return True

    def _suspect(self) -> None:
        if self._guard.index:  # who has not looked yet will do so, and say it better
            self._suspicion.set()

    async def _look_when_suspicious(self) -> None:
        while True:
            await self._suspicion.wait()
            self._suspicion = trio.Event()
            try:
                await self._guard.compare()
            except Unavailable as cause:
                logger.debug("the guard could not check the index: {reason}", reason=cause)
            await trio.sleep(LOOK_PAUSE_S)
