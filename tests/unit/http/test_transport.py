import gzip
import math
import os
import resource
import select
import socket
import ssl
import stat
from collections.abc import Callable, Iterator

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.fakes.names import NameServer
from tests.support.raw_receiver import OK, RawConnection, answering, closing_after, dead_port_on_loopback, raw_receiver
from trio_alerts.http import watch
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.pool import Connection
from trio_alerts.http.request import OriginKey, origin_key, render_request
from trio_alerts.http.resolver import Resolver
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport

PATIENCE_S = 10


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def post(url: str, body: bytes = b"{}") -> httpx.Request:
    return httpx.Request("POST", url, content=body)


async def exchange(
    transport: TrioTransport, request: httpx.Request, progress: SendProgress, deadline: float = math.inf
) -> int:
    data = render_request(request, request.content)
    answer = await transport.exchange(origin_key(request.url), data, progress, deadline, body_bound_s=math.inf)
    return answer.status


async def status(transport: TrioTransport, url: str) -> int:
    return (await transport.handle_async_request(post(url))).status_code


def counts(transport: TrioTransport) -> tuple[int, int, int]:
    """Idle, in use, waiting."""
    return transport._pool.counts()


def open_sockets() -> int:
    count = 0
    for descriptor in range(256):  # more than a test opens
        try:
            count += stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:
            continue
    return count


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task or the system's network is about to bring about (a few seconds at most)."""
    for _ in range(200_000):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    pytest.fail("it never came about")


@pytest.fixture
def dead_port() -> Iterator[int]:
    with dead_port_on_loopback() as port:
        yield port


# Under httpx, and without it


async def test_it_serves_an_httpx_client() -> None:
    """An `httpx.AsyncClient` over this transport works as over its own, and closes it."""
    transport = TrioTransport()
    async with raw_receiver() as receiver:
        async with httpx.AsyncClient(transport=transport) as client:
            response = await client.post(receiver.url, json={"a": 1}, headers={"webhook-id": "1-1"})

            assert (200, b"ok", "ok") == (response.status_code, response.content, response.text)
            assert "<TrioTransport idle=1 in_use=0 waiting=0 origins=1>" == repr(transport)
        assert "<TrioTransport idle=0 in_use=0 waiting=0 origins=0, closed>" == repr(transport)
    [request] = receiver.requests
    assert request.startswith(b"POST /hook HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nwebhook-id: 1-1\r\n" in request
    assert request.endswith(b'\r\nContent-Length: 7\r\n\r\n{"a":1}')


async def test_it_serves_without_a_client() -> None:
    """`handle_async_request` alone is enough; the answer is read already."""
    async with raw_receiver() as receiver, TrioTransport() as transport:
        response = await transport.handle_async_request(post(receiver.url))

        assert b"ok" == response.read()
        assert not response.extensions["truncated"]


async def test_a_compressed_body_is_left_alone() -> None:
    """A body that would be a thousand times larger unpacked is not unpacked, by httpx neither."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
    async with raw_receiver(answering(answer)) as receiver, httpx.AsyncClient(transport=TrioTransport()) as client:
        response = await client.post(receiver.url)

    assert bomb == response.content


# What is sent


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([("X", "a\r\nEvil: 1")], "b'X'"),
        ([("X", "a\nb")], "b'X'"),
        ([("X", "a\rb")], "b'X'"),
        ([("X", "a\0b")], "b'X'"),
        ([("X\r\nEvil", "1")], "b'X"),
        ([("X y", "1")], "b'X y'"),
        ([("", "1")], "b''"),
        ([("Authorization", "Bearer hush\n")], "b'Authorization'"),
        ([("Host", "a"), ("Host", "b")], "more than one Host"),
    ],
)
async def test_a_header_cannot_carry_another(headers: list[tuple[str, str]], fault: str) -> None:
    """Control characters in a header are refused before anything is opened; its value, a secret maybe, is not told."""
    request = httpx.Request("POST", "http://127.0.0.1:9/", headers=headers)
    transport = TrioTransport()

    with pytest.raises(httpx.LocalProtocolError, match=fault) as caught:
        await transport.handle_async_request(request)

    assert (0, 0, 0) == counts(transport)
    assert "hush" not in str(caught.value)


async def test_the_framing_is_ours() -> None:
    """Whatever length or coding the caller's headers claim, the receiver is told the truth."""
    headers = {"Content-Length": "99", "Transfer-Encoding": "chunked"}
    async with raw_receiver() as receiver, TrioTransport() as transport:
        await transport.handle_async_request(httpx.Request("POST", receiver.url, headers=headers, content=b"four"))
        await transport.handle_async_request(httpx.Request("GET", receiver.url))

    with_body, without = (request.lower() for request in receiver.requests)
    assert b"content-length: 4\r\n" in with_body
    assert 1 == with_body.count(b"content-length")
    assert b"transfer-encoding" not in with_body
    assert b"content-length" not in without


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "unix:///socket", "http:///nothing", "http://127.0.0.1:0/", "http://127.0.0.1:65616/"]
)
async def test_other_protocols_are_refused(url: str) -> None:
    """Only http and https, and only with a host and a port that exist (65616 would become 80)."""
    with pytest.raises(httpx.UnsupportedProtocol):
        await TrioTransport().handle_async_request(post(url))


