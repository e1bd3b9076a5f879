"""What can be read of the documents that a search found: a broken one hides no other."""

import datetime as dt
from collections.abc import Iterable

import msgspec
from loguru import logger

from trio_alerts.delivery import ChannelDelivery, Delivery, State
from trio_alerts.errors import NewerRecord, RefusedContent
from trio_alerts.exact_json import Timestamp
from trio_alerts.ports.hints import Queued
from trio_alerts.ports.store import Due
from trio_alerts.record import Record

NAMED = 10  # unreadable records of one page: more of them are one fault, not many


def readable_records(documents: Iterable[tuple[str, bytes | str]]) -> list[Record]:
    """Read documents, each with its ID; those that cannot be read are left out, and named in the log.

    Those of a newer version are there, in the state `unknown`. (Who reads one of these by its ID gets `RefusedContent`
    or `NewerRecord`.)
    """
    records: list[Record] = []
    faults: list[RefusedContent] = []
    for record_id, document in documents:
        try:
            records.append(Record.from_json(record_id, document))
        except NewerRecord as newer:
            records.append(Record(record_id, newer.body, Delivery(state="unknown")))
        except RefusedContent as fault:
            faults.append(fault)
    if faults:
        logger.error(
            "{unreadable} of the records found cannot be read: {error}",
            unreadable=len(faults),
            error="; ".join(map(str, faults[:NAMED])) + ("; …" if len(faults) > NAMED else ""),
        )
    return records


class _Delivery(msgspec.Struct):
    state: State
    lease_until: Timestamp | None = None
    channels: tuple[ChannelDelivery, ...] = ()


class _Document(msgspec.Struct):
    delivery: _Delivery
    severity_rank: int = 0


_DECODER = msgspec.json.Decoder(_Document)


def due_record(record_id: str, document: bytes | str, now: dt.datetime) -> Due:
    """Return which channels of a document are due; what is wrong with it comes out when the record is claimed.

    Of the document, `severity_rank` and some of `delivery` are enough.
    """
    try:
        found = _DECODER.decode(document)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return Due(record_id, cut=True)
    delivery, rank = found.delivery, found.severity_rank
    lease_until = delivery.lease_until if delivery.state == "sending" else None
    waiting = [channel for channel in delivery.channels if channel.state == "waiting"]
    ahead = [one for one in delivery.channels if one.state in ("retrying", "standby") and delivery.state != "sending"]
    return Due(
        record_id,
        tuple(one.name for one in ahead if one.is_due(now)),
        min((one.next_attempt_at for one in ahead if one.next_attempt_at and not one.is_due(now)), default=None),
        cut=lease_until is not None and lease_until <= now,
        queues=tuple(Queued(channel.name, record_id, rank, channel.attempts) for channel in waiting),
        expired=any(channel.next_attempt_at and channel.next_attempt_at <= now for channel in waiting),
    )
