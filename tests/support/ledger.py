"""The oracle: what was emitted against what the store, the quarantine and the receivers' own ledger say.

It shares nothing with the program's own ledger, and counts from the other end: from what the receivers were sent.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.receiver import Request
from trio_alerts.delivery import ChannelDelivery
from trio_alerts.http.status import UNSEEN_STATUSES
from trio_alerts.record import Record

NAMED = 5  # IDs that are named of each kind of fault; the rest is counted
FINAL = ("delivered", "failed", "in_doubt")  # no cell suppresses anything


@dataclass
class Balance:
    """What became of the alerts of one cell.

    Args:
        emitted: Entries that were in the stream.
        delivered: Records that say so, where each channel's receiver had really accepted the alert.
        failed: Records that say so, with the reason.
        quarantined: Entries in the dead-letter stream.
        held: Records in doubt that wait for a human, on a channel whose policy says so.
        excused: Entries that somebody took away before anybody had read them, or whose record somebody deleted.
        lost: IDs of which none of that is true.
        unmarked: By channel and ID: requests after one that the receiver had accepted, and which the record does not
            count as in doubt. A mark that stands for an answer such as 500 or 503, which a front may give for a
            receiver that accepted, is that answer's: no duplicate is covered by it.
        marked: How many such requests the records do count as in doubt.
        unmarkable: Such requests whose record was deleted, so that nothing can say any more whether they were marked.
        stray: Records and requests of alerts that were never emitted.
    """

    emitted: int = 0
    delivered: int = 0
    failed: int = 0
    quarantined: int = 0
    held: int = 0
    excused: int = 0
    lost: list[str] = field(default_factory=list)
    unmarked: dict[str, int] = field(default_factory=dict)
    marked: int = 0
    unmarkable: int = 0
    stray: list[str] = field(default_factory=list)

    @property
    def sum(self) -> int:
        """What is accounted for: each emitted alert must be exactly one of these."""
        known = (self.delivered, self.failed, self.quarantined, self.held, self.excused)
        return sum(known) + len(self.lost)

    @property
    def duplicates_unmarked(self) -> int:
        """How many duplicates no record counts as in doubt."""
        return sum(self.unmarked.values())

    @property
    def faults(self) -> list[str]:
        """What does not balance, a sentence each."""
        named = {"lost": self.lost, "duplicates not marked": [*self.unmarked], "never emitted": self.stray}
        faults = [f"{what}: {_named(ids)}" for what, ids in named.items() if ids]
        if self.sum != self.emitted:
            faults.append(f"{self.emitted} were emitted, and {self.sum} are accounted for")
        return faults


def balance(
    emitted: Mapping[str, tuple[str, ...]],
    records: Mapping[str, Record],
    dead: Collection[str],
    requests: Iterable[Request],
    *,
    excused: Collection[str] = (),
    forgotten: Collection[str] = (),
) -> Balance:
    """Balance one cell.

    Args:
        emitted: The channels that the record of each entry must name, by its ID.
        records: What the store has, by ID.
        dead: The record IDs in the dead-letter stream.
        requests: The receivers' ledger: everything that they were sent, in order.
        excused: Entries that were deleted before anybody had read them.
        forgotten: Entries whose record was deleted: no record can say any more what the receivers were sent.
    """
    accepted, duplicates, turned_away, strangers = _walk(requests)
    found = Balance(emitted=len(emitted), quarantined=len(dead))
    found.stray = sorted({record_id for record_id in records if record_id not in emitted} | (strangers - {*emitted}))
    for entry_id, channels in emitted.items():
        record = records.get(entry_id)
        reached = all((channel, entry_id) in accepted for channel in channels)
        if record is None and (entry_id in excused or (entry_id in forgotten and reached)):
            found.excused += 1
        elif entry_id in dead:
            pass
        elif record is None or not _is_settled(record, channels, accepted):
            found.lost.append(entry_id)
        else:
            found.delivered += record.delivery.state == "delivered"
            found.failed += record.delivery.state == "failed"
            found.held += record.delivery.state == "in_doubt"
    for (channel, entry_id), count in duplicates.items():
        in_doubt = max(0, _in_doubt(records.get(entry_id), channel) - turned_away.get((channel, entry_id), 0))
        found.marked += min(count, in_doubt)
        if entry_id in forgotten:
            found.unmarkable += max(0, count - in_doubt)
        elif count > in_doubt:
            found.unmarked[f"{channel} {entry_id}"] = count - in_doubt
    return found


Key = tuple[str, str]  # channel and ID


def _walk(requests: Iterable[Request]) -> tuple[set[Key], dict[Key, int], dict[Key, int], set[str]]:
    """Return who accepted what, the duplicates of each, what was turned away before that, and all IDs seen."""
    accepted: set[Key] = set()
    duplicates: dict[Key, int] = {}
    turned_away: dict[Key, int] = {}
    seen: set[str] = set()
    for request in requests:
        entry_id = request.webhook_id or ""
        key = (request.path.removeprefix("/"), entry_id)
        seen.add(entry_id)
        if key in accepted:
            duplicates[key] = duplicates.get(key, 0) + 1
        elif not request.accepted and request.status in UNSEEN_STATUSES:
            turned_away[key] = turned_away.get(key, 0) + 1
        if request.accepted:
            accepted.add(key)
    return accepted, duplicates, turned_away, seen


def _is_settled(record: Record, channels: tuple[str, ...], accepted: set[tuple[str, str]]) -> bool:
    """Whether the record is final, names all its channels, and claims no acceptance that the receiver knows not of."""
    delivery = record.delivery
    if delivery.state not in FINAL or {one.name for one in delivery.channels} != {*channels}:
        return False
    if delivery.state == "failed" and not any(one.state == "failed" and one.last_error for one in delivery.channels):
        return False
    return all(_is_true(record.id, one, accepted) for one in delivery.channels)


def _is_true(record_id: str, channel: ChannelDelivery, accepted: set[tuple[str, str]]) -> bool:
    """Whether its receiver knows what it claims; a fallback that has the alert was not spared."""
    has_it = (channel.name, record_id) in accepted
    if channel.state == "spared" and channel.fallback_of:
        return not has_it
    return channel.state != "delivered" or has_it


def _in_doubt(record: Record | None, channel: str) -> int:
    return next((one.in_doubt for one in record.delivery.channels if one.name == channel), 0) if record else 0


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
