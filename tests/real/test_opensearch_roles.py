"""The roles of `deploy/opensearch/`, on a server with the security plugin: they carry all work, no right is idle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.real.test_operating import Desk
from tests.support.obtain import obtain
from tests.support.program import QUICK, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer, RedisServer
from tests.support.servers.secured_opensearch import ROLES, SecuredOpenSearch
from tests.support.tls import TlsFiles

INDEX = "alerts"  # that of the roles
ROLE_OF: dict[str, Any] = msgspec.yaml.decode((ROLES / "roles.yml").read_bytes())
# What the plugin asks for inside of another request, and its audit does not name: `test_a_right_too_few_is_named` does.
INSIDE = {"indices:admin/aliases", "indices:data/write/index"}


@pytest.fixture(scope="module", params=["opensearch3"])
def secured(request: pytest.FixtureRequest, tls_files: TlsFiles) -> Iterator[SecuredOpenSearch]:
    """Give a server with the roles."""
    version = {"opensearch3": "3.4.0", "opensearch2": "2.19.1"}[request.param]
    with obtain(lambda: SecuredOpenSearch(version, tls_files)) as server:
        yield server


class RoleDesk(Desk):
    """A site whose processes and operators are users of the roles."""

    def enter_as(self, user: str) -> None:
        """Let whatever starts from now on be this user."""
        assert isinstance(self.opensearch, SecuredOpenSearch)
        self.store_url = self.opensearch.url_of(user)


@pytest.fixture
def desk(
    secured: SecuredOpenSearch, valkey: RedisServer, tls_files: TlsFiles, tmp_path: Path, receiver: ReceiverServer
) -> Iterator[RoleDesk]:
    own = {"webhook_url": f"{receiver.url}/hook", "store_ca_file": str(tls_files.ca), "retry_schedule_s": "0.2,600"}
    yield RoleDesk(tmp_path, own | QUICK, redis=valkey, opensearch=secured, index=INDEX)
    secured.remove_indices(INDEX)


def test_the_roles_carry_all_work_and_no_right_is_idle(
    desk: RoleDesk, secured: SecuredOpenSearch, receiver: ReceiverServer
) -> None:
    """Worker, operator, reader: each does what it is there for, and was granted exactly what its role allows."""
    receiver.set_scripts({"*": Script([Step(503), Step(200), Step(410)])})
    template = {"index_patterns": ["alerts-*"], "priority": 1, "template": {"settings": {"number_of_replicas": 0}}}
    desk.enter_as("alerts-worker")
    assert f"would create index '{INDEX}-000001'" in desk.call("check").out
    assert 200 == secured.request("PUT", "/_index_template/theirs", template)[0]
    with desk.running(workers="1") as worker:
        record_id, _ = desk.emit(alert_id="a"), desk.emit(alert_id="b")
        desk.until("delivered", "failed")
        assert 0 == stop(worker), desk.log()

    desk.enter_as("alerts-reader")
    for argv in (("list",), ("show", record_id), ("stats",), ("audit",), ("silence", "preview", "view = Lending")):
        desk.out(*argv)

    desk.enter_as("alerts-operator")
    assert "1 due now" in desk.out("redeliver", "--state", "failed")
    (due,) = [record for record in desk.records().values() if not record["delivered"]]
    assert "retrying" == due["delivery"]["state"]

    for name in ("worker", "operator", "reader"):
        role = ROLE_OF[f"alerts_{name}"]
        assert allowed(role) == secured.granted(f"alerts-{name}") | (INSIDE & allowed(role)), name


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
            desk.emit()
            wait_until(lambda: right in desk.log(), "the log names it", desk)
        desk.until("delivered")
        assert 0 == stop(worker)
    assert 1 == receiver.totals().requests
    reads, writes = ("read/get", "read/search"), ("write/bulk", "write/bulk[s]", "write/index")
    for right in ("indices:admin/get", *(f"indices:data/{one}" for one in (*reads, *writes))):
        with lacking(secured, "alerts_worker", right):
            ended = desk.ask("check")
            assert (4, True) == (ended.exit_code, right in ended.out + ended.err), (right, ended)
    desk.enter_as("alerts-reader")
    for right in ("indices:admin/refresh", "indices:admin/refresh[s]"):
        with lacking(secured, "alerts_reader", right):
            desk.out("list")  # as of the last refresh


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
