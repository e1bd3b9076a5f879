"""`emit`: what it refuses, what it sends where, and what it says."""

import json
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tests.support.calling import call
from tests.unit.operations.test_alert_file import line, pretty
from trio_alerts.backends.redis.producer import AddResult, Emission
from trio_alerts.commands import emit
from trio_alerts.errors import StartError
from trio_alerts.settings.settings import Settings

GOOD = line("a") + b"\n" + line("b") + b"\n" + line("c") + b"\n"
BAD = line("a") + b"\n{}\n" + line("b") + b"\noops\n"


class FakeProducer:
    """Takes everything down; `results` and `reason` say what it answers."""

    def __init__(self) -> None:
        self.connections = 0
        self.entries: list[tuple[str, bytes]] = []
        self.results: Sequence[AddResult] | None = None
        self.reason = ""
        self.start_error = ""

    @asynccontextmanager
    async def open(self, _: Settings) -> AsyncIterator["FakeProducer"]:
        await trio.lowlevel.checkpoint()
        self.connections += 1
        if self.start_error:
            raise StartError(self.start_error)
        yield self

    async def add(self, entries: Sequence[tuple[str, bytes]]) -> Emission:
        await trio.lowlevel.checkpoint()
        self.entries += entries
        results = self.results or ["added"] * len(entries)
        ids = [f"17-{number}" if result == "added" else "" for number, result in enumerate(results)]
        return Emission(results, ids, self.reason)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    producer = FakeProducer()
    monkeypatch.setattr(emit, "open_producer", producer.open)
    return producer


def test_every_alert_of_a_file_is_sent(producer: FakeProducer, tmp_path: Path) -> None:
    """The lines of a file go to the stream as they are, in order."""
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(GOOD)

    called = call("emit", str(file))

    out = "17-0\ta\n17-1\tb\n17-2\tc\nemitted 3 alerts to AlertStream\n"
    assert (0, out, "") == (called.exit_code, called.out, called.err)
    assert [("AlertStream", one) for one in GOOD.splitlines()] == producer.entries


def test_standard_input_and_the_stream_of_the_settings(producer: FakeProducer) -> None:
    """`-` reads standard input; an array is sent item by item."""
    called = call("emit", "-", stdin=b"[" + pretty({"a": 1}) + b"]", stream="Other")
    assert 2 == called.exit_code

    called = call("emit", "-", stdin=b"[" + line("a") + b"]", stream="Other")
    assert "17-0\ta\nemitted 1 alerts to Other\n" == called.out
    assert [("Other", line("a"))] == producer.entries


def test_several_streams_share_by_the_crc_of_the_alert_id(producer: FakeProducer) -> None:
    """The same `alert_id` always goes to the same stream; how many went where is told, and how it was chosen."""
    ids = [f"id-{number}" for number in range(20)]

    called = call("emit", "-", "--streams", "x,y", stdin=b"\n".join(map(line, ids)))

    expected = [("x", "y")[zlib.crc32(alert_id.encode()) % 2] for alert_id in ids]
    assert expected == [stream for stream, _ in producer.entries]
    assert f"emitted {expected.count('x')} alerts to x\nemitted {expected.count('y')} alerts to y\n" in called.out
    assert "CRC-32" in called.out


def test_the_ids_are_those_of_the_records(producer: FakeProducer) -> None:
    """What `show` takes, whatever the number of streams; `--json` prints that alone, one object a line."""
    called = call("emit", "-", "--json", stdin=line("a\tb"))
    expected = {"record_id": "17-0", "alert_id": "a\tb", "stream": "AlertStream", "entry_id": "17-0"}
    assert expected == json.loads(called.out)

    called = call("emit", "-", "--json", "--streams", "x,y", stdin=line("a"))
    said = json.loads(called.out)
    assert f"{said['stream']}|17-0" == said["record_id"]
    assert said["stream"] in ("x", "y")
    assert f"{said['record_id']}\ta\n" in call("emit", "-", "--streams", "x,y", stdin=line("a")).out
    assert "17-0\ta\\tb\n" in call("emit", "-", stdin=line("a\tb")).out  # a tab in an ID parts no columns


