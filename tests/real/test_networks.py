"""The setting `networks` from end to end: what it forbids is never connected to."""

from pathlib import Path

import pytest

from tests.real.conftest import MakeSite
from tests.support.program import Site, stop
from tests.support.servers import ReceiverServer, RedisServer


@pytest.mark.parametrize(
    ("networks", "state", "reason"),
    [
        ("public", "retrying", "127.0.0.1 (not a public address)"),
        ("10.0.0.0/8", "retrying", "127.0.0.1 (not in one of the listed networks)"),
        ("10.0.0.0/8,127.0.0.0/8", "delivered", None),
    ],
)
def test_a_receiver_outside_the_networks_gets_nothing(
    make_site: MakeSite, receiver: ReceiverServer, networks: str, state: str, reason: str | None
) -> None:
    """A name that leads outside may lead elsewhere later: its alerts wait, and the record says why."""
    url = f"{receiver.url}/hook".replace("127.0.0.1", "localhost")
    site = make_site(Site, webhook_url=url, networks=networks)
    entry_id = site.emit()
    with site.running() as worker:
        site.until(state)
        assert 0 == stop(worker), site.log()

    assert (state == "delivered") == bool(receiver.totals().connections)
    assert (reason or "") in str(site.records()[entry_id]["delivery"].get("last_error"))


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "169.254.169.254"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_an_address_outside_the_networks_is_refused_at_once(
    valkey: RedisServer, tmp_path: Path, host: str, command: str
) -> None:
    """What no look-up can change is known before anything is read."""
    settings = {"webhook_url": f"http://{host}:9/hook", "networks": "public"}
    done = Site(tmp_path, settings, redis=valkey).call(command)

    assert 2 == done.exit_code
    assert "channel 'webhook': nothing can ever be sent to" in done.err
