"""What an operator does, from end to end: `redeliver`, `resolve`, `dead`, `stats` and `audit` on real servers."""

import datetime as dt
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from tests.real.conftest import MakeSite
from tests.support.fakes.world import GROUP
from tests.support.program import Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.unit.test_alert import EVENT
from trio_alerts.backends.redis.keys import gate_key


class Desk(Site):
    """A site with an operator."""

    def out(self, *argv: str, exit_code: int = 0) -> str:
        """Run a command and return what it printed."""
        done = self.ask(*argv)
        assert exit_code == done.exit_code, (argv, done, self.log())
        return done.out

    def audit(self, exit_code: int = 0) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out("audit", "--deep", "--json", exit_code=exit_code))
        return {name: value for name, value in told.items() if value}

    def stats(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out("stats", "--json"))
        return told

    def state(self, record_id: str) -> str:
        return str(json.loads(self.out("show", "--json", record_id))["delivery"]["state"])

    def delete_record(self, record_id: str) -> None:
        """Delete a document by hand."""
        if self.store_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"))) as connection:
                connection.execute("DELETE FROM records WHERE id = ?", (record_id,))
                connection.commit()
        else:
            assert self.opensearch is not None
            assert 200 == self.opensearch.request("DELETE", f"/{self.index}/_doc/{record_id}?refresh=true")[0]


@pytest.fixture(params=["valkey+sqlite", "redis7+opensearch3"])
def desk(request: pytest.FixtureRequest, make_site: MakeSite) -> Desk:
    return make_site(Desk, request.param)


def test_what_failed_is_sent_again(desk: Desk, receiver: ReceiverServer) -> None:
    """By filter and by ID: a running process sends it, with the same `webhook-id`; what is delivered is left alone."""
    receiver.set_scripts({"*": Script([Step(410)] * 3 + [Step(200)])})
    with desk.running(workers="1") as worker:
        failed = [desk.emit(alert_id=f"a-{n}", view="mine" if n < 2 else "other") for n in range(3)]
        delivered = desk.emit(alert_id="b")
        desk.until("failed", "failed", "failed", "delivered")

        dry = desk.out("redeliver", "--view", "mine", "--dry-run")
        assert "2 would be sent again (--dry-run); 0 left alone" in dry
        assert 4 == receiver.totals().requests

        assert "2 due now" in desk.out("redeliver", "--view", "mine")
        desk.until("delivered", "delivered", "failed", "delivered")
        told = desk.out("redeliver", failed[2], delivered, "1-1", failed[2], exit_code=1)
        assert f"{failed[2]}\tis due now through webhook\n" in told
        assert f"{delivered}\tleft alone: it is delivered\n" in told
        assert "1-1\tleft alone: there is no such record\n" in told
        desk.until("delivered", "delivered", "delivered", "delivered")
        assert 0 == stop(worker)
    ids = [request.headers["webhook-id"] for request in receiver.ledger().requests]
    assert sorted(failed * 2 + [delivered]) == sorted(ids)
    desk.out("redeliver", exit_code=2)
    desk.out("redeliver", "1-1", "--view", "mine", exit_code=2)


def test_what_is_in_doubt_waits_for_a_human(desk: Desk, receiver: ReceiverServer) -> None:
    """Held, it is sent again only on purpose; a human may settle it instead, once, and the record says who did."""
    desk.settings["in_doubt_policy"] = "hold"
    receiver.set_scripts({"*": Script([Step(502)] * 3 + [Step(200)])})
    with desk.running(workers="1") as worker:
        one, other, third = (desk.emit(alert_id=f"a-{n}") for n in range(3))
        desk.until("in_doubt", "in_doubt", "in_doubt")
        assert "0 due now" in desk.out("redeliver", "--view", EVENT["view"])

        assert "settled as delivered; the record is delivered" in desk.out("resolve", one, "delivered")
        assert "settled as failed; the record is failed" in desk.out("resolve", other, "failed")
        record = json.loads(desk.out("show", "--json", one))
        assert (True, "settled as delivered by") == (record["delivered"], record["delivery"]["reason"][:23])
        desk.out("resolve", one, "failed", exit_code=1)
        desk.out("resolve", "1-1", "failed", exit_code=1)
        assert "delivered" == desk.state(one)

        assert "1 due now" in desk.out("redeliver", "--in-doubt")
        desk.until("delivered", "failed", "delivered")
        assert 0 == stop(worker)
    assert [one, other, third, third] == [request.headers["webhook-id"] for request in receiver.ledger().requests]
    assert {"seen": 3, "delivered": 2, "failed": 1, "balanced": True} == desk.audit()


