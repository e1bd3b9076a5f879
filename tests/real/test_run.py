"""`run` from end to end: what is emitted is recorded, delivered and acknowledged, on real servers."""

import base64
import json
import signal
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from tests.real.conftest import MakeSite
from tests.support.program import Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.unit.test_alert import EVENT

EXAMPLES = Path(__file__).parents[2] / "examples" / "alerts.jsonl"
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


@pytest.fixture(params=["valkey+opensearch3", "redis7+opensearch2", "valkey+sqlite"])
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> Site:
    return make_site(Site, request.param, webhook_secret=SECRET)


def settled(site: Site, count: int) -> bool:
    return site.pending() == 0 and len(site.entries()) >= count


def test_every_alert_becomes_one_record_and_one_notification(site: Site, receiver: ReceiverServer) -> None:
    """Emit, record, webhook, acknowledge: with signature, stable key and exact content."""
    with site.running() as worker:
        emitted = site.call("emit", str(EXAMPLES))
        assert emitted.exit_code == 0, emitted.err
        alerts = [json.loads(line) for line in EXAMPLES.read_text().splitlines()]
        wait_until(lambda: receiver.totals().accepted >= len(alerts), "every alert is delivered", site)
        site.until(*["delivered"] * len(alerts))
        assert 0 == stop(worker), site.log()

    records = site.records()
    assert set(site.entries()) == set(records)
    assert [alert["alert_id"] for alert in alerts] == [records[entry]["alert_id"] for entry in site.entries()]
    ledger = receiver.ledger()
    assert (len(alerts), len(alerts), 0) == (len(ledger.requests), ledger.totals.accepted, ledger.totals.duplicates)
    by_id = {request.headers["webhook-id"]: request for request in ledger.requests}
    verifier = Webhook(SECRET)
    for entry_id, alert in zip(site.entries(), alerts, strict=True):
        sent = verifier.verify(by_id[entry_id].body, dict(by_id[entry_id].headers))
        assert alert["title"] == sent["title"]
        assert alert.get("details") == sent.get("details")


def test_filters_find_exactly_the_right_records(site: Site, receiver: ReceiverServer) -> None:
    """`view` and `scope` are exact, whatever they are made of; nothing else may match."""
    odd = ["Lending Risk: 東京", "lending risk: 東京", "Lending", "L*"]
    ids = {value: site.emit(view=value, scope=value[::-1], alert_id=f"a-{n}") for n, value in enumerate(odd)}
    with site.running() as worker:
        wait_until(lambda: receiver.totals().accepted >= len(odd), "delivered", site)
        assert 0 == stop(worker)
    wait_until(lambda: len(site.records()) == len(odd), "searches see it", site)
    for value in odd[:1] + odd[-1:]:
        for option, text in (("--view", value), ("--scope", value[::-1])):
            found = site.call("list", "--json", f"{option}={text}").out.splitlines()
            assert [ids[value]] == [json.loads(line)["record_id"] for line in found], (option, text)


def test_bad_input_stops_nothing_touches_nothing_and_does_not_disappear(site: Site, receiver: ReceiverServer) -> None:
    """Each bad entry is in the quarantine, each good one delivered, and no record is other than its own alert's."""
    bulk = '\n{"delete":{"_id":"1-0"}}\n{"index":{"_id":"1-0"}}\n{}\n'
    bad = {
        b"missing_event": {b"other": b"1"},
        b"bad_json": {b"event": b'{"alert_id":'},
        b"bad_event": {b"event": b'{"alert_id":"a"}'},
        b"too_large": {b"event": json.dumps(EVENT | {"description": "x" * 300 * 1024}).encode()},
    }
    nested = {b"event": b'{"details":' + b"[" * 10_000 + b"]" * 10_000 + b"}"}
    surrogate = {b"event": json.dumps(EVENT | {"title": "\ud800"}).encode()}
    for fields in (*bad.values(), nested, surrogate):
        site.add(fields)
    uint256 = site.emit(alert_id="uint256", value_raw=2**256 - 1, details={"amount": 2**256 - 1})
    site.emit(alert_id="bulk", details={bulk: bulk}, title=bulk)
    forged = site.emit(alert_id="forged", **{"delivery.state": "failed", "delivered": False, "_id": "1-0"})
    with site.running() as worker:
        wait_until(lambda: receiver.totals().accepted >= 3, "the good ones are delivered", site)
        wait_until(lambda: settled(site, 9), "nothing is pending", site)
        assert 0 == stop(worker)

    dead = sorted(site.dead(), key=lambda fields: fields[b"_id"])
    assert [*bad, b"bad_json", b"bad_json"] == [fields[b"_reason"] for fields in dead]
    assert [b"1", nested[b"event"]] == [dead[0][b"other"], dead[4][b"event"]]
    site.until(*["delivered"] * 3)
    records = site.records()
    assert str(2**256 - 1) == records[uint256]["value_raw"]
    assert {"amount": 2**256 - 1} == json.loads(records[uint256]["details"])
    assert {"delivery.state": "failed", "delivered": False, "_id": "1-0"} == json.loads(records[forged]["extra"])


