import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.names import NameServer
from tests.support.raw_receiver import raw_receiver
from trio_alerts.assembly import make_channel
from trio_alerts.channels.http import HttpChannel
from trio_alerts.channels.webhook import Webhook, WebhookSettings
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.request import OriginKey
from trio_alerts.http.resolver import Resolver
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.settings.addresses import parse_receiver_url

SETTINGS = WebhookSettings(name="pager", url=parse_receiver_url("https://example.org/hook/s3cret"))


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Wire(TrioTransport):
    """A transport whose other end is a function: it notes in `progress` what it took, and answers or raises."""

    def __init__(self, answer: Callable[[SendProgress], bytes]) -> None:
        self._answer = answer

    async def exchange(
        self, key: OriginKey, data: bytes, progress: SendProgress, deadline: float = math.inf, **_: Any
    ) -> AnswerParser:
        await trio.lowlevel.checkpoint()
        answer = AnswerParser(65_536)
        answer.feed(b"HTTP/1.1 500 X\r\n\r\n" + self._answer(progress))
        answer.feed_eof()
        return answer

    async def reach(self, key: OriginKey, deadline: float) -> None:
        assert 7.0 == deadline
        await trio.lowlevel.checkpoint()
        self._answer(SendProgress())


def channel_over(wire: Wire) -> HttpChannel:
    return HttpChannel("pager", Webhook(SETTINGS, now), wire)


def raising(fault: Exception, *, sent: bool = False) -> Wire:
    def answer(progress: SendProgress) -> bytes:
        progress.started = sent
        raise fault

    return Wire(answer)


async def outcome_of(wire: Wire) -> Outcome | Later:
    return await channel_over(wire).send(Message("1-0", b"{}"))


@pytest.mark.parametrize(
    ("body", "kept"), [(b"", ""), (b"gone", "gone"), ("é".encode() * 2000, "é" * 512), (b"\xff\xfe", "\ufffd\ufffd")]
)
async def test_the_first_kib_of_an_answer_is_kept(body: bytes, kept: str) -> None:
    """Whatever it is, as text."""
    assert Retry("answered 500", 500, unseen=True, answer=kept) == await outcome_of(Wire(lambda _: body))


@pytest.mark.parametrize(
    ("fault", "sent", "outcome"),
    [
        (httpx.ConnectError("refused"), False, Retry("ConnectError: refused")),
        (httpx.ConnectTimeout("5 s"), False, Retry("ConnectTimeout: 5 s")),
        (httpx.ReadError("reset"), True, Retry("ReadError: reset", unseen=True)),
        (httpx.RemoteProtocolError("odd"), True, Retry("RemoteProtocolError: odd", unseen=True)),
        (httpx.WriteError("broken"), False, Retry("WriteError: broken")),
        (
            AddressRefused("169.254.169.254 is a metadata address", for_good=True),
            False,
            Refused("169.254.169.254 is a metadata address"),
        ),
        (
            AddressRefused("no address of this name is allowed", for_good=False),
            False,
            Retry("no address of this name is allowed", needs_human=True),
        ),
        (httpx.LocalProtocolError("bad header"), False, Refused("cannot be sent: bad header")),
    ],
)
async def test_faults_become_outcomes(fault: Exception, sent: bool, outcome: Outcome) -> None:
    """Only what may have reached the receiver is in doubt; what can never be sent is refused for good."""
    assert outcome == await outcome_of(raising(fault, sent=sent))


async def test_what_no_request_can_carry_is_refused() -> None:
    """It would make the request something else."""
    outcome = await channel_over(Wire(lambda _: b"")).send(Message("1-0\r\nX: y", b"{}"))

    assert isinstance(outcome, Refused)
    assert "cannot be sent: characters in a value of webhook-id" in outcome.reason


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (None, None),
        (httpx.ConnectError("cannot connect: refused"), "cannot connect: refused"),
        (httpx.ConnectTimeout("no connection within 5 s"), "no connection within 5 s"),
        (AddressRefused("not a public address", for_good=True), "not a public address"),
        (trio.TooSlowError(), "no connection in time"),
    ],
)
async def test_a_channel_says_why_it_cannot_be_reached(fault: Exception | None, why: str | None) -> None:
    """A connection is opened and closed, and nothing is sent."""
    wire = Wire(lambda _: b"") if fault is None else raising(fault)

    assert why == await channel_over(wire).why_unreachable(deadline=7.0)


async def test_a_cut_echo_gives_no_half_of_a_secret_away() -> None:
    """A connection that breaks in the middle of the answer may break in the middle of a secret."""
    answer = AnswerParser(65_536)
    answer.feed(b"HTTP/1.1 404 X\r\nContent-Length: 99\r\n\r\nCannot POST /hook/s3cr")
    answer.end_early(httpx.ReadError("broke"))

    assert "Cannot POST ***" == channel_over(Wire(lambda _: b""))._kept(answer)


def test_a_channel_shows_the_host_only() -> None:
    """A webhook URL is often a secret by itself."""
    assert "<HttpChannel pager to example.org>" == repr(channel_over(Wire(lambda _: b"")))


async def test_wrong_dns_fails_no_alert_for_good(mock_clock: MockClock) -> None:
    """A name that leads nowhere good for a while: the attempt is told to a human, and the next one arrives."""
    names = NameServer(["0.0.0.0"], ["169.254.169.254"], ["127.0.0.1"])
    async with raw_receiver() as receiver, TrioTransport(names=Resolver(names)) as transport:
        settings = WebhookSettings(name="hook", url=parse_receiver_url(f"http://hook.example:{receiver.port}/"))
        channel = make_channel(settings, transport, now)
        outcomes = []
        for _ in range(3):
            outcomes.append(await channel.send(Message("1-1", b"{}")))
            mock_clock.jump(1)

    assert [Retry, Retry, Accepted] == [type(outcome) for outcome in outcomes]
    assert [True, True, False] == [outcome.needs_human for outcome in outcomes]
    assert "'hook.example': 0.0.0.0 (unspecified" in str(outcomes[0].reason)
    assert not any(outcome.unseen for outcome in outcomes)
