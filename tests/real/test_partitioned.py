"""A partitioned stream from end to end: message IDs are unique in one stream only, records and notifications in all."""

import json
from pathlib import Path

import pytest

from tests.real.conftest import MakeSite
from tests.support.fakes.world import GROUP
from tests.support.obtain import obtain
from tests.support.program import Site, stop, wait_until
from tests.support.servers import ReceiverServer, ValkeyCluster
from tests.unit.test_alert import EVENT

IDS = ("1700000000000-0", "1700000000000-1", "1700000000001-0")


class PartitionedSite(Site):
    """Two streams, as in a Cluster's naming; `stream` is the first."""

    @property
    def streams(self) -> tuple[str, str]:
        """Both names."""
        return f"{self.stream}:{{0}}", f"{self.stream}:{{1}}"

    @property
    def environ(self) -> dict[str, str]:
        """`streams` instead of `stream`."""
        environ = super().environ | {"TRIO_ALERTS_STREAMS": ",".join(self.streams)}
        del environ["TRIO_ALERTS_STREAM"]
        return environ


def test_equal_ids_of_two_streams_are_two_alerts(make_site: MakeSite, receiver: ReceiverServer) -> None:
    """Each has its own record and its own notification, and an equal ID among dead letters stays apart, too."""
    site = make_site(PartitionedSite)
    wanted = {
        f"{stream}|{entry_id}": f"alert {number} of {stream}"
        for stream in site.streams
        for number, entry_id in enumerate(IDS)
    }
    with site.client() as client:
        for record_id, alert_id in wanted.items():
            stream, _, entry_id = record_id.rpartition("|")
            client.xadd(stream, {"event": json.dumps(EVENT | {"alert_id": alert_id})}, id=entry_id)
        for stream in site.streams:
            client.xadd(stream, {"event": "no alert"}, id="1700000000002-0")
        with site.running() as worker:
            wait_until(lambda: receiver.totals().accepted >= len(wanted), "every alert is delivered", site)
            wait_until(
                lambda: [0, 0] == [client.xpending(stream, GROUP)["pending"] for stream in site.streams],
                "every entry is acknowledged",
                site,
            )
            assert 0 == stop(worker), site.log()

    records = site.records()
    assert wanted == {record_id: record["alert_id"] for record_id, record in records.items()}
    assert {"delivered"} == {record["delivery"]["state"] for record in records.values()}
    requests = receiver.ledger().requests
    assert sorted(wanted.items()) == sorted(
        (request.headers["webhook-id"], json.loads(request.body)["alert_id"]) for request in requests
    )
    dead = [json.loads(line) for line in site.call("dead", "list", "--json").out.splitlines()]
    assert {f"{stream}|1700000000002-0" for stream in site.streams} == {entry["record_id"] for entry in dead}
    audit = site.call("audit", "--deep")
    assert 0 == audit.exit_code, audit


@pytest.mark.parametrize("command", ["check", "run"])
def test_streams_in_several_slots_of_a_cluster_are_refused(command: str, tmp_path: Path) -> None:
    """No process could read them; with one tag in their braces they share a slot."""
    with obtain(lambda: ValkeyCluster(size=1)) as cluster:
        site = PartitionedSite(tmp_path, {"webhook_url": "http://127.0.0.1:9/"}, redis=cluster.nodes[0])
        refused = site.call(command)
        site.stream = "{alerts}"
        accepted = site.call("check")

    assert (4, True) == (refused.exit_code, "2 of its slots" in refused.out + refused.err)
    assert 0 == accepted.exit_code, accepted
