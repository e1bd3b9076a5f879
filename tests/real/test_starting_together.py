"""Processes that start at the same moment, where nothing is there yet: each makes what it finds missing."""

from contextlib import ExitStack

import pytest

from tests.real.conftest import MakeSite
from tests.support.program import Site, stop, wait_until
from tests.support.servers import ReceiverServer
from tests.support.servers.process import free_port

TOGETHER = 4
SETTINGS = {"canary_every_s": "5", "keep_records_s": "200000", "trim": "acked"}


@pytest.mark.parametrize("store", ["sqlite", "opensearch3"])
def test_all_of_them_work(make_site: MakeSite, receiver: ReceiverServer, store: str) -> None:
    """Stream, group, index or database, identity, canary: whoever comes second takes what is there, and none ends."""
    site = make_site(Site, f"valkey+{store}", **SETTINGS)
    with ExitStack() as stack:
        processes = [stack.enter_context(site.running(http_bind=f"127.0.0.1:{free_port()}")) for _ in range(TOGETHER)]
        wait_until(
            lambda: any(one.poll() is not None for one in processes) or site.log().count('"reading ') == TOGETHER,
            "all of them read",
            site,
        )
        assert [None] * TOGETHER == [one.poll() for one in processes], site.log()
        alerts = [site.emit(alert_id=f"a-{number}") for number in range(TOGETHER)]
        wait_until(lambda: receiver.totals().requests == len(alerts) and site.pending() == 0, "all are sent", site)
        assert [0] * TOGETHER == [stop(one) for one in processes], site.log()
    assert alerts == sorted(str(one.webhook_id) for one in receiver.ledger().requests)
