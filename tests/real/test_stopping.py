"""Stops at odd moments: before anything has begun, while a backend hangs, and while nobody reads stderr."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import PATIENCE_S, Site, command_line, stop, wait_until
from tests.support.servers import ReceiverServer

pytestmark = pytest.mark.usefixtures("hang_up_means_something")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANG_S = "50"  # of a time-out, so that nothing but the signal ends the wait


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


def catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Tell whether the process has come to its first line: it handles this signal itself."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


@pytest.mark.parametrize("processes", ["1", "2"])
def test_from_the_first_line_on_a_signal_is_a_clean_stop(small_site: Site, processes: str) -> None:
    """Whatever is being imported, opened or prepared just then: exit code 0."""
    number = 0
    delay_s = 0.0
    while True:
        with small_site.running(processes=processes) as process:
            wait_until(lambda: catches(process, signal.SIGTERM), "the first line", small_site)
            time.sleep(delay_s)
            began = "reading" in small_site.logs[-1].read_text()
            process.send_signal(SIGNALS[number % len(SIGNALS)])
            assert 0 == process.wait(PATIENCE_S), (delay_s, small_site.log())
        if began:
            break
        number += 1
        delay_s += 0.23
    assert "Traceback" not in small_site.log()
    assert number > 1


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("which", ["redis", "store"])
def test_a_signal_while_a_backend_hangs_at_the_start(
    small_site: Site, silent_port: int, which: str, processes: str
) -> None:
    """Nothing was read, so there is nothing to wait for."""
    small_site.settings[f"{which}_timeout_s"] = HANG_S
    small_site.settings[f"{which}_url"] = f"{'redis' if which == 'redis' else 'http'}://127.0.0.1:{silent_port}"
    with small_site.running(processes=processes) as process:
        wait_until(lambda: "trio-alerts" in small_site.log(), "it has begun", small_site)
        time.sleep(2.0)
        started_s = time.monotonic()
        assert 0 == stop(process), small_site.log()
        assert time.monotonic() - started_s < float(HANG_S) / 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_nobody_reads_stderr(small_site: Site, receiver: ReceiverServer, processes: str) -> None:
    """Its pipe is full: alerts go on, and SIGTERM ends with 0. Who reads again is told how much is missing."""
    with subprocess.Popen(
        [sys.executable, "-m", "trio_alerts", "run", "--log-level", "debug"],
        env=small_site.environ | {"TRIO_ALERTS_PROCESSES": processes},
        stderr=subprocess.PIPE,
    ) as process:
        try:
            for n in range(1000):
                small_site.emit(alert_id=f"a-{n}")
            wait_until(lambda: receiver.totals().accepted == 1000, "all are delivered")
            assert 0 == stop(process)
            assert process.stderr is not None
            assert len(process.stderr.read()) >= 60_000, "the pipe was full: else this proves nothing"
        finally:
            process.kill()


def test_a_terminal_that_is_closed_is_a_clean_stop(small_site: Site) -> None:
    """It sends the signal that asks for a reload elsewhere, and nobody would be there to stop the process any more."""
    terminal, its_end = os.openpty()
    log = small_site.folder / "in-terminal.log"
    small_site.logs.append(log)
    command = ["setsid", "--ctty", "--wait", *command_line("run", "--log-format", "text")]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=small_site.environ, stdin=its_end, stdout=output, stderr=output) as process,
    ):
        os.close(its_end)
        wait_until(lambda: "reading" in small_site.log(), "it reads", small_site)
        os.close(terminal)
        assert 0 == process.wait(PATIENCE_S), small_site.log()
    assert "stopped;" in small_site.log()
