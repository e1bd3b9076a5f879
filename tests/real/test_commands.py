"""The commands as processes, against real servers: exit codes, what they print, and what they leave behind."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.support.obtain import obtain
from tests.support.servers import RedisServer, ValkeyServer
from tests.support.servers.process import free_port
from trio_alerts.operations.alert_file import read_alerts
from trio_alerts.record import Record

EXAMPLES = Path(__file__).parents[2] / "examples" / "alerts.jsonl"
GENEROUS_S = 60
NOBODY = "http://127.0.0.1:9/hook"  # the discard port: nobody listens


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it printed."""

    exit_code: int
    out: str
    err: str


class Program:
    """The program with settings of its own, in processes that end with the test."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self._started: list[subprocess.Popen[bytes]] = []

    def call(self, *argv: str, stdin: bytes = b"", **settings: str) -> Ended:
        done = subprocess.run(
            self.command(argv),
            input=stdin,
            capture_output=True,
            env=self.environ(settings),
            timeout=GENEROUS_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *argv: str, **settings: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a process whose stderr goes to a file."""
        log = self.folder / f"log-{len(self._started)}"
        with log.open("wb") as stderr:
            process = subprocess.Popen(self.command(argv), stderr=stderr, env=self.environ(settings))
        self._started.append(process)
        return process, log

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    @staticmethod
    def command(argv: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "trio_alerts", *argv]

    def environ(self, settings: dict[str, str]) -> dict[str, str]:
        ours = {f"TRIO_ALERTS_{name.upper()}": text for name, text in (self.settings | settings).items()}
        return {name: text for name, text in os.environ.items() if not name.startswith("TRIO_ALERTS_")} | ours


@pytest.fixture
def program(valkey: RedisServer, tmp_path: Path, stream_name: str) -> Iterator[Program]:
    """Run on Valkey, with an SQLite store."""
    program = Program(
        tmp_path,
        redis_url=valkey.url,
        store_url=f"sqlite:///{tmp_path}/alerts.db",
        stream=stream_name,
        webhook_url=NOBODY,
    )
    yield program
    program.end()


@pytest.fixture
def on_each(program: Program, redis_server: RedisServer) -> Program:
    """Run on Valkey, then on Redis 7."""
    program.settings["redis_url"] = redis_server.url
    return program


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


def entries(server: RedisServer, stream: str) -> list[bytes]:
    with server.client() as client:
        return [fields[b"event"] for _, fields in client.xrange(stream)]


# -- emit --


def test_emit_writes_every_alert_in_order(on_each: Program, redis_server: RedisServer) -> None:
    """The stream holds the file's lines, byte for byte, in the file's order, each once."""
    ended = on_each.call("emit", str(EXAMPLES))

    lines = EXAMPLES.read_bytes().splitlines()
    assert (0, "") == (ended.exit_code, ended.err)
    *emitted, summary = ended.out.splitlines()
    assert f"emitted {len(lines)} alerts to {on_each.settings['stream']}" == summary
    assert lines == entries(redis_server, on_each.settings["stream"])
    with redis_server.client() as client:
        ids = [entry_id.decode() for entry_id, _ in client.xrange(on_each.settings["stream"])]
    assert ids == [line.split("\t")[0] for line in emitted]


def test_emit_keeps_the_order_over_many_windows(on_each: Program, redis_server: RedisServer) -> None:
    """Also with thousands of alerts, many on the way at once."""
    one = read_alerts(EXAMPLES.read_bytes())[0][0].payload
    fields = msgspec.json.decode(one)
    lines = [msgspec.json.encode(fields | {"alert_id": f"{number:05}"}) for number in range(3000)]

    assert 0 == on_each.call("emit", "-", stdin=b"\n".join(lines)).exit_code
    assert lines == entries(redis_server, on_each.settings["stream"])


