"""Reading what a store keeps, the same way in every store."""

from collections.abc import Iterable

from loguru import logger

from trio_alerts.alert import Record
from trio_alerts.errors import RefusedContent


def readable_records(documents: Iterable[tuple[str, bytes | str]]) -> list[Record]:
    """Read the documents that a search found, by ID.

    One that somebody changed into something unreadable hides no other: it is left out, and said in the log. (Who reads
    it by its ID gets `RefusedContent`.)
    """
    records: list[Record] = []
    faults: list[RefusedContent] = []
    for record_id, document in documents:
        try:
            records.append(Record.from_json(record_id, document))
        except RefusedContent as fault:
            faults.append(fault)
    if faults:
        logger.error("{} of the records found cannot be shown; the first: {}", len(faults), faults[0])
    return records
