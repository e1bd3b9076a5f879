"""A receiver of notifications that does what its script says and keeps a ledger of what it was sent.

In a test's own trio run:

    receiver = Receiver({"/hook": Script([Step(503), Step(503), Step(200)])})
    url = await nursery.start(serve_receiver, receiver)
    ...
    await receiver.until(lambda: len(receiver.ledger.requests) == 3)

As a process, so that it outlives every crash of the program under test: `tests.support.servers.ReceiverServer`, or by
hand `python -m tests.support.receiver --port 8081 --scripts scripts.json`. Its ledger is then read at
`/_receiver/ledger`.
"""

import argparse
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import httptools
import msgspec
import trio
from msgspec import Struct, field

CONTROL = "/_receiver/"
MIB = 1024 * 1024
BACKLOG = 1_024  # a thousand workers may connect at once


class Step(Struct, frozen=True, omit_defaults=True):
    """What happens to one request.

    Args:
        status: Of the answer.
        delay_s: Waited before the answer, or before the fault.
        headers: More headers of the answer, such as `{"retry-after": "7"}`.
        body_bytes: Size of the answer's body; MIB for a receiver that talks too much.
        fault: "hang": never answers; "close": closes without an answer; "reset": a reset in the head of the answer;
            "cut": a reset in its body, so that the status was said.
        accepts: Whether the receiver has taken the alert. None: if the answer, or what was sent of it, says 2xx.
    """

    status: int = 200
    delay_s: float = 0.0
    headers: dict[str, str] = {}
    body_bytes: int = 2
    fault: Literal["hang", "close", "reset", "cut"] | None = None
    accepts: bool | None = None

    def decides_to_accept(self) -> bool:
        """Whether a repeat of this request would be a duplicate."""
        if self.accepts is not None:
            return self.accepts
        return self.fault not in ("hang", "close") and self.status // 100 == 2


class Script(Struct, frozen=True, omit_defaults=True):
    """The steps of successive requests; the last one is repeated for ever.

    Args:
        steps: At least one.
        each: "path": all requests to a path walk through the steps together; "id": each `webhook-id` has its own walk.
    """

    steps: list[Step] = field(default_factory=lambda: [Step()])
    each: Literal["path", "id"] = "path"


class Request(Struct, frozen=True, gc=False):
    """One request, as it arrived, and what was decided about it.

    Args:
        at_s: When it had arrived whole, in seconds since the epoch.
        accepted: The receiver has taken it, whether or not the sender could learn that.
        duplicate: An earlier request with this `webhook-id` had been accepted.
    """

    at_s: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    webhook_id: str | None
    status: int
    fault: str | None
    accepted: bool
    duplicate: bool


class Totals(Struct):
    """The ledger's counts: requests, those accepted, duplicates among the requests, connections that brought any."""

    requests: int = 0
    accepted: int = 0
    duplicates: int = 0
    connections: int = 0


class Ledger(Struct):
    """All requests in the order of their arrival, and their counts."""

    requests: list[Request] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    def of(self, webhook_id: str) -> list[Request]:
        """Return the requests for one alert."""
        return [request for request in self.requests if request.webhook_id == webhook_id]


class Receiver:
    """Decides about requests by its scripts, and remembers them. No I/O.

    Args:
        scripts: By path (with the query); the path "*" stands for all others. Without any, 200 at once.
        lean: Keep no headers and bodies.
    """

    def __init__(self, scripts: Mapping[str, Script] | None = None, *, lean: bool = False) -> None:
        self.scripts = dict(scripts or {})
        self.lean = lean
        self.ledger = Ledger()
        self._accepted: set[str] = set()
        self._walks: dict[str, int] = {}
        self._arrivals = trio.lowlevel.ParkingLot()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is asked anew after each request."""
        while not condition():
            await self._arrivals.park()

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Step:
        """Decide about a request and enter it into the ledger."""
        webhook_id = headers.get("webhook-id")
        script = self.scripts.get(path) or self.scripts.get("*") or DEFAULT
        walk = path if script.each == "path" else f"{path} {webhook_id}"
        done = self._walks.get(walk, 0)
        self._walks[walk] = done + 1
        step = script.steps[min(done, len(script.steps) - 1)]
        accepted = step.decides_to_accept()
        duplicate = webhook_id in self._accepted
        if accepted and webhook_id is not None:
            self._accepted.add(webhook_id)
        totals = self.ledger.totals
        totals.requests += 1
        totals.accepted += accepted
        totals.duplicates += duplicate
        kept: tuple[dict[str, str], bytes] = ({}, b"") if self.lean else (headers, body)
        self.ledger.requests.append(
            Request(time.time(), method, path, *kept, webhook_id, step.status, step.fault, accepted, duplicate)
        )
        self._arrivals.unpark_all()
        return step

    def control(self, method: str, what: str, body: bytes) -> bytes:
        """Answer a question of the test itself, which is not in the ledger."""
        match method, what:
            case "GET", "ledger":
                return msgspec.json.encode(self.ledger)
            case "GET", "totals":
                return msgspec.json.encode(self.ledger.totals)
            case "GET", "pid":
                return str(os.getpid()).encode()
            case "PUT", "scripts":
                self.scripts = msgspec.json.decode(body, type=dict[str, Script])
                self._walks.clear()
            case "DELETE", "ledger":
                self.ledger = Ledger()
                self._accepted.clear()
                self._walks.clear()
        return b"{}"


DEFAULT = Script()


async def serve_receiver(
    receiver: Receiver,
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` gives the URL, without a path.

    Args:
        receiver: Decides and remembers.
        port: On 127.0.0.1; 0 for a free one.
        tls: Serve HTTPS with this server context.
        task_status: For `nursery.start`.
    """
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1", backlog=BACKLOG)
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        handler = partial(_serve_connection, receiver, tls)
        await nursery.start(partial(trio.serve_listeners, handler, listeners, handler_nursery=nursery))
        task_status.started(f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}")


