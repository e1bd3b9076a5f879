"""Thousands of generated exchanges, well-formed and hostile, through our transport and through httpx's own."""

import os
import random
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import httpx
import trio

from tests.support.raw_receiver import RawConnection, raw_receiver
from trio_alerts.http.transport import TrioTransport

SEED = int(os.environ.get("TRIO_ALERTS_TEST_SEED", "1"))
EXCHANGES = int(os.environ.get("TRIO_ALERTS_TEST_EXCHANGES", "2000"))

Outcome = tuple[int, bytes, list[tuple[bytes, bytes]]] | str

# Where ours refuses what httpx takes: our words for it, and why.
STRICTER = {
    "Duplicate Content-Length": "twice the same length: somebody in between has added one",
    "Invalid character in Content-Length": "a list of equal lengths: likewise",
    "Unexpected whitespace after header value": "folded lines: obsolete, read differently by different readers",
    "Unexpected space after start line": "the same, at the first line",
    "a change of protocol": "101 without being asked",
    "Content-Length can't be present with Transfer-Encoding": "two framings: the classic of request smuggling",
    "Transfer-Encoding can't be present with Content-Length": "likewise",
    "in HTTP/": "a version that is neither 1.0 nor 1.1",
    "Invalid HTTP version": "likewise",
    "Invalid header value char": "control characters other than those that h11 knows",
    "control characters in the status line": "likewise",
    "Data after `Connection: close`": "an interim answer that closes, then another answer",
    "an interim answer with a body": "there is no such thing",
    "Invalid character in chunk": "chunk extensions with characters that may not be there",
    "Missing expected LF": "a lone CR in the head: read as a line end by some",
    "Expected LF after": "a lone CR: likewise",
}
# Where ours takes what httpx refuses: empty lines before the final answer. They cannot hide anything.
TOLERATED = re.compile(rb"HTTP/1\.1 1\d\d .*?\n\r?\n[\r\n]+HTTP/1\.1 ", re.DOTALL)


@dataclass(frozen=True)
class Exchange:
    """What the receiver says to one request, in pieces, whether more than it should, and whether it closes after it."""

    pieces: tuple[bytes, ...]
    too_much: bool
    closes: bool


