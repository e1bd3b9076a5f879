"""The stream's ports: what carries alerts, and what keeps the stream in order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trio_alerts.alert import Entry
from trio_alerts.deployment import DeploymentKeeper

SUSPECT_DELIVERIES = 3  # from this delivery on an entry may be what crashed its workers
HANDED_OVER_IDLE_S = 86_400.0  # no living worker's entry is ever this idle: it was handed over


@dataclass(frozen=True, slots=True)
class Pending:
    """What the group knows about an entry that was handed out and not acknowledged.

    `deliveries` counts the times it was handed out so far; `idle_s` is the time since the last of them or the last
    renewal. A replayed entry's `record_id` is not known before it is claimed: this one is made from its own ID.
    """

    stream: str
    id: str
    record_id: str
    consumer: str
    idle_s: float
    deliveries: int


def is_suspect(pending: Pending) -> bool:
    """Tell whether the next delivery of an entry makes it a suspect."""
    return pending.deliveries + 1 >= SUSPECT_DELIVERIES


class AlertStream(DeploymentKeeper, Protocol):
    """A consumer group's view of one or several streams, for one consumer."""

    async def prepare(self) -> None:
        """Create the group where it is missing, by the rules of `start_from`; look at the server's own settings.

        Raises:
            StartError: The server cannot be reached, refuses us, or would lose alerts by its own settings.
            SettingsError: The group would start over too many waiting entries, and `start_from` does not say where.
        """

    async def inspect(self) -> list[str]:
        """Tell what `prepare` would create, a line each, and create nothing; raises what `prepare` raises."""

    async def guard(self) -> None:
        """See whether the streams still belong to our deployment; if its identity is gone, write it back.

        Ours is the one that `keep_deployment` returned. `read` does the same before it creates a lost group again.

        Raises:
            SchemaError: They belong to another deployment.
        """

    async def read(self, count: int) -> list[Entry]:
        """Wait up to `block_s` for new entries and return at most `count`; re-creates a lost group at `0`.

        Only the reader calls this: it blocks a connection of its own. A cancelled read may leave entries pending
        under our name whose answer nobody saw; `own_pending` finds them.
        """

    async def wake(self) -> None:
        """Make a blocked `read` return at once, with what it has. Never raises: the read ends by itself anyway."""

    async def own_pending(self, holding: Collection[str], count: int) -> list[Entry]:
        """Return at most `count` entries that are pending under our own name, but for the record IDs that we hold.

        These are answers that got lost, or what a process of the same name left behind. Each counts one more delivery,
        but they do not count as claimed: under a name that two processes share, an owner may be alive. Suspects are
        left to the claimer, which takes one at a time.
        """

    async def look(self, min_idle_s: float, count: int) -> list[Pending]:
        """Return up to `count` pending entries of any consumer that have been idle for that long.

        Successive looks go round: entries that nobody can take now hide no others.
        """

    async def claim(self, pending: Sequence[Pending], min_idle_s: float) -> list[Entry]:
        """Take over those that are still that idle; each counts one more delivery. Vanished ones are acknowledged.

        Nothing is taken if the server's clock was set forward since the last `server_time`: then everything looks idle.
        """

    async def restart_idle_times(self) -> None:
        """Let idle times run again that stand at zero: of what was handed out before the server's clock was set back.

        Owners and deliveries stay. Until the clock is where it was, nobody could tell the dead from the living.
        """

    async def renew(self, entries: Sequence[Entry], *, counted: bool | None = None) -> set[str]:
        """Reset the idle time of those that are still ours; return their record IDs.

        Args:
            entries: Which.
            counted: Whether the delivery to us counts from now on; None: as before.
        """

    async def owns(self, entry: Entry) -> bool:
        """Tell whether the server still has this entry pending under our name."""

    async def pending_among(self, record_ids: Sequence[str]) -> set[str]:
        """Return those records whose entry is still pending in the group, under any name."""

    async def ack(self, entries: Sequence[Entry]) -> None:
        """Acknowledge. Safe to repeat."""

    async def quarantine(self, entry: Entry, reason: str, error: str) -> bool:
        """Move an entry to the dead-letter stream in one step, if it is still pending and ours; tell whether it was.

        The reason (a short word) and the error (in words) are kept beside its fields.
        """

    async def hand_over(self, keeping: Collection[str], refunded: Collection[str] = ()) -> int:
        """Make what is pending under our name, but for some record IDs, claimable at once; return how many.

        It counts no delivery against them, and whoever looks sees them as idle for `HANDED_OVER_IDLE_S`. What was
        handed over before stays as it is.

        Args:
            keeping: Which are not handed over.
            refunded: Whose delivery to us does not count already.
        """

    async def leave(self) -> bool:
        """Remove our consumer if it has nothing pending, in one step; tell whether it was removed."""

    async def server_time(self) -> float:
        """Return the server's time in seconds since the epoch."""

    async def lock(self, name: str, ttl_s: float) -> bool:
        """Take a named lock that ends by itself; False if somebody has it. It saves work, it guards nothing."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What is gone of a stream.

    Args:
        before: No entry of a lower ID is in the stream, or pending in the group, and none can be added.
        empty: Nor is any other.
        noted: The record IDs of entries that are noted as deleted while they were pending. Their records, where there
            are any, are what shows that they were not lost.
    """

    before: str
    empty: bool
    noted: frozenset[str] = frozenset()


class StreamUpkeep(Protocol):
    """What keeps the streams and the group in order: the janitor's part, which carries no alert."""

    async def newly_lost(self) -> int:
        """Return how many entries were trimmed or deleted before the group had read them, and nobody was told of yet.

        Their IDs are known to nobody. The number is kept on the server: of all processes, one is told of each.
        """

    async def dead_letters(self) -> int:
        """Return how many entries lie in the dead-letter streams."""

    async def remove_idle_consumers(self, min_idle_s: float) -> list[str]:
        """Remove other consumers that were silent for so long and have nothing pending; return their names."""

    async def trim(self, keep_s: float) -> int:
        """Remove from the streams what every group of theirs is done with, and is older; return how many entries.

        A group that is not ours counts too: nothing is removed that is pending in it, or that it has not read yet.
        """

    async def gone(self) -> Mapping[str, Gone]:
        """Return what is gone of each stream; one that does not exist, or has no group of ours, is left out."""