# Keeping connections


async def test_a_connection_serves_one_request_after_another() -> None:
    """Requests in a row use one connection."""
    async with raw_receiver() as receiver, TrioTransport() as transport:
        assert [200] * 5 == [await status(transport, receiver.url) for _ in range(5)]

    assert (1, 5) == (receiver.connections, len(receiver.requests))


async def test_the_connection_used_last_is_used_next() -> None:
    """Under falling load the others are left to expire, instead of being kept alive in turn."""

    async def named(connection: RawConnection) -> None:
        while await connection.request() is not None:
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % connection.number)

    async with raw_receiver(named) as receiver, TrioTransport() as transport:
        used: list[bytes] = []

        async def one() -> None:
            used.append((await transport.handle_async_request(post(receiver.url))).read())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
        last = used[-1]
        await one()
        await one()

        assert (3, 0, 0) == counts(transport)
        assert [last, last] == used[-2:]


async def test_idle_connections_expire(mock_clock: MockClock) -> None:
    """After `keepalive_s` a connection is not used again, and the next request, to whatever origin, closes it."""
    async with raw_receiver() as receiver, raw_receiver() as other, TrioTransport(keepalive_s=30) as transport:
        await status(transport, receiver.url)
        mock_clock.jump(29.9)
        await status(transport, receiver.url)
        mock_clock.jump(30)
        await status(transport, other.url)
        await until(lambda: receiver.open == 0)

        assert (1, 1, 0) == (receiver.connections, other.connections, receiver.open)
        assert "<TrioTransport idle=1 in_use=0 waiting=0 origins=1>" == repr(transport)


async def test_the_receivers_own_limit_is_kept_to(mock_clock: MockClock) -> None:
    """`Keep-Alive: timeout=5`: not used in the last second, in which both sides could act at once."""
    polite = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"
    async with raw_receiver(answering(*[polite] * 9)) as receiver, TrioTransport() as transport:
        await status(transport, receiver.url)
        mock_clock.jump(3.9)
        await status(transport, receiver.url)
        assert 1 == receiver.connections
        mock_clock.jump(4.0)
        await status(transport, receiver.url)
        assert 2 == receiver.connections


async def test_idle_connections_are_bounded_over_all_origins() -> None:
    """Above `max_idle` the longest idle connection makes room: many receivers do not use up the open files."""
    async with (
        raw_receiver() as first,
        raw_receiver() as second,
        raw_receiver() as third,
        TrioTransport(max_idle=2) as transport,
    ):
        for receiver in (first, second, third):
            await status(transport, receiver.url)
        await until(lambda: first.open == 0)

        assert (2, 0, 0) == counts(transport)
        assert (1, 1) == (second.open, third.open)