def test_the_quarantine_is_looked_through_replayed_and_dropped(desk: Desk, receiver: ReceiverServer) -> None:
    """The original fields can be read; a replay is the alert that it was, and fails as before."""
    bad = desk.add({b"event": b'{"alert_id":"x"}', b"note": b"\xff\x1b[2J"})
    worse = [desk.add({b"other": b"%d" % n}) for n in range(2)]
    with desk.running(workers="1") as worker:  # one after the other
        wait_until(lambda: len(desk.dead()) == 3, "all are dead letters", desk)
        assert 0 == stop(worker)
    listed = [json.loads(line) for line in desk.out("dead", "list", "--json").splitlines()]
    assert [(bad, "bad_event"), *((one, "missing_event") for one in worse)] == [
        (one["record_id"], one["reason"]) for one in listed
    ]
    dead_ids = [one["dead_id"] for one in listed]
    lines = desk.out("dead", "list", "--reason", "bad_event").splitlines()
    assert ([dead_ids[0], bad], 2) == (lines[1].split("\t")[:2], len(lines))
    shown = desk.out("dead", "show", dead_ids[0])
    assert '    "alert_id": "x"' in shown
    assert "  \\xff\\x1b[2J\n" in shown
    fields = json.loads(desk.out("dead", "show", dead_ids[0], "--json"))["fields"]
    assert [["event", '{"alert_id":"x"}'], ["note", "\\xff\x1b[2J"]] == fields
    assert {"seen": 3, "quarantined": 3, "balanced": True} == desk.audit()

    assert "1 of 1 put back" in desk.out("dead", "replay", dead_ids[0])
    assert "0 of 1 put back" in desk.out("dead", "replay", dead_ids[0], exit_code=1)
    assert {"seen": 3, "quarantined": 2, "not_read": 1, "balanced": True} == desk.audit()
    with desk.running() as worker:
        wait_until(lambda: len(desk.dead()) == 3, "it is back", desk)
        assert 0 == stop(worker)
    again = json.loads(desk.out("dead", "list", "--reason", "bad_event", "--json"))
    assert (bad, ["event", "note"]) == (
        again["record_id"],
        [name for name, _ in json.loads(desk.out("dead", "show", again["dead_id"], "--json"))["fields"]][:2],
    )

    desk.out("dead", "drop", "--all", exit_code=2)
    assert 3 == len(desk.dead())
    assert "1 of 1 dropped" in desk.out("dead", "drop", dead_ids[1])
    assert "2 of 2 dropped" in desk.out("dead", "drop", "--yes", again["dead_id"], dead_ids[2])
    assert [] == desk.dead()
    assert {"seen": 3, "dropped": 3, "balanced": True} == desk.audit()
    assert 3 == desk.stats()["dropped"]


