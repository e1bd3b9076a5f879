"""The ledger: every alert that was ever seen has exactly one fate, or it is missing. Pure arithmetic."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from trio_alerts.delivery import State

Fate = Literal[
    "delivered",
    "failed",
    "suppressed",
    "in_doubt",
    "retrying",
    "waiting",
    "in_flight",
    "not_read",
    "quarantined",
    "dropped",
    "lost_upstream",
    "unknown",  # a newer version wrote its record
    "pruned",
]
FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(slots=True, kw_only=True)
class Sightings:
    """Where alerts were seen, by record ID: a replay has the ID of the entry that it came from.

    Args:
        states: Of all records.
        entries: In the stream.
        not_read: Of these, what the group has not read yet.
        before_start: Of these, what was there already when the group was told to start behind it.
        pending: Handed out and not acknowledged; also if the entry itself was deleted.
        quarantined: In the dead-letter stream.
        dropped: Dropped from there by an operator.
        deleted: Noted as deleted from the stream while they were pending.
        lost_unread: How many more were trimmed or deleted before the group had read them: nobody knows their IDs.
        pruned: How many more had a record that retention deleted, and have left the stream.
        taken_away: How often the stream or its group was taken away since somebody accepted it: more may be lost then
            than anybody knows.
    """

    states: Mapping[str, State] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)
    not_read: set[str] = field(default_factory=set)
    before_start: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    lost_unread: int = 0
    pruned: int = 0
    taken_away: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of every alert that was seen.

    Args:
        fates: How many alerts have which.
        missing: What is known of each alert that has none, by its ID.
        taken_away: See `Sightings`; the figures cannot be trusted to be complete unless it is 0.
    """

    fates: Mapping[Fate, int]
    missing: Mapping[str, str]
    taken_away: int = 0

    @property
    def seen(self) -> int:
        """All alerts."""
        return sum(self.fates.values()) + len(self.missing)

    @property
    def balanced(self) -> bool:
        """Whether every alert is accounted for."""
        return not self.missing and not self.taken_away


def balance(seen: Sightings) -> Balance:
    """Account for everything that was seen, each ID once."""
    ids = seen.states.keys() | seen.entries | seen.pending | seen.quarantined | seen.dropped | seen.deleted
    counts: Counter[Fate] = Counter({"lost_upstream": seen.lost_unread, "pruned": seen.pruned})
    missing = {}
    for record_id in ids:
        fate = fate_of(record_id, seen)
        if fate is not None:
            counts[fate] += 1
        elif record_id not in seen.before_start:
            missing[record_id] = _last_trace(record_id, seen)
    return Balance({fate: counts[fate] for fate in FATES}, missing, seen.taken_away)


def fate_of(record_id: str, seen: Sightings) -> Fate | None:
    """Return what became of one alert, or None if nothing did.

    An outcome in the record comes first. A record that says `quarantined` proves nothing: its entry must lie there, or
    be on its way: marked and not moved yet, or replayed and not processed yet.
    """
    state = seen.states.get(record_id)
    if state == "sending":
        return "in_flight"
    if state is not None and state != "quarantined":
        return state
    places: tuple[tuple[Fate, bool], ...] = (
        ("not_read", record_id in seen.not_read),
        ("quarantined", record_id in seen.quarantined),
        ("in_flight", record_id in seen.pending and record_id in seen.entries),
        ("dropped", record_id in seen.dropped),
        ("lost_upstream", record_id in seen.deleted or record_id in seen.pending),
    )
    return next((fate for fate, is_there in places if is_there), None)


def _last_trace(record_id: str, seen: Sightings) -> str:
    if record_id in seen.states:
        return "its record says quarantined, and the entry is neither there nor on its way"
    return "the entry was acknowledged, or moved past by XGROUP SETID, and there is no record of it"
