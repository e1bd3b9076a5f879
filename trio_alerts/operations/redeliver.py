"""Undelivered alerts made due at once: a running process sends them."""

import datetime as dt
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import Delivery, State
from trio_alerts.held_back import SILENCE, sent_through, silence_lifted
from trio_alerts.operations.concurrency import for_each
from trio_alerts.operations.records import Change, Operator, Skip
from trio_alerts.pages import Pages
from trio_alerts.ports.store import RecordFilter
from trio_alerts.settings.settings import Settings
from trio_alerts.text import did_you_mean
from trio_alerts.transitions import lease_expired, redelivery_requested

PAGE = 200  # records a search
AT_ONCE = 32  # changes under way: what a small store takes as one batch
UNDELIVERED: tuple[State, ...] = ("failed", "retrying")


def names_of(channel: str, settings: Settings) -> tuple[str, ...]:
    """Return every name by which records may know a channel.

    Raises:
        ValueError: There is no such channel.
    """
    for one in settings.channels:
        if channel in one.names:
            return one.names
    known = [one.name for one in settings.channels]
    raise ValueError(f"there is no such channel{did_you_mean(channel, known, repr)}")


def channels_made_due(change: Change, through: Collection[str] = ()) -> tuple[str, ...]:
    """Return the channels through which a record that was made due is sent now."""
    retrying = [channel.name for channel in change.delivery.channels if channel.state == "retrying"]
    return tuple(name for name in retrying if not through or name in through)


@dataclass(frozen=True, kw_only=True)
class Redelivery:
    """How records are made due, page by page; what became of each is yielded when its page is done.

    With `through`, the names of a channel, they are due through that channel alone, whether it is theirs or not.

    Each of its methods raises `Unavailable` if a backend does not answer. What was not yielded by then may have been
    changed, or not; it does no harm to begin again.
    """

    operator: Operator
    policy: RetryPolicy
    dry_run: bool = False
    through: tuple[str, ...] = ()

    async def by_id(self, record_ids: Sequence[str]) -> AsyncIterator[Change | Skip]:
        """Redeliver whatever of these is not delivered."""
        ids = list(dict.fromkeys(record_ids))
        for start in range(0, len(ids), PAGE):
            async for result in self._page(ids[start : start + PAGE], None):
                yield result

    async def by_filter(self, wanted: RecordFilter, *, in_doubt: bool = False) -> AsyncIterator[Change | Skip]:
        """Redeliver what is failed or retrying, or in the states that are named, and, if it is meant, in doubt.

        What a rule suppressed, if the filter names rules.
        """
        default: tuple[State, ...] = ("suppressed",) if wanted.suppressed_by else UNDELIVERED
        states = (*wanted.state, "in_doubt") if in_doubt else wanted.state or default
        async for page in Pages(partial(self.operator.store.search, replace(wanted, state=states), PAGE)):
            async for result in self._page([record.id for record in page], states):
                yield result

    async def by_silence(self, wanted: RecordFilter) -> AsyncIterator[Change | Skip]:
        """Redeliver what the silences that the filter names kept back, through the channels that they suppressed.

        A record that another channel has delivered is left alone: that never goes back.
        """
        async for page in Pages(partial(self.operator.store.search, wanted, PAGE)):
            async for result in self._changes(
                [record.id for record in page], partial(self._lift, wanted.suppressed_by)
            ):
                yield result

    async def _page(self, record_ids: Sequence[str], states: Collection[State] | None) -> AsyncIterator[Change | Skip]:
        """Redeliver many at once, if they are still in these states (None: any): a search may be a second behind."""
        async for result in self._changes(record_ids, partial(self._decide, states=states)):
            yield result

    async def _changes(
        self, record_ids: Sequence[str], decide: Callable[..., Delivery | str]
    ) -> AsyncIterator[Change | Skip]:
        pending = await self.operator.stream.pending_among(record_ids)
        results: dict[str, Change | Skip] = {}

        async def change(record_id: str) -> None:
            mine = partial(decide, pending=record_id in pending)
            results[record_id] = await self.operator.change(record_id, mine, dry_run=self.dry_run)

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
        if reason := _why_left_alone(delivery, now, pending, states, by_hand=bool(self.through)):
            return reason
        if delivery.state == "sending":  # a crash cut it
            delivery = lease_expired(delivery, now, self.policy)
        in_doubt = states is None or "in_doubt" in states
        if self.through:
            return self._add(delivery, owner, now, in_doubt=in_doubt)
        after = redelivery_requested(delivery, owner, now, in_doubt=in_doubt)
        return after or "it is in doubt; --in-doubt sends it once more"

    def _add(self, delivery: Delivery, owner: str, now: dt.datetime, *, in_doubt: bool) -> Delivery | str:
        state = next((channel.state for channel in delivery.channels if channel.name in self.through), None)
        if state == "in_doubt" and not in_doubt:
            return f"{self.through[0]} may have it already; --in-doubt sends it once more"
        left_alone = "takes it by itself, once it can" if state == "waiting" else "has accepted it"
        return sent_through(delivery, self.through, owner, now) or f"{self.through[0]} {left_alone}"

    def _lift(self, suppressed_by: Collection[str], delivery: Delivery, owner: str, *, pending: bool) -> Delivery | str:
        if delivery.suppressed_by not in suppressed_by:
            return "it was sent again by now"
        if delivery.state == "delivered":
            accepted = ", ".join(channel.name for channel in delivery.channels if channel.state == "delivered")
            return f"it is delivered, through {accepted}"
        if pending:
            return _PENDING
        after = silence_lifted(delivery, owner, self.operator.clock.now())
        return after or f"none of its channels is suppressed and can be sent: it is {delivery.state}"


_PENDING = "its entry is still pending: a worker has it, or will take it over"


def _why_left_alone(
    delivery: Delivery, now: dt.datetime, pending: bool, states: Collection[State] | None, *, by_hand: bool
) -> str | None:
    settled = {
        "delivered": "it is delivered",
        "suppressed": _why_suppressed(delivery.suppressed_by or ""),
        "quarantined": "its entry is a dead letter; `dead replay` puts it back",
        "waiting": f"it waits for {_awaited(delivery)}, and is sent by itself",
    }
    if by_hand:  # another channel need not wait for this one
        del settled["waiting"]
        if not (delivery.suppressed_by or "").startswith(SILENCE):  # nor ask the route that kept it back
            del settled["suppressed"]
    if delivery.state in settled:
        return settled[delivery.state]
    doubtful = states is not None and "in_doubt" in states and bool(delivery.in_doubt_channels)
    if states is not None and delivery.state not in states and not doubtful:
        return f"it is {delivery.state} by now"
    if pending:
        return _PENDING
    if delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until > now:
        return "it is being sent now"
    return None


def _awaited(delivery: Delivery) -> str:
    if unknown := [one.name for one in delivery.channels if one.state == "waiting" and one.unconfigured_since]:
        return f"a process that knows {', '.join(unknown)}"
    return f"{', '.join(delivery.queues)} to take it"


def _why_suppressed(suppressed_by: str) -> str:
    if suppressed_by.startswith(SILENCE):
        return f"{suppressed_by} suppressed it; --suppressed-by {suppressed_by} sends it"
    return f"the rule {suppressed_by!r} suppressed it"
