"""Deleting old records from OpenSearch, and counting them exactly: a journal beside the records.

The journal is a document of its own in the index, which no search finds. One step of pruning:

    1  read the journal; if it names a batch, whoever wrote that is gone: finish it
    2  read the records as they are now, and keep those that may go
    3  name them in the journal, if it is still as it was in 1
    4  delete each, if it is still as it was in 2
    5  look which of them are gone, add these to the count, and strike the batch, if the journal is still as in 3

Any number of processes may do any of this at once, and die anywhere: a record is counted once. It is named only if it
was there after the journal was read, and whatever is deleted later needs a later journal, which 3 would notice: so no
record is named again after it is gone. What was named and changed since is neither deleted nor counted. A copy of the
index has the journal in it, and other versions: what was begun in the one is counted in the other.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import trio
from msgspec import Raw, Struct
from msgspec.structs import replace
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import AccessDenied, Answer, Name, SeqNo, Term, error_text
from trio_alerts.backends.opensearch.bulk import BULK_FILTER, BulkItem, ItemError
from trio_alerts.backends.opensearch.documents import Target, read_document
from trio_alerts.backends.opensearch.queries import JOURNAL_ID, NO_RECORD
from trio_alerts.errors import NewerRecord, RefusedContent, Unavailable
from trio_alerts.ports.store import Pruned
from trio_alerts.record import Record
from trio_alerts.record_ids import order

Version = tuple[int, int]
_PRUNES_NOTHING = "OpenSearch prunes nothing"
AT_ONCE = 50  # records that are read in one go: a millisecond or two, for which everybody else waits
NEEDED = ("delivery", "ingested_at", "occurred_at")  # of a record, to tell whether it may go


class Batch(Struct, frozen=True):
    """What is about to be deleted: of which stream, and each record's version by its ID."""

    stream: str
    versions: dict[str, Version]


class Journal(Struct, frozen=True, omit_defaults=True):
    """What was pruned by stream, and the batch under way, if there is one."""

    streams: dict[str, Pruned] = {}
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    """The journal as it was read; a version of None: there is none yet."""

    journal: Journal
    version: Version | None


