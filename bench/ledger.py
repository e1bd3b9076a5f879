"""The account of a run: every alert was accepted once and recorded as delivered once, and nothing else was."""

from collections.abc import Sequence

from tests.support.ledger import balance
from tests.support.receiver import Request
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.record import Record

DELIVERED = Delivery(state="delivered", channels=(ChannelDelivery("alerts", "delivered"),))


def faults_of(
    emitted: Sequence[str], accepted: Sequence[str], recorded: Sequence[str], *, duplicates: int, pending: int
) -> list[str]:
    """Say how the sides differ, a sentence each; none: the run counts.

    Args:
        emitted: The IDs that XADD returned.
        accepted: The `webhook-id` of every request that the receiver accepted, repeats included.
        recorded: The ID of every record that says delivered.
        duplicates: Requests that came after the same ID had been accepted, by the receiver's own count.
        pending: Entries that were left pending.
    """
    requests = [Request(0.0, "POST", "/alerts", {}, b"", one, 200, None, True, False) for one in accepted]
    records = {one: Record(one, b"", DELIVERED) for one in recorded}
    candidates = {
        f"{len(emitted) - len(set(emitted))} were emitted twice": len(emitted) != len(set(emitted)),
        f"{len(recorded) - len(records)} were recorded twice": len(recorded) != len(records),
        f"{duplicates} duplicates reached the receiver": duplicates,
        f"{pending} entries are still pending": pending,
    }
    found = balance(dict.fromkeys(emitted, ("alerts",)), records, (), requests)
    return [*found.faults, *(fault for fault, is_so in candidates.items() if is_so)]