def test_emit_of_a_bad_file_writes_nothing(on_each: Program, redis_server: RedisServer) -> None:
    """One malformed line: exit code 2, its number, an empty stream."""
    ended = on_each.call("emit", "-", stdin=EXAMPLES.read_bytes() + b'{"alert_id": "x"}\n')

    assert 2 == ended.exit_code
    assert f"line {len(EXAMPLES.read_bytes().splitlines()) + 1}: Object missing required field" in ended.err
    assert [] == entries(redis_server, on_each.settings["stream"])


def test_emit_into_a_key_that_is_no_stream(on_each: Program, redis_server: RedisServer) -> None:
    """A server that refuses: exit code 4, its reason, and that nothing was added."""
    with redis_server.client() as client:
        client.set(on_each.settings["stream"], "text")

    ended = on_each.call("emit", str(EXAMPLES))

    assert 4 == ended.exit_code
    assert "refuses XADD on" in ended.err
    count = len(EXAMPLES.read_bytes().splitlines())
    assert f"0 of {count} alerts are in the stream for certain; 0 may be" in ended.err


# -- what run refuses, and check with it --


@pytest.mark.parametrize("command", ["run", "check", "emit"])
def test_stopped_redis(command: str, tmp_path: Path) -> None:
    """Nobody listens: exit code 4, and the message names the address."""
    port = free_port()
    program = Program(
        tmp_path,
        redis_url=f"redis://:hunter2@127.0.0.1:{port}/0",
        store_url=f"sqlite:///{tmp_path}/a.db",
        webhook_url=NOBODY,
    )
    argv = [command, str(EXAMPLES)] if command == "emit" else [command]

    ended = program.call(*argv)

    assert 4 == ended.exit_code
    assert f"redis://127.0.0.1:{port}" in ended.err
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.out + ended.err


@pytest.mark.parametrize("command", ["run", "check"])
def test_wrong_password(command: str, tmp_path: Path) -> None:
    """A password that the server refuses: exit code 4, the address, and not the password."""
    with obtain(lambda: ValkeyServer(requirepass="right")) as server:
        program = Program(
            tmp_path,
            redis_url=f"redis://:hunter2@127.0.0.1:{server.port}/0",
            store_url=f"sqlite:///{tmp_path}/a.db",
            webhook_url=NOBODY,
        )
        ended = program.call(command)

    assert 4 == ended.exit_code
    assert f"redis://127.0.0.1:{server.port}" in ended.err
    assert "WRONGPASS" in ended.err or "password" in ended.err
    assert "hunter2" not in ended.out + ended.err


@pytest.mark.parametrize("command", ["run", "check", "list"])
def test_a_store_that_cannot_be_used(command: str, program: Program) -> None:
    """A directory that does not exist: exit code 4, and the path."""
    ended = program.call(command, store_url="sqlite:////does/not/exist/alerts.db")

    assert 4 == ended.exit_code
    assert "/does/not/exist" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["run", "check", "list"])
def test_a_file_of_somebody_else(command: str, program: Program) -> None:
    """A database that another program made, or a file that is none, cannot be trusted: exit code 3."""
    foreign = program.folder / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (text)")
    assert 3 == program.call(command, store_url=f"sqlite:///{foreign}").exit_code

    foreign.write_text("no database at all\n" * 100)
    assert 3 == program.call(command, store_url=f"sqlite:///{foreign}").exit_code


@pytest.mark.parametrize("command", ["run", "check", "list"])
def test_unknown_setting(command: str, tmp_path: Path) -> None:
    """In the environment or as an option: exit code 2, and the nearest name."""
    program = Program(tmp_path)

    by_environment = program.call(command, webhok_url=NOBODY)
    assert 2 == by_environment.exit_code
    assert "did you mean TRIO_ALERTS_WEBHOOK_URL?" in by_environment.err

    by_option = program.call(command, "--webhok-url", NOBODY)
    assert 2 == by_option.exit_code
    assert "(did you mean --webhook-url?)" in by_option.err