def generate(dice: random.Random) -> Exchange:
    """Make one exchange; about half of them are well-formed."""
    body = bytes(dice.choices(b"ab\r\n0 :\0\xff", k=dice.choice((0, 1, 2, 5, 40, 3_000))))
    status = dice.choice((200, 200, 200, 201, 202, 204, 301, 304, 400, 410, 429, 500, 503, 599, 999))
    framing, wire_body = framed(dice, body, status)
    lines = [framing] if framing else []
    lines += dice.choices(
        (b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"X:", b"X: \t y \t", b"Retry-After: 5", b"Server: \xe9\xff"),
        k=dice.randint(0, 3),
    )
    odd_line, odd_start, interim = dice.random() < 0.15, dice.random() < 0.05, dice.random() < 0.1
    if odd_line:
        lines.append(dice.choice(ODD_LINES))
    dice.shuffle(lines)
    start = b"HTTP/1.1 %d %b" % (status, dice.choice((b"OK", b"", b"Not \xe9 word")))
    if odd_start:
        start = dice.choice(ODD_STARTS)
    head = b"\r\n".join([start, *lines, b"", b""])
    if dice.random() < 0.05:
        head = head.replace(b"\r\n", b"\n")
    wire = (dice.choice(INTERIM) if interim else b"") + head + wire_body
    hostile = dice.random() < 0.3
    if hostile:
        wire = damaged(dice, wire)
    too_much = dice.random() < 0.05
    if too_much:
        wire += dice.choice((b"\r\n", b"x", b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"))
    cuts = sorted({0, len(wire), *(dice.randrange(len(wire) + 1) for _ in range(dice.randint(0, 3)))})
    pieces = tuple(wire[start:end] for start, end in pairwise(cuts))
    # Whoever may wait for more gets the end of the connection instead: nothing hangs.
    unsure = hostile or odd_line or odd_start or interim or not ends_by_itself(framing, status)
    closes = unsure or dice.random() < 0.3
    return Exchange(pieces, too_much, closes)


def framed(dice: random.Random, body: bytes, status: int) -> tuple[bytes, bytes]:
    """Return a framing header and the body in that framing."""
    if status in {204, 304}:
        return b"", b""
    kind = dice.choice(("length", "length", "chunked", "close"))
    if kind == "length":
        return b"Content-Length: %d" % len(body), body
    if kind == "close":
        return b"", body
    wire = b""
    while body:
        size = dice.randint(1, len(body))
        wire += b"%x%b\r\n%b\r\n" % (size, dice.choice((b"", b"", b";a=b", b"  ")), body[:size])
        body = body[size:]
    return b"Transfer-Encoding: chunked", wire + b"0\r\n" + dice.choice((b"", b"", b"Trailer: 1\r\n")) + b"\r\n"


def ends_by_itself(framing: bytes, status: int) -> bool:
    """Tell whether a client knows the end of a well-formed answer without the connection's end."""
    return bool(framing) or status in {204, 304}


def damaged(dice: random.Random, wire: bytes) -> bytes:
    """Return the answer with a few bytes changed, lost, added, or its end missing."""
    changed = bytearray(wire)
    for _ in range(dice.randint(1, 3)):
        if not changed:
            break
        place = min(int(dice.expovariate(1 / 40)), len(changed) - 1)
        match dice.choice(("change", "lose", "add", "cut")):
            case "change":
                changed[place] = dice.choice(b"\0\r\n\t :;,0159aAfx\x7f\x80\xff")
            case "lose":
                del changed[place]
            case "add":
                changed[place:place] = dice.choice((b" ", b"\r\n", b"\n", b"\0", b"0", b"\r", b";", b":"))
            case _:
                del changed[place + 1 :]
    return bytes(changed)


ODD_LINES = (
    b"Content-Length: 2",
    b"Content-Length: 2, 2",
    b"Content-Length: 0",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Upgrade: h2c\r\nConnection: upgrade",
    b"Folded: a\r\n b",
    b" Leading: space",
    b"Space : before",
    b"Keep-Alive: timeout=5",
    b"no colon",
    b"Ctl: \x01\x7f",
    b"X: " + b"y" * 3_000,
)
ODD_STARTS = (
    b"HTTP/1.0 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1 101 Switching",
    b"HTTP/1.1 099 Low",
    b"HTTP/1.1 20 Short",
    b"HTTP/1.1 2000 Long",
    b"HTTP/1.1 200",
    b"RTSP/1.0 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1  200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b"200 OK",
)
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n",
)


async def outcome(transport: httpx.AsyncBaseTransport, url: str) -> Outcome:
    """Send one POST; return its answer, or the message of what went wrong."""
    try:
        response = await transport.handle_async_request(httpx.Request("POST", url, content=b"{}"))
        body = await response.aread()
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    headers = [(name.lower(), value.lower()) for name, value in response.headers.raw]
    return (response.status_code, body, headers)


async def test_ours_and_httpxs_transport_agree() -> None:
    """The same status, headers and body, or an error from both; where ours alone refuses, the reason is documented."""
    dice = random.Random(SEED)
    exchanges = [generate(dice) for _ in range(EXCHANGES)]
    stricter: Counter[str] = Counter()
    answered = 0

    async def script(connection: RawConnection) -> None:
        while (request := await connection.request()) is not None:
            exchange = exchanges[int(request.split(b" ")[1].removeprefix(b"/"))]
            await connection.say(*exchange.pieces)
            if exchange.closes:
                return

    async with raw_receiver(script) as receiver, TrioTransport() as ours, httpx.AsyncHTTPTransport() as theirs:
        for number, exchange in enumerate(exchanges):
            url = f"http://127.0.0.1:{receiver.port}/{number}"
            with trio.fail_after(10):
                got, wanted = await outcome(ours, url), await outcome(theirs, url)
            if exchange.too_much:  # httpx's transport takes what arrives late for the answer to its next request
                await theirs.aclose()
            answered += not isinstance(got, str)
            if got == wanted or (isinstance(got, str) and isinstance(wanted, str)):
                continue
            hint = f"seed {SEED}, exchange {number}: {exchange}\nours:   {got}\nhttpx:  {wanted}"
            if TOLERATED.match(b"".join(exchange.pieces)):
                continue
            assert isinstance(got, str), hint
            reasons = [reason for reason in STRICTER if reason in got]
            assert reasons, hint
            stricter[reasons[0]] += 1

        assert "<TrioTransport idle=" == repr(ours)[:20]
        assert " in_use=0 waiting=0 " in repr(ours)
    # Most exchanges have an answer, and what only we refuse stays rare: the comparison compares something.
    assert EXCHANGES // 2 < answered
    assert stricter.total() < EXCHANGES // 10
    print(f"\n{EXCHANGES} exchanges, {answered} answered, refused by us alone: {dict(stricter)}")
