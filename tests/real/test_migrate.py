"""`migrate` on real servers: while alerts come, killed at each of its steps, and undone."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest

from tests.contracts.store import delivered, record
from tests.real.conftest import MakeSite
from tests.support.fakes.world import EVENT
from tests.support.program import Site, command_line, happens, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import OpenSearch, ReceiverServer
from trio_alerts.backends.opensearch.bulk import write_of

RECORDS = int(os.environ.get("MIGRATE_RECORDS", "2000"))  # that are there before
PER_S = float(os.environ.get("MIGRATE_PER_S", "20"))
STEPS = ("named", "created", "page", "blocked", "caught_up", "verified", "swapped")
LEFT = {"named": "create", "created": "copy", "page": "copy", "swapped": "done"}  # what comes next then
SERVERS = ("valkey+opensearch3", "redis7+opensearch2")


def ask(server: OpenSearch, method: str, path: str, body: object = None) -> Any:
    status, answered = server.request(method, path, body)
    assert status in (200, 201), answered
    return answered


def fill(server: OpenSearch, alias: str, count: int) -> None:
    """Write records that were settled long ago."""
    ids = settled_ids(count)
    for first in range(0, count, 5000):
        writes = [write_of(delivered(record(record_id=one)), None) for one in ids[first : first + 5000]]
        ask(server, "POST", f"/{alias}/_bulk", b"".join(write.lines for write in writes))


def settled_ids(count: int) -> list[str]:
    return [f"1767225600000-{number}" for number in range(count)]


def documents(server: OpenSearch, index: str) -> dict[str, Any]:
    """Return every document of an index by its ID."""
    ask(server, "POST", f"/{index}/_refresh")
    found: dict[str, Any] = {}
    request: dict[str, Any] = {"size": 5000, "sort": [{"record_id": "asc"}]}
    while hits := ask(server, "POST", f"/{index}/_search", request)["hits"]["hits"]:
        found |= {hit["_id"]: hit["_source"] for hit in hits}
        request["search_after"] = hits[-1]["sort"]
    return found


def check_copied(server: OpenSearch, alias: str, old: str, emitted: list[str]) -> dict[str, Any]:
    """See that every record is there, the old ones as they were; return them all."""
    there, before = documents(server, alias), documents(server, old)
    assert {*settled_ids(RECORDS), *emitted} == set(there)
    assert all(there[record_id] == before[record_id] for record_id in before.keys() - set(emitted))
    return there


@contextmanager
def traffic(site: Site, per_s: float = PER_S) -> Iterator[list[str]]:
    """Let alerts come for as long as the block runs; the list is of their IDs."""
    over, emitted = Event(), list[str]()

    def emit() -> None:
        began_s = time.monotonic()
        with site.client() as client:
            while not over.is_set():
                event = json.dumps(EVENT | {"alert_id": f"a-{len(emitted)}"}).encode()
                emitted.append(str(client.xadd(site.stream, {b"event": event}).decode()))
                time.sleep(max(0.0, began_s + len(emitted) / per_s - time.monotonic()))

    thread = Thread(target=emit)
    thread.start()
    try:
        yield emitted
    finally:
        over.set()
        thread.join()


def migrate(site: Site, fault: str = "") -> tuple[int, str]:
    """Call it, to be killed at a fault point or not; return its exit code, and its output, errors included."""
    called = subprocess.run(
        command_line("migrate", "--json"),
        env=site.environ | {"TRIO_ALERTS_FAULT": fault},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=600,
    )
    return called.returncode, called.stdout.decode()


def stopped_while_blocked(site: Site, server: OpenSearch) -> tuple[int, str]:
    """Call it, and end it with SIGTERM while writes wait for it; return its exit code, and its output."""
    environ = site.environ | {"TRIO_ALERTS_FAULT": "migrate_blocked:hang"}
    output = subprocess.PIPE
    with subprocess.Popen(command_line("migrate"), env=environ, stdout=output, stderr=subprocess.STDOUT) as process:
        wait_until(lambda: is_blocked(site, server), "writes wait", site)
        process.terminate()
        said = process.communicate()[0].decode()
    return process.returncode, said


def is_blocked(site: Site, server: OpenSearch) -> bool:
    (index,) = ask(server, "GET", f"/{site.index}/_settings?flat_settings=true").values()
    return "index.blocks.write" in index["settings"]


def share_out(server: OpenSearch, alias: str, count: int) -> None:
    """Let the next index of this name have so many shards."""
    template = {"index_patterns": [f"{alias}-*"], "template": {"settings": {"number_of_shards": count}}}
    ask(server, "PUT", f"/_index_template/{alias}", template)


def shards(server: OpenSearch, index: str) -> int:
    settings = ask(server, "GET", f"/{index}/_settings?flat_settings=true")[index]["settings"]
    return int(settings["index.number_of_shards"])


def until_delivered(site: Site, receiver: ReceiverServer, emitted: list[str]) -> None:
    """Wait until the receiver has accepted all, and nothing is pending."""
    accepted = happens(lambda: receiver.totals().accepted >= len(emitted) and site.pending() == 0, 600)
    assert accepted, site.log()


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, make_site: MakeSite, receiver: ReceiverServer) -> Site:
    receiver.set_scripts({"*": Script([Step(200), Step(503), Step(200, delay_s=0.2)], each="path")})
    return make_site(Site, request.param, retry_schedule_s="0.5,0.5,1,1,1,1", lease_s="10", send_timeout_s="2")


def test_nothing_is_lost_by_a_migration_that_is_killed_at_each_step(site: Site, receiver: ReceiverServer) -> None:
    """Each call goes on where the last one died; processes go over to the new index, and none has to start again."""
    server = site.opensearch
    assert server is not None
    old, new = f"{site.index}-000001", f"{site.index}-000002"
    with site.running() as one, site.running() as two:
        wait_until(lambda: site.log().count("reading ") == 2, "both read", site)
        fill(server, site.index, RECORDS)
        with traffic(site) as emitted:
            for step in STEPS:
                code, said = migrate(site, f"migrate_{step}:kill")
                assert -signal.SIGKILL == code, (step, said)
                if step == "page":  # as if it had been killed while the terms of the new index were raised
                    ask(server, "POST", f"/{new}/_close")
                status = json.loads(site.call("migrate", "--status", "--json").out)
                assert LEFT.get(step, "hand_over") == status["step"], status
            assert "Done: " in site.call("migrate", "--status").out
            time.sleep(1)
        until_delivered(site, receiver, emitted)
        assert [0, 0] == [stop(one), stop(two)], site.log()

    there = check_copied(server, site.index, old, emitted)
    assert [new] == list(ask(server, "GET", f"/{site.index}"))
    assert {"delivered"} == {there[entry_id]["delivery"]["state"] for entry_id in emitted}
    assert site.log().count(f"all records were migrated: {site.index} is index {new} now") == 2, site.log()
    sent = [request.webhook_id for request in receiver.ledger().requests if request.accepted]
    marked = sum(there[entry_id]["delivery"].get("in_doubt", 0) for entry_id in emitted)
    assert len(sent) - len(set(sent)) <= marked


def test_an_index_of_several_shards_gets_as_many_as_the_template_says(site: Site, receiver: ReceiverServer) -> None:
    """Each shard numbers its writes by itself, and a record may lie in another one afterwards."""
    server = site.opensearch
    assert server is not None
    receiver.set_scripts({})
    old, new = f"{site.index}-000001", f"{site.index}-000002"
    share_out(server, site.index, 3)
    with site.running() as process:
        wait_until(lambda: "reading " in site.log(), "it reads", site)
        fill(server, site.index, RECORDS)
        share_out(server, site.index, 2)
        with traffic(site) as emitted:
            for step in ("page", "caught_up"):
                assert -signal.SIGKILL == migrate(site, f"migrate_{step}:kill")[0]
            code, said = migrate(site)
            assert 0 == code, said
            time.sleep(1)  # alerts that come after the hand-over are to be delivered, too
        until_delivered(site, receiver, emitted)
        assert 0 == stop(process), site.log()
    assert [3, 2] == [shards(server, index) for index in (old, new)]
    check_copied(server, site.index, old, emitted)
    assert receiver.totals().accepted == len(emitted)


def test_writes_wait_for_a_moment(site: Site, receiver: ReceiverServer) -> None:
    """Alerts that come in that moment are late by a few seconds, and by no more."""
    receiver.set_scripts({})
    server = site.opensearch
    assert server is not None
    with site.running() as process:
        wait_until(lambda: "reading " in site.log(), "it reads", site)
        fill(server, site.index, RECORDS)
        with traffic(site) as emitted:
            time.sleep(1)
            code, said = migrate(site)
            assert 0 == code, said
            time.sleep(2)
        until_delivered(site, receiver, emitted)
        assert 0 == stop(process), site.log()
    done = json.loads(said.splitlines()[-1])
    accepted_s = {request.webhook_id: request.at_s for request in receiver.ledger().requests}
    late_s = max(accepted_s[entry_id] - int(entry_id.partition("-")[0]) / 1000 for entry_id in emitted)
    print(f"\n{done['records']} records: blocked {done['waited_s']:.2f} s, the latest alert {late_s:.2f} s")
    assert RECORDS <= done["records"]
    assert done["waited_s"] < 5
    assert late_s < 8 if "CI" in os.environ else late_s < 15


def test_a_stop_or_an_abort_leaves_all_as_it_was(site: Site, receiver: ReceiverServer) -> None:
    """In the middle of the hand-over, when writes wait: they go on, at once if the call is told to stop."""
    server = site.opensearch
    assert server is not None
    receiver.set_scripts({})
    with site.running() as process:
        wait_until(lambda: "reading " in site.log(), "it reads", site)
        with traffic(site) as emitted:
            code, said = stopped_while_blocked(site, server)
            assert (1, False) == (code, is_blocked(site, server)), said
            assert "Stopped. copying to" in said
            assert -signal.SIGKILL == migrate(site, "migrate_verified:kill")[0]
            refused = site.call("list")
            assert (4, True) == (refused.exit_code, "is taking over" in refused.err), refused
            aborted = site.call("migrate", "--abort")
            assert (0, f"Aborted: {site.index}-000002 is gone, and writes go on as before.\n") == (
                aborted.exit_code,
                aborted.out,
            ), aborted
            again = site.call("migrate", "--abort")
            assert (0, "There is no migration to abort.\n") == (again.exit_code, again.out)
        until_delivered(site, receiver, emitted)
        assert 0 == stop(process), site.log()
    assert [f"{site.index}-000001"] == list(ask(server, "GET", f"/{site.index}*"))
    assert set(emitted) == set(documents(server, site.index))
