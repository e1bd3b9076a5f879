"""The canary on real servers: it goes unseen among alerts, and whatever would hold them up is noticed by it in time."""

import json
import os
import secrets
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import MakeSite
from tests.real.test_monitoring import Monitor, as_json
from tests.support.fakes.world import GROUP
from tests.support.obtain import obtain
from tests.support.program import Site, children, stop, wait_until
from tests.support.servers import OpenSearch, ReceiverServer, RedisServer, ValkeyServer
from trio_alerts.backends.redis.keys import canaries_key, canary_key

EVERY_S = 5.0
SLACK_S = 5.0  # of a busy machine, and of a look
ALERTS = 20


@pytest.fixture
def own_valkey() -> Iterator[RedisServer]:
    with obtain(ValkeyServer) as server:
        yield server


def came_through(site: Site) -> str:
    """Return when the last canary was written that came through, as Redis has it; empty: none did."""
    with site.client() as client:
        through: Any = client.hget(canary_key(site.stream, GROUP), "through")
        return through.decode() if through else ""


def left(site: Site) -> tuple[int, int, int]:
    """Return what there is of canaries: entries, notes and records."""
    with site.client() as client:
        entries: Any = client.xrange(site.stream)
        listed = site.ask("list", "--json", "--canaries", "--channel", "~canary")
        noted: Any = client.hlen(canaries_key(site.stream))
        return sum(b"canary" in fields for _, fields in entries), noted, len(listed.out.splitlines())


@pytest.mark.parametrize("servers", ["valkey+sqlite", "redis7+opensearch3"])
def test_it_is_no_alert_in_any_figure(servers: str, make_site: MakeSite, receiver: ReceiverServer) -> None:
    """While canaries come and go, beside alerts: the ledger balances over the alerts alone, as do list, stats, metrics.

    Two members, one of them with two processes, write one a period; nothing is left of them but one that is under way.
    """
    site = make_site(Site, servers, canary_every_s=str(EVERY_S))
    monitor = Monitor(site)
    with ExitStack() as running:
        members = [running.enter_context(site.running(processes="2"))]
        other = Monitor(site)
        members.append(running.enter_context(site.running()))
        for one in (monitor, other):
            wait_until(one.is_ready, "ready", site)
        for number in range(ALERTS):
            site.emit(alert_id=f"a-{number}")
        written = set()
        ends_s = time.monotonic() + 2.5 * EVERY_S
        while time.monotonic() < ends_s:
            written.add(came_through(site))
            assert max(left(site)) <= 1
            audited = json.loads(site.ask("audit", "--json").out)
            assert (ALERTS, True) == (audited["seen"], audited["balanced"]), (audited, site.log())
            stats = json.loads(site.ask("stats", "--json").out)
            assert sum(stats["states"].values()) + stats["not_read"] <= ALERTS
        assert len(written - {""}) in (2, 3, 4)
        assert ALERTS == len(site.records())
        counted = sum(one.value("trio_alerts_alerts_total", state="delivered") or 0 for one in (monitor, other))
        tried = sum(
            one.value("trio_alerts_attempts_total", channel="other", result="accepted") or 0 for one in (monitor, other)
        )
        assert (ALERTS, 0) == (counted, tried)
        for one in (monitor, other):
            age_s = one.value("trio_alerts_canary_age_seconds", stream=site.stream)
            assert age_s is not None
            assert 0 <= age_s < 2 * EVERY_S
            canary = as_json(*one.get("/readyz"))[1]["checks"]["canary"]
            assert canary["ok"]
            assert 0 <= canary["age_s"] < 2 * EVERY_S
        assert "the last one that came through was written" in site.ask("stats", "--canaries").out
        assert [0, 0] == [stop(member) for member in members], site.log()

    assert ALERTS == receiver.totals().accepted
    assert max(left(site)) <= 1


