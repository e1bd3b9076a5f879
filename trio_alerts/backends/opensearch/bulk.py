"""Writing records to OpenSearch: many conditional writes, one `_bulk` request, and what its answer says of each.

Two things must never be mixed up. A document that is refused for its content is refused for good, and its entry goes
to quarantine; an index that refuses (closed, blocked, gone, in the middle of a move) is an outage, and nothing may
happen to the entries that meet it. OpenSearch gives both the same statuses: what tells them apart is the error's type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import msgspec
import trio
from msgspec import Struct
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import (
    AccessDenied,
    Answer,
    ForeignAnswer,
    Name,
    SeqNo,
    Term,
    error_text,
    without_values,
)
from trio_alerts.backends.opensearch.client import server_timeout
from trio_alerts.backends.opensearch.documents import Target
from trio_alerts.errors import RefusedContent, Unavailable
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record
from trio_alerts.text import one_line

MAX_ID_BYTES = 512  # OpenSearch's own limit; an ID beyond it would refuse the whole request

DONE = {"create": 201, "index": 200}  # the status of an action that was done

# Only what is used of an answer: an eighth of the bytes.
BULK_FILTER = "items.*._index,items.*._id,items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"

WriteResult = Stored | Conflict | RefusedContent | Unavailable


class Cause(Struct):
    """Why an error came about."""

    type: str
    reason: str | None = None


class ItemError(Struct):
    """Why one action of a bulk request failed."""

    type: Name
    reason: str | None = None
    caused_by: Cause | None = None

    @property
    def is_denial(self) -> bool:
        """Whether our user lacks a right; an index that is blocked has the same status."""
        return self.type == "security_exception"

    @property
    def says(self) -> str:
        """Type and reason for a human, without what OpenSearch quotes of a document."""
        return one_line(f"{self.type[:100]}: {without_values(self.reason or '')}")


class BulkItem(Struct, frozen=True, kw_only=True):
    """What became of one action of a bulk request; only this decides about it, never the request's own status."""

    status: int
    id: str = msgspec.field(name="_id")
    index: Name = msgspec.field(name="_index")
    seq_no: SeqNo | None = msgspec.field(name="_seq_no", default=None)
    primary_term: Term | None = msgspec.field(name="_primary_term", default=None)
    error: ItemError | None = None

    @property
    def is_conflict(self) -> bool:
        """Whether its condition did not hold."""
        return (
            self.status == HTTPStatus.CONFLICT
            and self.error is not None
            and self.error.type == "version_conflict_engine_exception"
        )

    @property
    def is_refused(self) -> bool:
        """Whether the document is refused for its content, which waiting does not change."""
        if self.status != HTTPStatus.BAD_REQUEST or self.error is None:
            return False
        kind, cause = self.error.type, self.error.caused_by
        return kind == "mapper_parsing_exception" or (
            kind == "illegal_argument_exception"
            and cause is not None
            and cause.type == "max_bytes_length_exceeded_exception"
        )

    def outage(self, what: str) -> Unavailable:
        """Return the error that says what is not done, and why."""
        message = f"{what}: {self.status} {self.error.says if self.error else 'without a reason'}"
        denied = self.error is not None and self.error.is_denial
        return AccessDenied(message, self.status) if denied else Unavailable(message)


class BulkSlot(Struct, forbid_unknown_fields=True):
    """One place of a bulk answer: the item stands under its action's name."""

    create: BulkItem | None = None
    index: BulkItem | None = None


class BulkAnswer(Struct):
    """The answer to `POST /<alias>/_bulk`, as far as it is asked for."""

    items: list[BulkSlot]


class RemovalSlot(Struct, forbid_unknown_fields=True):
    """The place of a removal in a bulk answer."""

    delete: BulkItem


class RemovalAnswer(Struct):
    """The answer to a `_bulk` of one removal."""

    items: list[RemovalSlot]


@dataclass(frozen=True, slots=True)
class BulkWrite:
    """One conditional write: the record, its action, and its two lines of a `_bulk` body."""

    record: Record
    action: Literal["create", "index"]
    lines: bytes


def write_of(record: Record, version: tuple[int, int] | None) -> BulkWrite:
    """Render a write: over the version that was read, or of a record that must not exist yet.

    Raises:
        RefusedContent: No `_bulk` could carry it.
    """
    if not is_possible_id(record.id):
        raise RefusedContent(f"record {record.id!r:.600} cannot be stored: an ID has 1 to {MAX_ID_BYTES} bytes")
    if version is None:
        kind: Literal["create", "index"] = "create"
        condition: dict[str, object] = {"_id": record.id}
    else:
        # Never `update`: it merges in doubles, and numbers in fields that it does not even touch lose digits.
        kind = "index"
        condition = {"_id": record.id, "if_seq_no": version[0], "if_primary_term": version[1]}
    try:
        document = record.to_json()
    except UnicodeError as fault:
        raise RefusedContent(f"record {record.id!r} cannot be stored: {fault}") from None
    return BulkWrite(record, kind, b"%b\n%b\n" % (_ENCODER.encode({kind: condition}), document))


