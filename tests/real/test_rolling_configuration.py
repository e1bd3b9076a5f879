"""A channel that is new to one process and unknown to another, on real servers: whoever knows it sends it, once."""

from pathlib import Path

import pytest

from tests.real.conftest import MakeSite
from tests.support.program import Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer

CHANNEL = '[[channels]]\nname = "{name}"\nurl = "{url}/{name}"\n'


@pytest.fixture(params=["valkey+sqlite", "redis7+opensearch3"])
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> Site:
    return make_site(Site, request.param, retry_schedule_s="2,2,2,2")


def config(folder: Path, receiver: ReceiverServer, *names: str) -> str:
    path = folder / f"{'-'.join(names)}.toml"
    path.write_text("".join(CHANNEL.format(name=name, url=receiver.url) for name in names))
    return str(path)


def test_a_retry_waits_for_the_process_that_knows_its_channel(site: Site, receiver: ReceiverServer) -> None:
    """The other one looks at it first, and neither sends it nor gives it up."""
    receiver.set_scripts({"/new": Script([Step(503), Step(200)])})
    site.settings.pop("webhook_url", None)
    old, new = config(site.folder, receiver, "old"), config(site.folder, receiver, "old", "new")
    with site.running("--config", new) as worker:
        record_id = site.emit()
        wait_until(lambda: receiver.totals().requests == 2, "both were tried", site)
        assert 0 == stop(worker)
    with site.running("--config", old) as worker:
        site.until("waiting")
        assert ["unconfigured"] == site.records()[record_id]["delivery"]["queues"]
        assert 0 == stop(worker)
    assert 1 == site.log().count("channel new is not configured here")
    with site.running("--config", new) as worker:
        site.until("delivered")
        assert 0 == stop(worker)
    assert ["/new", "/new", "/old"] == sorted(request.path for request in receiver.ledger().requests)
