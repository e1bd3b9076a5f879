"""The promises, checked at every effect, and the ledger that they are checked against."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import trio

from tests.simulation.gates import GatePromises
from tests.simulation.held_back import CALLS, TROUBLED_S, HeldBack
from tests.simulation.history import History
from tests.simulation.ledger import Emitted, Ledger
from tests.simulation.plan import POISON
from tests.support.fakes import stream_server
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream_server import FakeServer
from trio_alerts.delivery import SINK, Delivery
from trio_alerts.pipeline.attempt import ACCEPTED_ALONE_S
from trio_alerts.ports.store import Conflict, Stored, pruned_records
from trio_alerts.record import Record
from trio_alerts.record_ids import is_canary
from trio_alerts.settings.settings import Settings

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation
    from tests.simulation.network import Network

MOVING = {"sending", "retrying", "waiting", "standby"}
FINAL = ("delivered", "failed", "in_doubt", "suppressed")
WAIT_SEEN_S = 4.0  # by then a wait for the store has been noticed, and the server told, on the slowest way
ABANDONED_S = 40.0  # one worker in turn with the reader, at 2.5 s each, has taken eight entries by then
A_DAY_S = 86_400.0  # what was handed over looks that idle at once
RESTORED_SEEN_S = 40.0  # by then, whoever deletes records knows that entries came back
SLACK_S = 1.0  # what latencies may take from a lease


class Broken(AssertionError):
    """A promise was broken: the history says how."""


class Promises:
    """What must hold, whatever happens.

    Args:
        settings: What all processes have in common.
        hold: The channels that wait for a human when in doubt.
        server, store: The truth.

    Attributes:
        ledger: Every alert that was emitted, by record ID.
        broken: What was broken first, if anything.
        network: Between the processes and the backends; set when it is there.
        regrouped_at_s: When entries were last given out again by losing or setting back the group.
        jumped_at_s: When the server's clock last jumped.
        restored_at_s: When trimmed entries last came back.
        healed_at_s: When all faults went away for good.
        stream_troubled: Whether a process could not reach the stream: then it cannot say what waits.
        held_back, gates: What is promised about fallbacks and silences, and about gates and queues.
        lethal: The record IDs of alerts that kill before they have a record, by their `alert_id`.
        flushed: The server has lost its data at least once, its identity included.
    """

    def __init__(
        self, settings: Settings, hold: tuple[str, ...], server: FakeServer, store: "WatchedStore", history: History
    ) -> None:
        self.store = store
        self.ledger = Ledger()
        self.entries: dict[str, str] = {}  # record IDs by entry ID
        self.broken = ""
        self.flushed = False
        self.over = trio.Event()
        self.regrouped_at_s = self.jumped_at_s = self.restored_at_s = -(10.0**6)
        self.healed_at_s = math.inf
        self.stream_troubled = False
        self.held_back = HeldBack(self, server)
        self.gates = GatePromises(self, server)
        self.lethal: dict[str, str] = {}
        self.network: Network
        self.living: dict[str, Incarnation] = {}
        self.settings = settings
        self._hold = hold
        self._server = server
        self._history = history
        self._makers: dict[str, Incarnation] = {}
        self._sending: dict[tuple[str, str], list[Incarnation]] = {}
        self._pending: Mapping[str, tuple[str, int]] = {}

    def breach(self, promise: str, text: str) -> None:
        """Note that a promise was broken; the first one counts, and ends the history."""
        self._history.note("BROKEN", promise, text)
        if not self.broken:
            self.broken = f"{promise}: {text}"
            self.over.set()

    # --- who may send ------------------------------------------------------------------------------------------------

    def new_token(self, who: "Incarnation", token: str) -> None:
        """Check that an owner token is unique."""
        if self._makers.setdefault(token, who) is not who:
            self.breach("P3", f"the owner token {token} was made twice: by two processes of the same name")

    def send_begins(self, who: "Incarnation", channel: str, record_id: str) -> None:
        """Check that a send is backed by a record that is the sender's, fresh, and not delivered."""
        now_s, emitted = trio.current_time(), self.ledger[record_id]
        senders = self._sending.setdefault((record_id, channel), [])
        if who in senders:
            self.breach("P3", f"{who.name} sends {record_id} through {channel} twice at once")
        senders.append(who)
        if len({one for (one, _), these in self._sending.items() if who in these}) > self.settings.workers:
            self.breach("P7", f"{who.name} sends more alerts at once than it has workers")
        stored = self.store.records.get(record_id)
        if emitted.pruned > emitted.redelivered:
            self.breach("P3", f"{who.name} sends {record_id}, whose record was deleted for its age")
        if emitted.forgotten or who.resumed_at_s == now_s:
            return  # its record was taken away, or time stood still between its last look and the send
        if stored is None:
            self.breach("P3", f"{record_id} is sent without a record")
            return
        delivery = stored.record.delivery
        mine = delivery.owner in who.tokens
        state = next((one.state for one in delivery.channels if one.name == channel), "none")
        if not (mine and delivery.state == state == "sending") and not self._excused(who):
            self.breach(
                "P3",
                f"{who.name} sends {record_id} through {channel}, and its record says {delivery.state} "
                f"by {delivery.owner}, that channel {state}",
            )
        self.held_back.send_begins(who, stored.record)
        self.gates.send_begins(who, channel, stored.record)
        if mine and delivery.lease_until is not None and not self.clock_excused(who):
            left_s = (delivery.lease_until - self.now()).total_seconds()
            if left_s < self.settings.lease_s / 2 - SLACK_S:
                self.breach("P3", f"{who.name} sends {record_id} with {left_s:.3f} s left of its lease")

    def send_ended(self, who: "Incarnation", channel: str, record_id: str) -> None:
        """Note the end of a send, whatever came of it."""
        self._sending[record_id, channel].remove(who)
        self.gates.send_ended(who, channel, record_id)

    def arrives(self, channel: str, record_id: str) -> None:
        """Check, when a request arrives, that every earlier one that the receiver may have seen is marked."""
        emitted = self.ledger[record_id]
        stored = self.store.records.get(record_id)
        if emitted.forgotten or emitted.pruned:
            return
        of_channel = {one.name: one for one in stored.record.delivery.channels} if stored else {}
        marked = of_channel[channel].in_doubt if channel in of_channel else 0
        if emitted.maybe_seen[channel] > marked:
            seen = f"{channel} may have seen {record_id} {emitted.maybe_seen[channel]} times"
            self.breach("P3", f"{seen}, it is sent again, and its record marks {marked} in doubt")

    def may_have_been_seen(self, channel: str, record_id: str) -> None:
        """Note that a request arrived which was accepted, or answered as a front may answer for who accepted it."""
        self.ledger[record_id].maybe_seen[channel] += 1

    def accepted(self, channel: str, record_id: str, times: int) -> None:
        """Check that who holds what is in doubt gets nothing twice by itself."""
        emitted = self.ledger[record_id]
        emitted.accepted[channel] = times
        if emitted.forgotten:
            return
        if channel in self._hold and times > 1 + emitted.redelivered:
            self.breach("P3", f"{channel} holds what is in doubt, and accepted {record_id} {times} times")

    def poisoned(self, who: "Incarnation", culprit: str) -> None:
        """Note which entry kills a process, and who else was in the hands of that; the processes are not endless."""
        for record_id in who.pipeline.in_flight.ids:
            self.ledger[record_id].poison_hits += 1
        emitted = self.ledger[culprit]
        emitted.killed += 1
        excused = self.regrouped_at_s > 0 or self.stream_troubled or emitted.redelivered
        most = self.settings.max_deliveries + len(self.settings.channels)  # each channel may kill one more
        if emitted.killed > most and not excused:
            self.breach("P5", f"{culprit} has killed {emitted.killed} processes")

    def died(self, who: "Incarnation") -> None:
        """Note which alerts were being worked on when a process was killed: what waits for the store was not."""
        if trio.current_time() - who.unwritable_since_s < WAIT_SEEN_S:
            for record_id in who.pipeline.in_flight.ids:
                self.ledger[record_id].deaths += 1

        self._check_early_acceptances(who)

    def _check_early_acceptances(self, who: "Incarnation") -> None:
        """Check that a death puts no acceptance in doubt that was there long enough to be stored by itself."""
        now_s, stored_s = trio.current_time(), ACCEPTED_ALONE_S + CALLS * self.network.latency_s
        well_s = max(self.network.store_troubled_at_s, who.resumed_at_s)
        for (record_id, name), heard_s in who.saw_accepted.items():
            stored = self.store.records.get(record_id)
            if stored is None or who.paused or now_s - heard_s <= stored_s or now_s - well_s < TROUBLED_S:
                continue
            delivery = stored.record.delivery
            states = {one.state for one in delivery.channels}
            if delivery.owner in who.tokens and delivery.state == "sending" and "delivered" not in states:
                self.breach(
                    "P3", f"{who.name} died {now_s - heard_s:.1f} s after {name} accepted {record_id}, unstored"
                )

    # --- what a process holds ----------------------------------------------------------------------------------------

    def held(self, who: "Incarnation") -> None:
        """Check that what a process holds is bounded."""
        at_once = min(self.settings.workers, self.settings.batch) + 1 + len(who.pipeline.channels)  # a queue each
        most = 2 * self.settings.workers + at_once  # as many again are only to be acknowledged
        if len(who.pipeline.in_flight.ids) > most:
            self.breach("P7", f"{who.name} holds {len(who.pipeline.in_flight.ids)} alerts, with {most} allowed")

    def released(self, who: "Incarnation", record_id: str, *, untouched: bool) -> None:
        """Check what a living process leaves behind, when it lets go of an alert without a fault."""
        stored = self.store.records.get(record_id)
        emitted = self.ledger[record_id]
        if emitted.forgotten or who.pipeline.faults:
            return
        delivery = stored.record.delivery if stored else None
        self._check_memory(who, record_id)
        if self.regrouped_at_s > 0:
            return  # given out again, it may be in the hands of the redriver, which is the owner then
        if delivery and not untouched and delivery.state == "sending" and delivery.owner in who.tokens:
            self.breach("P1", f"{who.name} walked away from {record_id}, which is its own ({delivery.owner})")

    def cut_off(self, who: "Incarnation", record_id: str) -> None:
        """Check that a cancelled process has stored what its receivers had said by then, if the store was well."""
        well_s = trio.current_time() - max(self.network.store_troubled_at_s, who.resumed_at_s)
        if well_s > 2 * self.settings.store_timeout_s and not self.ledger[record_id].forgotten:
            self._check_memory(who, record_id)

    def _check_memory(self, who: "Incarnation", record_id: str) -> None:
        stored = self.store.records.get(record_id)
        states = {one.name: one.state for one in stored.record.delivery.channels} if stored else {}
        if not who.newer and record_id in self.store.newer:
            return  # a newer version has it; the log says who accepted
        for one_id, name in who.saw_accepted:
            if one_id == record_id and states.get(name) != "delivered":
                self.breach(
                    "P3", f"{who.name} forgot that {name} accepted {record_id}: {states.get(name, 'no record')}"
                )

    # --- the store ---------------------------------------------------------------------------------------------------

    def written(self, who: "Incarnation | None", before: Stored | None, after: Record) -> None:
        """Check one write of a record; `who` is None for a write that comes after its writer has gone on."""
        if is_canary(after.id):
            self._check_canary(after)
            return
        emitted = self.ledger.get(after.id)
        if emitted is None:
            self.breach("P2", f"a record {after.id} was written, and no such alert was emitted")
            return
        emitted.written_at_s = trio.current_time()
        if who is not None:
            emitted.awaited_at_s = emitted.written_at_s
        if emitted.kind == "refused":
            self.breach("P2", f"record {after.id} should have been refused")
        if after.content_sha256 != emitted.sha256:
            self.breach("P2", f"record {after.id} is another alert's")
        delivery = after.delivery
        if delivery.state != "sending":
            emitted.outcome_known = True
        self.held_back.written(emitted, before.record.delivery if before else None, after)
        if before is None:
            return
        was = before.record.delivery
        self._check_progress(after.id, was, delivery)
        if was.state == "sending" and was.owner != delivery.owner:
            self._check_take_over(after.id, was, delivery)
        pending = any(self.entries.get(entry_id) == after.id for entry_id in self._pending_now())
        # A retry is held too, before it is claimed: only who holds the entry may write while that is pending.
        held = [entry.record_id for entry in who.pipeline.in_flight.older_than(0.0)] if who is not None else []
        stranger = who is not None and not who.dead and after.id not in held
        if stranger and who is not None and pending and self.regrouped_at_s < 0:
            self.breach("P3", f"{who.name} redrives {after.id}, whose entry is still pending")

    def _check_canary(self, after: Record) -> None:
        """Check that a canary goes to nobody, and that what has an outcome is one."""
        delivery = after.delivery
        if [one.name for one in delivery.channels] != [SINK] or delivery.state in ("suppressed", "waiting", "in_doubt"):
            self.breach("P9", f"{after.id} is {delivery.state} through {[one.name for one in delivery.channels]}")
        self.ledger[after.id].outcome_known |= delivery.state != "sending"

    def _check_progress(self, record_id: str, was: Delivery, now: Delivery) -> None:
        if was.state == "delivered" and now.state != "delivered":
            self.breach("P2", f"{record_id} was delivered, and is {now.state} now")
        if now.in_doubt < was.in_doubt or now.attempts < was.attempts:
            self.breach(
                "P2", f"{record_id} lost a count: {was.attempts}/{was.in_doubt} -> {now.attempts}/{now.in_doubt}"
            )
        after = {one.name: one for one in now.channels}
        for channel in was.channels:
            then = after.get(channel.name)
            if then is None or then.in_doubt < channel.in_doubt:
                self.breach("P2", f"{record_id}, {channel.name}: a doubt was forgotten")
            elif channel.state == "delivered" and then.state != "delivered":
                self.breach("P2", f"{record_id}, {channel.name}: was delivered, and is {then.state} now")

    def _check_take_over(self, record_id: str, was: Delivery, now: Delivery) -> None:
        """Check that nobody takes an attempt from a living owner who is in the middle of it."""
        maker = self._makers.get(was.owner)
        if maker is None or maker.dead or maker.paused or self._excused(maker):
            return
        if any(maker in senders for (one_id, _), senders in self._sending.items() if one_id == record_id):
            self.breach(
                "P3", f"{record_id} was taken from {was.owner} by {now.owner or 'nobody'} in the middle of a send"
            )

    def pruned(self, record_id: str) -> None:
        """Check that a record which is deleted for its age is needed no more, by anybody."""
        emitted, delivery = self.ledger[record_id], self.store[record_id]
        emitted.pruned += 1
        emitted.accepted_when_pruned = emitted.accepted.copy()
        states = {one.state for one in delivery.channels}
        if delivery.state not in FINAL or "in_doubt" in (delivery.state, *states) or states & MOVING:
            self.breach("P1", f"{record_id} is {delivery.state}, and was deleted for its age")
        keep_s = self.settings.keep_records_s or math.inf
        if (age_s := trio.current_time() - emitted.awaited_at_s) < keep_s - self.settings.send_timeout_s - SLACK_S:
            self.breach("P1", f"the record {record_id} was deleted {age_s:.1f} s after it was written")
        entries = [one for one, of in self.entries.items() if of == record_id]
        stream = self._server.streams.get(self.settings.stream, stream_server.Stream())
        there = [one for one in entries if one in stream.entries or one in self._pending_now()]
        if there and trio.current_time() - self.restored_at_s > RESTORED_SEEN_S:
            self.breach("P3", f"the record {record_id} was deleted, and its entry {there[0]} can still be read")

    # --- the stream --------------------------------------------------------------------------------------------------

    def before_effect(self, who: "Incarnation", call: object) -> None:
        """Remember what is pending before a call has its effect."""
        if isinstance(call, stream_server.Call) and call.method in ("ack", "claim", "quarantine"):
            self._pending = self._pending_now()

    def after_effect(self, who: "Incarnation", call: object, result: object) -> None:
        """Check what a call did to the pending list."""
        if not isinstance(call, stream_server.Call):
            return
        if call.method == "ack":
            for entry_id in self._pending.keys() - self._pending_now().keys():
                emitted = self.ledger[self.entries[entry_id]]
                if not emitted.outcome_known and not emitted.forgotten:
                    self.breach("P1", f"{who.name} acknowledged {emitted.id}, and no outcome was ever stored")
        elif call.method == "claim":
            self._check_claim(who)
        elif call.method == "read" and result:
            self._check_abandoned(who)
        elif call.method == "quarantine" and result:
            self._check_quarantine()

    def _check_abandoned(self, who: "Incarnation") -> None:
        """Check that what a dead process held does not wait for as long as there is something new to be read."""
        excused = self.stream_troubled or self.regrouped_at_s > 0 or self.jumped_at_s > 0
        well_since_s = max(who.born_at_s, self.network.store_troubled_at_s)  # without the store nothing moves
        if excused or trio.current_time() - well_since_s < ABANDONED_S:
            return
        for entry_id, held in self._server.pending(self.settings.stream, self.settings.group).items():
            waits_s = held.idle_s - self.settings.claim_idle_s
            if held.consumer not in self.living and held.deliveries < 2 and ABANDONED_S < waits_s < A_DAY_S:
                self.breach(
                    "P5", f"{who.name} reads new entries, and {entry_id} of a dead process waits {waits_s:.0f} s"
                )

    def _check_claim(self, who: "Incarnation") -> None:
        now = self._pending_now()
        for entry_id, (consumer, _) in self._pending.items():
            owner = self.living.get(consumer)
            if now.get(entry_id) == self._pending[entry_id] or owner is None or owner.dead or owner.paused:
                continue
            # Who only looks at its record, because it waits in a queue, holds no entry, and leaves it alone.
            if owner.pipeline.in_flight.entries([self.entries[entry_id]]) and not self._excused(owner):
                self.breach("P3", f"{who.name} claimed {entry_id} from {consumer}, who is alive and holds it")

    def _check_quarantine(self) -> None:
        dead = next(reversed(self._server.dead.values()))[-1]
        fields = dict(dead)
        emitted = self.ledger[fields[b"_record"].decode()]
        reason = fields[b"_reason"].decode()
        if reason == "max_deliveries":
            self._check_condemned(emitted)
        if reason == "max_deliveries" and emitted.kind not in POISON and emitted.poison_hits > 2:
            self.breach(
                "P5", f"{emitted.id} was quarantined with a poison entry that killed it {emitted.poison_hits} times"
            )
        harmless = ("max_deliveries", "id_reused", *("pruned",) * (emitted.pruned > 0))
        if emitted.kind in ("good", "newline", "suppressed") and reason not in harmless:
            self.breach("P5", f"{emitted.id} is a good alert, and was quarantined: {reason}")

    def _check_condemned(self, emitted: Emitted) -> None:
        """Check that nobody is given up for deaths that were none of its doing."""
        excused = self.stream_troubled or self.regrouped_at_s > 0
        if emitted.kind not in POISON and emitted.deaths < self.settings.max_deliveries and not excused:
            self.breach("P5", f"{emitted.id} was given up after {emitted.deaths} deaths in the middle of the work")

    # --- the end -----------------------------------------------------------------------------------------------------

    def unfinished(self) -> str:
        """Say what still moves; empty when nothing does."""
        pending = self._pending_now()
        if pending:
            return f"{len(pending)} entries are pending: {dict(sorted(pending.items()))}"
        stream = self._server.streams.get(self.settings.stream, stream_server.Stream())
        group = stream.groups.get(self.settings.group)
        newest = next(reversed(stream.entries), None)
        if newest is not None and (group is None or _order(group.last_id) < _order(newest)):
            return "entries are not read"
        for record_id, stored in self.store.records.items():
            if moving := {stored.record.delivery.state, *_states(stored)} & MOVING:
                return f"record {record_id} is {min(moving)}"
        for who in self.living.values():
            if who.pipeline.in_flight.ids:
                return f"{who.name} holds {sorted(who.pipeline.in_flight.ids)}"
        return ""

    def check_ledger(self) -> None:
        """Check that every alert ended as exactly one of what is allowed."""
        dead = Counter(
            dict(fields)[b"_record"].decode() for letters in self._server.dead.values() for fields in letters
        )
        counted, pruned = pruned_records(self.store.kept), sum(one.pruned for one in self.ledger.values())
        if counted != pruned:
            self.breach("P1", f"{pruned} records were deleted for their age, and {counted} are counted")
        for emitted in self.ledger.values():
            stored = self.store.records.get(emitted.id)
            state = stored.record.delivery.state if stored else "none"
            buried = dead[emitted.id]
            if emitted.forgotten or emitted.lost:
                continue  # what an operator took away is for `audit` to find
            if emitted.pruned and stored is None:
                continue
            if buried > 1 and self.regrouped_at_s < 0:
                self.breach("P1", f"{emitted.id} is in the quarantine {buried} times")
            wanted = {"suppressed": ("suppressed",), "bad": ("none",), "refused": ("none",), "lethal": ("none",)}.get(
                emitted.kind, ("quarantined", "none") if buried else FINAL[:3]
            )
            if emitted.redelivered and self.regrouped_at_s >= 0:  # buried twice, replayed once
                wanted = (*wanted, *FINAL[:3])
            if stored is not None and self.held_back.is_silenced(stored.record.delivery) and not buried:
                wanted = (*wanted, "suppressed")
            if state not in wanted:
                self.breach("P1", f"{emitted.id} ({emitted.kind}) ended as {state}, in the quarantine {buried} times")
            if emitted.kind in ("bad", "refused", "lethal") and not buried:
                self.breach("P1", f"{emitted.id} ({emitted.kind}) is not in the quarantine")
            if stored is not None:
                self._check_truth(emitted, stored.record)
                if stored.record.delivery.reason == "max_deliveries" and not buried:
                    self._check_condemned(emitted)

    def _check_truth(self, emitted: Emitted, record: Record) -> None:
        document = msgspec.json.decode(record.to_json(), type=dict[str, object])
        if document["delivered"] != (record.delivery.state == "delivered"):
            self.breach("P2", f"{emitted.id}: delivered is {document['delivered']}")
        for channel in record.delivery.channels:
            if channel.state == "delivered" and not emitted.accepted[channel.name]:
                self.breach("P1", f"{emitted.id} is delivered through {channel.name}, which never accepted it")

    # --- what excuses a process --------------------------------------------------------------------------------------

    def _excused(self, who: "Incarnation") -> bool:
        """Tell whether others may rightly have taken a living process for dead, not long ago."""
        window_s = self.settings.claim_idle_s + 2 * self.settings.keepalive_s
        now_s = trio.current_time()
        if now_s - who.disturbed_at_s <= window_s or now_s - self.jumped_at_s <= window_s + self.settings.lease_s:
            return True
        # Entries that a lost group gave out again come to others, who walk away; then they look abandoned.
        return self.regrouped_at_s > 0 and now_s - self.regrouped_at_s >= self.settings.claim_idle_s

    def clock_excused(self, who: "Incarnation") -> bool:
        """Tell whether it may rightly have a wrong idea of the server's time."""
        jumped = self.jumped_at_s > 0
        unknown_s = max(who.disturbed_at_s, self.jumped_at_s, self.network.frozen_until_s if jumped else 0.0)
        return trio.current_time() - unknown_s <= self.settings.lease_s

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._server.time(), dt.UTC)

    def _pending_now(self) -> Mapping[str, tuple[str, int]]:
        stream = self._server.streams.get(self.settings.stream)
        group = stream.groups.get(self.settings.group) if stream else None
        return {one: (held.consumer, held.deliveries) for one, held in group.pending.items()} if group else {}