def test_one_bad_line_keeps_all_back(producer: FakeProducer) -> None:
    """A malformed line: its number, the reason, exit code 2; nothing is sent, not even connected."""
    called = call("emit", "-", stdin=BAD)

    assert (2, "", 0) == (called.exit_code, called.out, producer.connections)
    assert (
        "trio-alerts: standard input: 2 of 4 alerts are not valid:\n"
        "  line 2: Object missing required field `alert_id`\n"
        "  line 4: not JSON: JSON is malformed: invalid character (byte 0)\n"
        "nothing was sent; --skip-bad sends the others\n"
    ) == called.err


def test_skip_bad_sends_the_others(producer: FakeProducer) -> None:
    """With `--skip-bad` the valid ones are sent and the problems still told; exit code 0."""
    called = call("emit", "-", "--skip-bad", stdin=BAD)

    assert (0, "17-0\ta\n17-1\tb\nemitted 2 alerts to AlertStream\n") == (called.exit_code, called.out)
    assert "  line 2: " in called.err
    assert [line("a"), line("b")] == [payload for _, payload in producer.entries]


def test_skip_bad_with_nothing_good_is_an_error(producer: FakeProducer) -> None:
    """If nothing is valid, nothing could be meant by "the others": exit code 2."""
    called = call("emit", "-", "--skip-bad", stdin=b"{}\n{}")

    assert (2, 0) == (called.exit_code, producer.connections)
    assert called.err.endswith("\nnothing was sent\n")


def test_at_most_twenty_problems_are_listed(producer: FakeProducer) -> None:
    """Of many problems the first twenty are shown, and the rest counted."""
    called = call("emit", "-", stdin=b"{}\n" * 1234)

    assert 20 == called.err.count("missing required field")
    assert "  … and 1,214 more\n" in called.err


def test_dry_run_connects_nowhere(producer: FakeProducer) -> None:
    """`--dry-run` validates only."""
    called = call("emit", "--dry-run", "-", stdin=GOOD)

    assert (0, 0) == (called.exit_code, producer.connections)
    assert "3 alerts are valid; nothing was sent (--dry-run)\n" == called.out
    assert 2 == call("emit", "--dry-run", "-", stdin=BAD).exit_code

    called = call("emit", "--dry-run", "--json", "--skip-bad", "-", stdin=BAD)
    assert ["a", "b"] == [msgspec.json.decode(one)["alert_id"] for one in called.out.splitlines()]
    note = msgspec.json.decode(called.err)
    assert [("line 2", "Object missing required field `alert_id`"), ("line 4", note["problems"][1]["reason"])] == [
        (one["place"], one["reason"]) for one in note["problems"]
    ]


def test_an_empty_file_is_no_error(producer: FakeProducer) -> None:
    """Nothing to send is nothing wrong; it is said."""
    called = call("emit", "-", stdin=b"")

    assert (0, "emitted 0 alerts to AlertStream\n") == (called.exit_code, called.out)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Exit code 2, the path and the reason."""
    called = call("emit", str(tmp_path / "none.jsonl"))

    expected = f"trio-alerts: cannot read {tmp_path}/none.jsonl: No such file or directory\n"
    assert (2, expected) == (called.exit_code, called.err)


def test_unreachable_redis(producer: FakeProducer) -> None:
    """Redis that cannot be reached at the start: exit code 4 and its message."""
    producer.start_error = "Redis: redis://127.0.0.1:1/0: connection refused"

    called = call("emit", "-", stdin=GOOD)

    assert (4, f"trio-alerts: {producer.start_error}\n") == (called.exit_code, called.err)


def test_cut_short_says_what_is_certain(producer: FakeProducer) -> None:
    """If Redis stops answering: exit code 4, how many are certain, and where to look; nothing is sent again."""
    producer.results = ["added", "unknown", "not added"]
    producer.reason = "Redis: gone"

    called = call("emit", "-", stdin=GOOD)

    assert (4, "17-0\ta\n") == (called.exit_code, called.out)
    assert (
        "trio-alerts: Redis: gone\n"
        "1 of 3 alerts are in the stream for certain; 1 may be, nobody saw the answer; 1 are not\n"
        "the first that is not certain: line 2 (alert_id 'b')\n"
    ) == called.err
    assert 3 == len(producer.entries)
