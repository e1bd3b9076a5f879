"""A receiver of notifications that does what its script says and keeps a ledger of what it was sent.

It is a process of its own, so that it outlives every crash of the program under test:
`tests.support.servers.ReceiverServer`. By hand: `python -m tests.support.receiver --port 8081 --scripts scripts.json`.
Its ledger is read at `/_receiver/ledger`.
"""

import argparse
import os
import time
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import msgspec
import trio
from msgspec import Struct, field

from tests.support.raw_receiver import RawConnection, raw_receiver

CONTROL = "/_receiver/"
MIB = 1024 * 1024


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


async def serve(receiver: Receiver, port: int) -> None:
    """Serve on this port of 127.0.0.1 until cancelled."""
    async with raw_receiver(partial(_answer_requests, receiver), port=port):
        await trio.sleep_forever()


async def _answer_requests(receiver: Receiver, connection: RawConnection) -> None:
    known = False
    while (request := await connection.receive()) is not None:
        method, path, headers, body = _parsed(request)
        if path.startswith(CONTROL):
            await connection.say(_rendered(Step(), receiver.control(method, path.removeprefix(CONTROL), body)))
            continue
        receiver.ledger.totals.connections += not known
        known = True
        if not await _do(receiver.take(method, path, headers, body), connection):
            return


async def _do(step: Step, connection: RawConnection) -> bool:
    """Do what the script says; return whether the connection stays open."""
    await trio.sleep(step.delay_s)
    if step.fault == "hang":
        while await connection.receive() is not None:
            pass
    if step.fault in ("hang", "close"):
        return False
    body = b"" if step.status in (204, 304) else b"x" * step.body_bytes  # these have no body
    answer = _rendered(step, body)
    if step.fault is None:
        await connection.say(answer)
        return True
    await connection.say(answer[:20] if step.fault == "reset" else answer[: -(len(body) + 1) // 2])
    connection.reset()
    return False


def _parsed(request: bytes) -> tuple[str, str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    return (
        method,
        path,
        {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
        body,
    )


def _rendered(step: Step, body: bytes) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in step.headers.items())
    phrase = HTTPStatus(step.status).phrase if step.status in _STATUSES else ""
    return f"HTTP/1.1 {step.status} {phrase}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


_STATUSES = frozenset(HTTPStatus)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.receiver", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    parser.add_argument("--scripts", type=Path, help="file with a JSON object: path -> script")
    parser.add_argument("--lean", action="store_true", help="keep no headers and bodies")
    options = parser.parse_args()
    scripts = msgspec.json.decode(options.scripts.read_bytes(), type=dict[str, Script]) if options.scripts else None
    trio.run(serve, Receiver(scripts, lean=options.lean), options.port)


if __name__ == "__main__":
    main()
