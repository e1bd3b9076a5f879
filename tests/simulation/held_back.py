"""The promises about what is held back: by queues and gates, as fallbacks, by silences; see `Promises`."""

import math
from typing import TYPE_CHECKING

import trio

from tests.simulation.ledger import Emitted
from tests.support.fakes.stream_server import FakeServer, KeptGate, KeptSilences
from tests.support.fakes.world import GROUP, STREAM
from trio_alerts.delivery import EARLIEST, ChannelDelivery, Delivery
from trio_alerts.held_back import SILENCE
from trio_alerts.record import Record
from trio_alerts.record_state import summed_up

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation
    from tests.simulation.promises import Promises

FOLLOWS = (
    *("state", "next_attempt_at", "channels"),
    *("retrying_channels", "failed_channels", "in_doubt_channels", "queues"),
)
"""What a record says that follows from its channels."""
SILENT_WITHIN_S = 1.0  # and what an attempt takes that had begun: up to CALLS, one after the other
CALLS = 5
FAR_S = 0.5  # with a server so far away, a process may rightly think that it could not check the silences
MAY_ACCEPT = ("sending", "retrying", "waiting", "in_doubt")
GIVEN_UP = ("given up: it waited", "given up: no process")
SLACK_S = 0.1  # what a process may be wrong about the server's time
HINTED_WITHIN_S = 10.0  # beside the lease of a hint whose taker died: a look, a claim, a wait for a lock
SWEPT_WITHIN_S = 75.0  # the sweep that finds what no hint says, both time-outs, and a wait for a worker
TROUBLED_S = 30.0  # a store that fails makes an attempt wait between the look at the silences and its send


class HeldBack:
    """What must hold of alerts that wait, stand by, are spared or silenced.

    Attributes:
        silences: When each silence was set, by its ID.
    """

    def __init__(self, promises: "Promises", server: FakeServer) -> None:
        self.silences: dict[str, float] = {}
        self._idle_since_s = 0.0
        self._promises = promises
        self._server = server

    def is_silenced(self, delivery: Delivery) -> bool:
        """Tell whether a silence that was set at some time is why it was not sent."""
        return (delivery.suppressed_by or "").removeprefix(SILENCE) in self.silences

    def written(self, emitted: Emitted, was: Delivery | None, after: Record) -> None:
        """Check a record that was written: it says what its channels say, and nobody was spared who may have it."""
        delivery = after.delivery
        follows = summed_up(delivery, delivery.channels, EARLIEST) if delivery.channels else delivery
        if delivery.state != "quarantined" and any(getattr(delivery, of) != getattr(follows, of) for of in FOLLOWS):
            self._promises.breach("P2", f"{after.id} is not what follows from its channels: {delivery}")
        for one in delivery.channels:
            if (one.last_error or "").startswith("a bug"):
                self._promises.breach("P4", f"{after.id} was sent through {one.name}: {one.last_error}")
            has_it = emitted.accepted[one.name] > emitted.accepted_when_pruned[one.name]
            if one.fallback_of and one.state == "spared" and (one.in_doubt or has_it):
                self._promises.breach("P3", f"{after.id}: the fallback {one.name} was spared, and may have got it")
        if was is not None:
            self._check_steps(after.id, was, delivery)
        silenced = self.is_silenced(delivery)
        if silenced and after.fields()["severity"] != "high":
            self._promises.breach("P1", f"{after.id} was kept back by {delivery.suppressed_by}, which is not for it")
        if any(one.state == "suppressed" for one in delivery.channels) and not silenced:
            self._promises.breach(
                "P1", f"{after.id} was kept back by {delivery.suppressed_by}, and there was no such silence"
            )

    def _check_steps(self, record_id: str, was: Delivery, now: Delivery) -> None:
        """Check that a fallback goes out no sooner than it must, and that no wait ends in the first hour."""
        after, earlier = {one.name: one for one in now.channels}, {one.name: one for one in was.channels}
        for one in was.channels:
            if one.state == "waiting" and (after[one.name].last_error or "").startswith(GIVEN_UP):
                self._promises.breach(
                    "P1", f"{record_id} waited for {one.name} in vain, in the first hour after a break"
                )
            engaged = one.state == "standby" and after[one.name].state in ("retrying", "sending", "waiting")
            due_s = one.next_attempt_at.timestamp() if one.next_attempt_at else 0.0
            jumped = self._promises.jumped_at_s > 0
            if not engaged or jumped or due_s <= self._server.time() + SLACK_S:
                continue
            hopeful = [
                name
                for name in one.fallback_of
                if earlier[name].state in MAY_ACCEPT and after[name].state in MAY_ACCEPT
            ]
            if hopeful:
                self._promises.breach("P3", f"{record_id} goes to {one.name} while {hopeful} may still accept it")

    def check_lateness(self) -> None:
        """Check, each second with all faults gone, that nothing due waits while nobody has anything to do.

        While no hint can have been lost, that is soon; else the sweep finds it.
        """
        promises, now_s = self._promises, trio.current_time()
        breaker_is_open = any(gate.open_s is not None for gate in self._server.gates.values())
        if breaker_is_open or any(who.pipeline.in_flight.ids for who in promises.living.values()):
            self._idle_since_s = now_s
        hints_lost_s = max(promises.gates.hints_lost_at_s, promises.jumped_at_s, promises.regrouped_at_s)
        well = not promises.stream_troubled and hints_lost_s < 0
        within_s = promises.settings.lease_s + HINTED_WITHIN_S if well else SWEPT_WITHIN_S
        idle_since_s = max(promises.healed_at_s, self._idle_since_s)
        for record_id, stored in promises.store.records.items():
            delivery = stored.record.delivery
            idle_s = now_s - max(idle_since_s, promises.ledger[record_id].written_at_s)
            for one in delivery.channels if delivery.state not in ("sending", "quarantined") else ():
                late_s = min(idle_s, self._server.time() - self._due_at_s(one))
                if late_s > within_s:
                    promises.breach("P1", f"{record_id} waits for {one.name}, which was due {late_s:.0f} s ago")

    def _due_at_s(self, channel: ChannelDelivery) -> float:
        """Return when a channel was due, by the server's time; what waits is so unless its gate bounds it."""
        if channel.state == "waiting":
            if any(channel.name == one.name and one.rate_per_s for one in self._promises.settings.channels):
                return math.inf
            return self._server.gates.get((STREAM, GROUP, channel.name), KeptGate()).until_s
        due = channel.next_attempt_at if channel.state in ("retrying", "standby") else None
        return due.timestamp() if due else math.inf

    def send_begins(self, who: "Incarnation", record: Record) -> None:
        """Check that nothing is sent that a silence matches, if its sender could know by now."""
        now_s, promises = trio.current_time(), self._promises
        if promises.network.latency_s > FAR_S:
            return
        within_s = SILENT_WITHIN_S + CALLS * promises.network.latency_s
        for silence in self._server.silences.get((STREAM, GROUP), KeptSilences()).by_id.values():
            disturbed_s = max(who.disturbed_at_s, who.resumed_at_s, promises.network.frozen_until_s)
            heard_s = max(self.silences[silence.id], promises.jumped_at_s, disturbed_s)
            known = now_s - heard_s > within_s and now_s - promises.network.store_troubled_at_s > TROUBLED_S
            if known and silence.is_active(promises.now()) and record.fields()["severity"] == "high":
                promises.breach("P1", f"{who.name} sends {record.id}, which silence {silence.id} keeps back")
