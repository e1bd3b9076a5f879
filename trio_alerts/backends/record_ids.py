"""Which record an entry belongs to: the same one at every delivery and every replay."""

import re
from collections.abc import Mapping, Sequence

REPLAY_OF = b"replay_of"  # the field by which `dead replay` says which record an entry came from

_ENTRY_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")


class RecordIds:
    """Record IDs of one stream (`<ID>`) or of several (`<stream>|<ID>`).

    Args:
        streams: The names of all streams that this process reads.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = tuple(streams)

    def of(self, stream: str, entry_id: str) -> str:
        """Return the record ID of an entry that is no replay."""
        return entry_id if len(self._streams) == 1 else f"{stream}|{entry_id}"

    def place(self, record_id: str) -> tuple[str, str] | None:
        """Return stream and entry ID of a record's first entry; None if it is none of these streams'."""
        stream, bar, entry_id = record_id.rpartition("|")
        if not bar and len(self._streams) == 1:
            stream = self._streams[0]
        elif len(self._streams) == 1 or stream not in self._streams:
            return None
        return (stream, entry_id) if _ENTRY_ID.fullmatch(entry_id) else None

    def of_replay(self, stream: str, entry_id: str, fields: Mapping[bytes, bytes]) -> str | None:
        """Return the record ID that an entry claims to be a replay of; None if it does not, or cannot be one.

        Any producer can write that field. So it must have the form of a record ID of this very stream (the bare form
        too: the record may be older than the setting `streams`), and an older entry's: else a producer could occupy
        the record of an entry that is still to come. What is left to a forger is a record that exists, and there the
        alert's content must be the same (see `resume` in process.py), or one whose entry is older, and not read yet.
        """
        text = fields.get(REPLAY_OF, b"").decode(errors="replace")
        original = _ENTRY_ID.fullmatch(text.removeprefix(f"{stream}|"))
        if original is None or order(original[0]) >= order(entry_id):
            return None
        return text


def order(entry_id: str) -> tuple[int, int]:
    """Return what the server sorts entry IDs by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
