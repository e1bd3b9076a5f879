"""An entry of the stream, and the alert in it. No I/O."""

import datetime as dt
import hashlib
from collections.abc import Mapping

from msgspec import Struct

from trio_alerts.errors import ParseFault
from trio_alerts.event import LONE_SURROGATE, MAX_PAYLOAD_BYTES, SEVERITIES, AlertEvent, parse_event
from trio_alerts.exact_json import encode
from trio_alerts.record import Origin, render_body
from trio_alerts.record_ids import entry_order

MAX_ENTRY_BYTES = 2 * MAX_PAYLOAD_BYTES  # names and values of all fields: what is larger is not carried to us at all


class Entry(Struct, frozen=True):
    """One message of the stream.

    Args:
        stream: The stream it lies in.
        id: Its message ID in that stream.
        fields: What the producer wrote, as it came.
        deliveries: How often it was handed to a consumer, this time included.
        claimed: It came by a claim: its last owner was silent for `claim_idle_s`, or handed it over.
        record_id: The `_id` of its record and its `webhook-id`, the same at every delivery and replay.
        replayed: It came back from the dead-letter stream, under a new message ID and its first `record_id`.
        oversize: How many bytes its fields have, if that is more than `MAX_ENTRY_BYTES`: they stay on the server then.
        canary: It is our own synthetic alert: it goes the same way, to a channel that nobody has.
    """

    stream: str
    id: str
    fields: Mapping[bytes, bytes]
    record_id: str
    deliveries: int = 1
    claimed: bool = False
    replayed: bool = False
    oversize: int = 0
    canary: bool = False


class Alert(Struct, frozen=True):
    """An entry's alert.

    Args:
        event: The alert itself.
        body: The part of its record that never changes: compact JSON on one line.
        payload: What receivers get: the event as JSON.
        content_sha256: Of what the producer wrote, in hexadecimal.
    """

    event: AlertEvent
    body: bytes
    payload: bytes
    content_sha256: str


def parse_entry(entry: Entry, now: dt.datetime) -> Alert:
    """Validate an entry's `event` and make the unchanging part of its record; `now` is the server's time.

    Raises:
        ParseFault: It is not an AlertEvent; the reason is `missing_event`, `too_large`, `bad_json` or `bad_event`.
    """
    if entry.oversize:
        raise ParseFault(
            "too_large", f"the entry has {entry.oversize:,} bytes; at most {MAX_PAYLOAD_BYTES:,} of payload are allowed"
        )
    written = entry.fields.get(b"event")
    if written is None:
        names = ", ".join(sorted(name.decode(errors="replace") for name in entry.fields)) or "none"
        raise ParseFault("missing_event", f"the entry has no field 'event' (its fields: {names[:200]})")
    event = parse_event(written)
    digest = hashlib.sha256(written).hexdigest()
    origin = Origin(
        severity_rank=SEVERITIES.index(event.severity),
        record_id=entry.record_id,
        entry_order=entry_order(entry.record_id),
        stream=entry.stream,
        stream_id=entry.id,
        content_sha256=digest,
        ingested_at=now,
    )
    try:
        payload = encode(event)
        body = render_body(event, payload, origin)
    except UnicodeEncodeError:
        raise ParseFault("bad_json", LONE_SURROGATE) from None
    return Alert(event, body, payload, digest)