def test_a_killed_worker_s_alerts_are_finished_by_another(site: Site, receiver: ReceiverServer) -> None:
    """Kill -9 in the middle of sends: nothing is lost, and what was sent twice is counted as in doubt."""
    receiver.set_scripts({"*": Script([Step(200, delay_s=0.2)])})
    with site.running(workers="8", fault="after_send:kill:5") as dying:
        wait_until(lambda: len(site.logs) == 1 and "reading" in site.log(), "it reads", site)
        for n in range(40):
            site.emit(alert_id=f"a-{n}")
        wait_until(lambda: dying.poll() is not None, "it is killed", site)
        assert -signal.SIGKILL == dying.returncode
    with site.running() as living:
        wait_until(lambda: settled(site, 40), "all are acknowledged", site)
        assert 0 == stop(living), site.log()
    site.until(*["delivered"] * 40)
    records = site.records()
    accepted: dict[str, int] = {}
    for request in receiver.ledger().requests:
        accepted[request.headers["webhook-id"]] = accepted.get(request.headers["webhook-id"], 0) + request.accepted
    assert set(records) == set(accepted)
    repeated = {entry_id for entry_id, times in accepted.items() if times > 1}
    marked = {entry_id for entry_id, record in records.items() if record["delivery"].get("in_doubt", 0)}
    assert repeated <= marked
    assert repeated, "the kill came in the middle of a send"


def test_a_second_signal_ends_at_once(small_site: Site, receiver: ReceiverServer) -> None:
    """The first waits for the hanging send, the second does not: exit 1, and the entry is still there."""
    receiver.set_scripts({"*": Script([Step(fault="hang")])})
    small_site.emit()
    with small_site.running() as worker:
        wait_until(lambda: receiver.totals().requests == 1, "it is sending", small_site)
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in small_site.log(), "it stops softly", small_site)
        assert 1 == stop(worker)
    assert 1 == small_site.pending()
    assert "second signal" in small_site.log()
    assert "Traceback" not in small_site.log()


def test_an_injected_crash_ends_with_1_and_leaves_the_entry_pending(small_site: Site) -> None:
    """The log says what happened and that fault injection is on."""
    small_site.emit()
    with small_site.running(fault="before_send:raise") as worker:
        assert 1 == worker.wait(60)
    assert 1 == small_site.pending()
    assert "FAULT INJECTION IS ON" in small_site.log()
    assert "InjectedFault" in small_site.log()


def test_check_tells_what_run_would_create_and_creates_nothing(site: Site) -> None:
    """The group, with the stream or without it, and the store; after a run it finds nothing to complain about."""
    for _ in range(2):
        with site.client() as client:
            keys = client.keys(f"*{site.stream}*")
            before = site.call("check")
            assert keys == client.keys(f"*{site.stream}*")
        assert 0 == before.exit_code, before.err
        assert "would be created" in before.out
        assert "alert-processor" in before.out
        assert "alerts.db" in before.out or site.index in before.out
        assert [] == list(site.folder.iterdir())
        site.emit()
    with site.running() as worker:
        wait_until(lambda: "reading" in site.log(), "it reads", site)
        assert 0 == stop(worker)
    after = site.call("check")
    assert (0, False) == (after.exit_code, "would be created" in after.out)
