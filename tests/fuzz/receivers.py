"""Answers of receivers, as bytes on the wire: through the real parser, transport and webhook channel.

Most answers are made so that what must come of them is known; some are then broken at random, and judged by what still
must hold. Sockets are in memory, time is virtual.
"""

import datetime as dt
import ssl
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise, repeat
from random import Random

import httpx
import msgspec
import trio
from trio.testing import MockClock

from tests.fuzz.target import Target
from trio_alerts.channels.http import KEPT_ANSWER_BYTES, HttpChannel
from trio_alerts.channels.webhook import Webhook, WebhookSettings
from trio_alerts.http.pool import BODY_BOUND_S, Connection, Origin
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.status import REFUSED_FOR_GOOD, UNSEEN_STATUSES
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.settings.addresses import parse_receiver_url

ATTEMPT_S = 15.0
CONNECT_S = 5.0
NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

STATUSES = (
    *(200, 201, 202, 204, 206, 299, 300, 302, 304, 400, 401, 403, 404, 408, 409, 410, 413, 422, 425, 429, 499),
    *(500, 501, 502, 503, 504, 505, 511, 520, 524, 527, 530, 598, 600, 999),
)
RETRY_AFTERS = (
    *(b"0", b"7", b"120", b"-1", b"1.5", b"soon", b"", b"9" * 400, b"\xb2", b"1e9", b"0x10", b"7, 8", b","),
    b"Mon, 20 Nov 9999999999 12:00:00 GMT",
    b"Mon, 23 Nov 2026 12:02:00 GMT",
    b"Mon, 99 Xyz 2026 1:2:3 +99999999",
)
HEADERS = (
    *(
        b"Content-Type: text/html; charset=nonsense",
        b"Content-Encoding: gzip",
        b"Connection: close",
        b"Set-Cookie: a=b",
    ),
    *(
        b"Keep-Alive: timeout=0",
        b"Keep-Alive: timeout=999999",
        b"Keep-Alive: x",
        b"X: \xff\x80",
        b"X:",
        b"Location: //",
    ),
)
INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 199 X\r\n\r\n")
# What could make another reader see another answer.
TWO_WAYS = (
    b"Content-Length: 2\r\nContent-Length: 3",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 0x2",
    b"Content-Length: -1",
    b"Content-Length : 2",
    b"X: a\r\n folded",
    b"X: a\0b",
)
BEHIND = (b"", b"", b"\r\n", b"x", b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n")


@dataclass
class Answer:
    """What one connection says to one request: pieces of bytes, each some seconds after the one before.

    Attributes:
        end: What follows the last piece: "close", "reset", "tls" (what comes is no TLS), "hang" or "on" (it is kept).
        status: Of the final head; 0 if there is none that is acceptable.
        head_at_s: When that head is there, after the request was sent.
        endless: Repeated for ever after the last piece, before any end.
    """

    pieces: list[tuple[float, bytes]]
    end: str
    status: int = 0
    head_at_s: float = 0.0
    endless: bytes = b""


@dataclass
class MemorySocket:
    """A `ByteSocket` whose other end gives the next prepared answer to each request.

    Args:
        answers: One a request.
        takes: How many bytes of a request are taken before sending fails or hangs; None: all.
        stuck: Sending hangs then, instead of failing.
    """

    answers: Iterator[Answer]
    takes: int | None = None
    stuck: bool = False
    closed: bool = False
    arriving: deque[tuple[float, bytes]] = field(default_factory=deque)
    end: str = "on"
    endless: Iterator[tuple[float, bytes]] = field(default_factory=lambda: iter(()))

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        progress.started = progress.started or self.takes != 0
        if self.takes is not None and self.takes < len(data):
            if self.stuck:
                with trio.fail_at(deadline):
                    await trio.sleep_forever()
            if self.takes == 0:
                raise BrokenPipeError("broken pipe")
        answer = next(self.answers)
        at_s = trio.current_time()
        for after_s, piece in answer.pieces:
            at_s += after_s
            self.arriving.append((at_s, piece))
        self.end = answer.end
        if answer.endless:
            self.endless = zip(count(at_s, 0.4), repeat(answer.endless), strict=False)
        if self.takes is not None:
            raise ConnectionResetError("reset")

    async def receive(self, deadline: float) -> bytes:
        at_s, piece = self.arriving.popleft() if self.arriving else next(self.endless, (0.0, b""))
        with trio.fail_at(deadline):
            await trio.sleep_until(at_s)
            if piece:
                return piece
            if self.end in ("hang", "on"):
                await trio.sleep_forever()
        if self.end == "close":
            return b""
        raise ssl.SSLError("bad record") if self.end == "tls" else ConnectionResetError("reset by peer")

    def is_quiet(self, idle_s: float) -> bool:
        now = trio.current_time()
        return self.end == "on" and all(at_s > now for at_s, _ in self.arriving)

    def close(self) -> None:
        self.closed = True


def case(random: Random) -> None:
    """One attempt, and a second one: an answer that misbehaves decides about itself and about nothing else."""
    trio.run(_attempts, random, clock=MockClock(autojump_threshold=0))


async def _attempts(random: Random) -> None:
    answer, exact = _make_answer(random)
    socket = MemorySocket(iter([answer, OK_ANSWER]))
    if random.random() < 0.1:
        socket.takes, socket.stuck = random.choice((0, 0, 1, 100)), random.random() < 0.3
    transport = TrioTransport(ssl_context=TLS, connect_timeout_s=CONNECT_S)
    sockets = [socket]
    trouble = random.choice((None,) * 9 + ("refused", "slow", "hang"))

    async def connect(origin: Origin, deadline: float) -> Connection:
        if trouble == "refused":
            raise httpx.ConnectError("refused")
        if trouble == "slow":
            raise httpx.ConnectTimeout("no connection within 5 s")
        if trouble == "hang":  # `send_timeout_s` is the shorter one
            with trio.fail_at(deadline):
                await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return Connection(origin, sockets.pop() if sockets else MemorySocket(iter([OK_ANSWER])))

    transport._pool.connect = connect  # type: ignore[method-assign]
    url = parse_receiver_url("http://receiver.example/hook")
    service = Webhook(WebhookSettings(name="pager", url=url), lambda: NOW)
    channel = HttpChannel("pager", service, transport)
    outcome, took_s = await _attempt(channel)
    assert took_s <= ATTEMPT_S + 0.001, f"took {took_s} s"
    assert len(outcome.answer) <= KEPT_ANSWER_BYTES
    msgspec.json.encode(outcome)
    sent = trouble is None and socket.takes != 0
    if not sent:
        assert isinstance(outcome, Retry), outcome
        assert not outcome.unseen, outcome
    elif socket.takes is not None and socket.stuck:
        assert isinstance(outcome, Retry), outcome
        assert outcome.unseen, outcome
    elif exact:
        _judge(answer, outcome, took_s)
    else:
        _judge_broken(answer, outcome)

    assert (0, 0) == transport._pool.counts()[1:], "a slot was lost"
    idle = transport._pool.counts()[0]
    assert idle + socket.closed + (trouble is not None) == 1, "a connection was lost"
    if trouble is None:
        await trio.sleep(20.0)  # whatever stood behind the answer has arrived
        again, _ = await _attempt(channel)
        assert Accepted(200, "ok") == again, f"the next request got {again}"


async def _attempt(channel: HttpChannel) -> tuple[Outcome, float]:
    started_s = trio.current_time()
    try:
        outcome = await channel.send(Message("1-0", b'{"title":"x"}', started_s + ATTEMPT_S))
        assert not isinstance(outcome, Later), "a webhook has no limit of its own"
    except trio.TooSlowError:
        outcome = Retry("no answer", unseen=True)  # as `notify` takes it
    return outcome, trio.current_time() - started_s


def _judge(answer: Answer, outcome: Outcome, took_s: float) -> None:
    """The status decides, if there is one in time; else nobody knows."""
    if not answer.status or answer.head_at_s >= ATTEMPT_S:
        assert isinstance(outcome, Retry), outcome
        assert (None, True) == (outcome.status, outcome.unseen), outcome
        return
    assert answer.status == outcome.status, outcome
    assert took_s <= answer.head_at_s + BODY_BOUND_S + 0.001, f"{took_s} s for a head after {answer.head_at_s} s"
    if 200 <= answer.status <= 299:
        assert isinstance(outcome, Accepted), outcome
    elif answer.status in REFUSED_FOR_GOOD:
        assert isinstance(outcome, Refused), outcome
    else:
        assert isinstance(outcome, Retry), outcome
        assert (answer.status in UNSEEN_STATUSES) == outcome.unseen, outcome
        assert outcome.after_s is None or outcome.after_s >= 0


def _judge_broken(answer: Answer, outcome: Outcome) -> None:
    """Nobody knows what must come of random bytes, but a status comes from nowhere else than from them."""
    wire = b"".join(piece for _, piece in answer.pieces)
    if outcome.status is None:
        assert isinstance(outcome, Retry), outcome
        assert outcome.unseen, outcome
    else:
        assert b"%d" % outcome.status in wire, outcome


OK_ANSWER = Answer([(0.1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")], "on", 200, 0.1)


def _make_answer(random: Random) -> tuple[Answer, bool]:
    """Return an answer, and whether it is exactly what it says of itself."""
    status = random.choice(STATUSES)
    head = b"".join(random.choices(INTERIM, k=random.choice((0, 0, 0, 1, 2))))
    version = random.choice((b"1.1", b"1.1", b"1.1", b"1.0")) if not head else b"1.1"
    head += b"HTTP/%b %d%b\r\n" % (version, status, random.choice((b" OK", b"", b" M\xfcll", b" \t")))
    for line in random.choices(HEADERS, k=random.randrange(4)):
        head += line + b"\r\n"
    for value in random.choices(RETRY_AFTERS, k=random.choice((0, 0, 1, 1, 2))):
        head += b"Retry-After: %b\r\n" % value
    framing, body = _body(random)
    acceptable = True
    if random.random() < 0.15:
        framing, acceptable = random.choice(TWO_WAYS), False
    head += framing + b"\r\n\r\n" if framing else b"\r\n"
    if random.random() < 0.1:  # the head itself is cut
        head, body, acceptable = head[: random.randrange(len(head) - 1)], b"", False
    elif random.random() < 0.4 and body:
        body = body[: random.randrange(len(body))]
    elif random.random() < 0.2:
        body = random.randbytes(random.randrange(40))
    wire = head + body + (random.choice(BEHIND) if acceptable and random.random() < 0.3 else b"")
    answer = _in_pieces(random, wire, len(head))
    answer.status = status if acceptable else 0
    if acceptable and answer.end == "hang" and random.random() < 0.5:
        answer.endless = random.choice((b"x", b"1\r\nx\r\n", b"x" * 16_384))
    if random.random() < 0.3:
        return _broken(random, answer), False
    return answer, True


def _body(random: Random) -> tuple[bytes, bytes]:
    content = random.choice((b"", b"no", b"\0\xff\xfe", "Zürich".encode(), b"<html>" * 200, b"x" * 70_000))
    match random.randrange(3):
        case 0:
            return b"", content
        case 1:
            return b"Content-Length: %d" % len(content), content
    chunk = b"%x;a=b\r\n%b\r\n" % (len(content), content) if content else b""
    return b"Transfer-Encoding: chunked", chunk + b"0\r\n" + random.choice((b"", b"T: v\r\n")) + b"\r\n"


def _in_pieces(random: Random, wire: bytes, head_bytes: int) -> Answer:
    """Cut the bytes where the network might, with pauses."""
    edges = sorted({0, len(wire), *(random.randrange(len(wire) + 1) for _ in range(random.choice((0, 0, 1, 4))))})
    pauses_s = (0.0, 0.0, 0.01, 0.2, 0.9, 3.0, 20.0)
    pieces = [(random.choice(pauses_s), wire[start:end]) for start, end in pairwise(edges)]
    head_at_s, seen = 0.0, 0
    for pause_s, piece in pieces:
        if seen >= head_bytes:
            break
        head_at_s += pause_s
        seen += len(piece)
    return Answer(pieces, random.choice(("on", "on", "close", "reset", "hang", "tls")), head_at_s=head_at_s)


def _broken(random: Random, answer: Answer) -> Answer:
    """Change, drop or double some bytes."""
    for _ in range(random.randint(1, 4)):
        if not answer.pieces:
            break
        number = random.randrange(len(answer.pieces))
        pause_s, piece = answer.pieces[number]
        at = random.randrange(len(piece) + 1)
        noise = random.choice(
            (b"", b"\0", b"\r\n", b"\n", b" ", b":", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff", b"9", b"chunked")
        )
        piece = piece[:at] + noise + piece[at + random.choice((0, 1, 1, 5)) :]
        answer.pieces[number] = (pause_s, piece or b"\r")
    return answer


TARGETS = [Target("receiver answers", case)]
