"""Serves a receiver: as much of HTTP/1.1 as a sender of webhooks uses, and as little work as possible.

The machine's cores belong to the worker processes that are being shown.
"""

from functools import partial
from http import HTTPStatus

import trio

from trio_alerts.demo.mail_server import serve_mail
from trio_alerts.demo.receivers import Answer, Receiver

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024  # an alert has 256 KiB at most


async def serve_receiver(receiver: Receiver, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on a free port of 127.0.0.1 until cancelled; `started` gives the URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port, service = listeners[0].socket.getsockname()[1], receiver.service
    async with trio.open_nursery() as connections:
        handler = partial(serve_mail if service.scheme == "smtp" else serve_connection, receiver)
        await connections.start(partial(trio.serve_listeners, handler, listeners, handler_nursery=connections))
        task_status.started(f"{service.scheme}://127.0.0.1:{port}{service.path}")


async def serve_connection(receiver: Receiver, stream: trio.abc.Stream) -> None:
    """Answer one connection's requests, one after the other, until its sender is done."""
    received = bytearray()
    try:
        while (request := await _next_request(stream, received)) is not None:
            headers, body = request
            answer = receiver.take(headers, body)
            await trio.sleep(answer.delay_s)
            await stream.send_all(_rendered(answer))
    except (trio.BrokenResourceError, ValueError):
        pass  # the sender went away, as a killed worker does, or sent what is no webhook
    finally:
        await trio.aclose_forcefully(stream)


async def _next_request(stream: trio.abc.Stream, received: bytearray) -> tuple[dict[str, str], bytes] | None:
    """Return headers (names in lower case) and body of the next request; None when the sender is done.

    Raises:
        ValueError: It is no HTTP, too large, or has a body of unknown length.
    """
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        if not await _receive(stream, received):
            return None
    lines = received[:end].decode("latin-1").split("\r\n")[1:]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = int(headers["content-length"]) if "content-length" in headers else 0
    if not 0 <= size <= MAX_BODY_BYTES or "transfer-encoding" in headers:
        raise ValueError("the body is too large, or of unknown length")
    whole = end + 4 + size
    while len(received) < whole:
        if not await _receive(stream, received):
            return None
    body = bytes(received[end + 4 : whole])
    del received[:whole]
    return headers, body


async def _receive(stream: trio.abc.Stream, received: bytearray) -> bool:
    data = await stream.receive_some(65_536)
    received += data
    return bool(data)


def _rendered(answer: Answer) -> bytes:
    status = HTTPStatus(answer.status)
    lines = [f"HTTP/1.1 {status} {status.phrase}", f"content-length: {len(answer.body)}"]
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        lines.append("retry-after: 1")  # the least that can be said
    return "\r\n".join([*lines, "", ""]).encode() + answer.body
