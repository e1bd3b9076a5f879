"""What `audit` calculates, without any server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.delivery import State
from trio_alerts.ledger import FATES, Fate, Sightings, balance, fate_of

ID = {"1-0"}


@pytest.mark.parametrize(
    ("seen", "fate"),
    [
        (Sightings(states={"1-0": "delivered"}), "delivered"),
        (Sightings(states={"1-0": "failed"}), "failed"),
        (Sightings(states={"1-0": "suppressed"}), "suppressed"),
        (Sightings(states={"1-0": "in_doubt"}), "in_doubt"),
        (Sightings(states={"1-0": "retrying"}), "retrying"),
        (Sightings(states={"1-0": "sending"}), "in_flight"),
        (Sightings(entries=ID, not_read=ID), "not_read"),
        (Sightings(entries=ID, pending=ID), "in_flight"),
        (Sightings(entries=ID, quarantined=ID), "quarantined"),
        (Sightings(quarantined=ID), "quarantined"),
        (Sightings(entries=ID, dropped=ID), "dropped"),
        (Sightings(pending=ID), "lost_upstream"),
        (Sightings(deleted=ID), "lost_upstream"),
        # An outcome in the record comes first.
        (Sightings(states={"1-0": "delivered"}, entries=ID, pending=ID), "delivered"),
        (Sightings(states={"1-0": "delivered"}, deleted=ID), "delivered"),
        (Sightings(states={"1-0": "delivered"}, quarantined=ID), "delivered"),
        # The mark alone proves nothing: the entry must be somewhere.
        (Sightings(states={"1-0": "quarantined"}, quarantined=ID), "quarantined"),
        (Sightings(states={"1-0": "quarantined"}, entries=ID, pending=ID), "in_flight"),
        (Sightings(states={"1-0": "quarantined"}, entries=ID, not_read=ID), "not_read"),
        (Sightings(states={"1-0": "quarantined"}, dropped=ID), "dropped"),
        (Sightings(states={"1-0": "quarantined"}), None),
        (Sightings(entries=ID), None),
    ],
)
def test_every_alert_has_one_fate_or_is_missing(seen: Sightings, fate: Fate | None) -> None:
    """By its record's outcome, or by where its entry lies; what was acknowledged and left no trace is missing."""
    assert fate == fate_of("1-0", seen)
    result = balance(seen)
    assert (ID if fate is None else set(), 1) == (set(result.missing), result.seen)


def test_what_was_there_before_the_start_is_missed_only_if_it_was_touched() -> None:
    """What a group was told to leave alone is not counted; what it knows of all the same is."""
    seen = Sightings(entries={"1-0", "2-0", "3-0"}, before_start={"1-0", "2-0"}, states={"2-0": "delivered"})
    result = balance(seen)
    assert (2, {"3-0"}, 1) == (result.seen, set(result.missing), result.fates["delivered"])


def test_what_nobody_can_name_is_on_both_sides() -> None:
    """Entries that were trimmed unread are seen, and lost upstream; what was deleted for its age is pruned."""
    result = balance(Sightings(states={"1-0": "delivered"}, lost_unread=3, pruned=5))
    fates = result.fates
    assert (9, 3, 5, {}) == (result.seen, fates["lost_upstream"], fates["pruned"], result.missing)


def test_a_missing_alert_leaves_a_trace() -> None:
    """What is known of it says where to look."""
    assert "acknowledged" in balance(Sightings(entries=ID)).missing["1-0"]
    assert "quarantined" in balance(Sightings(states={"1-0": "quarantined"})).missing["1-0"]


IDS = st.sets(st.sampled_from([f"{n}-0" for n in range(6)]))
STATES: list[State] = ["sending", "delivered", "retrying", "failed", "in_doubt", "suppressed", "quarantined"]


@given(st.dictionaries(st.sampled_from([f"{n}-0" for n in range(6)]), st.sampled_from(STATES)), IDS, IDS, IDS, IDS, IDS)
def test_the_identity_holds_for_whatever_is_seen(
    states: dict[str, State],
    entries: set[str],
    pending: set[str],
    quarantined: set[str],
    dropped: set[str],
    deleted: set[str],
) -> None:
    """Each ID that was seen anywhere is counted exactly once."""
    seen = Sightings(
        states=states, entries=entries, pending=pending, quarantined=quarantined, dropped=dropped, deleted=deleted
    )
    result = balance(seen)
    everything = states.keys() | entries | pending | quarantined | dropped | deleted
    assert len(everything) == sum(result.fates.values()) + len(result.missing) == result.seen
    assert list(FATES) == list(result.fates)
