"""Writes lines to a file descriptor in a thread of its own, so that a slow reader holds nobody up."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST_BYTES = 1 << 20  # of waiting lines, some 5,000; further lines are dropped and counted
DRAIN_S = 1.0  # how long a reader that does not read may delay the end of a process
_POLL_MS = 1000


class LogSink:
    """Takes lines without blocking, and writes them in order, each in one piece.

    A pipe that is full (64 KiB on Linux) would block its writer, and with it the whole event loop. It is not made
    non-blocking instead: other processes share it, such as the shell.

    Args:
        descriptor: Where to write; it is not closed.
        report: Called from the sink's thread with the number of lines that were dropped, once it can write again.
    """

    def __init__(self, descriptor: int, report: Callable[[int], None] = lambda _: None) -> None:
        self._descriptor = descriptor
        self._report = report
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def write(self, line: str) -> None:
        """Take a line, or drop it if too much is waiting. Never blocks."""
        data = line.encode(errors="backslashreplace")
        with self._changed:
            if self._closed or self._bytes + len(data) > MOST_BYTES:
                self._dropped += 1
                return
            self._lines.append(data)
            self._bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """Wait until everything is written, at most `DRAIN_S`, and take no more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, DRAIN_S)
            self._closed = True
            self._changed.notify_all()

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if self._closed:  # what is left was not read in time
                    return
                line = self._lines[0]
            written = self._write_one(line)
            with self._changed:
                self._lines.popleft()
                self._bytes -= len(line)
                self._dropped += not written
                dropped = 0 if self._lines or not written else self._dropped
                self._dropped -= dropped
                self._changed.notify_all()
            if dropped:
                self._report(dropped)

    def _write_one(self, line: bytes) -> bool:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares it made it non-blocking
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll(_POLL_MS)
            except OSError:
                return False  # nobody will ever read it
        return True
