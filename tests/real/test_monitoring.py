"""`http_bind` on real servers: what a scraper and a prober see while processes and servers die."""

import datetime as dt
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real.conftest import MakeSite
from tests.support.obtain import give_up, obtain
from tests.support.program import Site, children, happens, stop, wait_until
from tests.support.servers import ReceiverServer, RedisServer, ValkeyServer
from tests.support.servers.process import free_port
from trio_alerts.stop_signals import CHILD
from trio_alerts.web.families import FAMILIES
from trio_alerts.web.health import BEAT_BOUND_S, SLACK_S

MILLISECOND = dt.timedelta(milliseconds=1)  # what times on pages are cut to
# Time-outs with which /healthz bears a read for 13.5 s, and an alert in a worker's hands for 17 s.
SHORT = {f"{name}_timeout_s": "0.5" for name in ("connect", "send", "redis", "store")} | {"block_s": "2"}
HOLD_BOUND_S = 2 * 1.0 + 6 * 0.5 + 4 * 0.5 + SLACK_S
NAMES = sorted(one.full_name.removesuffix("_total") for one in FAMILIES)


@pytest.fixture
def own_valkey() -> Iterator[RedisServer]:
    with obtain(ValkeyServer) as server:
        yield server


class Monitor:
    """What serves the pages, and its port."""

    def __init__(self, site: Site) -> None:
        self.port = free_port()
        site.settings["http_bind"] = f"127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def value(self, name: str, **labels: str) -> float | None:
        _, page = self.get("/metrics")
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200


def accepted(monitor: Monitor) -> float | None:
    return monitor.value("trio_alerts_attempts_total", channel="webhook", result="accepted")


def starts_of(monitor: Monitor) -> set[tuple[str, float | None]]:
    """Return when each of the two processes was started."""
    names = ("worker process 1", "worker process 2")
    return {(name, monitor.value("trio_alerts_process_start_time_seconds", process=name)) for name in names}


def test_counters_survive_their_process_and_an_outage_shows(
    make_site: MakeSite, own_valkey: RedisServer, receiver: ReceiverServer
) -> None:
    """400 alerts are 400 accepted attempts, before and after a child is killed.

    When Redis stops, /readyz names it within 10 s, /healthz stays 200, and a scrape is answered at once.
    """
    site = make_site(Site, "own_valkey+sqlite", processes="2")
    monitor = Monitor(site)
    with site.running() as parent:
        wait_until(monitor.is_ready, "ready", site)
        for number in range(400):
            site.emit(alert_id=f"a-{number}")
        wait_until(lambda: accepted(monitor) == 400, "400 are counted", site)
        starts = starts_of(monitor)
        os.kill(children(parent.pid)[0], signal.SIGKILL)
        wait_until(lambda: site.log().count("reading AlertStream") == 3, "another was started", site)
        wait_until(lambda: len(starts_of(monitor) - starts) == 1, "its start is shown", site)
        assert 400 == accepted(monitor)
        assert 200 == monitor.get("/healthz")[0]
        site.emit(alert_id="another")
        wait_until(lambda: accepted(monitor) == 401, "one more", site)
        wait_until(lambda: monitor.value("trio_alerts_records", state="delivered") == 401, "the store's figures", site)
        assert 401 == monitor.value("trio_alerts_delivery_latency_seconds_count", severity="high")

        killed_at, killed_s = dt.datetime.now(dt.UTC), time.monotonic()
        own_valkey.kill()
        wait_until(lambda: not monitor.is_ready(), "not ready", site)
        assert 10 > time.monotonic() - killed_s
        status, says = as_json(*monitor.get("/readyz"))
        redis = says["checks"]["redis"]
        assert (503, False) == (status, says["ready"])
        assert {"redis": False, "store": True, "schema": True} == {
            name: one["ok"] for name, one in says["checks"].items()
        }
        assert redis["reason"]
        assert killed_at - MILLISECOND < dt.datetime.fromisoformat(redis["since"]) < dt.datetime.now(dt.UTC)
        wait_until(lambda: monitor.value("trio_alerts_outage", backend="redis") == 1, "the outage is shown", site)
        assert 200 == monitor.get("/healthz")[0]
        assert 401 == accepted(monitor)
        assert 0 == stop(parent), site.log()


def test_a_stopped_child_is_named(make_site: MakeSite) -> None:
    """A process whose loop does not turn fails /healthz, which says which one; it goes on, and all is well again."""
    site = make_site(Site, processes="2")
    monitor = Monitor(site)
    with site.running() as parent:
        wait_until(lambda: site.log().count("reading AlertStream") == 2, "both read", site)
        assert (200, {"healthy": True, "problems": []}) == as_json(*monitor.get("/healthz"))
        numbers = {child: number_of(child) for child in children(parent.pid)}
        stopped = next(child for child, number in numbers.items() if number == "2")
        os.kill(stopped, signal.SIGSTOP)
        ((name, problem),) = sick(monitor, BEAT_BOUND_S, site)
        assert "worker process 2" == name
        assert problem.startswith("its loop has not turned for 1")
        # A page of metrics is shown again for half a second: it may be from just before.
        wait_until(lambda: monitor.value("trio_alerts_process_hanging", process=name) == 1, "the metric says so", site)
        os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: monitor.get("/healthz")[0] == 200, "it goes on", site)
        assert 0 == stop(parent), site.log()


