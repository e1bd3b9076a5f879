"""Which record an entry belongs to: the same one at every delivery and every replay."""

import re
from collections.abc import Mapping, Sequence

REPLAY_OF = b"replay_of"  # the field by which `dead replay` says which record an entry came from
CANARY_FIELD = b"canary"  # what a canary's entry has in place of `event`: whoever does not know it sends nothing
CANARIES = "~canary|"  # what the ID of a canary's record begins with: no stream may be called so

LARGEST = 2**64 - 1  # of each half of an ID

_SURE_LENGTH = 20  # of an ID: neither half can have more than 18 digits, so both are smaller than LARGEST
_ENTRY_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")


class RecordIds:
    """Record IDs of the one stream that this process reads (`<ID>`), or of its several streams (`<stream>|<ID>`)."""

    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = tuple(streams)

    def of(self, stream: str, entry_id: str) -> str:
        """Return the record ID of an entry that is not a replay."""
        return entry_id if len(self._streams) == 1 else f"{stream}|{entry_id}"

    def of_canary(self, stream: str, entry_id: str) -> str:
        """Return the record ID of an entry that is a canary: none that an alert has."""
        return f"{CANARIES}{self.of(stream, entry_id)}"

    def place(self, record_id: str) -> tuple[str, str] | None:
        """Return stream and entry ID of a record's first entry; None if it is from none of these streams."""
        stream, bar, entry_id = record_id.removeprefix(CANARIES).rpartition("|")
        if not bar and len(self._streams) == 1:
            stream = self._streams[0]
        elif len(self._streams) == 1 or stream not in self._streams:
            return None
        return (stream, entry_id) if is_entry_id(entry_id) else None

    def of_replay(self, stream: str, entry_id: str, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the record ID that an entry claims to be a replay of; None if it does not, or cannot be one.

        Any producer can write that field. So it must have the form of a record ID of this very stream (the bare form
        too: the record may be older than the setting `streams`), and an older entry's: else a producer could occupy
        the record of an entry that is still to come. What is left to a forger is a record that exists, and there the
        alert's content must be the same (see `resume` in claim.py), or one whose entry is older, and not read yet.
        """
        text = fields.get(REPLAY_OF, b"").decode(errors="replace")
        original = text.removeprefix(f"{stream}|")
        return text if is_entry_id(original) and order(original) < order(entry_id) else None


def is_canary(record_id: str) -> bool:
    """Tell whether a record is a canary's."""
    return record_id.startswith(CANARIES)


def is_entry_id(text: str) -> bool:
    """Tell whether this is an ID as the server writes it: two numbers of 64 bits."""
    return _ENTRY_ID.fullmatch(text) is not None and (len(text) <= _SURE_LENGTH or max(order(text)) <= LARGEST)


def order(entry_id: str) -> tuple[int, int]:
    """Return what the server sorts entry IDs by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def id_behind(entry_id: str) -> str | None:
    """Return the smallest ID that is larger; None behind the largest there is, where "(" is an error of the server."""
    milliseconds, sequence = order(entry_id)
    if sequence < LARGEST:
        return f"{milliseconds}-{sequence + 1}"
    return f"{milliseconds + 1}-0" if milliseconds < LARGEST else None


def entry_order(record_id: str) -> str:
    """Return a text that sorts a record among others as Redis sorts their entries, by two numbers of up to 64 bits."""
    milliseconds, _, sequence = record_id.rpartition("|")[2].partition("-")
    return f"{milliseconds.rjust(20, '0')}-{sequence.rjust(20, '0')}"