@pytest.mark.parametrize(("limit", "idle"), [(1_024, 512), (resource.RLIM_INFINITY, 20_000)])
async def test_idle_connections_take_half_of_the_open_files(
    limit: int, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless told otherwise, as many idle connections are kept as leave room for others; no limit is no fault."""
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (limit, limit))

    async with raw_receiver() as receiver, TrioTransport() as transport:
        assert 200 == await status(transport, receiver.url)
        assert (1, 0, 0) == counts(transport)
        assert idle == transport._pool._max_idle


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", b"\r\n"])
async def test_a_stale_connection_is_noticed_before_use(farewell: bytes) -> None:
    """Closed while idle, or saying what nobody asked for: the next request goes over a fresh connection.

    The watch has noticed it; and a look at the socket itself, after a longer time, would have done so as well.
    """

    async def one_each(connection: RawConnection) -> None:
        await connection.request()
        await connection.say(OK)
        await until(lambda: counts(transport)[0] == 1)
        await connection.say(farewell)
        if farewell:
            await connection.request()  # until the client closes

    async with raw_receiver(one_each) as receiver, TrioTransport() as transport:
        for _ in range(3):
            assert 200 == await status(transport, receiver.url)
            [idle] = transport._pool._idle
            for idle_s in (0.0, 100.0):
                await until(lambda idle=idle, idle_s=idle_s: not idle.socket.is_quiet(idle_s))  # type: ignore[misc]

    assert (3, 3) == (receiver.connections, len(receiver.requests))


async def test_bytes_behind_an_answer_cost_the_connection() -> None:
    """A second answer in the same packet is not taken for the answer to the next request."""
    double = OK + b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"

    async def script(connection: RawConnection) -> None:
        while await connection.request() is not None:
            await connection.say(double)

    async with raw_receiver(script) as receiver, TrioTransport() as transport:
        assert [200, 200] == [await status(transport, receiver.url) for _ in range(2)]

    assert 2 == receiver.connections


async def test_a_request_that_was_sent_is_never_repeated() -> None:
    """The receiver closes instead of answering: it may have acted, so the caller decides, not the transport."""

    async def second_is_lost(connection: RawConnection) -> None:
        await connection.request()
        await connection.say(OK)
        await connection.request()

    progress = SendProgress()
    async with raw_receiver(second_is_lost) as receiver, TrioTransport() as transport:
        await status(transport, receiver.url)
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            await exchange(transport, post(receiver.url), progress)
        assert (0, 0, 0) == counts(transport)

    assert progress.started
    assert (1, 2) == (receiver.connections, len(receiver.requests))


class BrokenWhenUsed:
    """A socket that looks well and takes nothing: a reset that arrives between the look and the send."""

    closed = False

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    async def receive(self, deadline: float) -> bytes:
        raise AssertionError("nothing was sent")

    def is_quiet(self, idle_s: float) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


async def test_a_request_of_which_nothing_was_sent_is_repeated() -> None:
    """If a kept connection takes not a single byte, a fresh one is used: nobody can have seen the request."""
    progress = SendProgress()
    async with raw_receiver() as receiver, TrioTransport() as transport:
        pool = transport._pool
        origin = await pool.acquire(OriginKey("http", "127.0.0.1", receiver.port), math.inf)
        broken = BrokenWhenUsed()
        pool._keep(Connection(origin, broken), None)
        pool.release(origin)

        assert 200 == await exchange(transport, post(receiver.url), progress)
        assert (1, 1, True) == (receiver.connections, len(receiver.requests), broken.closed)
        assert (1, 0, 0) == counts(transport)
    assert progress.started


# The limit per origin


async def test_requests_above_the_limit_wait_in_order() -> None:
    """No more connections than allowed, and who came first is served first."""
    gate = trio.Semaphore(0)

    async def gated(connection: RawConnection) -> None:
        while await connection.request() is not None:
            await gate.acquire()
            await connection.say(OK)

    async with raw_receiver(gated) as receiver, TrioTransport(limit_per_origin=2) as transport:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(transport.handle_async_request, post(receiver.url, b"%d" % number))
                await until(lambda number=number: number + 1 == sum(counts(transport)))  # type: ignore[misc]
            for arrived in range(2, 10):
                await until(lambda arrived=arrived: arrived == len(receiver.requests))  # type: ignore[misc]
                assert (0, 2, 10 - arrived) == counts(transport)
                gate.release()
            gate.release()
            gate.release()
        order = [int(request[-1:]) for request in receiver.requests]

        assert (2, 0, 0) == counts(transport)
    assert 2 == receiver.connections
    assert [2, 3, 4, 5, 6, 7, 8, 9] == order[2:]


async def test_a_full_origin_does_not_hold_up_another() -> None:
    """Slots are per origin: a receiver that never answers blocks nobody else's requests."""

    async def never(connection: RawConnection) -> None:
        await connection.request()
        await trio.sleep_forever()

    async with raw_receiver(never) as hanging, raw_receiver() as well, TrioTransport(limit_per_origin=1) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(status, transport, hanging.url)
            await until(lambda: counts(transport) == (0, 1, 2))
            assert 200 == await status(transport, well.url)
            assert "<TrioTransport idle=1 in_use=1 waiting=2 origins=2>" == repr(transport)
            nursery.cancel_scope.cancel()
        assert (1, 0, 0) == counts(transport)


async def test_what_is_cancelled_already_is_not_sent() -> None:
    """A worker that is cut off just before its send has sent nothing, though a connection is ready."""
    async with raw_receiver() as receiver, TrioTransport() as transport:
        assert 200 == await status(transport, receiver.url)
        progress = SendProgress()
        with trio.CancelScope() as cut:
            cut.cancel()
            await exchange(transport, post(receiver.url), progress)

        assert cut.cancelled_caught
        assert not progress.started
        assert (1, 0, 0) == counts(transport)
    assert 1 == len(receiver.requests)


@pytest.mark.parametrize(("crowd", "sent_before"), [(3, [False, True, True]), (0, [False, False, False])])
async def test_a_crowd_is_made_before_it_is_sent(
    crowd: int, sent_before: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_alerts.http.transport.CROWD", crowd)
    progresses = [SendProgress() for _ in sent_before]
    seen: list[bool] = []

    async with raw_receiver() as receiver, TrioTransport() as transport:

        async def one(progress: SendProgress) -> None:
            seen.append(any(other.started for other in progresses))
            await exchange(transport, post(receiver.url), progress)

        for _ in range(2):  # first for the connections
            seen.clear()
            progresses[:] = [SendProgress() for _ in sent_before]
            async with trio.open_nursery() as nursery:
                for progress in progresses:
                    nursery.start_soon(one, progress)

        assert sent_before == seen
        assert (3, 0, 0) == counts(transport)


async def test_a_cancelled_waiter_leaks_no_slot() -> None:
    """Waiters cancelled in every position, again and again: afterwards every slot is still there."""
    async with raw_receiver() as receiver, TrioTransport(limit_per_origin=3) as transport:

        async def one(steps: int) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(status, transport, receiver.url)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    if steps:
                        scope.cancel()

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for steps in range(15):
                    nursery.start_soon(one, steps)

        assert (0, 0) == counts(transport)[1:]
        assert counts(transport)[0] <= 3
        for _ in range(5):
            assert 200 == await status(transport, receiver.url)
        [origin] = transport._pool.origins.values()
        assert 3 == origin.slots.value


# Cancellation


async def say_nothing(connection: RawConnection) -> None:
    """Neither read nor answer; a TLS client waits for the handshake."""
    await trio.sleep_forever()


async def stop_in_head(connection: RawConnection) -> None:
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\n")
    await trio.sleep_forever()


async def stop_in_body(connection: RawConnection) -> None:
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await trio.sleep_forever()


@pytest.mark.parametrize("end", ["cancelled", "too late", "too late, without epoll"])
@pytest.mark.parametrize(
    ("point", "may_have_been_seen"),
    [
        ("slot", False),
        ("resolve", False),
        ("connect", False),
        ("handshake", False),
        ("send", True),
        ("answer", True),
        ("head", True),
        ("body", True),
    ],
)
async def test_an_attempt_that_ends_early_leaves_nothing_behind(
    end: str,
    point: str,
    may_have_been_seen: bool,
    authority: trustme.CA,
    dead_port: int,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every await: the connection is closed, the slot is free, and the caller knows whether anything was sent."""
    monkeypatch.setattr(watch, "HAS_EPOLL", end != "too late, without epoll" and watch.HAS_EPOLL)
    script = {"head": stop_in_head, "body": stop_in_body}.get(point, say_nothing)
    body = b"x" * 20_000_000 if point == "send" else b"{}"  # more than the system buffers
    names = NameServer(takes_s=math.inf)
    transport = TrioTransport(limit_per_origin=1, ssl_context=client_context(authority), names=Resolver(names))
    progress = SendProgress()
    async with raw_receiver(script) as receiver, trio.open_nursery() as holder:
        url = {
            "resolve": f"http://receiver.example:{receiver.port}/",
            "connect": f"http://127.0.0.1:{dead_port}/",
            "handshake": receiver.url.replace("http:", "https:"),
        }.get(point, receiver.url)
        reached = {
            "slot": lambda: counts(transport)[2] == 1,
            "resolve": lambda: names.asked == 1,
            "connect": lambda: counts(transport)[1] == 1,
            "handshake": lambda: receiver.open == 1,
        }.get(point, lambda: progress.started and receiver.open == 1)
        if point == "slot":
            holder.start_soon(status, transport, receiver.url)
            await until(lambda: receiver.open == 1)
        counts_before, open_before, sockets_before = counts(transport), receiver.open, open_sockets()

        cancelled = []

        async def attempt(deadline: float) -> None:
            try:
                await exchange(transport, post(url, body), progress, deadline)
                assert point == "body"  # whose answer has a status: what comes too late is only the rest of it
                cancelled.append(False)
            except trio.TooSlowError:
                cancelled.append(False)
            except trio.Cancelled:
                cancelled.append(True)
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, math.inf if end == "cancelled" else mock_clock.current_time() + 4.0)
            await until(reached)
            await wait_all_tasks_blocked(0.01)  # so that what was said has been received
            if end == "cancelled":
                nursery.cancel_scope.cancel()
            else:
                mock_clock.jump(3.9)
                await wait_all_tasks_blocked(0.01)
                assert [] == cancelled
                mock_clock.jump(0.1)
                await until(lambda: bool(cancelled))

        assert [end == "cancelled"] == cancelled
        assert may_have_been_seen == progress.started
        assert counts_before == counts(transport)
        assert sockets_before + receiver.open - open_before == open_sockets()
        holder.cancel_scope.cancel()
    assert (0, 0, 0) == counts(transport)
    assert {} == transport._pool.origins


# Opening connections


async def test_a_refused_connection_is_told_with_its_address() -> None:
    """Nobody listens: an error of the connecting phase that names where."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        transport = TrioTransport()
        with pytest.raises(httpx.ConnectError, match=rf"refused.*127\.0\.0\.1 port {port}"):
            await status(transport, f"http://127.0.0.1:{port}/")
    assert (0, 0, 0) == counts(transport)


async def test_connecting_has_its_own_bound(mock_clock: MockClock, dead_port: int) -> None:
    """Without an answer to the connection, the attempt ends at `connect_timeout_s`, and nothing was sent."""
    caught: list[BaseException] = []
    progress = SendProgress()
    transport = TrioTransport(connect_timeout_s=5)
    sockets = 0

    async def attempt() -> None:
        with pytest.raises(httpx.ConnectTimeout) as error:
            await exchange(transport, post(f"http://127.0.0.1:{dead_port}/"), progress)
        caught.append(error.value)

    async with trio.open_nursery() as nursery:
        sockets = open_sockets()
        nursery.start_soon(attempt)
        await until(lambda: open_sockets() == sockets + 1)
        mock_clock.jump(4.9)
        await wait_all_tasks_blocked()
        assert [] == caught
        mock_clock.jump(0.1)
        await until(lambda: len(caught) == 1)
        assert sockets == open_sockets()

    assert not progress.started
    assert (0, 0, 0) == counts(transport)


async def test_dns_that_does_not_answer_is_named(autojump_clock: MockClock) -> None:
    """Whoever reads the reason must know that it is DNS, not the receiver."""
    async with TrioTransport(connect_timeout_s=5, names=Resolver(NameServer(takes_s=math.inf))) as transport:
        with pytest.raises(httpx.ConnectTimeout, match=r"no address of 'receiver\.example' from DNS within 5 s"):
            await status(transport, "http://receiver.example/")


async def test_a_dead_address_leaves_time_for_the_next(mock_clock: MockClock, dead_port: int) -> None:
    """A first address that swallows packets costs a quarter of a second, and the alert arrives by the second one."""
    names = NameServer(["127.0.0.1", "127.0.0.2"])
    async with TrioTransport(connect_timeout_s=5, names=Resolver(names)) as transport:
        # Both addresses share the port, on which only the second one accepts.
        with socket.socket() as listener:
            listener.bind(("127.0.0.2", dead_port))
            listener.listen()
            async with trio.open_nursery() as nursery:
                sockets = open_sockets()
                nursery.start_soon(status, transport, f"http://receiver.example:{dead_port}/")
                await until(lambda: open_sockets() == sockets + 1)
                mock_clock.jump(0.25)
                await until(lambda: bool(select.select([listener], [], [], 0)[0]))
                async with trio.SocketStream(trio.socket.from_stdlib_socket(listener.accept()[0])) as stream:
                    assert (await stream.receive_some()).startswith(b"POST / HTTP/1.1")
                    await stream.send_all(OK)
                    await until(lambda: counts(transport) == (1, 0, 0))


async def test_receivers_that_cannot_be_connected_to_delay_no_other(mock_clock: MockClock, dead_port: int) -> None:
    """With a hundred attempts stuck in lookups and connects, another receiver gets its alert at once."""
    names = NameServer(takes_s=math.inf)
    async with raw_receiver() as well, TrioTransport(names=Resolver(names)) as transport, trio.open_nursery() as stuck:
        for number in range(50):
            stuck.start_soon(status, transport, f"http://127.0.0.1:{dead_port}/")
            stuck.start_soon(status, transport, f"http://receiver-{number}.example/")
        await until(lambda: counts(transport) == (0, 100, 0) and names.asked == 50)

        assert 200 == await status(transport, well.url)
        assert 0 == mock_clock.current_time()
        stuck.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "::ffff:127.0.0.1"])
async def test_odd_spellings_are_judged_by_what_they_mean(host: str) -> None:
    """However loopback is written, `public` refuses it, and no resolver is asked."""
    transport = TrioTransport(networks=AllowedNetworks(public_only=True), names=Resolver(NameServer()))
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
        await transport.exchange(OriginKey("http", host, 80), b"", SendProgress())


async def test_a_forbidden_receiver_is_not_connected_to() -> None:
    """With `public`, a receiver on loopback is refused for good, before anything is opened."""
    progress = SendProgress()
    async with raw_receiver() as receiver, TrioTransport(networks=AllowedNetworks(public_only=True)) as transport:
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1 \(not a public address\)"):
            await exchange(transport, post(receiver.url), progress)
        assert 0 == receiver.connections
        assert (0, 0, 0) == counts(transport)
    assert not progress.started


async def test_a_name_is_resolved_once_and_its_checked_address_used(mock_clock: MockClock) -> None:
    """A name that answers differently the second time leads nowhere else, and is judged again next time."""
    names = NameServer(["127.0.0.1"], ["169.254.169.254"])
    async with raw_receiver() as receiver, TrioTransport(keepalive_s=30, names=Resolver(names)) as transport:
        url = f"http://receiver.example:{receiver.port}/"
        assert 200 == await status(transport, url)
        assert 1 == names.asked
        mock_clock.jump(31)
        with pytest.raises(AddressRefused):
            await status(transport, url)

    assert (1, 2) == (receiver.connections, names.asked)
    assert receiver.requests[0].startswith(b"POST / HTTP/1.1\r\nHost: receiver.example:")


async def test_a_moved_name_is_followed_while_its_old_address_is_in_use(mock_clock: MockClock) -> None:
    """A lookup serves for a second, not for as long as there are connections."""
    names = NameServer(["127.0.0.1"], ["169.254.169.254"])
    async with raw_receiver(say_nothing) as receiver, trio.open_nursery() as nursery:
        transport = TrioTransport(names=Resolver(names))
        url = f"http://receiver.example:{receiver.port}/"
        refused = trio.Event()

        async def again() -> None:
            with pytest.raises(AddressRefused):
                await status(transport, url)
            refused.set()

        nursery.start_soon(status, transport, url)
        await until(lambda: receiver.open == 1)
        mock_clock.jump(1)
        nursery.start_soon(again)
        await until(refused.is_set)
        nursery.cancel_scope.cancel()


async def test_a_burst_of_connections_asks_the_resolver_once() -> None:
    """A thousand workers that start together are not a thousand lookups."""
    names = NameServer(["127.0.0.1"])
    async with (
        raw_receiver() as receiver,
        TrioTransport(names=Resolver(names)) as transport,
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(status, transport, f"http://receiver.example:{receiver.port}/")
        await until(lambda: counts(transport) == (20, 0, 0))

    assert (1, 20) == (names.asked, len(receiver.requests))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_reaching_opens_a_connection_and_sends_nothing(tls: bool, authority: trustme.CA) -> None:
    """Whoever only wants to know whether a receiver is there leaves it, and the pool, as they were."""
    async with (
        raw_receiver(tls=server_context(authority) if tls else None) as receiver,
        TrioTransport(ssl_context=client_context(authority)) as transport,
    ):
        await transport.reach(OriginKey("https" if tls else "http", "127.0.0.1", receiver.port), math.inf)
        await until(lambda: receiver.connections == 1 and receiver.open == 0)

        assert [] == receiver.requests
        assert (0, 0, 0) == counts(transport)
        assert {} == transport._pool.origins
    with pytest.raises(httpx.ConnectError, match="refused"):
        await TrioTransport().reach(OriginKey("http", "127.0.0.1", receiver.port), math.inf)
    async with raw_receiver(tls=server_context(authority)) as stranger:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await TrioTransport().reach(OriginKey("https", "127.0.0.1", stranger.port), math.inf)


# TLS


async def test_tls_connections_are_verified_kept_and_resumed(authority: trustme.CA, mock_clock: MockClock) -> None:
    """A verified connection is kept like a plain one; a later one resumes its session."""
    resumed: list[bool] = []

    async def script(connection: RawConnection) -> None:
        while await connection.request() is not None:
            assert isinstance(connection.stream, trio.SSLStream)
            resumed.append(connection.stream.session_reused)
            await connection.say(OK)

    async with (
        raw_receiver(script, tls=server_context(authority)) as receiver,
        raw_receiver(tls=server_context(authority)) as other,
        TrioTransport(ssl_context=client_context(authority), keepalive_s=30) as transport,
    ):

        async def one() -> None:
            await status(transport, receiver.url)

        assert [200, 200] == [await status(transport, receiver.url) for _ in range(2)]
        assert (1, [False, False]) == (receiver.connections, resumed)
        assert 200 == await status(transport, other.url)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
        assert 3 == receiver.connections
        assert [False, True, True] == sorted(resumed[2:])


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_receiver_that_cannot_prove_its_name_gets_nothing(authority: trustme.CA, wrong: str) -> None:
    """An unknown authority, or a certificate for another host: no request is sent."""
    trusted = trustme.CA() if wrong == "authority" else authority
    certificate = server_context(authority, "127.0.0.1" if wrong == "authority" else "other.example")
    progress = SendProgress()
    async with (
        raw_receiver(tls=certificate) as receiver,
        TrioTransport(ssl_context=client_context(trusted)) as transport,
    ):
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await exchange(transport, post(receiver.url), progress)
        assert (0, 0, 0) == counts(transport)

    assert [] == receiver.requests
    assert not progress.started


async def test_plain_http_behind_https_is_a_connection_error() -> None:
    """A receiver that does not speak TLS is told as one that cannot be connected to."""

    async def plain(connection: RawConnection) -> None:
        await connection.stream.receive_some()
        await connection.say(b"HTTP/1.1 400 This is no TLS\r\n\r\n")

    async with raw_receiver(plain) as receiver, TrioTransport() as transport:
        with pytest.raises(httpx.ConnectError, match="cannot connect"):
            await status(transport, receiver.url.replace("http:", "https:"))


async def test_a_second_answer_inside_tls_is_noticed(authority: trustme.CA) -> None:
    """Also what was received but not yet decrypted keeps a connection from being used again."""

    async def script(connection: RawConnection) -> None:
        while await connection.request() is not None:
            assert isinstance(connection.stream, trio.SSLStream)
            # Two TLS records, which arrive together.
            connection.stream._ssl_object.write(OK)
            await connection.say(b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n")

    async with (
        raw_receiver(script, tls=server_context(authority)) as receiver,
        TrioTransport(ssl_context=client_context(authority)) as transport,
    ):
        assert [200, 200] == [await status(transport, receiver.url) for _ in range(2)]

    assert 2 == receiver.connections


async def test_an_end_without_tls_farewell_ends_a_body_without_length(authority: trustme.CA) -> None:
    """Most servers just close; a body with a length that is cut so is still refused."""
    whole = b"HTTP/1.1 200 OK\r\n\r\nto the end"
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nto the end"
    async with (
        raw_receiver(closing_after(whole, cut), tls=server_context(authority)) as receiver,
        TrioTransport(ssl_context=client_context(authority)) as transport,
    ):
        response = await transport.handle_async_request(post(receiver.url))
        assert b"to the end" == response.read()
        with pytest.raises(httpx.RemoteProtocolError, match="in the body"):
            await status(transport, receiver.url)


async def test_a_large_request_goes_through_tls(authority: trustme.CA) -> None:
    """A body of many TLS records arrives whole."""
    body = os.urandom(1_000_000)
    async with (
        raw_receiver(tls=server_context(authority)) as receiver,
        TrioTransport(ssl_context=client_context(authority)) as transport,
    ):
        response = await transport.handle_async_request(post(receiver.url, body))

    assert 200 == response.status_code
    assert receiver.requests[0].endswith(b"\r\n\r\n" + body)


# Answers


async def test_a_megabyte_of_answer_is_not_swallowed() -> None:
    """A huge answer counts by its status; 64 KiB are read, the rest is cut off with the connection."""
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_048_576
    async with raw_receiver(answering(huge, OK)) as receiver, TrioTransport() as transport:
        response = await transport.handle_async_request(post(receiver.url))

        assert (200, b"x" * 65_536) == (response.status_code, response.read())
        assert response.extensions["truncated"]
        assert (0, 0, 0) == counts(transport)


async def test_an_early_refusal_is_read() -> None:
    """A receiver that answers before it has read everything, and closes, is heard if its answer arrived."""

    async def too_large(connection: RawConnection) -> None:
        await connection.stream.receive_some(100)
        await connection.say(b"HTTP/1.1 413 Too large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        while await connection.stream.receive_some(1_000_000):
            pass

    async with raw_receiver(too_large) as receiver, TrioTransport() as transport:
        response = await transport.handle_async_request(post(receiver.url, b"x" * 10_000_000))

    assert 413 == response.status_code


async def test_a_reset_is_told_and_leaves_nothing() -> None:
    """A connection that breaks in the middle of the answer is a read error, and its slot is free again."""

    async def broken(connection: RawConnection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        connection.reset()

    async with raw_receiver(broken) as receiver, TrioTransport() as transport:
        with pytest.raises(httpx.ReadError):
            await status(transport, receiver.url)
        assert (0, 0, 0) == counts(transport)


async def test_a_closed_transport_refuses_and_closes_what_ends_later() -> None:
    """After `aclose`: idle connections are closed, new and waiting requests refused, running ones finish."""
    release = trio.Event()

    async def slow(connection: RawConnection) -> None:
        while await connection.request() is not None:
            await release.wait()
            await connection.say(OK)

    async with raw_receiver(slow) as receiver, trio.open_nursery() as nursery:
        transport = TrioTransport(limit_per_origin=1)
        results: list[int | str] = []

        async def one() -> None:
            try:
                results.append(await status(transport, receiver.url))
            except RuntimeError as error:
                results.append(str(error))

        nursery.start_soon(one)
        nursery.start_soon(one)
        await until(lambda: counts(transport) == (0, 1, 1) and len(receiver.requests) == 1)
        await transport.aclose()
        release.set()
        await until(lambda: len(results) == 2 and receiver.open == 0)

        assert {200, "the transport was closed"} == set(results)
        with pytest.raises(RuntimeError, match="is closed"):
            await status(transport, receiver.url)
        assert (0, 0, 0) == counts(transport)
        nursery.cancel_scope.cancel()