@pytest.mark.parametrize("command", ["run", "check"])
def test_nobody_to_notify(command: str, program: Program) -> None:
    """Without a channel, exit code 2."""
    ended = program.call(command, webhook_url="")

    assert 2 == ended.exit_code
    assert "no channel is configured" in ended.err


def test_check_creates_nothing(program: Program, valkey: RedisServer) -> None:
    """All is well before the first run: exit code 0; group and database are named and still missing."""
    program.call("emit", str(EXAMPLES))
    with valkey.client() as client:
        before = sorted(client.keys())

    ended = program.call("check")

    assert (0, "alert-processor" in ended.out, "alerts.db" in ended.out) == (ended.exit_code, True, True), ended
    assert "would be created" in ended.out
    with valkey.client() as client:
        assert before == sorted(client.keys())
        assert [] == client.xinfo_groups(program.settings["stream"])
    assert [] == [path.name for path in program.folder.iterdir()]


# -- run, list and show --


def test_run_list_show_and_a_clean_stop(program: Program) -> None:
    """What is emitted becomes records that can be listed and shown; SIGTERM ends `run` with exit code 0."""
    process, log = program.start("run", "--log-format", "json", "--retry-schedule-s", "3600")
    emitted = program.call("emit", str(EXAMPLES)).out.splitlines()
    count = len(EXAMPLES.read_bytes().splitlines())

    def listed(*argv: str) -> list[str]:
        return program.call("list", "--limit", "1000", *argv).out.splitlines()

    wait_until(lambda: len(listed("--state", "retrying")) == count + 1, "every alert has had its first attempt")
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(GENEROUS_S)

    messages = [msgspec.json.decode(text) for text in log.read_text().splitlines()]
    assert all({"time", "level", "message"} <= message.keys() for message in messages)
    first = emitted[0].split("\t")[0]  # as the README goes on
    assert first == listed()[-1].split("\t")[0]
    shown = program.call("show", first)
    assert (0, "") == (shown.exit_code, shown.err)
    assert f"record_id       {first}" in shown.out.splitlines()
    document = program.call("show", "--json", first).out
    assert "retrying" == Record.from_json(first, document).delivery.state
    assert 1 == program.call("show", "1-1").exit_code
    assert count == len(listed("--json"))


def test_run_starts_reading_soon(program: Program, valkey: RedisServer) -> None:
    """It is reading when it says so; an interrupt at the terminal stops it as SIGTERM does."""
    process, log = program.start("run")
    wait_until(lambda: f"reading {program.settings['stream']}" in log.read_text(), "run says that it reads")

    with valkey.client() as client:
        assert [b"alert-processor"] == [group["name"] for group in client.xinfo_groups(program.settings["stream"])]
    process.send_signal(signal.SIGINT)
    assert 0 == process.wait(GENEROUS_S)


def test_a_reader_that_leaves(program: Program) -> None:
    """`list | head`: who has seen enough may go, without an error."""
    process, _ = program.start("run")
    program.call("emit", str(EXAMPLES))
    wait_until(lambda: len(program.call("list", "--limit", "200").out.splitlines()) > 100, "the records are there")
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(GENEROUS_S)

    with subprocess.Popen(
        program.command(("list", "--json", "--limit", "200")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environ({}) | {"PYTHONUNBUFFERED": ""},  # with it, nothing would be left to write at the end
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert b"" == reading.stderr.read()
    assert 0 == reading.returncode


def test_an_interrupt_at_the_terminal(tmp_path: Path) -> None:
    """Ctrl-C in a command that waits: silent, exit code 130."""
    with subprocess.Popen(
        Program.command(("emit", "-")), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=Program(tmp_path).environ({})
    ) as waiting:
        stat = Path(f"/proc/{waiting.pid}/wchan")
        wait_until(lambda: "pipe" in stat.read_text(), "it waits for its input")
        waiting.send_signal(signal.SIGINT)
        assert waiting.stderr is not None
        assert b"" == waiting.stderr.read()
    assert 130 == waiting.returncode
