"""The setting `networks` from end to end: what it forbids is never connected to."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.obtain import obtain
from tests.support.program import Site, stop, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.receiver import ReceiverServer
from tests.unit.test_alert import EVENT


@pytest.fixture
def receiver() -> Iterator[ReceiverServer]:
    with obtain(ReceiverServer) as server:
        yield server


def has_state(site: Site, entry_id: str, state: str) -> bool:
    """Before the first write there is no store yet."""
    done = site.call("list", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return [(entry_id, state)] == [(record["record_id"], record["delivery"]["state"]) for record in records]


@pytest.mark.parametrize(
    ("networks", "state", "reason"),
    [
        ("public", "retrying", "127.0.0.1 (not a public address)"),
        ("10.0.0.0/8", "retrying", "127.0.0.1 (not in one of the listed networks)"),
        ("10.0.0.0/8,127.0.0.0/8", "delivered", None),
    ],
)
def test_a_receiver_outside_the_networks_gets_nothing(
    valkey: RedisServer, tmp_path: Path, receiver: ReceiverServer, networks: str, state: str, reason: str | None
) -> None:
    """A name that leads outside may lead elsewhere later: its alerts wait, and the record says why."""
    url = f"{receiver.url}/hook".replace("127.0.0.1", "localhost")
    settings = {"webhook_url": url, "networks": networks}
    site = Site(valkey, f"sqlite:///{tmp_path}/alerts.db", tmp_path, settings)
    entry_id = site.add({b"event": json.dumps(EVENT).encode()})
    with site.running() as worker:
        wait_until(lambda: has_state(site, entry_id, state), state, site)
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
    done = Site(valkey, f"sqlite:///{tmp_path}/alerts.db", tmp_path, settings).call(command)

    assert 2 == done.returncode
    assert "channel 'webhook': nothing can ever be sent to" in done.stderr.decode()
