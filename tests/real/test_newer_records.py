"""What a newer version wrote, on real servers: whoever meets it walks away, and says so once."""

import datetime as dt
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.real.conftest import MakeSite
from tests.support.fakes.world import EVENT, GROUP
from tests.support.program import Site, stop, wait_until
from tests.support.servers import ReceiverServer
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backends.sqlite import rows
from trio_alerts.backoff import RetryPolicy
from trio_alerts.outcome import Retry
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt, settled

# What a document says that no version knows yet, by what is said of it; `log` and `channel` are those of its channel.
UNKNOWN: dict[str, dict[str, Any]] = {
    "delivery.state 'paused'": {"delivery": {"state": "paused"}},
    "delivery.digest": {"delivery": {"digest": "d-1"}},
    "delivery.channels.state 'escalated'": {"channel": {"state": "escalated"}},
    "delivery.channels.until": {"channel": {"until": "2027-01-01T00:00:00Z"}},
    "delivery.channels.log.result 'held'": {"log": {"result": "held"}},
    "delivery.channels.log.by": {"log": {"by": "a digest"}},
    "members": {"record": {"members": ["1-0"]}, "delivery": {"channels": []}},
}
ROUNDS = 4  # in which each is met


class Shared(Site):
    """A site that newer processes have written to."""

    def keep(self, fields: dict[bytes, bytes], at: int, unknown: dict[str, dict[str, Any]]) -> str:
        """Keep a retry that is due, with something unknown in it."""
        entry_id, now = f"{at}-7", dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
        alert = parse_entry(Entry(self.stream, entry_id, fields, entry_id), now)
        failed = {"webhook": (Retry("answered 503", 503), 0.1)}
        delivery = settled(first_attempt(["webhook"], "gone", now, 60), failed, now, RetryPolicy((1.0,)))
        record = Record(entry_id, alert.body, delivery)
        document = json.loads(record.to_json())
        [channel] = document["delivery"]["channels"]
        channel["log"][0] |= unknown.get("log", {})
        channel |= unknown.get("channel", {})
        document["delivery"] |= unknown.get("delivery", {})
        document |= unknown.get("record", {})
        if self.opensearch is not None:
            path = f"/{self.index}/_doc/{entry_id}?refresh=true"
            assert 201 == self.opensearch.request("PUT", path, document)[0]
        else:
            row = list(rows.write_of(record, None).row)
            values = ", ".join("?" * len(row))
            row[2], row[-1] = document["delivery"]["state"], json.dumps(document)
            with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"))) as connection, connection:
                connection.execute(f"INSERT INTO records VALUES ({values})", row)
        return entry_id

    def kept(self) -> dict[str, Any]:
        """Return the documents as they lie in the store."""
        if self.opensearch is not None:
            self.opensearch.request("POST", f"/{self.index}/_refresh")
            hits = self.opensearch.request("GET", f"/{self.index}/_search?size=1000")[1]["hits"]["hits"]
            return {hit["_id"]: hit["_source"] for hit in hits}
        with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"))) as connection:
            found = connection.execute("SELECT id, document FROM records").fetchall()
        return {record_id: json.loads(document) for record_id, document in found}

    def held(self) -> dict[str, tuple[int, int]]:
        """Return the pending entries: for how long each has been idle, and how often it was delivered."""
        with self.client() as client:
            found: Any = client.xpending_range(self.stream, GROUP, "-", "+", 1000)
        return {one["message_id"].decode(): (one["time_since_delivered"], one["times_delivered"]) for one in found}


@pytest.mark.parametrize("servers", ["valkey+sqlite", "redis7+opensearch3", "valkey+opensearch2"])
def test_whoever_meets_it_walks_away(servers: str, make_site: MakeSite, receiver: ReceiverServer) -> None:
    """Nothing is sent, written or quarantined: not new, not due, not after too many deliveries; commands say why."""
    site = make_site(Shared, servers, max_deliveries="2")
    with site.running() as first:
        wait_until(lambda: "reading " in site.log(), "it reads", site)
        assert 0 == stop(first)
    fields = {b"event": json.dumps(EVENT).encode()}
    with site.client() as client:
        at = client.time()[0] * 1000
        for unknown in UNKNOWN.values():
            for delivered in (0, 9, None):  # None: its entry was acknowledged, it is a retry only
                at += 1
                entry_id = site.keep(fields, at, unknown)
                if delivered is None:
                    continue
                client.xadd(site.stream, fields, id=entry_id)
                if delivered:
                    client.xreadgroup(GROUP, "gone", {site.stream: ">"})
                    client.xclaim(site.stream, GROUP, "gone", 0, [entry_id], retrycount=delivered)
    before, ids = site.kept(), sorted(site.kept())
    assert (3 * len(UNKNOWN), 2 * len(UNKNOWN)) == (len(ids), len(site.entries()))

    with site.running() as worker:
        rounds, held = dict.fromkeys(site.entries(), 0), site.held()

        def met_again() -> bool:
            nonlocal held
            last, held = held, site.held()
            for entry_id in rounds.keys() & held.keys() & last.keys():
                rounds[entry_id] += held[entry_id][0] < last[entry_id][0]
            return min(rounds.values()) >= ROUNDS

        wait_until(met_again, "all are met again and again", site)
        other = site.emit(alert_id="another")
        wait_until(lambda: receiver.totals().accepted == 1, "other alerts go on", site)
        counted = {"seen": len(ids) + 1, "delivered": 1, "unknown": len(ids)}
        wait_until(lambda: counted == audit(site), "the ledger counts them", site)
        for what in UNKNOWN:
            said = f"this one does not know {what}; it is left to newer processes"
            assert 1 == site.log().count(said), (what, site.log())
        assert 0 == stop(worker), site.log()

    assert [other] == [request.webhook_id for request in receiver.ledger().requests]
    after = site.kept()
    assert "delivered" == after.pop(other)["delivery"]["state"]
    assert (before, []) == (after, site.dead())
    assert 2 * len(UNKNOWN) == len(site.held())
    assert 9 >= max(times for _, times in site.held().values())  # none of it was counted

    assert len(UNKNOWN) * 3 == sum(record["delivery"]["state"] == "unknown" for record in site.records().values())
    for argv in (("redeliver", *ids), ("resolve", ids[0], "failed"), ("show", ids[0])):
        told = site.ask(*argv)
        assert (1, True) == (told.exit_code, "a newer version wrote record" in told.out + told.err), told
    assert before == {record_id: document for record_id, document in site.kept().items() if record_id != other}


def audit(site: Site) -> dict[str, int]:
    fates = json.loads(site.ask("audit", "--deep", "--json").out)
    return {name: count for name, count in fates.items() if count and name != "balanced"}
