import gc
import random
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.http.response import MAX_HEAD_BYTES, AnswerParser

LIMIT = 1_000
CHUNKS = b"Transfer-Encoding: chunked"
CHUNKED = b"HTTP/1.1 200 OK\r\n" + CHUNKS + b"\r\n\r\n"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Outcome = tuple[str, int, bytes, bool, bool]


def parse(*pieces: bytes, limit: int = LIMIT) -> Outcome:
    """Feed the pieces and the end of the connection; return what came of it."""
    answer = AnswerParser(limit)
    try:
        for piece in pieces:
            if answer.complete:  # what arrives later is noticed by the look at the idle connection
                break
            if piece:
                answer.feed(piece)
        if not answer.complete:
            answer.feed_eof()
    except httpx.RemoteProtocolError:
        return ("refused", 0, b"", False, False)
    if answer.cut is not None:
        assert answer.complete
        return ("cut", answer.status, bytes(answer.body), answer.reusable, answer.truncated)
    return ("answer", answer.status, bytes(answer.body), answer.reusable, answer.truncated)


@pytest.mark.parametrize(
    ("wire", "status", "body", "reusable"),
    [
        (WITH_LENGTH, 200, b"hello", True),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 503 Try later\r\ncontent-length:2 \r\n\r\nno", 503, b"no", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200, b"hello", True),
        (CHUNKED + b"2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n", 200, b"hello", True),
        (CHUNKED + b"5  \r\nhello\r\n0\r\n\r\n", 200, b"hello", True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 200, b"hello", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WITH_LENGTH, 200, b"hello", True),
        (b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + WITH_LENGTH, 200, b"hello", True),
        (
            b"HTTP/1.1 200 OK\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
            200,
            b"hello",
            True,
        ),
        (b"HTTP/1.1 999 No\r\nContent-Length: 5\r\n\r\nhello", 999, b"hello", True),
    ],
)
def test_good_answers(wire: bytes, status: int, body: bytes, reusable: bool) -> None:
    """Each way to frame an answer is understood, and the connection is kept exactly when it may be."""
    assert ("answer", status, body, reusable, False) == parse(wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 099 Low\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nRTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"\r\n" + WITH_LENGTH,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + WITH_LENGTH,
        b"HTTP/1.1 103 Early\r\nConnection: close\r\n\r\n" + WITH_LENGTH,
        b"HTTP/1.1 104 Interim\r\nContent-Length: 3\r\n\r\nabc" + WITH_LENGTH,
        b"HTTP/1.1 104 Interim\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + WITH_LENGTH,
    ],
)
def test_unacceptable_heads_are_refused(wire: bytes) -> None:
    """An answer whose head is cut, or announces a framing that could be read in two ways, is no answer."""
    assert "refused" == parse(wire)[0]


