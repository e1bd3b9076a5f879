from collections.abc import Sequence

import pytest

from bench.ledger import Ledger, balance

IDS = ("1-0", "2-0", "3-0")


def account(
    accepted: Sequence[str] = IDS, recorded: Sequence[str] = IDS, duplicates: int = 0, pending: int = 0
) -> Ledger:
    return balance(IDS, accepted, recorded, duplicates=duplicates, pending=pending)


def test_a_ledger_balances_when_all_three_sides_agree() -> None:
    """The order does not matter: every ID once on each side."""
    ledger = account(accepted=IDS[::-1])
    assert ledger.balances
    assert "emitted 3, accepted 3, recorded as delivered 3, duplicates 0: balanced" == str(ledger)


@pytest.mark.parametrize(
    ("ledger", "problem"),
    [
        (account(accepted=IDS[1:]), "emitted and never accepted: 1 (such as 1-0)"),
        (account(recorded=IDS[:1]), "emitted and not recorded as delivered: 2 (such as 2-0, 3-0)"),
        (account(accepted=(*IDS, "9-0")), "accepted and never emitted: 1 (such as 9-0)"),
        (account(recorded=(*IDS, "9-0")), "recorded and never emitted: 1 (such as 9-0)"),
        (account(accepted=(*IDS, "2-0")), "accepted more than once: 1 (such as 2-0)"),
        (account(recorded=(*IDS, "2-0")), "recorded more than once: 1 (such as 2-0)"),
        (account(duplicates=1), "1 duplicates reached the receiver"),
        (account(pending=2), "2 entries are still pending"),
        (balance(("1-0", "1-0"), ("1-0",), ("1-0",), duplicates=0, pending=0), "the same ID was emitted twice: 1"),
    ],
)
def test_every_difference_is_named(ledger: Ledger, problem: str) -> None:
    """One alert too few or too many on any side is a problem that names it; equal sums do not hide it."""
    assert not ledger.balances
    assert problem in str(ledger)


def test_equal_sums_do_not_balance_different_alerts() -> None:
    """One lost and one invented make the counts agree and the ledger not."""
    ledger = account(accepted=("1-0", "2-0", "9-0"))
    assert (3, 3, 3) == (ledger.emitted, ledger.accepted, ledger.recorded)
    assert 2 == len(ledger.problems)


def test_the_counts_are_of_requests_and_records_and_repeats() -> None:
    """A line that says what was seen counts each repeat, and calls a run that is void by its name."""
    ledger = balance(("1-0", "1-0"), ("1-0",) * 3, ("1-0",) * 4, duplicates=5, pending=0)
    assert str(ledger).startswith("emitted 2, accepted 3, recorded as delivered 4, duplicates 5: NOT BALANCED: ")


def test_many_ids_are_told_by_a_few_examples() -> None:
    """The first three in their order: a run of thousands that all went wrong still ends with a line one can read."""
    ids = [f"{number}-0" for number in range(9, 0, -1)]
    ledger = balance(ids, (), ids, duplicates=0, pending=0)
    assert ("emitted and never accepted: 9 (such as 1-0, 2-0, 3-0)",) == ledger.problems
