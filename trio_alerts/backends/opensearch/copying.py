"""Documents copied from one index to another while the first one is written to.

`_seq_no` is the order in which a shard was written to, and each write of a document gives it a new one. So what changed
since a page was read is what has a higher one, whatever it was; only what was deleted leaves no trace. A copy has the
number that it was copied from, plus one, as its version: a copy that is made twice changes nothing, and an older one
never overwrites a newer one.

A copy also has a higher primary term than the document that it was made from. Whoever has read a document in the old
index and writes over that version in the new one meets a conflict then, and not by chance another version that has the
same number.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import Answer, error_text
from trio_alerts.backends.opensearch.bulk import BULK_FILTER, BulkAnswer, BulkItem, RemovalAnswer
from trio_alerts.backends.opensearch.client import server_timeout
from trio_alerts.backends.opensearch.documents import Document, Target, refresh, search_documents
from trio_alerts.errors import LedgerError, SchemaError, Unavailable

PAGE = 500  # documents: a few MB at most times
MAX_BODY_BYTES = 5 * 1024 * 1024
IDS_ONLY = ("record_id",)


class DoorClosed(Unavailable):
    """The name by which copies are written is gone: the new index has taken over, or somebody removed it."""


class TargetClosed(Unavailable):
    """The target is closed: by us, or by another call that was killed before it opened it again."""


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies from one index to another.

    Args:
        client: The connection.
        source: The index to copy from, by its own name.
        target: The one to copy to, by an alias that only copies are written by, and that goes when it takes over: so
            nobody who comes too late writes to it.
        timeout_s: The bound of a request.
    """

    client: AsyncOpenSearch
    source: Target
    target: Target
    timeout_s: float

    async def changes(self, shard: int, after: int, until: int | None) -> list[Document]:
        """Return a page of what a shard of the source was told after a number, in that order; until: the last one.

        Raises:
            Unavailable: There is no answer to trust.
        """
        bounds = {"gt": after} if until is None else {"gt": after, "lte": until}
        query, order = {"range": {"_seq_no": bounds}}, ({"_seq_no": "asc"},)
        return await search_documents(self.client, self.source, query, size=PAGE, sort=order, shard=shard)

    async def write(self, documents: Sequence[Document], *, again: bool = False) -> None:
        """Write copies; `again`: also over a copy of the same version, to give it the term of now.

        Raises:
            SchemaError: The target refuses a document for its content.
            DoorClosed: It takes no copies any more.
            TargetClosed: Somebody must open it.
            Unavailable: Some may be written, and others not.
        """
        kind = "external_gte" if again else "external"
        for batch in _batches(documents):
            lines = [
                b'{"index":{"_id":%b,"version":%d,"version_type":"%b"}}\n%b\n'
                % (msgspec.json.encode(one.id), one.seq_no + 1, kind.encode(), one_line_of(one))
                for one in batch
            ]
            answer = await self._bulk(b"".join(lines))
            self._check(answer, batch, [slot.index for slot in answer.read(BulkAnswer).items])

    async def read_back(self, documents: Sequence[Document]) -> dict[str, Document]:
        """Return the copies of these documents by their ID, as they are now.

        Raises:
            Unavailable: There is no answer to trust.
        """
        await refresh(self.client, self.target, must=True)
        query = {"ids": {"values": [one.id for one in documents]}}
        found = await search_documents(self.client, self.target, query, size=len(documents), versions=True)
        return {one.id: one for one in found}

    async def delete_vanished(self, shard: int) -> int:
        """Delete the copies in a shard of the target whose documents are gone from the source; return their number.

        Raises:
            DoorClosed: It takes no changes any more.
            Unavailable: Some may be deleted, and others not.
        """
        await refresh(self.client, self.source, must=True)
        await refresh(self.client, self.target, must=True)
        after, deleted = -1, 0
        while True:
            query, order = {"range": {"_seq_no": {"gt": after}}}, ({"_seq_no": "asc"},)
            page = await search_documents(
                self.client, self.target, query, size=PAGE, sort=order, source=IDS_ONLY, shard=shard
            )
            if not page:
                return deleted
            after = page[-1].seq_no
            wanted = {"ids": {"values": [one.id for one in page]}}
            there = await search_documents(self.client, self.source, wanted, size=len(page), source=IDS_ONLY)
            vanished = [one for one in page if one.id not in {document.id for document in there}]
            if vanished:
                await self._delete(vanished)
                deleted += len(vanished)

    async def _delete(self, copies: Sequence[Document]) -> None:
        lines = [
            msgspec.json.encode(
                {"delete": {"_id": one.id, "if_seq_no": one.seq_no, "if_primary_term": one.primary_term}}
            )
            for one in copies
        ]
        answer = await self._bulk(b"\n".join([*lines, b""]))
        self._check(answer, copies, [slot.delete for slot in answer.read(RemovalAnswer).items])

    async def _bulk(self, body: bytes) -> Answer:
        try:
            answer: Answer = await self.client.bulk(
                body=body,
                index=self.target.alias,
                require_alias=True,
                filter_path=BULK_FILTER,
                request_timeout=self.timeout_s,
                timeout=server_timeout(self.timeout_s),
            )
        except TransportError as fault:
            raise Unavailable(f"OpenSearch refuses copies: {error_text(fault)}") from None
        return answer

    def _check(self, answer: Answer, documents: Sequence[Document], items: Sequence[BulkItem | None]) -> None:
        if len(documents) != len(items):
            raise answer.foreign(f"{len(items)} items for {len(documents)} actions")
        for document, item in zip(documents, items, strict=True):
            if item is None or item.id != document.id:
                raise answer.foreign("an item for another action")
            self._check_item(item)

    def _check_item(self, item: BulkItem) -> None:
        """Outcomes: done, or done before | refused for its content | too late | everything else is an outage."""
        if item.error is None:
            self.target.check(item.index)
        elif item.is_refused:
            raise SchemaError(
                f"The new index {self.target.index} refuses record {item.id!r:.600}: {item.error.says}\n"
                "Correct or delete that record, then go on with `migrate`; or undo it with `migrate --abort`."
            )
        elif item.error.type == "index_not_found_exception":
            raise DoorClosed(f"{self.target.index} takes no copies any more")
        elif item.error.type == "index_closed_exception":
            raise TargetClosed(f"{self.target.index} is closed")
        elif not item.is_conflict:
            raise item.outage("OpenSearch does not take copies")


