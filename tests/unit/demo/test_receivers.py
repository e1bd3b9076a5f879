"""The demo's receivers: their manners, their books, and as much of HTTP as they speak."""

import datetime as dt
import itertools
import math

import msgspec
import pytest
import trio
import trio.testing
from standardwebhooks import webhooks
from trio.testing import MockClock

from trio_alerts.demo.receiver_server import MAX_BODY_BYTES, serve_connection
from trio_alerts.demo.receivers import SLOW_S, Answer, Receiver, flaky, hanging, limited, quick, slow
from trio_alerts.demo.services import Webhook

KEY = b"0123456789abcdef0123456789abcdef"


def signed(webhook_id: str, body: bytes, key: bytes = KEY) -> dict[str, str]:
    now = dt.datetime.now(dt.UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": webhooks.Webhook(key).sign(webhook_id, now, body.decode()),
    }


def alert(number: int = 0) -> bytes:
    return msgspec.json.encode({"alert_id": f"demo-{number:05}"})


def refusing(*statuses: int) -> Receiver:
    """Answer the requests for an alert with these, then accept."""

    def behave(_alert_id: str, request: int) -> Answer:
        return Answer(statuses[request - 1] if request <= len(statuses) else 200, 0.0)

    return Receiver("test", "", behave, Webhook(KEY), itertools.count().__next__)


def test_every_request_is_accepted_refused_or_a_repeat() -> None:
    """After an acceptance each further request is a repeat, accepted again; the three add up to all requests."""
    receiver = refusing(503, 503)

    answers = [receiver.take(signed("1-0", alert()), alert()).status for _ in range(5)]

    assert [503, 503, 200, 200, 200] == answers
    assert (5, 1, 2, 2) == (
        receiver.book.requests,
        receiver.book.accepted,
        receiver.book.refused,
        receiver.book.repeated,
    )
    assert {"1-0": 2} == receiver.book.repeats


def test_only_the_first_request_for_an_alert_counts_for_the_rate() -> None:
    """The times that the rate is made of are those of first attempts."""
    receiver = refusing(503)
    for webhook_id in ("1-0", "1-0", "2-0", "1-0", "2-0", "3-0"):
        receiver.take(signed(webhook_id, alert()), alert())

    assert [0, 1, 2] == receiver.first_seen_s


def test_it_says_when_so_many_alerts_have_come() -> None:
    """Repeats do not count, and who asks late is told at once."""
    receiver = refusing()
    second = receiver.once_seen(2)

    for webhook_id in ("1-0", "1-0"):
        receiver.take(signed(webhook_id, alert()), alert())
    assert not second.is_set()
    receiver.take(signed("2-0", alert()), alert())

    assert second.is_set()
    assert receiver.once_seen(2).is_set()
    assert receiver.once_seen(1).is_set()


@pytest.mark.parametrize("wrong", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_request_with_a_wrong_signature_is_refused(wrong: str) -> None:
    """ID, time and body are all signed: a request in which one of them was changed is not accepted."""
    receiver = refusing()
    headers = signed("1-0", alert())
    changed = {"webhook-id": "2-0", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA v2,x not-base64,?"}

    assert 401 == receiver.take(headers | {wrong: changed[wrong]}, alert()).status
    assert 401 == receiver.take({name: value for name, value in headers.items() if name != wrong}, alert()).status
    assert 401 == receiver.take(headers, alert(1)).status
    assert (3, 0) == (receiver.book.unsigned, receiver.book.accepted)
    assert 200 == receiver.take(headers, alert()).status


def test_the_same_seed_refuses_the_same_alerts() -> None:
    """The flaky receiver's answers follow from seed, alert and number of the request, and from nothing else."""
    first, again, other = flaky(1), flaky(1), flaky(2)
    names = [f"demo-{number:05}" for number in range(1_000)]

    assert [first(name, 1) for name in names] == [again(name, 1) for name in reversed(names)][::-1]
    assert [first(name, 1) for name in names] != [other(name, 1) for name in names]


def test_the_flaky_receiver_keeps_to_its_shares() -> None:
    """Of a thousand alerts some are refused once, few twice, very few for good, and all others are accepted."""
    behave = flaky(1)
    names = [f"demo-{number:05}" for number in range(1_000)]
    statuses = [[behave(name, request).status for request in (1, 2, 3)] for name in names]

    assert 2 <= statuses.count([422, 422, 422]) <= 12
    assert 30 <= statuses.count([503, 200, 200]) <= 70
    assert 4 <= statuses.count([503, 503, 200]) <= 24
    assert 900 <= statuses.count([200, 200, 200])


def test_the_others_have_one_manner_each() -> None:
    """The quick and the slow receiver differ in nothing but time, which is 100 ms; another one never answers."""
    assert (200, 200) == (quick("any", 1).status, slow("any", 1).status)
    assert 0.1 == slow("any", 7).delay_s == SLOW_S
    assert math.inf == hanging("any", 1).delay_s


def test_a_limit_takes_its_burst_and_then_its_rate() -> None:
    """What is too many is answered 429; a token comes back each half second, and never more than three."""
    now_s = 0.0
    behave = limited(2.0, 3, lambda: now_s)

    assert [200, 200, 200, 429] == [behave("any", 1).status for _ in range(4)]
    now_s = 0.5
    assert [200, 429] == [behave("any", 1).status for _ in range(2)]
    now_s = 60.0
    assert [200, 200, 200, 429] == [behave("any", 1).status for _ in range(4)]


def request(body: bytes, headers: dict[str, str]) -> bytes:
    lines = ["POST /slow HTTP/1.1", *(f"{name.title()}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def test_requests_in_any_pieces_are_answered_in_turn(autojump_clock: MockClock) -> None:
    """Two requests that arrive byte by byte on one connection get two answers, each after the receiver's time."""
    ours, theirs = trio.testing.memory_stream_pair()
    receiver = Receiver("slow", "", slow, Webhook(KEY))
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, receiver, theirs)
        for webhook_id in ("1-0", "2-0"):
            for byte in request(alert(), signed(webhook_id, alert())):
                await ours.send_all(bytes([byte]))
            assert b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" == await ours.receive_some()
        await ours.aclose()

    assert round(2 * SLOW_S, 6) == round(trio.current_time() - began_s, 6)
    assert 2 == receiver.book.accepted


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\ncontent-length: none\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"x" * 20_000,
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabc",
    ],
)
async def test_what_is_no_webhook_ends_the_connection(autojump_clock: MockClock, sent: bytes) -> None:
    """Nonsense is neither answered nor counted, and ends nothing but its own connection."""
    ours, theirs = trio.testing.memory_stream_pair()
    receiver = refusing()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, receiver, theirs)
        await ours.send_all(sent)
        if sent.endswith(b"abc"):  # this one is not wrong yet: its sender gives up
            await ours.send_eof()
        with trio.fail_after(1):
            assert b"" == await ours.receive_some()

    assert 0 == receiver.book.requests
