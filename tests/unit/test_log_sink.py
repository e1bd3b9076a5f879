"""Lines that nobody reads: who writes them never waits, what is dropped is counted, and the end is bounded."""

import contextlib
import fcntl
import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from trio_alerts import log_sink
from trio_alerts.log_sink import LogSink

LINE = "x" * 999 + "\n"
PATIENCE_S = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_all(descriptor: int, until: bytes) -> bytes:
    data = b""
    while until not in data:
        assert select.select([descriptor], [], [], PATIENCE_S)[0], data
        data += os.read(descriptor, 1 << 16)
    return data


def test_nobody_waits_for_a_reader(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """10 MB into a pipe that nobody reads: bounded memory, and the end comes in a bounded time."""
    monkeypatch.setattr(log_sink, "DRAIN_S", 0.1)
    sink = LogSink(pipe[1])
    for _ in range(10_000):
        sink.write(LINE)
    assert sink._bytes <= log_sink.MOST_BYTES
    started = time.monotonic()
    sink.stop()
    assert time.monotonic() - started < PATIENCE_S


def test_what_was_dropped_is_said_when_somebody_reads_again(pipe: tuple[int, int]) -> None:
    """Every line is either written, whole and in order, or counted."""
    reading, writing = pipe
    reported: list[int] = []
    told = threading.Event()

    def report(dropped: int) -> None:
        reported.append(dropped)
        told.set()

    sink = LogSink(writing, report)
    for number in range(3000):
        sink.write(f"{number:<999}\n")
    data = read_all(reading, b"\n")
    deadline = time.monotonic() + PATIENCE_S
    while not told.wait(0.01) and time.monotonic() < deadline:
        if os.get_blocking(reading):
            os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            data += os.read(reading, 1 << 20)
    sink.write("last\n")
    os.set_blocking(reading, True)
    data += read_all(reading, b"last\n") if b"last\n" not in data else b""
    *lines, last = data.decode().splitlines()
    numbers = [int(line) for line in lines]
    assert (sorted(set(numbers)), "last") == (numbers, last)
    assert 3000 == len(lines) + sum(reported)
    assert reported[0] > 0
    sink.stop()


def test_last_lines_are_written_at_the_end(pipe: tuple[int, int]) -> None:
    """What was taken before the end is written when the sink has stopped; what comes later is not."""
    sink = LogSink(pipe[1])
    for number in range(50):
        sink.write(f"{number}\n")
    sink.stop()
    sink.write("too late\n")
    os.close(pipe[1])
    with os.fdopen(pipe[0], "rb", closefd=False) as reading:
        assert [b"%d\n" % number for number in range(50)] == reading.readlines()


def test_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    """Nobody will ever read it: the lines are dropped, and the writer goes on."""
    os.close(pipe[0])
    sink = LogSink(pipe[1])
    for _ in range(100):
        sink.write(LINE)
    sink.stop()
    assert not sink._lines


def test_descriptor_that_somebody_made_non_blocking(pipe: tuple[int, int]) -> None:
    """A long line comes through whole although the pipe takes it in parts."""
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    sink = LogSink(writing)
    long = "y" * 300_000 + "\n"
    sink.write(long)
    assert long.encode() == read_all(reading, b"\n")
    sink.stop()


def test_any_text_can_be_written(pipe: tuple[int, int]) -> None:
    """A lone surrogate is spelled out."""
    sink = LogSink(pipe[1])
    sink.write("\ud800\n")
    assert b"\\ud800\n" == read_all(pipe[0], b"\n")
    sink.stop()
