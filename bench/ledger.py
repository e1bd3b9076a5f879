"""The exact account of a run: every alert that was emitted, as the receiver and as the store saw it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

SHOWN = 3  # examples of what is wrong; a human looks at one


@dataclass(frozen=True)
class Ledger:
    """The three sides of the account, and every way in which they differ.

    Attributes:
        problems: One sentence each; none: it balances.
    """

    emitted: int
    accepted: int
    recorded: int
    duplicates: int
    problems: tuple[str, ...]

    @property
    def balances(self) -> bool:
        """Every alert was accepted once and recorded as delivered once, and nothing else was."""
        return not self.problems

    def __str__(self) -> str:
        counts = f"emitted {self.emitted:,}, accepted {self.accepted:,}, recorded as delivered {self.recorded:,}"
        verdict = "balanced" if self.balances else f"NOT BALANCED: {'; '.join(self.problems)}"
        return f"{counts}, duplicates {self.duplicates:,}: {verdict}"


def balance(
    emitted: Iterable[str], accepted: Iterable[str], recorded: Iterable[str], *, duplicates: int, pending: int
) -> Ledger:
    """Compare the sides, alert by alert.

    Args:
        emitted: The IDs that XADD returned.
        accepted: The `webhook-id` of every request that the receiver accepted, repeats included.
        recorded: The ID of every record that says delivered.
        duplicates: Requests that came after the same ID had been accepted, by the receiver's own count.
        pending: Entries that were left pending.
    """
    sent, taken, kept = Counter(emitted), Counter(accepted), Counter(recorded)
    problems = [
        *_told("the same ID was emitted twice", (one for one, count in sent.items() if count > 1)),
        *_told("emitted and never accepted", sent.keys() - taken.keys()),
        *_told("emitted and not recorded as delivered", sent.keys() - kept.keys()),
        *_told("accepted and never emitted", taken.keys() - sent.keys()),
        *_told("recorded and never emitted", kept.keys() - sent.keys()),
        *_told("accepted more than once", (one for one, count in taken.items() if count > 1)),
        *_told("recorded more than once", (one for one, count in kept.items() if count > 1)),
    ]
    if duplicates:
        problems.append(f"{duplicates} duplicates reached the receiver")
    if pending:
        problems.append(f"{pending} entries are still pending")
    return Ledger(sent.total(), taken.total(), kept.total(), duplicates, tuple(problems))


def _told(what: str, ids: Iterable[str]) -> list[str]:
    found = sorted(ids)
    return [f"{what}: {len(found)} (such as {', '.join(islice(found, SHOWN))})"] if found else []
