import base64
import datetime as dt
import json
from collections.abc import Callable

import httpx
import pytest
import trio
from standardwebhooks.webhooks import Webhook
from trio.testing import MockClock

from tests.support.fakes.names import NameServer
from tests.support.raw_receiver import raw_receiver
from trio_alerts.channels.webhook import WebhookChannel
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.name_lookup import NameLookup
from trio_alerts.http.request import OriginKey
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message

KEY = b"0123456789abcdef01234567"
SECRET = base64.b64encode(KEY).decode()
MESSAGE = Message("1763900000000-0", b'{"alert_id":"a-1","title":"Z\xc3\xbcrich"}')


class Wire:
    """A transport whose other end is a function: a request in, a response out, by way of the bytes between."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    async def exchange(self, key: OriginKey, data: bytes, progress: SendProgress, deadline: float) -> AnswerParser:
        self.deadline = deadline
        await trio.lowlevel.checkpoint()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        url = f"{key.scheme}://{key.host}:{key.port}{target}"
        request = httpx.Request(method, url, headers=headers, content=body, extensions={"send_progress": progress})
        response = self._answer(request)
        parser = AnswerParser(65_536, bodyless=False)
        raw = b"".join(b"%b: %b\r\n" % pair for pair in response.headers.raw)
        parser.feed(b"HTTP/1.1 %d X\r\n%b\r\n%b" % (response.status_code, raw, response.content))
        return parser

    async def reach(self, key: OriginKey, deadline: float) -> None:
        self.deadline = deadline
        await trio.lowlevel.checkpoint()
        self._answer(httpx.Request("CONNECT", f"{key.scheme}://{key.host}:{key.port}"))


def channel_to(answer: Callable[[httpx.Request], httpx.Response], key: bytes | None = KEY) -> WebhookChannel:
    return WebhookChannel(
        "pager",
        "https://example.org/hook/s3cret",
        transport=Wire(answer),
        now=lambda: dt.datetime.now(dt.UTC),
        key=key,
        headers={"authorization": "Bearer t0ken"},
    )


async def outcome_of(answer: Callable[[httpx.Request], httpx.Response]) -> Outcome:
    return await channel_to(answer).send(MESSAGE)


async def test_the_official_package_verifies_what_we_sign() -> None:
    """A receiver that uses the specification's own library accepts the request."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    assert Accepted(204) == await channel_to(answer).send(MESSAGE)
    headers = dict(seen[0].headers)
    payload = Webhook("whsec_" + base64.b64encode(KEY).decode()).verify(seen[0].content, headers)
    assert payload == {"alert_id": "a-1", "title": "Zürich"}
    assert MESSAGE.id == headers["webhook-id"]
    assert "application/json" == headers["content-type"]
    assert "Bearer t0ken" == headers["authorization"]
    assert "POST" == seen[0].method


@pytest.mark.parametrize(
    ("user", "token"),
    [
        ("u:p@", "u:p"),
        ("u%40x:p%3A%2F@", "u@x:p:/"),
        ("%C3%BC:é@", "ü:é"),
        (":p@", ":p"),
        ("u@", "u:"),
        ("", ""),
        ("@", ""),
    ],
)
async def test_a_user_in_the_url_is_sent_as_basic(user: str, token: str) -> None:
    """As browsers and curl do it: user and password are percent-decoded, and stand nowhere else in the request."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    channel = WebhookChannel(
        "pager", f"https://{user}example.org/hook", transport=Wire(answer), now=lambda: dt.datetime.now(dt.UTC)
    )
    assert Accepted(204) == await channel.send(MESSAGE)

    [request] = seen
    expected = "Basic " + base64.b64encode(token.encode()).decode() if token else None
    assert expected == request.headers.get("authorization")
    assert ("example.org", "/hook") == (request.headers["host"], request.url.path)
    assert "<WebhookChannel pager to example.org>" == repr(channel)


async def test_without_a_secret_nothing_is_signed() -> None:
    """The ID and the time are sent all the same: a receiver can drop repeats."""
    headers = channel_to(lambda _: httpx.Response(200), key=None).signed(MESSAGE)
    assert {"webhook-id", "webhook-timestamp"} == headers.keys()


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (httpx.Response(202, text="queued"), Accepted(202, "queued")),
        (httpx.Response(410, text="gone"), Refused("refused with 410", 410, "gone")),
        (httpx.Response(503, headers={"Retry-After": "7"}), Retry("answered 503", 503, 7.0, unseen=True)),
        (
            httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
            Retry("answered 302", 302, needs_human=True),
        ),
        (httpx.Response(500, text="é" * 2000), Retry("answered 500", 500, unseen=True, answer="é" * 512)),
        (httpx.Response(500, content=b"\xff\xfe"), Retry("answered 500", 500, unseen=True, answer="\ufffd\ufffd")),
    ],
)
async def test_answers_become_outcomes(response: httpx.Response, outcome: Outcome) -> None:
    """The status rules, the first KiB of the answer, no redirect followed."""
    assert outcome == await outcome_of(lambda _: response)


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
async def test_errors_become_outcomes(fault: Exception, sent: bool, outcome: Outcome) -> None:
    """Only what may have reached the receiver is in doubt; what can never be sent is refused for good."""

    def answer(request: httpx.Request) -> httpx.Response:
        progress = request.extensions["send_progress"]
        assert isinstance(progress, SendProgress)
        progress.started = sent
        raise fault

    assert outcome == await outcome_of(answer)


@pytest.mark.parametrize("status", [200, 204, 410, 429, 503])
@pytest.mark.parametrize("value", ["Mon, 20 Nov 9999999999 12:00:00 GMT", "9" * 5_000, "-1", "soon", "1.5"])
async def test_a_retry_after_that_cannot_be_read_is_none(status: int, value: str) -> None:
    """It is read only where somebody waits for it, and nothing in it ends more than itself."""
    outcome = await outcome_of(lambda _: httpx.Response(status, headers={"Retry-After": value}))

    assert status == outcome.status
    if isinstance(outcome, Retry):
        assert outcome.after_s in (None, 999_999_999.0)


async def test_of_several_retry_afters_the_longest_counts() -> None:
    """A proxy in between may add its own."""
    headers = [("Retry-After", "5"), ("Retry-After", "nonsense"), ("Retry-After", "90"), ("Retry-After", "7")]

    assert Retry("answered 429", 429, 90.0) == await outcome_of(lambda _: httpx.Response(429, headers=headers))


async def test_an_attempt_that_sent_nothing_is_not_in_doubt() -> None:
    """Its time was over while a name was looked up, a connection opened or waited for: nobody can have seen it."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise trio.TooSlowError

    assert Retry("not connected in time for this attempt; nothing was sent") == await outcome_of(answer)