async def remove(client: AsyncOpenSearch, target: Target, record_id: str, *, timeout_s: float) -> None:
    """Delete one record, whatever its version; it need not exist.

    By `_bulk`, which needs the alias to be there: a single DELETE could create an index.

    Raises:
        Unavailable: Nobody knows whether it was deleted.
    """
    try:
        answer: Answer = await client.bulk(
            body=_ENCODER.encode({"delete": {"_id": record_id}}) + b"\n",
            index=target.alias,
            require_alias=True,
            filter_path=BULK_FILTER,
            request_timeout=timeout_s,
            timeout=server_timeout(timeout_s),
        )
    except TransportError as fault:
        raise Unavailable(f"OpenSearch refuses to delete a record: {error_text(fault)}") from None
    items = [slot.delete for slot in answer.read(RemovalAnswer).items]
    if [record_id] != [item.id for item in items]:
        raise answer.foreign("an item for another action")
    target.check(items[0].index, also_alias=True)
    if items[0].error is not None or items[0].status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        raise items[0].outage(f"OpenSearch deletes nothing through {target.alias}")


def is_possible_id(record_id: str) -> bool:
    """Tell whether OpenSearch takes a document of this ID at all."""
    try:
        return 1 <= len(record_id.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


async def write_all(
    client: AsyncOpenSearch, target: Target, writes: Sequence[BulkWrite], *, deadline_s: float
) -> list[WriteResult]:
    """Do conditional writes with as few requests as possible, and return one result a write, in order.

    A request that is refused as a whole is split in halves until what is guilty stands alone: refused if OpenSearch
    says so, waited for if a proxy finds it too large.

    Nothing is sent after the deadline, which is by trio's clock.
    """
    try:
        items = await _send(client, target.alias, writes, deadline_s)
    except (RefusedContent, _TooLargeError) as fault:
        if len(writes) == 1:
            return [fault]
        middle = len(writes) // 2
        return [
            *await write_all(client, target, writes[:middle], deadline_s=deadline_s),
            *await write_all(client, target, writes[middle:], deadline_s=deadline_s),
        ]
    except Unavailable as fault:
        return [fault] * len(writes)
    return [result_of(write, item, target) for write, item in zip(writes, items, strict=True)]


def result_of(write: BulkWrite, item: BulkItem, target: Target) -> WriteResult:
    """Say what one item of an answer means.

    Outcomes: stored | a conflict | refused for its content | everything else is an outage, whatever its status.
    """
    try:
        target.check(item.index, also_alias=True)
    except Unavailable as fault:
        return fault
    if item.error is None:
        if item.status == DONE[write.action] and item.seq_no is not None and item.primary_term is not None:
            return Stored(write.record, (item.seq_no, item.primary_term))
        return Unavailable(f"OpenSearch does not say what became of record {write.record.id!r}: {item.status}")
    if item.is_conflict:
        return Conflict()
    if item.is_refused:
        return RefusedContent(f"OpenSearch refuses record {write.record.id!r}: {item.error.says}")
    return item.outage(f"OpenSearch accepts no writes through {target.alias}")


class _TooLargeError(Unavailable):
    """A proxy says that a request is too large, which is true of one record only if the proxy is set wrongly."""


_ENCODER = msgspec.json.Encoder()


async def _send(client: AsyncOpenSearch, alias: str, writes: Sequence[BulkWrite], deadline_s: float) -> list[BulkItem]:
    left_s = deadline_s - trio.current_time()
    if left_s <= 0:
        raise Unavailable("OpenSearch: no time left for this write")
    try:
        return await bulk(client, alias, writes, timeout_s=left_s)
    except ForeignAnswer as fault:
        if fault.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise _TooLargeError(str(fault)) from None
        raise
    except TransportError as fault:
        if fault.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            raise RefusedContent(f"OpenSearch refuses record {writes[0].record.id!r}: {error_text(fault)}") from None
        raise Unavailable(f"OpenSearch refuses every write: {error_text(fault)}") from None


async def bulk(client: AsyncOpenSearch, alias: str, writes: Sequence[BulkWrite], *, timeout_s: float) -> list[BulkItem]:
    """Send one `_bulk` request, which creates no index, and return what became of each write, in their order.

    Raises:
        Unavailable: Nobody knows which of the writes were done.
        TransportError: OpenSearch refused the whole request: none was done.
    """
    answer: Answer = await client.bulk(
        body=b"".join([write.lines for write in writes]),
        index=alias,
        require_alias=True,
        filter_path=BULK_FILTER,
        request_timeout=timeout_s,  # must stand beside `timeout`, which opensearch-py otherwise takes as its own
        timeout=server_timeout(timeout_s),
    )
    slots = answer.read(BulkAnswer).items
    if len(slots) != len(writes):
        raise answer.foreign(f"{len(slots)} items for {len(writes)} actions")
    items: list[BulkItem] = []
    for write, slot in zip(writes, slots, strict=True):
        item = slot.create if write.action == "create" else slot.index
        if item is None or item.id != write.record.id:
            raise answer.foreign("an item for another action")
        items.append(item)
    return items
