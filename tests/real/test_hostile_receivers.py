"""Receivers that mean harm, at a real process: others get their alerts, memory stays small, nobody is led astray."""

import gzip
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, BinaryIO

import pytest

from tests.real.conftest import MakeSite
from tests.support.program import Site, stop, wait_until
from tests.support.servers import ReceiverServer

MIB = 1024 * 1024
ALERTS = 30
BOMB = gzip.compress(bytes(200 * MIB), 9)  # 200 KB


def endless_head(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        out.write(b"x-more: %b\r\n" % (b"x" * 1000))


def endless_body(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        out.write(b"10000\r\n%b\r\n" % bytes(0x10000))


def bomb(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 503 No\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB)


def absurd_wait(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 503 No\r\nretry-after: %b\r\ncontent-length: 0\r\n\r\n" % (b"9" * 400))


def drip(out: BinaryIO) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"x" * 10_000:
        out.write(bytes([byte]))
        threading.Event().wait(0.05)


def elsewhere(out: BinaryIO) -> None:
    out.write(b"HTTP/1.1 307 There\r\nlocation: %b/internal\r\ncontent-length: 0\r\n\r\n" % ELSEWHERE[0])


ELSEWHERE = [b""]
HOSTILE: tuple[Callable[[BinaryIO], None], ...] = (endless_head, endless_body, bomb, absurd_wait, drip, elsewhere)


@contextmanager
def hostile(answer: Callable[[BinaryIO], None]) -> Iterator[str]:
    """Serve one kind of answer; yield its address."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            self.rfile.read(int(length[1]) if length else 0)
            with suppress(OSError):
                answer(self.wfile)  # type: ignore[arg-type]

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()


@pytest.fixture
def besieged(make_site: MakeSite, receiver: ReceiverServer, tmp_path: Path) -> Iterator[Site]:
    """Give a site with a channel of each kind, and one good one."""
    ELSEWHERE[0] = receiver.url.encode()
    with hostile_channels() as channels:
        tables = [f'[[channels]]\nname = "{name}"\nurl = "{url}"' for name, url in channels.items()]
        tables.append(f'[[channels]]\nname = "good"\nurl = "{receiver.url}/good"')
        names = [*channels, "good"]
        tables += [f'[[routes]]\nmatch = {{ view = "{name}" }}\nchannels = ["{name}"]' for name in names]
        tables.append('[[routes]]\nchannels = ["good"]')
        (tmp_path / "alerts.toml").write_text("\n".join(tables))
        site = make_site(Site, config=str(tmp_path / "alerts.toml"), send_timeout_s="3", retry_schedule_s="600")
        del site.settings["webhook_url"]
        yield site


@contextmanager
def hostile_channels() -> Iterator[dict[str, str]]:
    with ExitStack() as ending:
        yield {answer.__name__: ending.enter_context(hostile(answer)) for answer in HOSTILE}


def test_hostile_receivers_cost_no_memory_and_nobody_else(besieged: Site, receiver: ReceiverServer) -> None:
    """Every other channel gets its alerts while they are at it; none of theirs counts as delivered, or is given up."""
    with besieged.running(workers="16") as worker:
        wait_until(lambda: "reading" in besieged.log(), "it reads", besieged)
        before = peak_mib(worker.pid)
        for number in range(ALERTS):
            for answer in HOSTILE:
                besieged.emit(view=answer.__name__, alert_id=f"{answer.__name__}-{number}")
            besieged.emit(view="good", alert_id=f"good-{number}")
        wait_until(lambda: receiver.totals().accepted == ALERTS, "the good channel has all", besieged)
        wait_until(lambda: besieged.pending() == 0, "each had its attempt", besieged)
        records = besieged.records().values()
        grown = peak_mib(worker.pid) - before
        assert 0 == stop(worker), besieged.log()

    states: dict[str, set[str]] = {}
    for record in records:
        states.setdefault(record["view"], set()).add(record["delivery"]["state"])
    assert {"delivered"} == states.pop("good")
    assert {answer.__name__ for answer in HOSTILE} == set(states)
    assert {"delivered", "failed"}.isdisjoint(set().union(*states.values()))
    assert {"/good"} == {request.path for request in receiver.ledger().requests}
    assert grown < 40, grown


def peak_mib(pid: int) -> float:
    found: Any = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024
