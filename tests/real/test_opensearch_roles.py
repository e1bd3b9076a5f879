"""The roles of `deploy/opensearch/`, on a server with the security plugin: they carry all work, no right is idle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.real.test_operating import Desk
from tests.support.obtain import obtain
from tests.support.program import QUICK, stop
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer, RedisServer
from tests.support.servers.secured_opensearch import ROLES, SecuredOpenSearch
from tests.support.tls import TlsFiles

INDEX = "alerts"  # that of the roles


@pytest.fixture(scope="module", params=["opensearch3", "opensearch2"])
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
    own = {
        "webhook_url": f"{receiver.url}/hook",
        "store_ca_file": str(tls_files.ca),
        "retry_schedule_s": "0.2,600",
        **QUICK,
    }
    desk = RoleDesk(tmp_path, own, redis=valkey, opensearch=secured, index=INDEX)
    yield desk
    secured.remove_indices(INDEX)


def test_the_roles_carry_all_work_and_no_right_is_idle(
    desk: RoleDesk, secured: SecuredOpenSearch, receiver: ReceiverServer
) -> None:
    """Worker, operator, reader: each does what it is there for, and was granted exactly what its role allows."""
    receiver.set_scripts({"*": Script([Step(503), Step(200), Step(410)])})
    desk.enter_as("alerts-worker")
    assert f"would create index '{INDEX}-000001'" in desk.call("check").out
    with desk.running(workers="1") as worker:
        retried, _ = desk.emit(alert_id="a"), desk.emit(alert_id="b")
        desk.until("delivered", "failed")
        assert 0 == stop(worker), desk.log()

    desk.enter_as("alerts-reader")
    for argv in (("list",), ("show", retried), ("stats",), ("audit",), ("silence", "preview", "view = Lending")):
        desk.out(*argv)

    desk.enter_as("alerts-operator")
    assert "1 due now" in desk.out("redeliver", "--state", "failed")
    (due,) = [record for record in desk.records().values() if not record["delivered"]]
    assert "retrying" == due["delivery"]["state"]

    roles = msgspec.yaml.decode((ROLES / "roles.yml").read_bytes())
    for name in ("worker", "operator", "reader"):
        assert allowed(roles[f"alerts_{name}"]) == secured.granted(f"alerts-{name}"), name


def allowed(role: dict[str, Any]) -> set[str]:
    return {
        *role["cluster_permissions"],
        *(action for one in role["index_permissions"] for action in one["allowed_actions"]),
    }
