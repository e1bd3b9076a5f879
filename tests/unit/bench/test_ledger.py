from collections.abc import Sequence

import pytest

from bench.ledger import faults_of

IDS = ("1-0", "2-0", "3-0")


def faults(
    emitted: Sequence[str] = IDS,
    accepted: Sequence[str] = IDS,
    recorded: Sequence[str] = IDS,
    duplicates: int = 0,
    pending: int = 0,
) -> list[str]:
    return faults_of(emitted, accepted, recorded, duplicates=duplicates, pending=pending)


def test_a_run_counts_when_all_three_sides_agree() -> None:
    """The order does not matter: every ID once on each side."""
    assert [] == faults(accepted=IDS[::-1])


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (faults(accepted=IDS[1:]), "lost: 1-0"),
        (faults(recorded=IDS[:1]), "lost: 2-0, 3-0"),
        (faults(accepted=(*IDS, "9-0")), "never emitted: 9-0"),
        (faults(recorded=(*IDS, "9-0")), "never emitted: 9-0"),
        (faults(accepted=(*IDS, "2-0")), "duplicates not marked: alerts 2-0"),
        (faults(recorded=(*IDS, "2-0")), "1 were recorded twice"),
        (faults(duplicates=1), "1 duplicates reached the receiver"),
        (faults(pending=2), "2 entries are still pending"),
        (faults(emitted=(*IDS, "1-0")), "1 were emitted twice"),
    ],
)
def test_every_difference_makes_a_run_void(found: list[str], fault: str) -> None:
    """One alert too few or too many on any side is named."""
    assert [fault] == found


def test_equal_sums_do_not_balance_different_alerts() -> None:
    """One lost and one invented make the counts agree and the sides not."""
    assert ["lost: 3-0", "never emitted: 9-0"] == faults(accepted=("1-0", "2-0", "9-0"))


def test_many_ids_are_told_by_a_few_examples() -> None:
    """A run of thousands that all went wrong still ends with a line that can be read."""
    ids = [f"{number}-0" for number in range(1, 10)]
    assert ["lost: 1-0, 2-0, 3-0, 4-0, 5-0 and 4 more"] == faults(ids, (), ids)
