"""A slow receiver that is cheap to have: `python -m bench.receiver --delay fixed:0.1`.

It must not be what limits a run, so it does one thing with bare sockets: it notes each request's `webhook-id` and time
of arrival, waits, and answers 200. What it costs is shown beside every run.

It prints its port. Then it answers lines on its standard input, each with one line of JSON: `count` (how many alerts
it has accepted), `report` (everything), `clear` (forget everything), `hang` (what comes to `/sick` from now on is never
answered), `heal` (what comes there is answered again).
"""

import argparse
import heapq
import os
import select
import socket
import sys
import time
from array import array
from random import Random

import msgspec

from bench.delays import Delay, parse_delay

SICK = "/sick"  # the path of the channel that can be made to hang
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
BACKLOG = 4_096  # ten thousand workers connect at once
READ_SIZE = 65_536
SEED = 1  # the same delays in every run


class ReceiverReport(msgspec.Struct):
    """What a receiver saw.

    Args:
        ids: Of the accepted requests, in the order of their arrival.
        arrivals_s: When each of them had arrived whole, on the system's monotonic clock.
        duplicates: Requests whose ID had been accepted before.
        hung: Requests that were never answered.
        drawn_mean_s: The mean of the delays that were drawn.
        late_mean_s: By how much answers were later than that, on average.
    """

    ids: list[str]
    arrivals_s: list[float]
    duplicates: int
    hung: int
    drawn_mean_s: float
    late_mean_s: float


class Receiver:
    """Accepts, waits, answers, and remembers.

    Args:
        delay: How long answers take.
        hanging: Share of the alerts whose first request is never answered; it does not count as accepted.
    """

    def __init__(self, delay: Delay, hanging: float = 0.0) -> None:
        self._delay = delay
        self._hanging = hanging
        self._sick = False
        self._random = Random(SEED)
        self._fixed_s = delay.mean_s if delay.kind == "fixed" else None
        self._epoll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._connections: dict[int, tuple[socket.socket, bytearray]] = {}
        self._answers: list[tuple[float, int, socket.socket]] = []  # a heap: when, which, to whom
        self._clear()

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Serve until the standard input ends."""
        listener, commands = self._listener.fileno(), sys.stdin.fileno()
        for fd in (listener, commands):
            self._epoll.register(fd, select.EPOLLIN)
        connections, answers, monotonic, poll = self._connections, self._answers, time.monotonic, self._epoll.poll
        while True:
            wait_s = max(0.0, answers[0][0] - monotonic()) if answers else -1
            for fd, _ in poll(wait_s):
                if fd in connections:
                    self._receive(fd, *connections[fd])
                elif fd == listener:
                    self._accept()
                elif not self._obey(os.read(commands, READ_SIZE)):
                    return
            now_s = monotonic()
            while answers and answers[0][0] <= now_s:
                due_s, _, connection = heapq.heappop(answers)
                self._late_s += now_s - due_s
                try:
                    connection.send(ANSWER)
                except OSError:
                    continue  # the sender has gone, which is its right

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[connection.fileno()] = (connection, bytearray())
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, fd: int, connection: socket.socket, begun: bytearray) -> None:
        try:
            data = connection.recv(READ_SIZE)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._epoll.unregister(fd)
            del self._connections[fd]
            connection.close()
            return
        if begun:
            begun += data
            data = bytes(begun)
        end = data.find(b"\r\n\r\n")
        head = data[:end].lower() if end >= 0 else b""
        if end < 0 or len(data) < end + 4 + int(_header(head, b"content-length") or 0):
            begun[:] = data
            return
        begun.clear()
        hangs = self._sick and head.startswith(b"post %b " % SICK.encode())
        self._take(connection, _header(head, b"webhook-id"), hangs=hangs)

    def _take(self, connection: socket.socket, webhook_id: bytes, *, hangs: bool) -> None:
        now_s = time.monotonic()
        if webhook_id in self._accepted:
            self._duplicates += 1
        elif hangs or (self._hanging and webhook_id not in self._hung and self._random.random() < self._hanging):
            self._hung.add(webhook_id)
            return
        else:
            self._accepted[webhook_id] = None
            self._arrivals_s.append(now_s)
        delay_s = self._fixed_s or self._delay.draw(self._random)
        self._drawn_s += delay_s
        self._answered += 1
        heapq.heappush(self._answers, (now_s + delay_s, self._answered, connection))

    def _obey(self, lines: bytes) -> bool:
        for line in lines.split():
            said: object = None
            if line == b"count":
                said = len(self._accepted)
            elif line == b"report":
                said = self._report()
            elif line == b"clear":
                self._clear()
            elif line in (b"hang", b"heal"):
                self._sick = line == b"hang"
            sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
            sys.stdout.buffer.flush()
        return bool(lines)

    def _report(self) -> ReceiverReport:
        answered = self._answered or 1
        return ReceiverReport(
            ids=[one.decode() for one in self._accepted],
            arrivals_s=list(self._arrivals_s),
            duplicates=self._duplicates,
            hung=len(self._hung),
            drawn_mean_s=self._drawn_s / answered,
            late_mean_s=self._late_s / answered,
        )

    def _clear(self) -> None:
        self._accepted: dict[bytes, None] = {}  # in the order of their arrival
        self._arrivals_s = array("d")
        self._hung: set[bytes] = set()
        self._duplicates = self._answered = 0
        self._drawn_s = self._late_s = 0.0


def _header(head: bytes, name: bytes) -> bytes:
    """Return a header's value from a head in lower case; empty if it is not there."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def main() -> None:
    """Serve until the parent closes our standard input."""
    parser = argparse.ArgumentParser(prog="python -m bench.receiver", description=main.__doc__)
    parser.add_argument("--delay", type=parse_delay, required=True, help="fixed:S, exponential:S or heavy:S")
    parser.add_argument("--hanging", type=float, default=0.0, help="share of alerts whose first request hangs")
    options = parser.parse_args()
    receiver = Receiver(options.delay, options.hanging)
    sys.stdout.write(f"{receiver.port}\n")
    sys.stdout.flush()
    receiver.serve()


if __name__ == "__main__":
    main()