def test_an_alert_that_crashed_its_workers_is_replayed_as_itself(desk: Desk, receiver: ReceiverServer) -> None:
    """Its record, marked `quarantined`, goes on under the same ID; a second replay of it sends nothing."""
    entry_id = desk.emit()
    desk.settings["max_deliveries"] = "2"
    for _ in range(2):
        with desk.running(fault="before_send:kill") as dying:
            wait_until(lambda: dying.poll() is not None, "it crashes its worker", desk)
    with desk.running() as worker:
        wait_until(lambda: len(desk.dead()) == 1, "it is a dead letter", desk)
        assert 0 == stop(worker)
    assert "quarantined" == desk.state(entry_id)
    wait_until(lambda: {"seen": 1, "quarantined": 1, "balanced": True} == desk.audit(), "searches see it", desk)
    with desk.client() as client:
        client.xadd(f"{{{desk.stream}}}:dead", desk.dead()[0])
    assert "2 of 2 put back" in desk.out("dead", "replay", "--all")
    with desk.running() as worker:
        desk.until("delivered")
        wait_until(lambda: desk.stats()["not_read"] == 0, "the second replay is read", desk)
        desk.until("delivered")
        assert 0 == stop(worker)
    assert [entry_id] == [request.headers["webhook-id"] for request in receiver.ledger().requests]
    assert {"seen": 1, "delivered": 1, "balanced": True} == desk.audit()


FALLBACK = """
[[channels]]
name = "hook"
url = "{url}/hook"

[[channels]]
name = "spare"
url = "{url}/spare"

[[routes]]
channels = ["hook"]
fallback = ["spare"]
fallback_after_s = 1
"""


def test_a_fallback_reaches_people_when_no_primary_does(desk: Desk, receiver: ReceiverServer) -> None:
    """At once after a refusal, in its time while the primary is tried again, and not at all if that has accepted."""
    config = desk.folder / "fallback.toml"
    config.write_text(FALLBACK.format(url=receiver.url))
    del desk.settings["webhook_url"]
    desk.settings |= {"config": str(config), "retry_schedule_s": "600", "send_timeout_s": "0.5"}
    receiver.set_scripts({"/hook": Script([Step(410), Step(200), Step(503), Step(200)])})
    with desk.running(workers="1") as worker:
        refused, accepted, retried = (desk.emit(alert_id=f"a-{n}") for n in range(3))
        wait_until(lambda: receiver.totals().requests == 5, "two fallbacks are engaged", desk)
        desk.until("delivered", "delivered", "retrying")
        assert {"seen": 3, "delivered": 2, "retrying": 1, "balanced": True} == desk.audit()
        assert {"delivered": 2, "retrying": 1} == desk.stats()["states"]
        assert [retried] == [json.loads(desk.out("list", "--json", "--state", "retrying"))["record_id"]]
        assert "1 due now" in desk.out("redeliver", "--state", "retrying")
        desk.until(*["delivered"] * 3)
        assert 0 == stop(worker), desk.log()

    states = {
        record_id: {one["name"]: one["state"] for one in record["delivery"]["channels"]}
        for record_id, record in desk.records().items()
    }
    assert {
        refused: {"hook": "spared", "spare": "delivered"},
        accepted: {"hook": "delivered", "spare": "spared"},
        retried: {"hook": "delivered", "spare": "delivered"},
    } == states
    sent = Counter((request.path, request.webhook_id) for request in receiver.ledger().requests)
    once = dict.fromkeys((("/hook", refused), ("/hook", accepted), ("/spare", refused), ("/spare", retried)), 1)
    assert {**once, ("/hook", retried): 2} == sent


def test_audit_names_what_is_missing(desk: Desk, receiver: ReceiverServer) -> None:
    """A record deleted by hand, an entry acknowledged by hand: exit code 5, with its ID; nothing else is accused."""
    with desk.running() as worker:
        ids = [desk.emit(alert_id=f"a-{n}") for n in range(5)]
        desk.until(*["delivered"] * 5)
        assert 0 == stop(worker)
    assert {"seen": 5, "delivered": 5, "balanced": True} == desk.audit()
    assert "the ledger balances" in desk.out("audit")

    desk.delete_record(ids[2])
    assert {"seen": 5, "delivered": 4, "missing": 1, "missing_ids": [ids[2]]} == desk.audit(exit_code=5)

    stolen, left = desk.emit(alert_id="stolen"), desk.emit(alert_id="left")
    with desk.client() as client:
        client.xreadgroup(GROUP, "by hand", {desk.stream: ">"}, count=1)
        client.xack(desk.stream, GROUP, stolen)
    told = desk.ask("audit", "--deep")
    assert 5 == told.exit_code
    named = [line for line in told.out.splitlines() if line.startswith("missing: ")]
    assert [ids[2], stolen] == [line.split(": ")[1] for line in named]
    assert "2 alerts are missing" in told.err
    assert left not in told.out
    assert "Traceback" not in told.err


