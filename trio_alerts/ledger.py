"""The ledger: every alert that was ever seen ends as exactly one thing, or it is missing. Pure arithmetic."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, get_args

from trio_alerts.delivery import State

Fate = Literal[
    "delivered",
    "failed",
    "suppressed",
    "in_doubt",
    "retrying",
    "in_flight",
    "not_read",
    "quarantined",
    "dropped",
    "lost_upstream",
]
FATES: tuple[Fate, ...] = get_args(Fate)

_OF_THE_RECORD: Mapping[State, Fate] = {
    "delivered": "delivered",
    "failed": "failed",
    "suppressed": "suppressed",
    "in_doubt": "in_doubt",
    "retrying": "retrying",
    "sending": "in_flight",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where alerts were seen, by record ID: a replay has the ID of the entry that it came from.

    Args:
        states: Of all records.
        entries: In the stream.
        not_read: Of these, what the group has not read yet.
        before_start: Of these, what lay there when the group was told to begin behind it.
        pending: Handed out and not acknowledged; also if the entry itself was deleted.
        quarantined: In the dead-letter stream.
        dropped: Dropped from there by an operator.
        deleted: Noted as deleted from the stream while they were pending.
        lost_unread: How many more were trimmed or deleted before the group had read them: nobody knows their IDs.
        taken_away: How often the stream or its group was taken away since somebody accepted it: more may be lost then
            than anybody knows.
    """

    states: Mapping[str, State] = field(default_factory=dict)
    entries: AbstractSet[str] = frozenset()
    not_read: AbstractSet[str] = frozenset()
    before_start: AbstractSet[str] = frozenset()
    pending: AbstractSet[str] = frozenset()
    quarantined: AbstractSet[str] = frozenset()
    dropped: AbstractSet[str] = frozenset()
    deleted: AbstractSet[str] = frozenset()
    lost_unread: int = 0
    taken_away: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """How many alerts ended as what, and the IDs of those that ended as nothing: there must be none."""

    fates: Mapping[Fate, int]
    missing: frozenset[str]

    @property
    def seen(self) -> int:
        """All of them."""
        return self.accounted_for + len(self.missing)

    @property
    def accounted_for(self) -> int:
        """All that are not missing."""
        return sum(self.fates.values())


def balance(seen: Seen) -> Balance:
    """Count what became of everything that was seen, each ID once."""
    ids = seen.states.keys() | seen.entries | seen.pending | seen.quarantined | seen.dropped | seen.deleted
    counts: Counter[Fate] = Counter()
    missing = set()
    for record_id in ids:
        fate = fate_of(record_id, seen)
        if fate is not None:
            counts[fate] += 1
        elif record_id not in seen.before_start:
            missing.add(record_id)
    counts["lost_upstream"] += seen.lost_unread
    return Balance({fate: counts[fate] for fate in FATES}, frozenset(missing))


def fate_of(record_id: str, seen: Seen) -> Fate | None:
    """Return what became of one alert, or None if nothing did.

    An outcome in the record comes first. A record that says `quarantined` proves nothing: its entry must lie there, or
    be on its way: marked and not moved yet, or replayed and not processed yet.
    """
    state = seen.states.get(record_id)
    if state is not None and state != "quarantined":
        return _OF_THE_RECORD[state]
    places: tuple[tuple[Fate, bool], ...] = (
        ("not_read", record_id in seen.not_read),
        ("quarantined", record_id in seen.quarantined),
        ("in_flight", record_id in seen.pending and record_id in seen.entries),
        ("dropped", record_id in seen.dropped),
        ("lost_upstream", record_id in seen.deleted or record_id in seen.pending),
    )
    return next((fate for fate, is_there in places if is_there), None)


def last_trace(record_id: str, seen: Seen) -> str:
    """Say what is known of an alert that is missing."""
    if seen.states.get(record_id) == "quarantined":
        return "its record says quarantined, and the entry is neither there nor on its way"
    return "the entry was acknowledged, or moved past by XGROUP SETID, and there is no record of it"