async def test_an_attempt_that_was_begun_is_left_to_the_caller() -> None:
    """Once a byte went out, the receiver may have the alert: the caller says how long it waited."""

    def answer(request: httpx.Request) -> httpx.Response:
        request.extensions["send_progress"].started = True
        raise trio.TooSlowError

    with pytest.raises(trio.TooSlowError):
        await outcome_of(answer)


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
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        if fault is not None:
            raise fault
        return httpx.Response(200)

    assert why == await channel_to(answer).why_unreachable(deadline=7.0)
    assert ["CONNECT"] == seen


async def test_the_transport_is_told_when_the_attempt_has_to_be_over() -> None:
    """Nobody else bounds it: a receiver that hangs would keep its worker for ever."""
    channel = channel_to(lambda _: httpx.Response(204))
    assert Accepted(204) == await channel.send(Message("1-0", b"{}", deadline=12.5))
    assert isinstance(channel._transport, Wire)
    assert 12.5 == channel._transport.deadline


@pytest.mark.parametrize("status", [200, 404, 410, 503])
async def test_a_receiver_that_repeats_the_request_gives_no_secret_away(status: int) -> None:
    """Neither the URL's, nor a header's, nor the signing key, also where what is kept of the answer ends in one."""

    def answer(request: httpx.Request) -> httpx.Response:
        said = f"Cannot {request.method} {request.url.raw_path.decode()}, headers {dict(request.headers)}, key {SECRET}"
        return httpx.Response(status, text="." * 960 + said if status == 410 else said)

    outcome = await outcome_of(answer)

    assert "Cannot POST ***" in outcome.answer
    for secret in ("s3cret", "t0ken", SECRET):
        assert secret not in repr(outcome)


async def test_a_cut_echo_gives_no_half_of_a_secret_away() -> None:
    """A connection that breaks in the middle of the answer may break in the middle of a secret."""
    channel = channel_to(lambda _: httpx.Response(404, text=""))
    response = AnswerParser(65_536)
    response.feed(b"HTTP/1.1 404 X\r\nContent-Length: 99\r\n\r\nCannot POST /hook/s3cr")
    response.feed_eof() if response.complete else response.end_early(httpx.ReadError("broke"))

    assert "Cannot POST ***" == channel._kept(response)


async def test_the_url_s_path_is_in_no_outcome_and_no_repr() -> None:
    """A webhook URL is often a secret by itself."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset")

    assert "s3cret" not in json.dumps(str(await outcome_of(answer)))
    assert "<WebhookChannel pager to example.org>" == repr(channel_to(answer))


async def test_wrong_dns_fails_no_alert_for_good(mock_clock: MockClock) -> None:
    """A name that leads nowhere good for a while: the attempt is told to a human, and the next one arrives."""

    def now() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    names = NameServer(["0.0.0.0"], ["169.254.169.254"], ["127.0.0.1"])
    async with raw_receiver() as receiver, TrioTransport(names=NameLookup(names)) as transport:
        channel = WebhookChannel("hook", f"http://hook.example:{receiver.port}/", transport=transport, now=now)
        outcomes = []
        for _ in range(3):
            outcomes.append(await channel.send(Message("1-1", b"{}")))
            mock_clock.jump(1)

    assert [Retry, Retry, Accepted] == [type(outcome) for outcome in outcomes]
    assert [True, True, False] == [outcome.needs_human for outcome in outcomes]
    assert "'hook.example': 0.0.0.0 (unspecified" in str(outcomes[0].reason)
    assert not any(outcome.unseen for outcome in outcomes)