@pytest.mark.parametrize(
    ("framing", "body", "kept"),
    [
        (b"Content-Length: 5", b"", b""),
        (b"Content-Length: 5", b"hell", b"hell"),
        (CHUNKS, b"", b""),
        (CHUNKS, b"5", b""),
        (CHUNKS, b"5\r\nhello\r\n0\r\n", b"hello"),
        (CHUNKS, b"5\nhello\r\n0\r\n\r\n", b""),
        (CHUNKS, b"5\r\nhello\n0\r\n\r\n", b"hello"),
        (CHUNKS, b"0x5\r\nhello\r\n0\r\n\r\n", b""),
        (CHUNKS, b"-5\r\nhello\r\n0\r\n\r\n", b""),
        (CHUNKS, b"5;a\n\r\nhello\r\n0\r\n\r\n", b""),
        (CHUNKS, b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", b""),
        (CHUNKS, b"4\r\nhello\r\n0\r\n\r\n", b"hell"),
        (CHUNKS, WITH_LENGTH, b""),
    ],
)
@pytest.mark.parametrize("status", [200, 410, 429, 503])
def test_behind_the_head_the_status_stands(status: int, framing: bytes, body: bytes, kept: bytes) -> None:
    """A body that is cut or framed wrongly takes nothing from what the head said; its connection is not used again."""
    assert ("cut", status, kept, False, False) == parse(b"HTTP/1.1 %d X\r\n%b\r\n\r\n%b" % (status, framing, body))


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
def test_an_early_end_before_the_final_head_is_no_answer(head: bytes) -> None:
    """Without a final head nobody knows what the receiver decided."""
    answer = AnswerParser(LIMIT)
    if head:
        answer.feed(head)

    with pytest.raises(httpx.ReadError, match="broke"):
        answer.end_early(httpx.ReadError("broke"))


@pytest.mark.parametrize("behind", [b"\r\n", b"\n", b"x", WITH_LENGTH, b"HTTP/1.1 500 Other\r\n\r\n", b"\0" * 100])
@pytest.mark.parametrize(
    "wire",
    [
        WITH_LENGTH,
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_bytes_behind_the_end_cost_the_connection_not_the_answer(wire: bytes, behind: bytes) -> None:
    """What nobody asked for is never taken for the next answer: the connection is not used again."""
    assert ("answer", 200, b"hello", False, False) == parse(wire + behind)


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1_048_576,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_048_576,
        CHUNKED + b"100000\r\n" + b"x" * 1_048_576 + b"\r\n0\r\n\r\n",
    ],
)
def test_a_long_body_is_cut_and_its_status_known(wire: bytes) -> None:
    """So much is kept as was asked for; the rest is not waited for, and the connection not used again."""
    pieces = [wire[start : start + 4_096] for start in range(0, len(wire), 4_096)]
    answer = AnswerParser(LIMIT)
    fed = 0
    while not answer.complete:
        answer.feed(pieces[fed])
        fed += 1

    assert (200, b"x" * LIMIT, True, False) == (answer.status, bytes(answer.body), answer.truncated, answer.reusable)
    assert 1 == fed


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    """The limit itself is allowed."""
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * LIMIT

    assert ("answer", 200, b"x" * LIMIT, True, False) == parse(wire)


@pytest.mark.parametrize("filler", [b"2;" + b"x" * 4_000, b"x" * 4_000])
def test_endless_chunk_extensions_end_the_answer(filler: bytes) -> None:
    """What surrounds a body is bounded too; the status is known by then."""
    answer = AnswerParser(LIMIT)
    answer.feed(CHUNKED + b"1;x")
    pieces = 0
    while not answer.complete:
        answer.feed(b"x" * 4_000)
        pieces += 1

    assert (200, True) == (answer.status, answer.truncated)
    assert pieces * 4_000 <= 2 * (MAX_HEAD_BYTES + LIMIT) + 4_000


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"x" * 4_096, b"\r\nHTTP/1.1 100 Continue\r\nX: y\r\n"])
def test_an_endless_head_is_refused(piece: bytes) -> None:
    """Many lines, one endless line or endless interim answers: none takes more than its bound."""
    answer = AnswerParser(LIMIT)
    answer.feed(b"HTTP/1.1 100 Continue\r\nX: y\r\n")

    for _ in range((MAX_HEAD_BYTES - 50) // len(piece)):
        answer.feed(piece)

    with pytest.raises(httpx.RemoteProtocolError, match="longer than 65536"):
        answer.feed(piece * 20)


def test_what_is_kept_of_the_headers() -> None:
    """Names in lower case, no interim headers, no trailers, and nothing that invites to unpack the body."""
    answer = AnswerParser(LIMIT)
    answer.feed(
        b"HTTP/1.1 103 Early\r\nLink: early\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nRetry-After: 7 \r\nContent-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n"
        b"Keep-Alive: max=5, timeout=15\r\n\r\n0\r\nTrailer: late\r\n\r\n"
    )

    assert [
        (b"retry-after", b"7"),
        (b"transfer-encoding", b"Chunked"),
        (b"keep-alive", b"max=5, timeout=15"),
    ] == answer.headers
    assert 15 == answer.keepalive_s


WHOLE = [
    WITH_LENGTH,
    CHUNKED + b"5\r\nhello\r\n3;x=y\r\n \r\n\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 422 No\r\nKeep-Alive: timeout=3\r\nContent-Length: 3\r\n\r\n\r\n\n",
    b"HTTP/1.0 200\nX:\n\nuntil the end",
    b"HTTP/1.1 204 N\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
]


@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 80), max_size=12))
def test_pieces_make_no_difference(wire: bytes, cuts: list[int]) -> None:
    """However the network cuts an answer, the outcome is the same."""
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[start:end] for start, end in pairwise(edges)]

    assert parse(wire) == parse(*pieces)


def test_noise_never_breaks_the_parser() -> None:
    """Whatever a receiver says ends as an answer, a cut one or a protocol error, never as another exception."""
    dice = random.Random(7)
    for _ in range(5_000):
        wire = bytearray(dice.choice(WHOLE))
        for _ in range(dice.randint(1, 4)):
            wire[dice.randrange(len(wire))] = dice.choice(b"\0\r\n\t :;,0159aAfx\x7f\x80\xff")
        assert parse(bytes(wire))[0] in {"answer", "cut", "refused"}


def test_a_complete_answer_frees_its_parser_at_once() -> None:
    """No garbage collection is needed for what every request makes."""
    gc.collect()
    for _ in range(10):
        AnswerParser(LIMIT).feed(WITH_LENGTH)

    assert 0 == gc.collect()


def test_a_complete_answer_takes_no_more() -> None:
    """Feeding on after the end is a mistake in this program, not in the receiver."""
    answer = AnswerParser(LIMIT)
    answer.feed(WITH_LENGTH)

    with pytest.raises(RuntimeError):
        answer.feed(b"x")