async def _serve_connection(receiver: Receiver, tls: ssl.SSLContext | None, connection: trio.SocketStream) -> None:
    stream = connection if tls is None else trio.SSLStream(connection, tls, server_side=True, https_compatible=True)
    known = False
    arriving = _Arriving()
    parser = httptools.HttpRequestParser(arriving)
    arriving.parser = parser
    try:
        open_ = True
        while open_ and (data := await stream.receive_some(65_536)):
            parser.feed_data(data)
            requests, arriving.complete = arriving.complete, []
            for request in requests:
                if not known and not request[1].startswith(CONTROL):
                    receiver.ledger.totals.connections += 1
                    known = True
                open_ = await _answer(receiver, connection, stream, request)
                if not open_:
                    break
    except (trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
        pass  # the sender went away, which is its right, or spoke no HTTP
    finally:
        await trio.aclose_forcefully(stream)


async def _answer(
    receiver: Receiver,
    connection: trio.SocketStream,
    stream: trio.abc.Stream,
    request: tuple[str, str, dict[str, str], bytes],
) -> bool:
    """Do what the script says; return whether the connection stays open."""
    method, path, headers, body = request
    if path.startswith(CONTROL):
        content = receiver.control(method, path.removeprefix(CONTROL), body)
        await stream.send_all(_head(Step(headers={"content-type": "application/json"}), len(content)) + content)
        return True
    step = receiver.take(method, path, headers, body)
    if step.delay_s:
        await trio.sleep(step.delay_s)
    if step.fault == "hang":
        while await stream.receive_some(65_536):
            pass
        return False
    if step.fault == "close":
        return False
    size = 0 if step.status in (204, 304) else step.body_bytes  # these have no body
    answer = _head(step, size) + b"x" * size
    if step.fault in ("reset", "cut"):
        await stream.send_all(answer[: -(size + 1) // 2] if step.fault == "cut" else answer[:20])
        _reset(connection)
        return False
    await stream.send_all(answer)
    return True


def _head(step: Step, size: int) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in step.headers.items())
    phrase = HTTPStatus(step.status).phrase if step.status in _STATUSES else ""
    return f"HTTP/1.1 {step.status} {phrase}\r\ncontent-length: {size}\r\n{more}\r\n".encode()


_STATUSES = frozenset(HTTPStatus)


def _reset(connection: trio.SocketStream) -> None:
    """Make the coming close a reset: the sender sees an error instead of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Arriving:
    """Collects what the parser finds, until a request is complete."""

    def __init__(self) -> None:
        self.parser: httptools.HttpRequestParser
        self.complete: list[tuple[str, str, dict[str, str], bytes]] = []
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_message_begin(self) -> None:
        self._path, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method, path = self.parser.get_method().decode("ascii"), self._path.decode("latin-1")
        self.complete.append((method, path, self._headers, b"".join(self._body)))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.receiver", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 for a free one")
    parser.add_argument("--scripts", type=Path, help="file with a JSON object: path -> script")
    parser.add_argument("--lean", action="store_true", help="keep no headers and bodies")
    options = parser.parse_args()
    scripts = msgspec.json.decode(options.scripts.read_bytes(), type=dict[str, Script]) if options.scripts else None
    trio.run(_serve_and_say_where, Receiver(scripts, lean=options.lean), options.port)


async def _serve_and_say_where(receiver: Receiver, port: int) -> None:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_receiver, receiver, port=port))
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
