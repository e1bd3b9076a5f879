"""Behind the final head of an answer: whoever asks what a receiver decided knows it, whatever becomes of the body."""

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.raw_receiver import RawConnection, Script, closing_after, raw_receiver
from tests.unit.http.test_response import CHUNKS
from tests.unit.http.test_transport import (
    authority,
    client_context,
    counts,
    post,
    server_context,
    status,
    stop_in_body,
    until,
)
from trio_alerts.http.request import origin_key, render_request
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport

__all__ = ["authority"]  # a fixture


async def attempt(transport: TrioTransport, url: str, answers: list[AnswerParser]) -> None:
    request, deadline = post(url), trio.current_time() + 15
    data = render_request(request, request.content)
    answers.append(await transport.exchange(origin_key(request.url), data, SendProgress(), deadline))


def answer_with(framing: bytes, rest: bytes, end: str) -> Script:
    """Make a receiver that sends the head of an answer, some of its body, and then ends it badly."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 410 Gone\r\nRetry-After: 7\r\n%b\r\n\r\n" % framing + rest)
        if end == "reset":
            connection.reset()
        elif end == "drip":
            while True:
                await connection.say(b"1\r\nx\r\n" if b"chunked" in framing else b"x")
                await trio.sleep(0.3)
        elif end == "hang":
            await trio.sleep_forever()

    return script


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["closed", "reset", "hang", "drip"])
@pytest.mark.parametrize(
    ("framing", "rest"),
    [
        (b"Content-Length: 1000000", b""),
        (b"Content-Length: 1000000", b"some"),
        (b"Transfer-Encoding: chunked", b"4\r\nsome\r\n"),
        (b"X-No: length", b"some"),
    ],
)
async def test_what_becomes_of_the_body_changes_nothing(
    framing: bytes, rest: bytes, end: str, tls: bool, authority: trustme.CA, mock_clock: MockClock
) -> None:
    """Behind the final head the status is known: a body that is cut, reset, hangs or never ends takes 1 s at most."""
    answers: list[AnswerParser] = []
    async with (
        raw_receiver(answer_with(framing, rest, end), tls=server_context(authority) if tls else None) as receiver,
        TrioTransport(ssl_context=client_context(authority)) as transport,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(attempt, transport, receiver.url, answers)
        await until(lambda: receiver.requests != [])
        await wait_all_tasks_blocked(0.01)
        for jump_s in (0.6, 0.3):
            assert (end in ("hang", "drip")) == (answers == [])
            mock_clock.jump(jump_s)
            await wait_all_tasks_blocked(0.01)
        mock_clock.jump(0.2)
        await until(lambda: answers != [])

        [answer] = answers
        assert (410, False, True) == (answer.status, answer.reusable, answer.complete)
        assert (b"retry-after", b"7") in answer.headers
        assert bytes(answer.body).startswith(b"some"[: len(rest)])
        assert (0, 0, 0) == counts(transport)
        nursery.cancel_scope.cancel()


async def test_a_body_that_comes_soon_is_read_and_its_connection_kept(mock_clock: MockClock) -> None:
    """Head and body in two packets, the second a moment later, as many servers write them."""
    body_is_due = trio.Event()

    async def script(connection: RawConnection) -> None:
        while await connection.request() is not None:
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            await body_is_due.wait()
            await connection.say(b"ok")

    answers: list[AnswerParser] = []
    async with raw_receiver(script) as receiver, TrioTransport() as transport, trio.open_nursery() as nursery:
        nursery.start_soon(attempt, transport, receiver.url, answers)
        await until(lambda: receiver.requests != [])
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(0.9)
        await wait_all_tasks_blocked(0.01)
        body_is_due.set()
        await until(lambda: answers != [])

        assert (b"ok", None, True) == (bytes(answers[0].body), answers[0].cut, answers[0].reusable)
        assert (1, 0, 0) == counts(transport)


async def test_the_deadline_ends_a_body_before_its_own_bound(mock_clock: MockClock) -> None:
    """A head that comes just in time is in time, and the attempt takes no longer than it may."""
    head_is_due = trio.Event()
    answers: list[AnswerParser] = []

    async def late(connection: RawConnection) -> None:
        await connection.request()
        await head_is_due.wait()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await trio.sleep_forever()

    async with raw_receiver(late) as receiver, TrioTransport() as transport, trio.open_nursery() as nursery:
        nursery.start_soon(attempt, transport, receiver.url, answers)
        await until(lambda: receiver.requests != [])
        mock_clock.jump(14.9)
        head_is_due.set()
        await wait_all_tasks_blocked(0.01)
        assert [] == answers
        mock_clock.jump(0.1)
        await until(lambda: answers != [])

        assert 200 == answers[0].status
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 9\r\n\r\nhalf", CHUNKS + b"\r\n\r\n4\r\nhalf", CHUNKS + b"\r\n\r\nx"]
)
async def test_who_needs_the_whole_body_is_told_that_it_is_cut(rest: bytes) -> None:
    """The store's answers are data: half of one is none, and must not look like one."""
    async with raw_receiver(closing_after(b"HTTP/1.1 200 OK\r\n" + rest)) as receiver, TrioTransport() as transport:
        with pytest.raises(httpx.RemoteProtocolError):
            await status(transport, receiver.url)
        assert (0, 0, 0) == counts(transport)


async def test_who_needs_the_whole_body_waits_for_it(mock_clock: MockClock) -> None:
    """The store may take as long with a body as with a head; its own time-out bounds both."""
    answers: list[httpx.Response] = []
    async with raw_receiver(stop_in_body) as receiver, TrioTransport() as transport, trio.open_nursery() as nursery:

        async def attempt() -> None:
            answers.append(await transport.handle_async_request(post(receiver.url)))

        nursery.start_soon(attempt)
        await until(lambda: receiver.requests != [])
        for _ in range(10):
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(1)
        assert [] == answers
        nursery.cancel_scope.cancel()
