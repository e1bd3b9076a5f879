"""The unit for systemd by its own judge, and what the program says to a service manager while it runs."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.real.conftest import MakeSite
from tests.support.obtain import give_up
from tests.support.program import Site, children, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from trio_alerts.errors import LedgerError, QuarantineHalt, SchemaError, SettingsError, StartError
from trio_alerts.settings.settings import Settings
from trio_alerts.supervisor import SLACK_S

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "trio-alerts.service"
PROGRAM = "/opt/trio-alerts/bin/trio-alerts"
EXPOSURE = 25  # in tenths: it must be less than 2.5 of 10


def analyze(*argv: str) -> subprocess.CompletedProcess[str]:
    """Call systemd's own judge of units."""
    judge = shutil.which("systemd-analyze") or give_up("systemd-analyze is missing: apt-get install systemd")
    return subprocess.run([judge, *argv], capture_output=True, text=True, check=False)


def values(name: str) -> list[str]:
    """Return what the unit says under a name."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines() if not line.startswith("#"))
    return [value for key, _, value in lines if key == name]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """Where the program lies as it says; a key that nobody knows would be a complaint."""
    installed = tmp_path / "trio-alerts"
    installed.touch(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, str(installed)))
    done = analyze("verify", "--man=no", str(unit))
    assert (0, "") == (done.returncode, done.stderr)
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSec"))
    assert "WatchDogSec" in analyze("verify", "--man=no", str(unit)).stderr


def test_the_unit_exposes_little() -> None:
    """By systemd's own measure: below 2.5 of 10, where a service without any protection has 9.6."""
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT))
    assert 0 == done.returncode, done.stdout
    assert "Overall exposure level" in done.stdout


def test_the_unit_says_what_the_program_does() -> None:
    """It waits for as long as a stop may take, and does not restart what would end in the same way again."""
    worst_s = Settings.grace_s + SLACK_S + 2 * Settings.store_timeout_s
    assert worst_s < float(values("TimeoutStopSec")[0])
    for_good = {error.exit_code for error in (SettingsError, SchemaError, LedgerError, QuarantineHalt)}
    assert for_good == set(map(int, values("RestartPreventExitStatus")[0].split()))
    assert StartError.exit_code not in for_good
    assert (["notify"], ["main"]) == (values("Type"), values("NotifyAccess"))
    assert ["/bin/kill -HUP $MAINPID"] == values("ExecReload")
    assert [f"{PROGRAM} run"] == values("ExecStart")


class Manager:
    """The socket of a service manager, and what was said to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, watchdog_s: float) -> None:
        path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._said: list[str] = []
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(watchdog_s * 1e6)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def said(self) -> list[str]:
        """What was said so far: of each message the first assignment, the watchdog's once in a row."""
        while True:
            try:
                first = self._socket.recv(4096).decode().splitlines()[0]
            except BlockingIOError:
                return self._said
            if [first] != self._said[-1:]:
                self._said.append(first)


@pytest.mark.usefixtures("hang_up_means_something")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_the_service_manager_hears(
    make_site: MakeSite, receiver: ReceiverServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    """Ready when all read, alive, a reload that is good and one that is refused, and the stop, while a send goes on."""
    receiver.set_scripts({"*": Script([Step(200, delay_s=1.5)])})
    config = tmp_path / "alerts.toml"
    config.write_text("workers = 4\n")
    site = make_site(Site, processes=processes, config=str(config), log_format="text")
    with Manager(tmp_path, monkeypatch, watchdog_s=0.5) as manager, site.running() as process:
        wait_until(lambda: manager.said == ["READY=1", "WATCHDOG=1"], "ready, and alive", site)
        assert int(processes) == site.log().count("reading AlertStream")
        for text in ("retry_schedule_s = [1]\n", "[["):
            config.write_text(text)
            manager.said.clear()
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: manager.said == ["RELOADING=1", "READY=1", "WATCHDOG=1"], "reloaded", site)
        site.emit()
        wait_until(lambda: receiver.totals().requests == 1, "it is being sent", site)
        manager.said.clear()
        assert 0 == stop(process), site.log()
        assert "STOPPING=1" == next(one for one in manager.said if one != "WATCHDOG=1")
        assert not {"READY=1", "RELOADING=1"} & {*manager.said}
    assert 1 == receiver.totals().accepted


def test_nobody_is_ready_before_everybody_reads(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that cannot be reached: the end comes without a word of being ready."""
    site = make_site(Site, processes="2", store_url="http://127.0.0.1:9")
    with Manager(tmp_path, monkeypatch, watchdog_s=1.0) as manager, site.running() as process:
        assert 4 == process.wait(60.0), site.log()
        assert {"STOPPING=1"} >= {*manager.said}


def test_the_watchdog_hears_nothing_while_a_child_is_stopped(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: its parent lives, and yet says nothing once its loop has not turned for 10 s; then again."""
    site = make_site(Site, processes="2", log_format="text")
    with Manager(tmp_path, monkeypatch, watchdog_s=0.5) as manager, site.running() as process:
        wait_until(lambda: "READY=1" in manager.said, "ready", site)
        stopped = children(process.pid)[0]
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: "the watchdog hears nothing" in site.log(), "it is noticed", site)
        manager.said.clear()
        lines = site.log().count("the watchdog hears nothing")
        wait_until(lambda: site.log().count("the watchdog hears nothing") > lines + 2, "and goes on", site)
        assert [] == manager.said
        os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: "WATCHDOG=1" in manager.said, "all is well again", site)
        assert 0 == stop(process), site.log()
