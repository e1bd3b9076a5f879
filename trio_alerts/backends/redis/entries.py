"""Entries in the port's terms: what the server answers becomes an `Entry`, and each has the ID of its record."""

from collections.abc import Collection, Mapping, Sequence

from loguru import logger

from trio_alerts.alert import MAX_ENTRY_BYTES, Entry
from trio_alerts.record_ids import REPLAY_OF, RecordIds

Place = tuple[str, str]  # a stream, and an ID there


class Entries:
    """Knows which records the entries of some streams belong to.

    An entry tells whose replay it is, or that it is a canary, only in its fields, which the pending list does not show:
    of what was read and is not done with yet, it is remembered.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._ids = RecordIds(streams)
        self._others: dict[Place, str] = {}

    def entry(
        self, stream: str, entry_id: str, fields: Mapping[bytes, bytes], size: int, *, deliveries: int, claimed: bool
    ) -> Entry:
        """Return what was read, whose names and values have so many bytes, as an entry."""
        original = self._ids.of_replay(stream, entry_id, fields) if REPLAY_OF in fields else None
        if original is not None:
            self._others[stream, entry_id] = original
        elif REPLAY_OF in fields:
            logger.warning(
                "{record_id}: its field 'replay_of' is not ours; it counts as a new entry",
                record_id=self._ids.of(stream, entry_id),
            )
        return Entry(
            stream=stream,
            id=entry_id,
            fields=fields,
            record_id=original or self._ids.of(stream, entry_id),
            deliveries=deliveries,
            claimed=claimed,
            replayed=original is not None,
            oversize=size if size > MAX_ENTRY_BYTES else 0,
        )

    def remember_canary(self, stream: str, entry_id: str) -> str:
        """Note that an entry is a canary; return the ID of its record."""
        record_id = self._others[stream, entry_id] = self._ids.of_canary(stream, entry_id)
        return record_id

    def record_id(self, stream: str, entry_id: str) -> str:
        """Return the ID of an entry's record, as far as it is known without its fields."""
        return self._others.get((stream, entry_id)) or self._ids.of(stream, entry_id)

    def places(self, record_ids: Collection[str]) -> dict[Place, str]:
        """Return the records by where their entries may lie; a replay is found only if it was read here."""
        read_at = {record_id: place for place, record_id in self._others.items()}
        return {
            place: record_id
            for record_id in record_ids
            for place in (self._ids.place(record_id), read_at.get(record_id))
            if place is not None
        }

    def forget(self, entry: Entry) -> None:
        """Forget an entry that is not pending any more."""
        self._others.pop((entry.stream, entry.id), None)
