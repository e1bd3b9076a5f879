"""The commands as processes, against real servers: exit codes, what they print, and what they leave behind."""

import contextlib
import signal
import sqlite3
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.support.obtain import obtain
from tests.support.program import PATIENCE_S, Program, Site, command_line, environ_of, stop, wait_until
from tests.support.servers import RedisServer, ValkeyServer
from tests.support.servers.process import free_port
from trio_alerts.operations.alert_file import read_alerts
from trio_alerts.record import Record

EXAMPLES = Path(__file__).parents[2] / "examples" / "alerts.jsonl"
NOBODY = "http://127.0.0.1:9/hook"  # the discard port: nobody listens


@pytest.fixture
def program(valkey: RedisServer, tmp_path: Path) -> Site:
    """Run on Valkey, with an SQLite store."""
    return Site(tmp_path, {"webhook_url": NOBODY}, redis=valkey)


@pytest.fixture
def on_each(tmp_path: Path, redis_server: RedisServer) -> Site:
    """Run on Valkey, then on Redis 7."""
    return Site(tmp_path, redis=redis_server)


def events(site: Site) -> list[bytes]:
    with site.client() as client:
        return [fields[b"event"] for _, fields in client.xrange(site.stream)]


# -- emit --


def test_emit_writes_every_alert_in_order(on_each: Site) -> None:
    """The stream holds the file's lines, byte for byte, in the file's order, each once."""
    ended = on_each.call("emit", str(EXAMPLES))

    lines = EXAMPLES.read_bytes().splitlines()
    assert (0, "") == (ended.exit_code, ended.err)
    *emitted, summary = ended.out.splitlines()
    assert f"emitted {len(lines)} alerts to {on_each.stream}" == summary
    assert lines == events(on_each)
    assert on_each.entries() == [line.split("\t")[0] for line in emitted]


def test_emit_keeps_the_order_over_many_windows(on_each: Site) -> None:
    """Also with thousands of alerts, many on the way at once."""
    one = read_alerts(EXAMPLES.read_bytes())[0][0].payload
    fields = msgspec.json.decode(one)
    lines = [msgspec.json.encode(fields | {"alert_id": f"{number:05}"}) for number in range(3000)]

    assert 0 == on_each.call("emit", "-", stdin=b"\n".join(lines)).exit_code
    assert lines == events(on_each)


def test_emit_into_a_key_that_is_no_stream(on_each: Site) -> None:
    """A server that refuses: exit code 4, its reason, and that nothing was added."""
    with on_each.client() as client:
        client.set(on_each.stream, "text")

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
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    program = Program(tmp_path, {"redis_url": url, "store_url": f"sqlite:///{tmp_path}/a.db", "webhook_url": NOBODY})
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
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        ended = Site(tmp_path, {"redis_url": url, "webhook_url": NOBODY}, redis=server).call(command)

    assert 4 == ended.exit_code
    assert f"redis://127.0.0.1:{server.port}" in ended.err
    assert "WRONGPASS" in ended.err or "password" in ended.err
    assert "hunter2" not in ended.out + ended.err


@pytest.mark.parametrize("command", ["run", "check", "list"])
@pytest.mark.parametrize(
    ("url", "named"),
    [("sqlite:////does/not/exist/alerts.db", "/does/not/exist"), ("http://127.0.0.1:9", "http://127.0.0.1:9")],
)
def test_a_store_that_cannot_be_used(command: str, url: str, named: str, program: Site) -> None:
    """A directory that does not exist, or nobody who listens: exit code 4, and the path or the address."""
    ended = program.call(command, store_url=url)

    assert 4 == ended.exit_code
    assert named in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["run", "check", "list"])
def test_a_file_of_somebody_else(command: str, program: Site) -> None:
    """A database that another program made, or a file that is none, cannot be trusted: exit code 3."""
    foreign = program.folder / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (text)")
    assert 3 == program.call(command, store_url=f"sqlite:///{foreign}").exit_code

    foreign.write_text("no database at all\n" * 100)
    assert 3 == program.call(command, store_url=f"sqlite:///{foreign}").exit_code


@pytest.mark.parametrize("command", ["run", "check"])
def test_nobody_to_notify(command: str, program: Site) -> None:
    """Without a channel, exit code 2."""
    ended = program.call(command, webhook_url="")

    assert 2 == ended.exit_code
    assert "no channel is configured" in ended.err


# -- run, list and show --


def test_run_list_show_and_a_clean_stop(program: Site) -> None:
    """What is emitted becomes records that can be listed and shown; SIGTERM ends `run` with exit code 0."""
    count = len(EXAMPLES.read_bytes().splitlines())

    def listed(*argv: str) -> list[str]:
        return program.call("list", "--limit", "1000", *argv).out.splitlines()

    with program.running("--log-format", "json", "--retry-schedule-s", "3600") as worker:
        emitted = program.call("emit", str(EXAMPLES)).out.splitlines()
        wait_until(lambda: len(listed("--state", "retrying")) == count + 1, "every alert had an attempt", program)
        assert 0 == stop(worker)

    messages = [msgspec.json.decode(text) for text in program.log().splitlines()]
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


def test_run_starts_reading_soon(program: Site, valkey: RedisServer) -> None:
    """It is reading when it says so; an interrupt at the terminal stops it as SIGTERM does."""
    with program.running() as worker:
        wait_until(lambda: f"reading {program.stream}" in program.log(), "run says that it reads", program)
        with valkey.client() as client:
            assert [b"alert-processor"] == [group["name"] for group in client.xinfo_groups(program.stream)]
        worker.send_signal(signal.SIGINT)
        assert 0 == worker.wait(PATIENCE_S)


def test_a_reader_that_leaves(program: Site) -> None:
    """`list | head`: who has seen enough may go, without an error."""
    with program.running() as worker:
        program.call("emit", str(EXAMPLES))
        program.until(*["retrying"] * len(EXAMPLES.read_bytes().splitlines()))
        assert 0 == stop(worker)

    with subprocess.Popen(
        command_line("list", "--json", "--limit", "200"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environ | {"PYTHONUNBUFFERED": ""},  # with it, nothing would be left to write at the end
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert b"" == reading.stderr.read()
    assert 0 == reading.returncode


def test_an_interrupt_at_the_terminal() -> None:
    """Ctrl-C in a command that waits: silent, exit code 130."""
    command = ["env", "--default-signal=INT", *command_line("emit", "-")]  # the tests may run in the background
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environ_of({})) as waiting:
        stat = Path(f"/proc/{waiting.pid}/wchan")
        wait_until(lambda: "pipe" in stat.read_text(), "it waits for its input")
        waiting.send_signal(signal.SIGINT)
        assert waiting.stderr is not None
        assert b"" == waiting.stderr.read()
    assert 130 == waiting.returncode
