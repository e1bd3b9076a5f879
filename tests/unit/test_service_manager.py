"""What a service manager hears, by a socket that listens as systemd's does."""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.service_manager import ServiceManager


class Listener:
    """The end of systemd."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[list[str]]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@trio-alerts-{os.getpid()}"
    listener = Listener(address)
    with listener.socket:
        yield listener


def test_the_course_of_a_service(listener: Listener) -> None:
    """Ready, a reload with its time, and the stop, after which nothing more is said of a reload."""
    manager = ServiceManager(listener.environ)
    manager.ready("reads")
    manager.reloading()
    manager.reloaded("reads on")
    manager.reloading()
    manager.stopping()
    manager.reloaded("too late")
    ready, reloading, reloaded, _, stopping = listener.heard()
    assert ["READY=1", "STATUS=reads"] == ready
    assert "RELOADING=1" == reloading[0]
    assert re.fullmatch(r"MONOTONIC_USEC=\d{6,}", reloading[1])
    assert ["READY=1", "STATUS=reads on"] == reloaded
    assert "STOPPING=1" == stopping[0]


def test_a_reload_before_it_is_ready_makes_nobody_ready(listener: Listener) -> None:
    """READY=1 ends a reload, and would end the start."""
    manager = ServiceManager(listener.environ)
    manager.reloading()
    manager.reloaded("")
    assert [] == listener.heard()


async def test_it_is_ready_when_everything_reads_and_lives_as_long_as_nothing_hangs(
    listener: Listener, autojump_clock: MockClock, nursery: trio.Nursery, lines: list[str]
) -> None:
    """Twice in the time of the watchdog; while a process hangs it hears nothing, and the log says why."""
    reading, problems = False, list[tuple[str, str]]()
    manager = ServiceManager(listener.environ | {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
    nursery.start_soon(manager.keep_informed, lambda: reading, lambda: problems, lambda: "reads")
    await trio.sleep(100.0)
    assert [] == listener.heard()
    reading = True
    await trio.sleep(1.0)
    assert [["READY=1", "STATUS=reads"], ["WATCHDOG=1"]] == listener.heard()
    await trio.sleep(60.0)
    assert [["WATCHDOG=1"]] * 4 == listener.heard()
    problems.append(("worker process 2", "its loop has not turned for 11 s"))
    await trio.sleep(15.0)
    assert [] == listener.heard()
    (line,) = lines
    assert "worker process 2: its loop has not turned for 11 s; the watchdog hears nothing until that is over" in line
    problems.clear()
    await trio.sleep(15.0)
    assert [["WATCHDOG=1"]] == listener.heard()


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}])
async def test_without_a_watchdog_nobody_is_kept_alive(
    listener: Listener, environ: dict[str, str], autojump_clock: MockClock
) -> None:
    """Or if it is another process that it watches."""
    with trio.fail_after(100.0):
        await ServiceManager(listener.environ | environ).keep_informed(lambda: True, list, lambda: "reads")
    assert [["READY=1", "STATUS=reads"]] == listener.heard()


async def test_without_a_manager_nothing_is_said() -> None:
    """To anybody."""
    manager = ServiceManager({})
    await manager.keep_informed(lambda: False, list, lambda: "")
    manager.ready("")
    manager.stopping()


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path, lines: list[str]) -> None:
    """Alerts are more important."""
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("reads")
    (line,) = lines
    assert "the service manager cannot be reached" in line
