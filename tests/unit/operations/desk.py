"""An operator at fake backends, and records in the states that operators meet."""

import datetime as dt

from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer
from tests.support.waiting import waiting
from tests.unit.operations.test_alert_file import line
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.clock import ServerClock
from trio_alerts.delivery import Delivery
from trio_alerts.held_back import first_state, silenced
from trio_alerts.operations.records import Operator
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.transitions import first_attempt, settled

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def sending(lease_s: float) -> Delivery:
    return first_attempt(["webhook"], "them/1", NOW, lease_s)


def after(outcome: Outcome, hold: frozenset[str] = frozenset()) -> Delivery:
    return settled(sending(60), {"webhook": (outcome, 0.1)}, NOW, RetryPolicy((5, 30), hold))


FAILED = after(Refused("no", 410))
RETRYING = after(Retry("busy", 503))
IN_DOUBT = after(Retry("lost", unseen=True), frozenset({"webhook"}))
DELIVERED = after(Accepted(200))
WAITING = first_state((waiting("slack", NOW, NOW + dt.timedelta(days=1)),), "them/1", NOW, 60.0)
SILENCED = silenced(sending(60), "1a2b", "oracle moves", NOW)


def record(number: int, delivery: Delivery, **fields: object) -> Record:
    entry = Entry("AlertStream", f"{number}-0", {b"event": line(f"alert-{number}", **fields)}, f"{number}-0")
    return Record(entry.record_id, parse_entry(entry, NOW).body, delivery)


class StoppedClock(ServerClock):
    """It is always now."""

    def now(self) -> dt.datetime:
        return NOW


class Desk:
    """Where an operator works."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.store = FakeStore()

    def put(self, number: int, delivery: Delivery, **fields: object) -> str:
        kept = record(number, delivery, **fields)
        self.store.put(kept)
        return kept.id

    @property
    def operator(self) -> Operator:
        stream = FakeStream(self.server, Settings())
        return Operator("ann@desk", stream, self.store, stream.hints, StoppedClock())

    @property
    def states(self) -> list[str]:
        return [stored.record.delivery.state for stored in self.store.records.values()]
