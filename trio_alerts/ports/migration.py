"""The migration of a store to a new index, as the command that makes it sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Step = Literal["create", "copy", "hand_over", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `copied` of `records` are in the new index, as they were when they were copied.

    Args:
        step: What is being done, or comes next.
        source: The index that the alias leads to; in the step `done` the one that it led to before, which is kept.
        target: The new index; empty before there is one.
        copied: Documents in the new index.
        records: Documents in the source.
        blocked: The source takes no writes: every process waits.
    """

    step: Step
    source: str
    target: str = ""
    copied: int = 0
    records: int = 0
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Migrated:
    """What came of it.

    Args:
        source: The index that is kept as it was; it takes no writes any more.
        target: The index that the alias leads to now.
        records: Documents in each of them at that moment.
        checksum: Of what was copied and compared by this call, the same on both sides.
        waited_s: How long writes had to wait; 0.0 if another call did the last step.
    """

    source: str
    target: str
    records: int
    checksum: str
    waited_s: float


class Migration(Protocol):
    """A store's way to a new index, with every process running. Whoever is killed in it leaves it to be resumed."""

    async def status(self) -> Progress | None:
        """Say how far it is, and change nothing; None if there has never been one.

        Raises:
            SchemaError: There is no index of ours.
            Unavailable: There is no answer to trust.
        """

    async def run(self, report: Callable[[Progress], None]) -> Migrated:
        """Begin, or go on with what was begun; `report` hears of each step, and of each page of records.

        Raises:
            SchemaError: There is no index of ours, or the new one cannot be trusted, or refuses a record.
            LedgerError: The new index does not hold what the source holds: nothing was handed over.
            StartError: OpenSearch refuses, or did not answer for too long; or somebody aborted it.

        Cancellation: writes are let through again, as far as OpenSearch answers.
        """

    async def abort(self) -> str:
        """Remove the new index, and let writes through again; return its name, empty if there was nothing to abort.

        Raises:
            SchemaError: There is no index of ours.
            StartError: The alias leads to the new index already.
            Unavailable: It is done in part, or not at all: call it again.
        """
