"""The roles of `deploy/opensearch/`, on a server with the security plugin: they carry all work, no right is idle.

Redis knows its own users, those of `deploy/redis/`: nobody here has a right too many on either side.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from tests.real.test_canary import came_through, left
from tests.real.test_migrate import fill, migrate
from tests.real.test_operating import Desk
from tests.support.acl import GROUP, PASSWORD, STREAM, acl_file
from tests.support.obtain import obtain
from tests.support.program import QUICK, command_line, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer, ValkeyServer
from tests.support.servers.process import free_port
from tests.support.servers.secured_opensearch import ROLES, SecuredOpenSearch
from tests.support.tls import TlsFiles
from trio_alerts.backends.opensearch.queries import JOURNAL_ID
from trio_alerts.backends.redis.keys import deployment_key

INDEX = "alerts"  # that of the roles
ROLE_OF: dict[str, Any] = msgspec.yaml.decode((ROLES / "roles.yml").read_bytes())
# What the plugin asks for inside of another request, and its audit does not name: `test_a_right_too_few_is_named` does.
INSIDE = {
    *("indices:admin/aliases", "indices:admin/delete"),
    *("indices:data/write/delete", "indices:data/write/index"),
}


@pytest.fixture(scope="module", params=["opensearch3"])
def secured(request: pytest.FixtureRequest, tls_files: TlsFiles) -> Iterator[SecuredOpenSearch]:
    """Give a server with the roles."""
    version = {"opensearch3": "3.4.0", "opensearch2": "2.19.1"}[request.param]
    with obtain(lambda: SecuredOpenSearch(version, tls_files)) as server:
        yield server


class RoleDesk(Desk):
    """A site whose processes and operators are users of the roles, and of Redis's ACL; its own looks are nobody's."""

    def client(self) -> Redis:
        return self.redis.client(f"unix://{self.redis.socket}")

    def enter_as(self, user: str) -> None:
        """Let whatever starts from now on be this user."""
        assert isinstance(self.opensearch, SecuredOpenSearch)
        self.store_url = self.opensearch.url_of(user)
        self.settings["redis_url"] = f"redis://{user}:{PASSWORD}@127.0.0.1:{self.redis.port}/0".replace(" ", "%20")

    def refused(self, *argv: str) -> str:
        """Run a command that OpenSearch refuses, and return what it says."""
        ended = self.ask(*argv)
        assert 4 == ended.exit_code, (argv, ended)
        return ended.err


@pytest.fixture
def desk(
    secured: SecuredOpenSearch, tls_files: TlsFiles, tmp_path: Path, receiver: ReceiverServer
) -> Iterator[RoleDesk]:
    own = {
        "webhook_url": f"{receiver.url}/hook",
        "store_ca_file": str(tls_files.ca),
        "retry_schedule_s": "0.2,0.2",
        "http_bind": f"127.0.0.1:{free_port()}",
        "canary_every_s": "5",
        "keep_records_s": "6",
        **QUICK,
    }
    with obtain(partial(ValkeyServer, extra=[f"aclfile {acl_file(tmp_path)}"])) as redis:
        yield RoleDesk(tmp_path, own, redis=redis, opensearch=secured, stream=STREAM, index=INDEX)
    secured.remove_indices(INDEX)


def test_the_roles_carry_all_work_and_no_right_is_idle(
    desk: RoleDesk, secured: SecuredOpenSearch, receiver: ReceiverServer
) -> None:
    """Worker, reader, operator, migrator: each does what it is there for, with no right that it did not use."""
    receiver.set_scripts({"*": Script([Step(503), Step(200), Step(410)])})
    template = {"index_patterns": ["alerts-*"], "priority": 1, "template": {"settings": {"number_of_replicas": 0}}}
    desk.enter_as("alerts-worker")
    assert f"would create index '{INDEX}-000001'" in desk.call("check").out
    assert 200 == secured.request("PUT", "/_index_template/theirs", template)[0]
    with desk.running(workers="1") as worker:
        record_id, _ = desk.emit(alert_id="a"), desk.emit(alert_id="b")
        desk.until("delivered", "failed")
        assert 0 == stop(worker), desk.log()

    _die_while_pruning(secured, record_id)
    desk.enter_as("alerts-reader")
    for argv in (("list",), ("show", record_id), ("stats",), ("audit",), ("silence", "preview", "view = Lending")):
        desk.out(*argv)
    desk.enter_as("alerts-operator")
    _operate(desk)
    receiver.set_scripts({})
    desk.enter_as("alerts-worker")
    with desk.running() as worker:
        _remove_records(desk)
        _migrate(desk, secured)
        assert 0 == stop(worker), desk.log()

    for name in ("worker", "operator", "reader", "migrator"):
        role = ROLE_OF[f"alerts_{name}"]
        assert allowed(role) == secured.granted(f"alerts-{name}") | (INSIDE & allowed(role)), name
    with desk.client() as client:
        refused = {(one["username"], one["object"]) for one in client.acl_log()}
    assert refused <= {("alerts-reader", "hset")}  # who only looks notes no losses


def _die_while_pruning(secured: SecuredOpenSearch, record_id: str) -> None:
    """Leave behind what somebody does who named a record to delete, of a version that is no more, and died."""
    batch = {"stream": STREAM, "versions": {record_id: [0, 1]}}
    journal = {"retention": {"streams": {STREAM: {"count": 0, "before": "0-1"}}, "batch": batch}}
    assert 201 == secured.request("PUT", f"/{INDEX}/_doc/{JOURNAL_ID}?refresh=true", journal)[0]


def _operate(desk: RoleDesk) -> None:
    """Change a record, look at the figures, and take the index over for a Redis that has lost its identity."""
    assert "1 due now" in desk.out("redeliver", "--state", "failed")
    (due,) = [record for record in desk.records().values() if not record["delivered"]]
    assert "retrying" == due["delivery"]["state"]
    desk.out("stats")
    with desk.client() as client:
        client.set(deployment_key(STREAM, GROUP), "another one")
    assert "Both belong to deployment" in desk.out("adopt", "--yes")


def _remove_records(desk: RoleDesk) -> None:
    """Let records go whose entries left the stream, and a canary that has come through."""
    desk.enter_as("alerts-reader")
    desk.until("delivered", "delivered")
    with desk.client() as client:
        client.xtrim(STREAM, maxlen=0, approximate=False)
    wait_until(lambda: desk.records() == {}, "records are deleted", desk)
    wait_until(lambda: bool(came_through(desk)) and left(desk) == (0, 0, 0), "a canary has come and gone", desk)
    assert 2 == desk.stats()["pruned"]


def _migrate(desk: RoleDesk, secured: SecuredOpenSearch) -> None:
    """Beside the worker: begin, die, go on, die again, abort; then do it, and the worker goes over."""
    stays, goes = desk.emit(alert_id="c"), desk.emit(alert_id="d")
    desk.until("delivered", "delivered")
    desk.enter_as("alerts-migrator")
    assert -signal.SIGKILL == migrate(desk, "migrate_page:kill")[0]
    assert f"copying to {INDEX}-000002" in desk.out("migrate", "--status")
    desk.delete_record(goes)
    assert -signal.SIGKILL == migrate(desk, "migrate_verified:kill")[0]
    assert "writes WAIT" in desk.out("migrate", "--status")
    assert f"Aborted: {INDEX}-000002 is gone" in desk.out("migrate", "--abort")
    assert 200 == secured.request("DELETE", "/_index_template/theirs")[0]
    assert "Done: " in desk.out("migrate")
    assert "Done: " in desk.out("migrate", "--status")
    desk.enter_as("alerts-reader")
    after = desk.emit(alert_id="e")
    desk.until("delivered", "delivered")
    assert {stays, after} == set(desk.records())
    assert [f"{INDEX}-000002"] == list(secured.request("GET", f"/{INDEX}")[1])
    assert f"all records were migrated: {INDEX} is index {INDEX}-000002 now" in desk.log()


def test_a_right_too_few_is_named(desk: RoleDesk, secured: SecuredOpenSearch, receiver: ReceiverServer) -> None:
    """At start with exit code 4, before anything is read; while running as an outage, which loses nothing."""
    desk.enter_as("alerts-worker")
    for right in ("indices:admin/create", "indices:admin/aliases"):
        with lacking(secured, "alerts_worker", right):
            ended = desk.call("run")
            assert (4, True) == (ended.exit_code, right in ended.out + ended.err), ended
    with desk.running() as worker:
        wait_until(lambda: "reading" in desk.log(), "it reads", desk)
        right = "indices:data/write/bulk"
        with lacking(secured, "alerts_worker", right):
            record_id = desk.emit()
            wait_until(lambda: right in desk.log(), "the log names it", desk)
        desk.until("delivered")
        assert 0 == stop(worker)
    assert 1 == receiver.totals().requests
    reads = ("read/get", "read/search", "read/mget", "read/mget[shard]")
    writes = ("write/bulk", "write/bulk[s]", "write/index", "write/delete")
    for right in ("indices:admin/get", *(f"indices:data/{one}" for one in (*reads, *writes))):
        with lacking(secured, "alerts_worker", right):
            ended = desk.ask("check")
            assert (4, True) == (ended.exit_code, right in ended.out + ended.err), (right, ended)
    desk.enter_as("alerts-reader")
    for right in ("indices:admin/refresh", "indices:admin/refresh[s]"):
        with lacking(secured, "alerts_reader", right):
            desk.out("list")  # as of the last refresh
    _lack_while_migrating(desk, secured, record_id)


def _lack_while_migrating(desk: RoleDesk, secured: SecuredOpenSearch, record_id: str) -> None:
    """What is missing is named, and nothing is handed over; with it back, all can be undone."""
    desk.enter_as("alerts-migrator")
    with lacking(secured, "alerts_migrator", "indices:data/write/index"):
        assert "indices:data/write/index" in desk.refused("migrate")
    assert -signal.SIGKILL == migrate(desk, "migrate_page:kill")[0]
    desk.delete_record(record_id)
    with lacking(secured, "alerts_migrator", "indices:data/write/delete"):
        assert "indices:data/write/delete" in desk.refused("migrate")
    with lacking(secured, "alerts_migrator", "indices:admin/delete"):
        assert "indices:admin/delete" in desk.refused("migrate", "--abort")
    assert f"Aborted: {INDEX}-000002 is gone" in desk.out("migrate", "--abort")


def test_an_abort_ends_a_call_that_is_copying(desk: RoleDesk, secured: SecuredOpenSearch) -> None:
    """Wherever that is; alerts are delivered all the while."""
    desk.enter_as("alerts-worker")
    with desk.running(keep_records_s="100000000") as worker:
        wait_until(lambda: "reading" in desk.log(), "it reads", desk)
        fill(secured, INDEX, 5000)
        desk.enter_as("alerts-migrator")
        output = subprocess.PIPE
        with subprocess.Popen(
            command_line("migrate"), env=desk.environ, stdout=output, stderr=subprocess.STDOUT
        ) as copying:
            wait_until(lambda: secured.request("GET", f"/{INDEX}-000002")[0] == 200, "it has begun", desk)
            copying.send_signal(signal.SIGSTOP)
            assert f"Aborted: {INDEX}-000002 is gone" in desk.out("migrate", "--abort")
            copying.send_signal(signal.SIGCONT)
            said = copying.communicate()[0].decode()
        assert (4, True) == (copying.returncode, "by `migrate --abort`" in said), said
        desk.enter_as("alerts-reader")
        record_id = desk.emit()
        wait_until(lambda: desk.state(record_id) == "delivered", "alerts are delivered", desk)
        assert 0 == stop(worker), desk.log()
    assert [f"{INDEX}-000001"] == list(secured.request("GET", f"/{INDEX}*")[1])
    secured.request("POST", f"/{INDEX}/_refresh")  # a count is as of the last refresh
    assert 5001 == secured.request("GET", f"/{INDEX}/_count")[1]["count"]


def allowed(role: dict[str, Any]) -> set[str]:
    on_index = (action for one in role["index_permissions"] for action in one["allowed_actions"])
    return {*role["cluster_permissions"], *on_index}


@contextmanager
def lacking(server: SecuredOpenSearch, name: str, right: str) -> Iterator[None]:
    """Take a right away for a while."""
    role = ROLE_OF[name]
    fewer = {
        "cluster_permissions": [one for one in role["cluster_permissions"] if one != right],
        "index_permissions": [
            one | {"allowed_actions": [action for action in one["allowed_actions"] if action != right]}
            for one in role["index_permissions"]
        ],
    }
    path = f"/_plugins/_security/api/roles/{name}"
    assert 200 == server.request("PUT", path, fewer)[0]
    yield
    assert 200 == server.request("PUT", path, role)[0]