class RetentionJournal:
    """The journal of the index behind an alias.

    Args:
        client: Its requests are bounded.
        target: Returns where the records lie.
    """

    def __init__(self, client: AsyncOpenSearch, target: Callable[[], Target]) -> None:
        self._client = client
        self._target = target

    async def try_rights(self) -> None:
        """Delete, and read several records, in vain.

        Raises:
            AccessDenied: Our user may not.
            Unavailable: There is no answer to trust.
        """
        await self._delete({NO_RECORD: (0, 1)})
        await self._get_all([NO_RECORD])

    async def pruned(self) -> Mapping[str, Pruned]:
        """See `AlertStore.pruned`. What is gone of a batch under way counts already."""
        while True:
            page = await self._read()
            batch = page.journal.batch
            if batch is None:
                return page.journal.streams
            gone = await self._gone(batch)
            if (await self._read()).version == page.version:
                return _counted(page.journal, batch, gone)

    async def raise_pruned_before(self, stream: str, before: str) -> None:
        """See `AlertStore.raise_pruned_before`."""
        while True:
            page = await self._read()
            raised = _raised(page.journal, stream, before)
            if raised == page.journal or await self._write(page, raised):
                return

    async def prune(
        self,
        stream: str,
        record_ids: Sequence[str],
        settled: Callable[[Record], bool],
        reach: Callable[[str], Awaitable[None]],
    ) -> int:
        """See `AlertStore.prune`."""
        page = await self._read()
        finished = 0
        if page.journal.batch is not None:
            finished = await self._finish(page, page.journal.batch, reach)
            page = await self._read()
        if page.journal.batch is not None:
            return finished
        versions = await self._versions(record_ids, settled)
        if not versions:
            return finished
        batch = Batch(stream, versions)
        named = await self._write(page, replace(page.journal, batch=batch))
        return finished if named is None else finished + await self._finish(named, batch, reach)

    async def _finish(self, page: _Page, batch: Batch, reach: Callable[[str], Awaitable[None]]) -> int:
        """Delete what a batch names, count what is gone, and strike it; 0 if another process was faster."""
        await reach("before_prune")
        await self._delete(batch.versions)
        await reach("after_prune")
        gone = await self._gone(batch)
        return gone if await self._write(page, Journal(_counted(page.journal, batch, gone))) else 0

    async def _delete(self, versions: Mapping[str, Version]) -> None:
        actions = [
            {"delete": {"_id": record_id, "if_seq_no": version[0], "if_primary_term": version[1]}}
            for record_id, version in versions.items()
        ]
        for item in await self._bulk([_ENCODER.encode(action) for action in actions], len(actions)):
            if item.error is not None and item.status != HTTPStatus.CONFLICT:
                raise item.outage(_PRUNES_NOTHING)

    async def _gone(self, batch: Batch) -> int:
        found = await self._get_all([*batch.versions], _source="false")
        return len(batch.versions) - sum(one.found for one in found)

    async def _versions(self, record_ids: Sequence[str], settled: Callable[[Record], bool]) -> dict[str, Version]:
        """Return the versions of those that are there and may go, as they are now."""
        versions: dict[str, Version] = {}
        shown = {"_source_includes": ",".join(NEEDED), "_source_excludes": "delivery.channels.log"}
        for number, one in enumerate(await self._get_all(record_ids, **shown) if record_ids else ()):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if not one.found or one.seq_no is None or one.primary_term is None:
                continue
            try:
                record = Record.from_json(one.id, bytes(one.source))
            except (NewerRecord, RefusedContent):
                continue
            if settled(record):
                versions[one.id] = (one.seq_no, one.primary_term)
        return versions

    async def _get_all(self, record_ids: Sequence[str], **shown: str) -> "list[_Found]":
        alias = self._target().alias
        try:
            answer: Answer = await self._client.mget(
                body={"ids": list(record_ids)}, index=alias, params={"realtime": "true", **shown}
            )
        except TransportError as fault:
            raise Unavailable(f"OpenSearch cannot read through {alias}: {error_text(fault)}") from None
        found = answer.read(_FoundAll).docs
        if [one.id for one in found] != list(record_ids):
            raise answer.foreign("other records than requested")
        for one in found:
            if one.error is not None:
                why = f"OpenSearch cannot read record {one.id!r}: {one.error.says}"
                raise AccessDenied(why, HTTPStatus.FORBIDDEN) if one.error.is_denial else Unavailable(why)
            self._target().check(one.index)
        return found

    async def _read(self) -> _Page:
        document = await read_document(self._client, self._target(), JOURNAL_ID)
        if document is None:
            return _Page(Journal(), None)
        try:
            journal = _DECODER.decode(document.source).retention
        except msgspec.DecodeError as fault:
            raise Unavailable(
                f"the document {JOURNAL_ID!r} of index {document.index} was changed by somebody else: {fault}"
            ) from None
        return _Page(journal, (document.seq_no, document.primary_term))

    async def _write(self, page: _Page, journal: Journal) -> _Page | None:
        """Write the journal over the one that was read; None: somebody else has."""
        action: dict[str, Any] = {"create": {"_id": JOURNAL_ID}}
        if page.version is not None:
            condition = {"if_seq_no": page.version[0], "if_primary_term": page.version[1]}
            action = {"index": {"_id": JOURNAL_ID, **condition}}
        (item,) = await self._bulk([_ENCODER.encode(action), _ENCODER.encode(_Document(journal))], 1)
        if item.status == HTTPStatus.CONFLICT:
            return None
        if item.error is not None or item.seq_no is None or item.primary_term is None:
            raise item.outage(_PRUNES_NOTHING)
        return _Page(journal, (item.seq_no, item.primary_term))

    async def _bulk(self, lines: Sequence[bytes], actions: int) -> list[BulkItem]:
        target = self._target()
        try:
            answer: Answer = await self._client.bulk(
                body=b"\n".join([*lines, b""]), index=target.alias, require_alias=True, filter_path=BULK_FILTER
            )
        except TransportError as fault:
            raise Unavailable(f"{_PRUNES_NOTHING}: {error_text(fault)}") from None
        items = [item for slot in answer.read(_BulkAnswer).items for item in slot.values()]
        if len(items) != actions:
            raise answer.foreign(f"{len(items)} items for {actions} actions")
        for item in items:
            target.check(item.index, also_alias=True)
        return items


def _raised(journal: Journal, stream: str, before: str) -> Journal:
    """Return the journal in which `before` is at least this; it never falls, however clocks are set."""
    there = journal.streams.get(stream, Pruned(0, before))
    raised = replace(there, before=max(there.before, before, key=order))
    return replace(journal, streams={**journal.streams, stream: raised})


def _counted(journal: Journal, batch: Batch, gone: int) -> dict[str, Pruned]:
    there = journal.streams[batch.stream]
    return {**journal.streams, batch.stream: replace(there, count=there.count + gone)}


class _Document(Struct):
    retention: Journal


class _Found(Struct, kw_only=True):
    id: str = msgspec.field(name="_id")
    index: Name = msgspec.field(name="_index")
    found: bool = False
    seq_no: SeqNo | None = msgspec.field(name="_seq_no", default=None)
    primary_term: Term | None = msgspec.field(name="_primary_term", default=None)
    source: Raw = msgspec.field(name="_source", default=Raw())
    error: ItemError | None = None


class _FoundAll(Struct):
    docs: list[_Found]


class _BulkAnswer(Struct):
    items: list[dict[str, BulkItem]]


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Document)
