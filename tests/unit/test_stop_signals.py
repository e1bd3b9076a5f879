"""Signals that come while a process is still importing what it needs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trio_alerts import stop_signals
from trio_alerts.stop_signals import CHILD, STOP_SIGNALS, EarlySignals, asks_to_reload

pytestmark = pytest.mark.usefixtures("hang_up_means_something")

PATIENCE_S = 30.0
SLOW = "import pathlib, time\npathlib.Path(__file__).with_name('begun').touch()\ntime.sleep(60)\n"


@contextmanager
def importing(folder: Path, *argv: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program, and return when it is in the middle of its first import that takes time."""
    (folder / "loguru.py").write_text(SLOW)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-m", "trio_alerts", *argv],
        env=os.environ | {"PYTHONPATH": path} | environ,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("service", "number"),
    [("run", signal.SIGTERM), ("run", signal.SIGINT), *(("console", number) for number in STOP_SIGNALS)],
)
def test_a_service_that_is_being_started_stops(tmp_path: Path, service: str, number: signal.Signals) -> None:
    """Exit code 0, and nothing on stderr."""
    with importing(tmp_path, service) as process:
        process.send_signal(number)
        assert 0 == process.wait(PATIENCE_S)
        assert process.stderr is not None
        assert b"" == process.stderr.read()


def test_a_reload_that_is_asked_for_too_early_ends_nothing(tmp_path: Path) -> None:
    """A SIGHUP while `run` is being started."""
    with importing(tmp_path, "run") as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)


def test_a_reload_that_was_asked_for_too_early_is_remembered() -> None:
    """What was read by then may be what it is about: whoever waits for signals next hears of it."""
    early = EarlySignals()
    early.catch(["trio-alerts", "run"])
    try:
        signal.raise_signal(signal.SIGHUP)
        assert early.hand_over()
    finally:
        early.release()


@pytest.mark.parametrize(("has_terminal", "reloads"), [(True, True), (False, False)])
def test_a_terminal_that_is_closed_asks_for_no_reload(
    monkeypatch: pytest.MonkeyPatch, has_terminal: bool, reloads: bool
) -> None:
    """It sends the same signal, and is gone then: it stops what was started from it."""
    monkeypatch.setattr(stop_signals, "_HAD_TERMINAL", True)
    monkeypatch.setattr(stop_signals, "_has_terminal", lambda: has_terminal)
    assert (reloads, False) == (asks_to_reload(signal.SIGHUP), asks_to_reload(signal.SIGTERM))


def test_a_child_leaves_signals_to_its_parent(tmp_path: Path) -> None:
    """From its first line on: what the whole group is sent says nothing about how often it was meant."""
    with importing(tmp_path, "run", **{CHILD: "1"}) as process:
        for number in STOP_SIGNALS:
            process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)


def test_other_commands_are_interrupted_as_ever(tmp_path: Path) -> None:
    """Only a service has a stop of its own."""
    with importing(tmp_path, "list") as process:
        process.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == process.wait(PATIENCE_S)


def test_a_command_that_only_looks_like_a_service_gets_its_signals_back() -> None:
    """`list --view run` is none: whatever signals did before, they do again."""
    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    early = EarlySignals()
    early.catch(["trio-alerts", "list", "--view", "run"])
    assert before != [signal.getsignal(one) for one in STOP_SIGNALS]
    early.release()
    assert before == [signal.getsignal(one) for one in STOP_SIGNALS]


def test_what_was_started_to_outlive_its_terminal_does() -> None:
    """`nohup`: a SIGHUP that is ignored stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    early = EarlySignals()
    try:
        early.catch(["trio-alerts", "run"])
        assert signal.SIG_IGN == signal.getsignal(signal.SIGHUP)
    finally:
        early.release()
        signal.signal(signal.SIGHUP, before)


def test_signals_while_the_interpreter_ends_change_nothing() -> None:
    """It resets whatever is handled, and leaves alone what is ignored."""
    early = EarlySignals()
    before = {one: signal.getsignal(one) for one in STOP_SIGNALS}
    early.catch(["trio-alerts", "run"])
    try:
        early.ignore()
        assert {signal.SIG_IGN} == {signal.getsignal(one) for one in STOP_SIGNALS}
    finally:
        early.release()
    early.ignore()  # a command that is no service
    assert before == {one: signal.getsignal(one) for one in STOP_SIGNALS}


def test_signals_after_the_service_change_nothing() -> None:
    """Once it has waited for them, a late one must not end the process with another exit code."""
    early = EarlySignals()
    early.catch(["trio-alerts", "run"])
    try:
        early.hand_over()
        signal.raise_signal(signal.SIGTERM)
    finally:
        early.release()
