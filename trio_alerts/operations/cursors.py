"""Cursors: where the next page of records begins, as an opaque text that stays good while new alerts come in."""

import binascii
from base64 import b64decode, urlsafe_b64encode

import msgspec

from trio_alerts.delivery import Delivery
from trio_alerts.record import Record

_DECODER = msgspec.json.Decoder(tuple[str | None, str])  # `entry_order`, which some old records lack, and the ID


def cursor_behind(record: Record) -> str:
    """Return the cursor of the page that follows a record."""
    place = (record.fields().get("entry_order"), record.id)
    return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def read_cursor(text: str) -> Record:
    """Return what to search after: the place of a record that was once found, without anything else of it.

    Raises:
        ValueError: It is no cursor, or was cut.
    """
    try:
        entry_order, record_id = _DECODER.decode(
            b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        )
        record_id.encode()
    except (binascii.Error, msgspec.DecodeError, UnicodeError):
        raise ValueError(f"{text!r:.200} is not a cursor; copy the one that the page before ended with") from None
    return Record(record_id, msgspec.json.encode({"entry_order": entry_order}), Delivery(state="unknown"))
