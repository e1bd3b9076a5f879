"""What can be read of the documents that a search found: a broken one hides no other."""

import datetime as dt
from collections.abc import Iterable

import msgspec
from loguru import logger

from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.errors import NewerRecord, RefusedContent
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
            "{unreadable} of the records found cannot be read: {reasons}",
            unreadable=len(faults),
            reasons="; ".join(map(str, faults[:NAMED])) + ("; …" if len(faults) > NAMED else ""),
        )
    return records


class _Delivery(msgspec.Struct):
    channels: tuple[ChannelDelivery, ...] = ()


class _Document(msgspec.Struct):
    delivery: _Delivery


_DECODER = msgspec.json.Decoder(_Document)


def due_record(record_id: str, document: bytes | str, now: dt.datetime) -> Due:
    """Return which channels of a document are due; what is wrong with it comes out when the record is claimed.

    Of the document, `delivery.channels` is enough.
    """
    try:
        channels = _DECODER.decode(document).delivery.channels
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return Due(record_id)
    return Due(record_id, tuple(channel.name for channel in channels if channel.is_due(now)))