class WatchedStore(FakeStore):
    """The common store, and the promises about what is written to it.

    Attributes:
        promises: Set when the store is ready to be watched.
        writer: Who writes just now, if it is a living process.
        caller: Whose call is carried out just now.
        newer: The IDs of the records whose last writer was of the newer version.
    """

    promises: Promises
    writer: "Incarnation | None" = None
    caller: "Incarnation | None" = None

    def __init__(self, *, lagging: bool) -> None:
        super().__init__(lagging=lagging)
        self.newer: set[str] = set()
        self.unknown_in = lambda record: "" if self._knows(record.id) else "delivery.state 'newer'"

    def _knows(self, record_id: str) -> bool:
        return self.caller is None or self.caller.newer or record_id not in self.newer

    def forget(self, record_id: str) -> None:
        self.promises.pruned(record_id)
        super().forget(record_id)

    def write(self, record: Record, expected: tuple[int, int] | None) -> Stored | Conflict:
        before = self.records.get(record.id)
        result = super().write(record, expected)
        if isinstance(result, Stored):
            if before is not None and not self._knows(record.id):
                self.promises.breach("P2", f"an older version wrote over {record.id}, which it does not know")
            (self.newer.add if self.caller and self.caller.newer else self.newer.discard)(record.id)
            self.promises.written(self.writer, before, record)
        return result


def _states(stored: Stored) -> set[str]:
    """Return the states of its channels, if they can still move."""
    quarantined = stored.record.delivery.state == "quarantined"
    return set() if quarantined else {one.state for one in stored.record.delivery.channels}


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