def test_audit_names_what_a_group_was_moved_past(desk: Desk, receiver: ReceiverServer) -> None:
    """XGROUP SETID to a later ID: what the group will never read is missing, not "not read yet", until it is undone."""
    with desk.running() as worker:
        first = desk.emit(alert_id="first")
        desk.until("delivered")
        assert 0 == stop(worker)
    skipped = [desk.emit(alert_id=f"skipped-{n}") for n in range(2)]
    later = desk.emit(alert_id="later")
    with desk.client() as client:
        client.xgroup_setid(desk.stream, GROUP, "9999999999999-0")  # behind all that will ever come
        missing = {"missing": 3, "missing_ids": [*skipped, later], "taken_away": 1}
        assert {"seen": 4, "delivered": 1, **missing} == desk.audit(exit_code=5)
        client.xgroup_setid(desk.stream, GROUP, skipped[-1])
        missing = {"missing": 2, "missing_ids": skipped, "taken_away": 1}
        assert {"seen": 4, "delivered": 1, "not_read": 1, **missing} == desk.audit(exit_code=5)
        with desk.running() as worker:
            desk.until("delivered", "delivered")
            assert {"seen": 4, "delivered": 2, **missing} == desk.audit(exit_code=5)
            client.xgroup_setid(desk.stream, GROUP, first)
            desk.until(*["delivered"] * 4)
            assert 0 == stop(worker)
    assert {"seen": 4, "delivered": 4, "balanced": True} == desk.audit()
    assert 4 == receiver.totals().requests


def test_what_is_lost_upstream_is_counted(desk: Desk, receiver: ReceiverServer) -> None:
    """Trimmed unread, or deleted while pending: an error in the log, in `stats` and in `audit`, which balances."""
    with desk.running() as worker:
        desk.emit(alert_id="first")
        desk.until("delivered")
        assert 0 == stop(worker)
    with desk.client() as client:
        for n in range(6):
            desk.emit(alert_id=f"a-{n}")
        pending = desk.entries()[1]
        client.xreadgroup(GROUP, "gone", {desk.stream: ">"}, count=1)
        client.xtrim(desk.stream, maxlen=2, approximate=False)
    # Three were never read, one was read by somebody who is gone.
    expected = {"seen": 7, "delivered": 1, "not_read": 2, "lost_upstream": 4, "balanced": True}
    assert expected == desk.audit()
    assert (3, 2, 1) == tuple(desk.stats()[name] for name in ("lost_upstream", "not_read", "pending"))
    with desk.running() as worker:
        desk.until("delivered", "delivered", "delivered")
        assert 0 == stop(worker)
    assert f"{pending}: lost upstream" in desk.log()
    assert {"seen": 7, "delivered": 3, "lost_upstream": 4, "balanced": True} == desk.audit()
    assert 4 == desk.stats()["lost_upstream"]


def test_stats_tell_how_things_stand(desk: Desk, receiver: ReceiverServer) -> None:
    """What waits and where, what was written twice, and for how long the oldest has been waiting."""
    receiver.set_scripts({"*": Script([Step(200), Step(200), Step(503)])})
    with desk.running(workers="1", retry_schedule_s="3600") as worker:
        for alert_id in ("a", "a", "b"):
            desk.emit(alert_id=alert_id)
        desk.until("delivered", "delivered", "retrying")
        assert 0 == stop(worker)
    desk.emit(alert_id="c")
    desk.emit(alert_id="d")
    with desk.client() as client:
        client.xreadgroup(GROUP, "by hand", {desk.stream: ">"}, count=1)
    stats = desk.stats()
    assert {"delivered": 2, "retrying": 1} == stats["states"]
    expected = {"not_read": 1, "pending": 1, "in_flight": 0, "quarantined": 0, "overdue": 0, "repeated_alert_ids": 1}
    assert expected == {name: stats[name] for name in expected}
    assert [("by hand", 1)] == [(one["name"], one["pending"]) for one in stats["streams"][0]["consumers"]]
    assert 0 < stats["oldest_undelivered_s"] < 300
    page = desk.out("stats")
    assert "repeated alert_ids" in page
    assert "consumer by hand: 1 pending" in page
    # in flight, since somebody has it
    assert {"seen": 5, "delivered": 2, "retrying": 1, "in_flight": 1, "not_read": 1, "balanced": True} == desk.audit()


