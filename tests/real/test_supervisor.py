"""Several processes on one machine: started, watched, restarted and stopped together."""

import os
import signal
from pathlib import Path

import pytest

from tests.crash.proxy import Proxy
from tests.real.conftest import MakeSite
from tests.support.program import PATIENCE_S, Site, children, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer, RedisServer


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(Site, processes="2")


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
            site.emit(alert_id=f"a-{n}")
        wait_until(lambda: receiver.totals().accepted == 50, "all delivered", site)
        assert 2 == len(children(parent.pid))
        assert 0 == stop(parent), site.log()
    assert "as pod-7-1" in site.log()
    assert "as pod-7-2" in site.log()
    assert (50, 0) == (receiver.totals().accepted, receiver.totals().duplicates)


def test_a_killed_child_is_replaced(site: Site, receiver: ReceiverServer) -> None:
    """Its alerts are finished by the others; the log says what happened."""
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        os.kill(children(parent.pid)[0], signal.SIGKILL)
        wait_until(lambda: reading(site) == 3, "another was started", site)
        site.emit()
        wait_until(lambda: receiver.totals().accepted == 1, "delivered", site)
        assert 0 == stop(parent), site.log()
    assert "SIGKILL" in site.log()


def test_a_child_that_cannot_live_stops_the_whole_with_its_code(site: Site) -> None:
    """A wrong index or an unreachable backend is no reason to try for ever."""
    site.settings["store_url"] = "http://127.0.0.1:9"
    with site.running() as parent:
        assert 4 == parent.wait(PATIENCE_S), site.log()
    assert [] == children(parent.pid)


def test_children_do_not_outlive_a_killed_parent(site: Site) -> None:
    """They notice, and stop softly."""
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        orphans = children(parent.pid)
        parent.kill()
        wait_until(lambda: not any(alive(pid) for pid in orphans), "they are gone", site)
    assert 2 == site.log().count("stopped;")


def test_a_signal_to_the_whole_group_cuts_no_send(site: Site, receiver: ReceiverServer) -> None:
    """As systemd and terminals do: the parent and each child get it. What is being sent is finished; exit code 0."""
    receiver.set_scripts({"*": Script([Step(200, delay_s=1.0)])})
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        for n in range(24):
            site.emit(alert_id=f"a-{n}")
        wait_until(lambda: receiver.totals().requests == 24, "all are being sent", site)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for pid in children(parent.pid):
                os.kill(pid, number)
        assert 0 == stop(parent), site.log()
    assert (24, 24, 0) == (receiver.totals().requests, receiver.totals().accepted, receiver.totals().duplicates)
    assert {(True, 1)} == {(one["delivered"], one["delivery"]["attempts"]) for one in site.records().values()}


def test_a_second_signal_reaches_the_children(site: Site, receiver: ReceiverServer) -> None:
    """Through their pipes: they end now, with exit code 1."""
    receiver.set_scripts({"*": Script([Step(fault="hang")])})
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        site.emit()
        wait_until(lambda: receiver.totals().requests == 1, "it is being sent", site)
        parent.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping: 1 in flight" in site.log(), "it waits for the send", site)
        assert 1 == stop(parent), site.log()
    assert "its parent got a second signal" in site.log()
    assert [] == children(parent.pid)


def test_a_child_that_is_stopped_does_not_survive(site: Site) -> None:
    """SIGSTOP: it is let go on, to hear that it has to end; exit code 0, and nobody is left behind."""
    with site.running() as parent:
        wait_until(lambda: reading(site) == 2, "both read", site)
        one, other = children(parent.pid)
        os.kill(one, signal.SIGSTOP)
        assert 0 == stop(parent), site.log()
        assert not alive(one)
        assert not alive(other)
    assert 2 == site.log().count("stopped;")


def test_a_child_that_is_restarted_while_redis_is_away_waits_for_it(
    site: Site, receiver: ReceiverServer, valkey: RedisServer
) -> None:
    """Its sibling lives; when Redis is back, both read."""
    with Proxy(valkey.port) as proxy:
        site.settings["redis_url"] = f"redis://127.0.0.1:{proxy.port}/0"
        with site.running() as parent:
            wait_until(lambda: reading(site) == 2, "both read", site)
            one, other = children(parent.pid)
            proxy.refuse()
            os.kill(one, signal.SIGKILL)
            wait_until(lambda: site.log().count("ended with exit code 4; starting another") > 1, "it waits", site)
            assert alive(other)
            proxy.accept()
            wait_until(lambda: reading(site) == 3, "both read again", site)
            assert alive(other)
            assert 0 == stop(parent), site.log()