def test_a_worker_that_hangs_is_named(make_site: MakeSite) -> None:
    """An alert that a worker holds beyond all its time-outs fails /healthz, and nothing else does: its loop turns."""
    site = make_site(Site, processes="2", fault="before_send:hang", grace_s="0.5", **SHORT)
    monitor = Monitor(site)
    with site.running() as parent:
        wait_until(monitor.is_ready, "ready", site)
        site.emit()
        ((name, problem),) = sick(monitor, HOLD_BOUND_S, site)
        stop(parent)
    assert name.startswith("worker process ")
    assert problem.startswith("a worker has held an alert for 1")


def test_an_outage_is_no_reason_for_a_restart(
    make_site: MakeSite, own_valkey: RedisServer, receiver: ReceiverServer
) -> None:
    """A Redis that hangs, and a store that takes no write, for longer than any wait may last: /healthz stays 200.

    /readyz names Redis within 10 s. An alert that a worker held all the time goes out in the end.
    """
    site = make_site(Site, "own_valkey+sqlite", processes="2", **SHORT)
    monitor = Monitor(site)
    with site.running() as parent:
        wait_until(lambda: site.log().count("reading AlertStream") == 2, "both read", site)
        peer = sqlite3.connect(site.folder / "alerts.db", isolation_level=None)
        peer.execute("BEGIN IMMEDIATE")
        site.emit()
        wait_until(lambda: monitor.value("trio_alerts_outage", backend="store") == 1, "the store takes nothing", site)
        wait_until(lambda: monitor.value("trio_alerts_in_flight") == 1, "a worker holds it", site)
        wait_until(monitor.is_ready, "ready", site)
        own_valkey.pause()
        began_s = time.monotonic()
        assert happens(lambda: not monitor.is_ready(), 10), site.log()
        assert not happens(lambda: monitor.get("/healthz")[0] != 200, began_s + HOLD_BOUND_S + 2 - time.monotonic())
        assert 1 == monitor.value("trio_alerts_in_flight")
        own_valkey.resume()
        peer.close()
        wait_until(lambda: receiver.totals().accepted == 1, "delivered", site)
        assert 200 == monitor.get("/healthz")[0]
        assert 0 == stop(parent), site.log()


def test_a_client_that_does_not_read_holds_nothing_up(make_site: MakeSite, receiver: ReceiverServer) -> None:
    """One process serves itself: while clients ask and read nothing, alerts go out, and it stops softly."""
    site = make_site(Site)
    monitor = Monitor(site)
    with site.running() as process:
        wait_until(monitor.is_ready, "ready", site)
        clients = [socket.create_connection(("127.0.0.1", monitor.port)) for _ in range(200)]
        for client in clients[100:]:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
        site.emit()
        wait_until(lambda: receiver.totals().accepted == 1, "delivered", site)
        wait_until(lambda: accepted(monitor) == 1, "a scraper is answered", site)
        assert 0 == stop(process), site.log()
    for client in clients:
        client.close()
    assert "unexpected" not in site.log()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_taken_port_ends_it_before_anything_is_consumed(make_site: MakeSite, processes: str) -> None:
    """Exit code 2, and one line that names setting, address and reason; nothing was created."""
    site = make_site(Site, processes=processes)
    monitor = Monitor(site)
    with socket.create_server(("127.0.0.1", monitor.port)):
        done = site.call("run")
    assert 2 == done.exit_code
    assert f"http_bind: cannot listen on 127.0.0.1:{monitor.port}: Address already in use" in done.err
    assert -1 == site.pending()


@pytest.mark.parametrize("servers", ["valkey+sqlite", "redis7+opensearch3"])
def test_prometheus_takes_the_page(make_site: MakeSite, servers: str) -> None:
    """Every documented family is there, `promtool` has nothing to complain about, and nothing else is served."""
    site = make_site(Site, servers, canary_every_s="10")
    monitor = Monitor(site)
    with site.running() as process:
        wait_until(monitor.is_ready, "ready", site)
        # A scrape does not wait for figures that a busy machine is slow to give.
        wait_until(lambda: NAMES == families_of(monitor.get("/metrics")[1]), "every family", site)
        status, page = monitor.get("/metrics")
        assert (200, NAMES) == (status, families_of(page))
        assert 404 == monitor.get("/")[0]
        request = urllib.request.Request(f"http://127.0.0.1:{monitor.port}/metrics", data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=10)
        assert 0 == stop(process), site.log()
    promtool = shutil.which("promtool")
    if promtool is None:
        give_up("promtool is not installed: apt-get install prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=page.encode(), capture_output=True, check=False)
    assert (0, b"") == (checked.returncode, checked.stderr), checked


def sick(monitor: Monitor, bound_s: float, site: Site) -> list[tuple[str, str]]:
    """Wait until /healthz fails, which it may at the bound and must within 5 s of it; return what hangs, and how."""
    began_s, found = time.monotonic(), list[dict[str, str]]()

    def is_sick() -> bool:
        status, body = monitor.get("/healthz")
        if status == 503:
            found.extend(json.loads(body)["problems"])
        return status == 503

    wait_until(is_sick, "it is seen", site)
    assert bound_s - 2 < time.monotonic() - began_s < bound_s + 5
    return [(one["process"], one["problem"]) for one in found]


def families_of(page: str) -> list[str]:
    """Return the names of what a scraper finds on a page: the parser takes `_total` off."""
    return sorted(family.name for family in text_string_to_metric_families(page))


def as_json(status: int, body: str) -> tuple[int, dict[str, Any]]:
    return status, json.loads(body)


def number_of(child: int) -> str:
    """Return which child of the supervisor a process is."""
    environ = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    return next(one.partition(b"=")[2].decode() for one in environ if one.startswith(CHILD.encode() + b"="))
