import datetime as dt
import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from trio_alerts.assembly import make_channel
from trio_alerts.channels.file import FileSettings
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Retry
from trio_alerts.ports.channel import ConfiguredChannel, Message

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


def channel_to(path: Path) -> ConfiguredChannel:
    return make_channel(FileSettings(name="audit", path=path), TrioTransport(), lambda: NOW)


def message(number: int = 0, deadline: float = float("inf"), **event: Any) -> Message:
    return Message(f"{number}-0", msgspec.json.encode({"title": "x"} | event), deadline)


async def sent(path: Path, **event: Any) -> Outcome | Later:
    return await channel_to(path).send(message(**event))


async def test_a_line_for_each_alert(tmp_path: Path) -> None:
    """The alert as it is, its record and the time; hostile text ends no line."""
    path = tmp_path / "alerts.jsonl"
    text = 'a\r\nb"}\u2028\0\u202e💥'

    assert Accepted() == await sent(path, title=text)
    assert Accepted() == await sent(path)
    first, second = path.read_bytes().splitlines()
    assert {"record_id": "0-0", "written_at": "2026-03-01T12:00:00Z", "alert": {"title": text}} == msgspec.json.decode(
        first
    )
    assert {"title": "x"} == msgspec.json.decode(second)["alert"]


async def test_many_at_once_are_whole_lines(tmp_path: Path) -> None:
    """Of two channels to one file, as of two processes, no line is inside of another."""
    path = tmp_path / "alerts.jsonl"
    channels = [channel_to(path), channel_to(path)]
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(channels[number % 2].send, message(number, title="x" * 5000))

    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert {f"{number}-0" for number in range(40)} == {line["record_id"] for line in lines}


async def test_another_process_that_writes_is_waited_for(tmp_path: Path) -> None:
    """Half a line of it must not be taken back together with ours."""
    path = tmp_path / "alerts.jsonl"
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(trio.TooSlowError):
            await channel_to(path).send(message(deadline=trio.current_time() + 0.1))
        assert b"" == path.read_bytes()


async def test_a_file_that_was_rotated_away_is_left_alone(tmp_path: Path) -> None:
    """The next line is in a new file of the old name."""
    path = tmp_path / "alerts.jsonl"
    await sent(path)
    path.rename(tmp_path / "alerts.jsonl.1")

    assert Accepted() == await sent(path)
    assert 1 == len(path.read_bytes().splitlines())


async def test_what_cannot_be_opened_is_for_a_human(tmp_path: Path) -> None:
    """A folder that is not there, a folder in its place, a device: tried again, and nothing was written."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "no" / "file", tmp_path / "folder", tmp_path / "pipe", Path("/dev/null")):
        outcome = await sent(path)

        assert isinstance(outcome, Retry)
        assert (True, False) == (outcome.needs_human, outcome.unseen)
        assert str(path) in outcome.reason


@pytest.mark.parametrize(("can_be_undone", "unseen"), [(True, False), (False, True)])
async def test_a_full_disk_leaves_no_half_of_a_line(
    can_be_undone: bool, unseen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of it is taken back; if that fails, too, the outcome is unseen."""
    path = tmp_path / "alerts.jsonl"
    await sent(path)
    before = path.read_bytes()
    writes = []

    def write(number: int, data: memoryview) -> int:
        writes.append(number)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(number, data[:10])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = os.write
    monkeypatch.setattr(os, "write", write)
    if not can_be_undone:
        monkeypatch.setattr(os, "ftruncate", fail)
    outcome = await sent(path)

    assert Retry(f"{path}: {os.strerror(errno.ENOSPC)}", unseen=unseen, needs_human=True) == outcome
    assert can_be_undone is (before == path.read_bytes())


async def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    """Whoever was killed while it wrote has left it there: the next alert has a line of its own."""
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(b'{"record_id":"0-0","wri')

    assert Accepted() == await sent(path)
    half, whole = path.read_bytes().splitlines()
    assert (b'{"record_id":"0-0","wri', "0-0") == (half, msgspec.json.decode(whole)["record_id"])


async def test_a_disk_that_hangs_is_too_late_and_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread cannot be stopped; who only waited for it has sent nothing."""
    held = threading.Event()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (held.wait(10), real(number))[1])
    channel = channel_to(tmp_path / "alerts.jsonl")
    ended: dict[int, Outcome | Later | None] = {}

    async def attempt(number: int, after_s: float) -> None:
        await trio.sleep(after_s)
        try:
            ended[number] = await channel.send(message(number, trio.current_time() + 0.2))
        except trio.TooSlowError:
            ended[number] = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, 0, 0.0)
        nursery.start_soon(attempt, 1, 0.05)
    held.set()

    assert None is ended[0]
    assert Retry("the file was busy; nothing was written") == ended[1]


async def test_it_says_why_it_could_not_write(tmp_path: Path) -> None:
    """`check` warns before the first alert does."""
    assert None is await channel_to(tmp_path / "x").why_unreachable(0.0)
    assert "there is no folder" in str(await channel_to(tmp_path / "no" / "x").why_unreachable(0.0))


def test_what_would_be_written_can_be_seen(tmp_path: Path) -> None:
    """A line, without writing it."""
    assert '"alert":{"title":"x"}' in channel_to(tmp_path / "x").preview(message())
    assert [] == list(tmp_path.iterdir())
