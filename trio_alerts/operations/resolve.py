"""Alerts in doubt, settled by somebody who knows whether they arrived."""

from trio_alerts.delivery import Delivery
from trio_alerts.operations.records import Change, Operator, Skip
from trio_alerts.transitions import Resolution, resolved


async def resolve(
    operator: Operator, record_id: str, resolution: Resolution, *, dry_run: bool = False
) -> Change | Skip:
    """Settle every channel of a record that is in doubt; the others keep their state.

    Raises:
        Unavailable: It may have been written, or not.
    """

    def decide(delivery: Delivery, owner: str) -> Delivery | str:
        after = resolved(delivery, owner, operator.clock.now(), resolution, operator.name)
        if after is not None:
            return after
        if delivery.state == "sending":
            return "it is being sent now; wait for the outcome"
        return f"no channel of it is in doubt, the record is {delivery.state}"

    return await operator.change(record_id, decide, dry_run=dry_run)
