"""The ledger that the promises are checked against: every alert that was emitted."""

from collections import Counter
from dataclasses import dataclass, field

from trio_alerts.record_ids import is_canary


@dataclass
class Emitted:
    """An alert that was emitted, and what happened to it outside of the program.

    Attributes:
        outcome_known: An outcome was stored at some time.
        lost: A producer, an operator or the server took its entry away.
        forgotten: How often an operator deleted its record.
        pruned: How often its record was deleted for its age.
        redelivered: How often an operator had it sent again.
        poison_hits: How often a poison entry killed its process while that held this one.
        killed: How many processes it has killed.
        deaths: How often a process was killed in the middle of the work, this one's too.
        written_at_s: When its record was last written.
        awaited_at_s: The same, by a process that still waited for it: else what it says is older than that.
        accepted: How often each channel's receiver decided to accept it.
        accepted_when_pruned: The same, when its record was deleted for its age: no later record knows of it.
        maybe_seen: How often each channel's receiver accepted it, or answered as a front may for one that did.
    """

    id: str
    kind: str
    sha256: str
    outcome_known: bool = False
    lost: bool = False
    forgotten: int = 0
    pruned: int = 0
    redelivered: int = 0
    poison_hits: int = 0
    killed: int = 0
    deaths: int = 0
    written_at_s: float = 0.0
    awaited_at_s: float = 0.0
    accepted: Counter[str] = field(default_factory=Counter)
    accepted_when_pruned: Counter[str] = field(default_factory=Counter)
    maybe_seen: Counter[str] = field(default_factory=Counter)


class Ledger(dict[str, Emitted]):
    """Every alert that was emitted, by record ID. It knows of canaries, too, and they are none of these."""

    def __init__(self) -> None:
        super().__init__()
        self._canaries: dict[str, Emitted] = {}

    def __missing__(self, record_id: str) -> Emitted:
        if not is_canary(record_id):
            raise KeyError(record_id)
        return self._canaries.setdefault(record_id, Emitted(record_id, "canary", ""))
