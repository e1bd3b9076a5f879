"""The HTTP server: what it answers, and which clients it cuts so that nothing else waits for them."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
import trio
from hypercorn.typing import ASGIFramework
from loguru import logger
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_alerts.errors import SettingsError
from trio_alerts.settings.hosts import BindAddress
from trio_alerts.web.connection import IDLE_S, SEND_BOUND_S
from trio_alerts.web.serve import MOST_CONNECTIONS, bind, serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def hello(scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, scope["path"].encode())


async def answer(send: Send, *chunks: bytes) -> None:
    length = str(sum(map(len, chunks))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def flood(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, *[b"x" * 1_000_000] * 50)


class Site:
    """A server under test, and clients of it."""

    def __init__(self, port: int, nursery: trio.Nursery, stopping: trio.Event) -> None:
        self.port = port
        self.stopping = stopping
        self.scope = nursery.cancel_scope

    async def connect(self, say: bytes = b"") -> trio.SocketStream:
        client = await trio.open_tcp_stream("127.0.0.1", self.port)
        await client.send_all(say)
        return client

    async def get(self, request: bytes = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) -> bytes:
        async with await self.connect(request) as client:
            return await rest_of(client)


async def rest_of(client: trio.SocketStream) -> bytes:
    data = b""
    try:
        async for chunk in client:
            data += chunk
    except trio.BrokenResourceError:
        data += b"(reset)"
    return data


@asynccontextmanager
async def served(app: ASGIFramework, grace_s: float = 0.0) -> AsyncIterator[Site]:
    listener = bind(BindAddress(ip_address("127.0.0.1"), 0), "http_bind")
    port, stopping = listener.getsockname()[1], trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, app, listener, stopping, grace_s)
        yield Site(port, nursery, stopping)
        nursery.cancel_scope.cancel()


async def settled() -> None:
    """Let the kernel hand over what was sent, and everybody take it in, without time passing."""
    for _ in range(5):
        await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.01)


async def test_it_answers_and_does_not_say_what_it_is() -> None:
    """An answer has the application's headers and a date, and no header that names the server."""
    async with served(hello) as site:
        head, _, body = (await site.get()).partition(b"\r\n\r\n")

    assert b"/" == body
    assert b"HTTP/1.1 200 " == head.partition(b"\r\n")[0]
    assert [b"connection", b"content-length", b"date"] == sorted(
        line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]
    )


async def test_a_taken_port_is_a_wrong_setting() -> None:
    """The message names the setting, the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^http_bind: cannot listen on 127.0.0.1:{port}: Address already in"):
            bind(BindAddress(ip_address("127.0.0.1"), port), "http_bind")


def test_an_address_of_another_machine_is_a_wrong_setting() -> None:
    """An address that no interface has cannot be listened on."""
    with pytest.raises(SettingsError, match=r"^http_bind: cannot listen on 192.0.2.1:8080: Cannot assign requested"):
        bind(BindAddress(ip_address("192.0.2.1"), 8080), "http_bind")


@pytest.mark.parametrize("size", [1_000, 1_000_000])
async def test_who_is_answered_before_the_end_of_a_body_is_hung_up_on(size: int) -> None:
    """What the application did not ask for is not waited for, however much of it there is."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n"
    async with served(late) as site, await site.connect(head) as client:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_what_goes, client, b"x" * size)
                answered = await rest_of(client)

    assert answered.startswith(b"HTTP/1.1 200 ")


async def late(scope: Any, receive: Any, send: Any) -> None:
    await wait_all_tasks_blocked(0.05)  # by then there is more of the body than is held
    await hello(scope, receive, send)


async def send_what_goes(client: trio.SocketStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await client.send_all(data)


async def test_who_does_not_read_is_cut(mock_clock: MockClock) -> None:
    """A client that takes nothing of its answer for `SEND_BOUND_S` is gone."""
    async with served(flood) as site, await site.connect(GET) as client:
        await trio.lowlevel.wait_readable(client.socket)
        await settled()
        mock_clock.jump(SEND_BOUND_S + 0.1)
        await settled()
        assert 50_000_000 > len(await rest_of(client))


async def test_a_stop_does_not_wait_for_who_does_not_read() -> None:
    """A cancellation ends a connection in the middle of an answer that nobody reads."""
    async with served(flood) as site, await site.connect(GET) as client:
        await trio.lowlevel.wait_readable(client.socket)
        await settled()
        with trio.fail_after(30):
            site.scope.cancel()
            assert 50_000_000 > len(await rest_of(client))


async def test_who_says_nothing_is_cut(mock_clock: MockClock) -> None:
    """A client has `IDLE_S` to send the head of a request, however often it sends a byte of it."""
    async with served(hello) as site, await site.connect(GET[:5]) as client:
        await settled()
        mock_clock.jump(IDLE_S - 0.1)
        await client.send_all(GET[5:9])
        await settled()
        mock_clock.jump(0.2)
        assert b"" == await rest_of(client)


async def test_the_newest_connection_is_served_when_there_are_too_many() -> None:
    """A probe gets its answer while somebody holds every connection; the oldest of them is cut."""
    async with served(hello) as site:
        held = [await site.connect() for _ in range(MOST_CONNECTIONS)]
        assert b"200" in await site.get()
        assert b"" == await rest_of(held[0])
        await held[1].send_all(GET)
        assert b"200" in await held[1].receive_some()
        for client in held:
            await client.aclose()


async def test_at_a_stop_an_answer_under_way_is_finished() -> None:
    """Once it stops, idle connections end, nothing is accepted, and what is being answered has the grace time."""
    go = trio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await go.wait()
        await answer(send, b"late")

    async with served(slow, grace_s=60.0) as site:
        idle, busy = await site.connect(), await site.connect(GET)
        async with idle, busy:
            await settled()
            site.stopping.set()
            assert b"" == await rest_of(idle)
            with pytest.raises(OSError, match="all attempts to connect"):
                await site.connect()
            go.set()
            assert (await rest_of(busy)).endswith(b"late")


async def test_the_grace_time_ends(autojump_clock: MockClock) -> None:
    """What takes longer than the grace time is cut."""

    async def endless(*_: Any) -> None:
        await trio.sleep_forever()

    async with served(endless, grace_s=7.0) as site, await site.connect(GET) as client:
        await settled()
        began_s = trio.current_time()
        site.stopping.set()
        await rest_of(client)

    assert 7.0 == pytest.approx(trio.current_time() - began_s, abs=0.1)


async def test_a_bug_of_a_page_is_logged_and_others_are_served() -> None:
    """An application that fails answers 500, once in the log with its traceback, and the server goes on."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bug":
            raise KeyError("a bug")
        await hello(scope, receive, send)

    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    try:
        async with served(broken) as site:
            assert b"HTTP/1.1 500 " in await site.get(GET.replace(b"/ ", b"/bug "))
            assert b"HTTP/1.1 200 " in await site.get()
    finally:
        logger.remove(sink)

    assert 1 == len(lines)
    assert "a page failed unexpectedly" in lines[0]
    assert "KeyError: 'a bug'" in lines[0]


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: !\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /?\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    ],
    ids=["tls", "long head", "h2c", "h2", "websocket", "escapes", "high bytes", "chunk"],
)
async def test_a_hostile_request_harms_nobody_else(bytes_: bytes) -> None:
    """Whatever bytes a client sends, the next one is answered."""
    async with served(hello) as site:
        async with await site.connect(bytes_) as client:
            with trio.fail_after(30):
                await client.send_eof()
                await rest_of(client)
        assert b"HTTP/1.1 200 " in await site.get()
