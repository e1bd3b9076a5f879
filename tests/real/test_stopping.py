"""Stops at odd moments: before anything has begun, while a backend hangs, and while nobody reads stderr."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.test_run import QUICK, add_event
from tests.support.obtain import obtain
from tests.support.program import PATIENCE_S, Site, stop, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.receiver import ReceiverServer

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HANG_S = "50"  # of a time-out, so that nothing but the signal ends the wait


@pytest.fixture
def receiver() -> Iterator[ReceiverServer]:
    with obtain(ReceiverServer) as server:
        yield server


@pytest.fixture
def site(valkey: RedisServer, tmp_path: Path, receiver: ReceiverServer) -> Site:
    settings = {"webhook_url": f"{receiver.url}/hook", **QUICK}
    return Site(valkey, f"sqlite:///{tmp_path}/alerts.db", tmp_path, settings)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def _hang_up_means_something() -> Iterator[None]:
    """Tests that were started with `nohup` would hand it down."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Tell whether the process has come to its first line: it handles this signal itself."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


@pytest.mark.parametrize("processes", ["1", "2"])
def test_from_the_first_line_on_a_signal_is_a_clean_stop(site: Site, processes: str) -> None:
    """Whatever is being imported, opened or prepared just then: exit code 0."""
    number = 0
    delay_s = 0.0
    while True:
        with site.running(processes=processes) as process:
            wait_until(lambda: catches(process, signal.SIGTERM), "the first line", site)
            time.sleep(delay_s)
            began = "reading" in site.logs[-1].read_text()
            process.send_signal(SIGNALS[number % len(SIGNALS)])
            assert 0 == process.wait(PATIENCE_S), (delay_s, site.log())
        if began:
            break
        number += 1
        delay_s += 0.23
    assert "Traceback" not in site.log()
    assert number > 1


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("which", ["redis", "store"])
def test_a_signal_while_a_backend_hangs_at_the_start(site: Site, silent_port: int, which: str, processes: str) -> None:
    """Nothing was read, so there is nothing to wait for."""
    site.settings[f"{which}_timeout_s"] = HANG_S
    site.settings[f"{which}_url"] = f"{'redis' if which == 'redis' else 'http'}://127.0.0.1:{silent_port}"
    with site.running(processes=processes) as process:
        wait_until(lambda: "trio-alerts" in site.log(), "it has begun", site)
        time.sleep(2.0)
        started_s = time.monotonic()
        assert 0 == stop(process), site.log()
        assert time.monotonic() - started_s < float(HANG_S) / 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_nobody_reads_stderr(site: Site, receiver: ReceiverServer, processes: str) -> None:
    """Its pipe is full: alerts go on, and SIGTERM ends with 0. Who reads again is told how much is missing."""
    with subprocess.Popen(
        [sys.executable, "-m", "trio_alerts", "run", "--log-level", "debug"],
        env=site.environ | {"TRIO_ALERTS_PROCESSES": processes},
        stderr=subprocess.PIPE,
    ) as process:
        try:
            for n in range(1000):
                add_event(site, alert_id=f"a-{n}")
            wait_until(lambda: receiver.totals().accepted == 1000, "all are delivered")
            assert 0 == stop(process)
            assert process.stderr is not None
            assert len(process.stderr.read()) >= 60_000, "the pipe was full: else this proves nothing"
        finally:
            process.kill()
