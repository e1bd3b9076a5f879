"""Undelivered alerts made due at once: a running process sends them."""

import datetime as dt
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import Delivery, State
from trio_alerts.operations.concurrency import for_each
from trio_alerts.operations.records import Change, Operator, Skip
from trio_alerts.pages import Pages
from trio_alerts.ports.store import RecordFilter
from trio_alerts.transitions import lease_expired, redelivery_requested

PAGE = 200  # records a search
AT_ONCE = 32  # changes under way: what a small store takes as one batch
UNDELIVERED: tuple[State, ...] = ("failed", "retrying")


@dataclass(frozen=True, kw_only=True)
class Redelivery:
    """How records are made due, page by page; what became of each is yielded when its page is done.

    Each of its methods raises `Unavailable` if a backend does not answer. What was not yielded by then may have been
    changed, or not; it does no harm to begin again.
    """

    operator: Operator
    policy: RetryPolicy
    dry_run: bool = False

    async def by_id(self, record_ids: Sequence[str]) -> AsyncIterator[Change | Skip]:
        """Redeliver whatever of these is not delivered."""
        ids = list(dict.fromkeys(record_ids))
        for start in range(0, len(ids), PAGE):
            async for result in self._page(ids[start : start + PAGE], None):
                yield result

    async def by_filter(self, wanted: RecordFilter, *, in_doubt: bool = False) -> AsyncIterator[Change | Skip]:
        """Redeliver what is failed or retrying, or in the states that are named, and, if it is meant, in doubt."""
        states = (*wanted.state, "in_doubt") if in_doubt else wanted.state or UNDELIVERED
        async for page in Pages(partial(self.operator.store.search, replace(wanted, state=states), PAGE)):
            async for result in self._page([record.id for record in page], states):
                yield result

    async def _page(self, record_ids: Sequence[str], states: Collection[State] | None) -> AsyncIterator[Change | Skip]:
        """Redeliver many at once, if they are still in these states (None: any): a search may be a second behind."""
        pending = await self.operator.stream.pending_among(record_ids)
        results: dict[str, Change | Skip] = {}

        async def change(record_id: str) -> None:
            decide = partial(self._decide, pending=record_id in pending, states=states)
            results[record_id] = await self.operator.change(record_id, decide, dry_run=self.dry_run)

        try:
            await for_each(record_ids, change, at_most=AT_ONCE)
        finally:  # what is done is reported, whatever became of the rest
            for record_id in record_ids:
                if record_id in results:
                    yield results[record_id]

    def _decide(
        self, delivery: Delivery, owner: str, *, pending: bool, states: Collection[State] | None
    ) -> Delivery | str:
        now = self.operator.clock.now()
        if reason := _why_left_alone(delivery, now, pending, states):
            return reason
        if delivery.state == "sending":  # a crash cut it
            delivery = lease_expired(delivery, now, self.policy)
        in_doubt = states is None or "in_doubt" in states
        after = redelivery_requested(delivery, owner, now, in_doubt=in_doubt)
        return after or "it is in doubt; --in-doubt sends it once more"


def _why_left_alone(
    delivery: Delivery, now: dt.datetime, pending: bool, states: Collection[State] | None
) -> str | None:
    settled = {
        "delivered": "it is delivered",
        "suppressed": f"the rule {delivery.suppressed_by!r} suppressed it",
        "quarantined": "its entry is a dead letter; `dead replay` puts it back",
        "waiting": f"it waits for {', '.join(delivery.queues)} to take it, and is sent by itself",
    }
    if delivery.state in settled:
        return settled[delivery.state]
    if states is not None and delivery.state not in states:
        return f"it is {delivery.state} by now"
    if pending:
        return "its entry is still pending: a worker has it, or will take it over"
    if delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until > now:
        return "it is being sent now"
    return None
