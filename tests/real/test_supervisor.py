"""Several processes on one machine: started, watched, restarted and stopped together."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.obtain import obtain
from tests.real.program import PATIENCE_S, Site, stop, wait_until
from tests.real.servers import RedisServer
from tests.real.servers.receiver import ReceiverServer
from tests.real.test_run import QUICK, add_event


@pytest.fixture
def receiver() -> Iterator[ReceiverServer]:
    with obtain(ReceiverServer) as server:
        yield server


@pytest.fixture
def site(valkey: RedisServer, tmp_path: Path, receiver: ReceiverServer) -> Site:
    settings = {"webhook_url": f"{receiver.url}/hook", "processes": "2", **QUICK}
    return Site(valkey, f"sqlite:///{tmp_path}/alerts.db", tmp_path, settings)


def children(parent: subprocess.Popen[bytes]) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def reading(site: Site) -> int:
    return site.log().count("reading AlertStream")


def test_two_processes_share_the_work_and_stop_together(site: Site, receiver: ReceiverServer) -> None:
    """Each is a consumer of its own; one SIGTERM stops the whole with exit code 0."""
    with site.running(consumer="pod-7") as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        for n in range(50):
            add_event(site, alert_id=f"a-{n}")
        wait_until(lambda: receiver.totals().accepted == 50, "all delivered", site)
        assert 2 == len(children(parent))
        assert 0 == stop(parent), site.log()
    assert "as pod-7-1" in site.log()
    assert "as pod-7-2" in site.log()
    assert (50, 0) == (receiver.totals().accepted, receiver.totals().duplicates)


def test_a_killed_child_is_replaced(site: Site, receiver: ReceiverServer) -> None:
    """Its alerts are finished by the others; the log says what happened."""
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        os.kill(children(parent)[0], signal.SIGKILL)
        wait_until(lambda: reading(site) == 3, "another was started", site)
        add_event(site)
        wait_until(lambda: receiver.totals().accepted == 1, "delivered", site)
        assert 0 == stop(parent), site.log()
    assert "SIGKILL" in site.log()


def test_a_child_that_cannot_live_stops_the_whole_with_its_code(site: Site) -> None:
    """A wrong index or an unreachable backend is no reason to try for ever."""
    site.settings["store_url"] = "http://127.0.0.1:9"
    with site.running() as parent:
        assert 4 == parent.wait(PATIENCE_S), site.log()
    assert [] == children(parent)


def test_children_do_not_outlive_a_killed_parent(site: Site) -> None:
    """They notice, and stop softly."""
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        orphans = children(parent)
        parent.kill()
        wait_until(lambda: not any(alive(pid) for pid in orphans), "they are gone", site)
    assert 2 == site.log().count("stopped;")
