"""Writing records to OpenSearch: many conditional writes, one `_bulk` request, and what its answer says of each.

Two things must never be mixed up. A document that is refused for its content is refused for good, and its entry goes
to quarantine; an index that refuses (closed, blocked, gone, in the middle of a move) is an outage, and nothing may
happen to the entries that meet it. OpenSearch gives both the same statuses: what tells them apart is the error's type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import trio
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.alert import Record
from trio_alerts.backends.opensearch_client import BulkItem, bulk, error_text, error_type, without_values
from trio_alerts.errors import RefusedContent, Unavailable
from trio_alerts.ports import Conflict, Stored

MAX_ID_BYTES = 512  # OpenSearch's own limit; an ID beyond it would refuse the whole request

HTTP_OK = 200
HTTP_CREATED = 201
HTTP_BAD_REQUEST = 400
HTTP_CONFLICT = 409
HTTP_TOO_LARGE = 413

Result = Stored | Conflict | RefusedContent | Unavailable


@dataclass(frozen=True, slots=True)
class Write:
    """One conditional write: the record, and its two lines of a `_bulk` body."""

    record: Record
    lines: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where records are written: through the alias, into the one index that was looked at (empty: not looked yet)."""

    alias: str
    index: str = ""


def write_of(record: Record, version: tuple[int, int] | None) -> Write:
    """Render a write: over the version that was read, or of a record that must not exist yet.

    Raises:
        RefusedContent: No `_bulk` could carry it.
    """
    if not is_possible_id(record.id):
        raise RefusedContent(f"record {record.id!r:.600} cannot be stored: an ID has 1 to {MAX_ID_BYTES} bytes")
    if version is None:
        action = _ENCODER.encode({"create": {"_id": record.id}})
    else:
        # Never `update`: it merges in doubles, and numbers in fields that it does not even touch lose digits.
        condition = {"_id": record.id, "if_seq_no": version[0], "if_primary_term": version[1]}
        action = _ENCODER.encode({"index": condition})
    try:
        named = msgspec.json.decode(record.body, type=_Named)
        document = record.to_json()
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise RefusedContent(f"record {record.id!r} cannot be stored: {fault}") from None
    if named.record_id is None:
        # Searches are ordered by it: without it, the record of an entry that is no alert would be on no page.
        document = b'{"record_id":%b,%b' % (_ENCODER.encode(record.id), document[1:].removeprefix(b","))
    return Write(record, b"%b\n%b\n" % (action, document))


def is_possible_id(record_id: str) -> bool:
    """Tell whether OpenSearch takes a document of this ID at all."""
    try:
        return 1 <= len(record_id.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


async def write_all(
    client: AsyncOpenSearch, target: Target, writes: Sequence[Write], *, deadline_s: float
) -> list[Result]:
    """Do conditional writes with as few requests as possible, and return one result a write, in order.

    A request that is refused as a whole is split in halves until what is guilty stands alone.

    Args:
        client: From `open_opensearch`.
        target: Where to.
        writes: What to write.
        deadline_s: By trio's clock; nothing is sent after it.
    """
    try:
        items = await _send(client, target.alias, writes, deadline_s)
    except Unavailable as fault:
        return [fault] * len(writes)
    except RefusedContent as fault:
        if len(writes) == 1:
            return [fault]
        middle = len(writes) // 2
        return [
            *await write_all(client, target, writes[:middle], deadline_s=deadline_s),
            *await write_all(client, target, writes[middle:], deadline_s=deadline_s),
        ]
    return [result_of(write.record, item, target) for write, item in zip(writes, items, strict=True)]


def result_of(record: Record, item: BulkItem, target: Target) -> Result:
    """Say what one item of an answer means.

    Outcomes: stored | a conflict | refused for its content | everything else is an outage, whatever its status.
    """
    if target.index and item.index not in (target.index, target.alias):
        # An ID is unique in one index, not behind an alias: what this index says of a record means nothing.
        return Unavailable(f"alias {target.alias} leads to {item.index} now, and led to {target.index} before")
    if item.status in (HTTP_OK, HTTP_CREATED):
        return Stored(record, (item.seq_no, item.primary_term))
    if item.status == HTTP_CONFLICT:
        return Conflict()
    kind, reason = item.error.get("type", ""), item.error.get("reason", "")
    cause = item.error.get("caused_by")
    cause = cause if isinstance(cause, Mapping) else {}
    if kind == "mapper_parsing_exception" or (
        kind == "illegal_argument_exception" and cause.get("type") == "max_bytes_length_exceeded_exception"
    ):
        return RefusedContent(f"OpenSearch refuses record {record.id!r}: {kind}: {without_values(reason)}")
    return Unavailable(f"OpenSearch takes no write through {target.alias}: {item.status} {kind}: {reason[:300]}")


class _Named(msgspec.Struct):
    record_id: str | None = None


_ENCODER = msgspec.json.Encoder()


async def _send(client: AsyncOpenSearch, alias: str, writes: Sequence[Write], deadline_s: float) -> list[BulkItem]:
    left_s = deadline_s - trio.current_time()
    if left_s <= 0:
        raise Unavailable("OpenSearch: no time was left for this write")
    try:
        items = await bulk(client, alias, b"".join(write.lines for write in writes), timeout_s=left_s)
    except TransportError as fault:
        # A proxy that says 400 is no judge of content; one that says 413 is.
        if fault.status_code == HTTP_TOO_LARGE or (fault.status_code == HTTP_BAD_REQUEST and error_type(fault)):
            raise RefusedContent(f"OpenSearch refuses record {writes[0].record.id!r}: {error_text(fault)}") from None
        raise Unavailable(f"OpenSearch refuses every write: {error_text(fault)}") from None
    if len(items) != len(writes):
        raise Unavailable(f"OpenSearch answered {len(items)} of {len(writes)} writes")
    return items