def low_terms(documents: Sequence[Document], copies: dict[str, Document]) -> dict[str, int]:
    """Return by how much the terms of copies are too low, of those for which they are."""
    gaps = {one.id: one.primary_term + 1 - copies[one.id].primary_term for one in documents if one.id in copies}
    return {record_id: gap for record_id, gap in gaps.items() if gap > 0}


def compare(documents: Sequence[Document], copies: dict[str, Document]) -> int:
    """Compare documents with their copies; return the checksum of both, which does not depend on their order.

    Raises:
        LedgerError: One is missing, older, or another document.
    """
    there, here = 0, 0
    for one in documents:
        copy = copies.get(one.id)
        if copy is None or copy.version <= one.seq_no:
            raise LedgerError(f"Record {one.id!r:.600} was copied, and is not there; nothing was handed over.")
        if copy.version == one.seq_no + 1:  # else somebody has copied a later version of it since
            here, there = here + checksum(one.id, one_line_of(one)), there + checksum(copy.id, copy.source)
            if here != there:
                raise LedgerError(f"The copy of record {one.id!r:.600} is another document; nothing was handed over.")
    return there


def checksum(record_id: str, source: bytes) -> int:
    """Return a number that stands for a document; those of many are added up."""
    return int.from_bytes(hashlib.blake2b(record_id.encode() + b"\0" + source, digest_size=8).digest())


def one_line_of(document: Document) -> bytes:
    """Return a document as a `_bulk` body can carry it: a newline between two tokens would end it."""
    source = document.source
    return msgspec.json.format(source, indent=-1) if b"\n" in source else source


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for one in documents:
        size += len(one.source)
        if batch and size > MAX_BODY_BYTES:
            yield batch
            batch, size = [], len(one.source)
        batch.append(one)
    if batch:
        yield batch