def test_with_now_the_past_is_not_missed(desk: Desk, receiver: ReceiverServer) -> None:
    """A group that was told to begin behind what lay there owes no account of it."""
    for n in range(3):
        desk.emit(alert_id=f"old-{n}")
    with desk.running(start_from="now") as worker:
        wait_until(lambda: "reading" in desk.log(), "it reads", desk)
        desk.emit(alert_id="new")
        desk.until("delivered")
        assert 0 == stop(worker)
    assert {"seen": 1, "delivered": 1, "balanced": True} == desk.audit()


@pytest.mark.parametrize("command", [("stats",), ("audit",), ("redeliver", "1-1"), ("resolve", "1-1", "failed")])
def test_before_the_first_run_there_is_nothing_to_trust(desk: Desk, command: tuple[str, ...]) -> None:
    """The store does not exist yet: exit code 3, and nothing is created; without Redis: exit code 4."""
    desk.out(*command, exit_code=3)
    assert [] == [path for path in desk.folder.iterdir() if path.suffix == ".db"]
    with desk.running() as worker:
        wait_until(lambda: "reading" in desk.log(), "it reads", desk)
        assert 0 == stop(worker)
    desk.settings["redis_url"] = "redis://127.0.0.1:1/0"
    done = desk.ask(*command)
    assert 4 == done.exit_code
    assert "127.0.0.1:1" in done.err
    assert "Traceback" not in done.err


def test_what_a_silence_kept_back_is_found_and_sent(desk: Desk, receiver: ReceiverServer) -> None:
    """Counted before it is set; then neither new alerts nor retries are sent; undone, each is sent once."""
    now, yesterday = dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC) - dt.timedelta(hours=25)
    receiver.set_scripts({"*": Script([Step(503), Step(200)])})
    with desk.running(workers="1", retry_schedule_s="3600") as worker:
        retried = desk.emit(alert_id="retried", occurred_at=now.isoformat())
        desk.until("retrying")
        desk.emit(alert_id="old", occurred_at=yesterday.isoformat())
        desk.emit(alert_id="other", view="Bridges", occurred_at=now.isoformat())
        wait_until(lambda: desk.pending() == 0 and len(desk.records()) == 3, "all are recorded", desk)
        preview = desk.out("silence", "preview", "view = Lending")
        assert "1 of 2 alerts that occurred in the last 24 h match: 1 high\n" == preview.partition("\n")[0] + "\n"
        assert retried in preview

        silence_id = desk.out("silence", "add", "view = Lending", "--for", "1h", "--why", "a drill").partition(":")[0]
        time.sleep(1)  # by then every process knows it
        desk.out("redeliver", retried)
        kept = desk.emit(alert_id="kept")
        desk.until("suppressed", "suppressed", "delivered", "delivered")
        named = f"silence:{silence_id}"
        listed = [json.loads(line) for line in desk.out("list", "--suppressed-by", named, "--json").splitlines()]
        assert [kept, retried] == [record["record_id"] for record in listed]
        assert {("a drill", named)} == {(one["delivery"]["reason"], one["delivery"]["suppressed_by"]) for one in listed}
        assert 3 == receiver.totals().requests

        desk.out("redeliver", "--suppressed-by", named, exit_code=2)  # it would be suppressed again
        desk.out("silence", "end", silence_id)
        assert "2 due now" in desk.out("redeliver", "--suppressed-by", named)
        desk.until("delivered", "delivered", "delivered", "delivered")
        assert 0 == stop(worker)
    assert 5 == receiver.totals().requests
    assert {"seen": 4, "delivered": 4, "balanced": True} == desk.audit()