@dataclass
class Hang:
    """Something that holds alerts up: how it is brought about, and what /readyz says of it."""

    site: Site
    monitor: Monitor
    says: str
    happens: Callable[[], object]
    happened_s: float = 0.0
    noticed: str = ""

    def look(self) -> bool:
        if not self.noticed:
            status, page = as_json(*self.monitor.get("/readyz"))
            canary = page["checks"]["canary"]
            if not canary["ok"]:
                assert 503 == status
                self.noticed = canary["reason"]
                took_s = time.monotonic() - self.happened_s
                assert took_s < 2 * EVERY_S + SLACK_S, (took_s, self.noticed)
        return bool(self.noticed)


def test_whatever_holds_alerts_up_is_noticed_within_two_periods(
    make_site: MakeSite, own_valkey: RedisServer, opensearch3: OpenSearch, tmp_path: Path
) -> None:
    """Redis is gone; a store of either kind takes no writes; all workers wait for a receiver; a process stands still.

    All at once, each in a deployment of its own. The reason says where the canary hangs.
    """
    with ExitStack() as running:
        silent = running.enter_context(socket.create_server(("127.0.0.1", 0)))  # accepts no connection, nor refuses it

        def started(servers: str = "valkey+sqlite", **settings: str) -> tuple[Site, Monitor, int]:
            site = make_site(Site, servers, canary_every_s=str(EVERY_S), **settings)
            site.folder = tmp_path / secrets.token_hex(4)
            site.folder.mkdir()
            if servers.endswith("sqlite"):
                site.store_url = f"sqlite:///{site.folder}/alerts.db"
            monitor = Monitor(site)
            return site, monitor, running.enter_context(site.running()).pid

        def hang(
            says: str, happens: Callable[[Site, int], object], servers: str = "valkey+sqlite", **more: str
        ) -> Hang:
            site, monitor, pid = started(servers, **more)
            return Hang(site, monitor, says, lambda: happens(site, pid))

        hangs = [
            hang("Redis: ", lambda *_: own_valkey.kill(), "own_valkey+sqlite"),
            hang("index.blocks.write", lambda site, _: block(opensearch3, site), "valkey+opensearch3"),
            hang(
                "workers wait for the store", lambda site, _: running.enter_context(locked(site)), store_timeout_s="1"
            ),
            hang(
                "every worker is busy",
                lambda site, _: [site.emit(alert_id=f"a-{number}") for number in range(3)],
                workers="2",
                webhook_url=f"http://127.0.0.1:{silent.getsockname()[1]}/hook",
                send_timeout_s="40",
                lease_s="100",
            ),
            hang(
                "its loop has not turned for 1",
                lambda _, pid: running.callback(os.kill, stop_one(pid), signal.SIGCONT),
                processes="2",
            ),
        ]
        for one in hangs:
            wait_until(lambda one=one: one.monitor.is_ready() and bool(came_through(one.site)), "well", one.site)  # type: ignore[misc]
        for one in hangs:
            one.happened_s = time.monotonic()
            one.happens()
        wait_until(lambda: sum(one.look() for one in hangs) == len(hangs), "all are noticed", hangs[0].site)
        for one in hangs:
            assert one.says in one.noticed
        opensearch3.request("PUT", f"/{hangs[1].site.index}/_settings", {"index.blocks.write": None})
        wait_until(hangs[1].monitor.is_ready, "it goes on when it can", hangs[1].site)


def block(server: OpenSearch, site: Site) -> None:
    """Let the index take no writes."""
    status, _ = server.request("PUT", f"/{site.index}/_settings", {"index.blocks.write": True})
    assert 200 == status


class locked:  # noqa: N801 - reads as what it does
    """Hold the write lock of a site's database, as a backup that hangs does. Reads go on."""

    def __init__(self, site: Site) -> None:
        self._peer = sqlite3.connect(site.folder / "alerts.db", isolation_level=None)

    def __enter__(self) -> None:
        self._peer.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._peer.close()


def stop_one(parent: int) -> int:
    """Stop one of two worker processes, as a debugger does; return which."""
    stopped = children(parent)[0]
    os.kill(stopped, signal.SIGSTOP)
    return stopped