LIMITED = """
[[channels]]
name = "desk"
url = "{url}/desk"
{limit}

[[channels]]
name = "spare"
url = "{url}/spare"

[[routes]]
match = {{ view = "Bridges" }}
channels = ["spare"]

[[routes]]
channels = ["desk"]
"""


def in_queue(desk: Desk, channel: str) -> list[str]:
    """Ask the store itself which records wait in a channel's queue."""
    if desk.opensearch is None:
        asked = "SELECT records.id FROM records, json_each(document, '$.delivery.queues') WHERE json_each.value = ?"
        with closing(sqlite3.connect(desk.store_url.removeprefix("sqlite:///"))) as connection:
            found = connection.execute(f"{asked} ORDER BY records.id DESC", (channel,))
            return [record_id for (record_id,) in found]
    search = f"/{desk.index}/_search?q=delivery.queues:{channel}&sort=record_id:desc"
    return [hit["_id"] for hit in desk.opensearch.request("GET", search)[1]["hits"]["hits"]]


def test_what_waits_is_found_and_can_go_another_way(desk: Desk, receiver: ReceiverServer) -> None:
    """By its queue, by its state and in figures; by itself it goes through the channel that it waits for, once."""
    config = desk.folder / "limited.toml"
    config.write_text(LIMITED.format(url=receiver.url, limit="rate_per_s = 0.001"))
    del desk.settings["webhook_url"]
    desk.settings["config"] = str(config)
    with desk.client() as client:  # the channel's next token is 1,000 s away
        seconds, microseconds = client.time()
        client.hset(gate_key(desk.stream, GROUP, "desk"), "tat", (seconds + 1000) * 1_000_000 + microseconds)
    with desk.running() as worker:
        later, latest = desk.emit(alert_id="later"), desk.emit(alert_id="latest")
        elsewhere = desk.emit(alert_id="elsewhere", view="Bridges")
        desk.until("delivered", "waiting", "waiting")
        assert [latest, later] == in_queue(desk, "desk")
        assert [] == in_queue(desk, "spare")
        found = [json.loads(line) for line in desk.out("list", "--json", "--state", "waiting").splitlines()]
        assert [latest, later] == [record["record_id"] for record in found]
        assert {"seen": 3, "delivered": 1, "waiting": 2, "balanced": True} == desk.audit()
        stats = desk.stats()
        assert {"delivered": 1, "waiting": 2} == stats["states"]
        assert (0, 0) == (stats["overdue"], stats["in_doubt"])
        assert 0 < stats["oldest_undelivered_s"] < 300

        assert "it waits for desk to take it, and is sent by itself" in desk.out("redeliver", later, exit_code=1)
        assert "0 due now" in desk.out("redeliver", "--state", "waiting")
        assert "desk takes it by itself, once it can" in desk.out("redeliver", later, "--through", "desk", exit_code=1)
        told = desk.out("redeliver", "--state", "waiting", "--through", "spare")
        assert [f"{latest}\tis due now through spare", f"{later}\tis due now through spare"] == told.splitlines()[:2]
        wait_until(lambda: receiver.totals().accepted == 3, "both went to the spare", desk)
        desk.until("delivered", "waiting", "waiting")
        assert [latest, later] == in_queue(desk, "desk")
        assert 0 == stop(worker), desk.log()

    config.write_text(LIMITED.format(url=receiver.url, limit=""))
    with desk.running() as worker:
        desk.until(*["delivered"] * 3)
        assert 0 == stop(worker), desk.log()
    assert [] == in_queue(desk, "desk")
    requests = Counter((request.path, request.webhook_id) for request in receiver.ledger().requests)
    both = [(path, record_id) for path in ("/desk", "/spare") for record_id in (later, latest)]
    assert dict.fromkeys([*both, ("/spare", elsewhere)], 1) == requests
