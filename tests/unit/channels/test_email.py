import datetime as dt
import hashlib
import math
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.support.raw_receiver import RawConnection, Script, raw_receiver
from tests.support.servers.process import free_port
from tests.support.services.smtp import SmtpStandIn, body_of, envelope, parsed
from trio_alerts.assembly import make_channel
from trio_alerts.channels.email import EmailSettings
from trio_alerts.channels.smtp import SmtpSession
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.socket import PlainSocket, SendProgress
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import ConfiguredChannel, Message
from trio_alerts.settings.addresses import parse_smtp_url

MESSAGE_ID = f"<{hashlib.sha256(b'17-0').hexdigest()[:32]}@example.org>"
NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
LOGIN = ("someone", "pa55word marker")
TO = ("a@example.org", "b@example.org")


def channel_to(
    port: int, transport: TrioTransport, scheme: str = "smtp", user: str = "", **more: Any
) -> ConfiguredChannel:
    settings = EmailSettings(
        name="mail",
        smtp_url=parse_smtp_url(f"{scheme}://{user}127.0.0.1:{port}"),
        sender="alerts@example.org",
        to=TO,
        **{"starttls": False} | more,
    )
    return make_channel(settings, transport, lambda: NOW)


def message(deadline: float = math.inf, **event: object) -> Message:
    return Message("17-0", msgspec.json.encode({"title": "x", "severity": "high"} | event), deadline)


async def attempt(
    script: Script, user: str = "", within_s: float = 15.0, **more: Any
) -> tuple[Outcome | Later, list[bytes]]:
    """Make one attempt; return its outcome and the mails that arrived."""
    async with raw_receiver(script) as receiver, TrioTransport() as transport:
        channel = channel_to(receiver.port, transport, user=user, **more)
        outcome = await channel.send(message(trio.current_time() + within_s))
    return outcome, receiver.requests


class Mailbox:
    """What aiosmtpd hands over: the mails, and from whom to whom."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], EmailMessage, bool]] = []

    async def handle_DATA(self, _: object, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        encrypted = session.ssl is not None
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, parsed(envelope.content), encrypted))
        return "250 OK"


@contextmanager
def aiosmtpd(
    folder: Path, *, smtps: bool = False, login: bool = False, methods: str = ""
) -> Iterator[tuple[Mailbox, int, Path]]:
    """A server by somebody else, in a thread: its mailbox, its port, and the CA that its certificate is of."""
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    mailbox = Mailbox()
    more: dict[str, Any] = {"ssl_context": context} if smtps else {"tls_context": context, "require_starttls": True}
    if login:
        more |= {
            "authenticator": lambda *given: AuthResult(success=given[4] == LoginPassword(*map(str.encode, LOGIN))),
            "auth_required": True,
            "auth_require_tls": not smtps,  # it does not count TLS from the first byte on
            "auth_exclude_mechanism": ["PLAIN"] if methods == "LOGIN" else [],
        }
    port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **more)
    controller.start()
    try:
        yield mailbox, port, folder / "ca.pem"
    finally:
        controller.stop()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # smtps is TLS, but not to aiosmtpd
@pytest.mark.parametrize("smtps", [False, True])
@pytest.mark.parametrize("methods", ["", "LOGIN"])
async def test_a_server_by_somebody_else_takes_the_mail(smtps: bool, methods: str, tmp_path: Path) -> None:
    """Encrypted from the first byte on or by STARTTLS, logged in by PLAIN or LOGIN."""
    text = "Ends.\r\n.\r\n..dots\n" + "x" * 5000 + " Zürich 💥 <b>&amp;</b>"
    with aiosmtpd(tmp_path, smtps=smtps, login=True, methods=methods) as (mailbox, port, ca_file):
        async with TrioTransport() as transport:
            scheme, user = "smtps" if smtps else "smtp", "someone:pa55word%20marker@"
            channel = channel_to(port, transport, scheme, user, starttls=True, ca_file=ca_file)
            assert None is await channel.why_unreachable(trio.current_time() + 10)
            outcome = await channel.send(
                message(trio.current_time() + 10, title="Zürich\r\nBcc: x@y.z", description=text)
            )

    assert Accepted(250, "250 OK", MESSAGE_ID) == outcome
    [(sender, to, mail, encrypted)] = mailbox.mails
    assert ("alerts@example.org", list(TO)) == (sender, to)
    assert encrypted or smtps  # of which aiosmtpd knows nothing
    assert "[HIGH] Zürich\\r\\nBcc: x@y.z" == mail["Subject"]
    assert None is mail["Bcc"]
    assert "auto-generated" == mail["Auto-Submitted"]
    assert text.replace("\r\n", "\n") in body_of(mail, "plain")
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in body_of(mail, "html")


async def test_a_certificate_that_is_not_trusted_gets_no_password(tmp_path: Path) -> None:
    """Nothing goes out before it is clear who is there."""
    with aiosmtpd(tmp_path) as (mailbox, port, _):
        async with TrioTransport() as transport:
            channel = channel_to(port, transport, user="someone:pa55word%20marker@", starttls=True)
            outcome = await channel.send(message(trio.current_time() + 10))

    assert isinstance(outcome, Retry)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
    assert (True, False) == (outcome.needs_human, outcome.unseen)
    assert [] == mailbox.mails


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        ({b"CONNECT": b"421 busy"}, Retry("connect refused with 421", 421, answer="421 busy")),
        ({b"MAIL": b"550 5.7.1 not you"}, Refused("MAIL refused with 550", 550, "550 5.7.1 not you")),
        ({b"MAIL": b"452 4.3.1 full"}, Retry("MAIL refused with 452", 452, answer="452 4.3.1 full")),
        ({b"DATA": b"554 5.5.1 no"}, Refused("DATA refused with 554", 554, "554 5.5.1 no")),
        ({b"CONNECT": b"HTTP/1.1 400"}, Retry("the server does not speak SMTP", needs_human=True)),
        ({b"MAIL": b"250" + b"-x" * 20_000}, Retry("an answer of the server has no end", needs_human=True)),
    ],
)  # fmt: skip
async def test_the_code_decides(says: dict[bytes, bytes], outcome: Outcome) -> None:
    """4yz may pass, 5yz is final; nobody has the mail before its end went out."""
    assert (outcome, []) == await attempt(SmtpStandIn(says=says).script)


async def test_a_wrong_password_is_no_alerts_fault() -> None:
    """It is tried again until a human corrects it, and the password stands nowhere."""
    outcome, mails = await attempt(SmtpStandIn(login=LOGIN).script, user="someone:wr0ngpassword@")

    assert (
        Retry("AUTH refused with 535", 535, answer="535 5.7.8 wrong password", needs_human=True, stop=True) == outcome
    )
    assert [] == mails


@pytest.mark.parametrize(
    ("server", "more", "reason"),
    [
        (SmtpStandIn(auth="XOAUTH2"), {"user": "a:pa55word@"}, "the server offers neither AUTH PLAIN nor AUTH LOGIN"),
        (SmtpStandIn(), {"starttls": True}, "the server offers no STARTTLS; `starttls = false` sends in clear text"),
        (SmtpStandIn(login=LOGIN), {}, "MAIL refused with 530"),
        (SmtpStandIn(says={b"CONNECT": b"554 5.3.2 closed"}), {}, "connect refused with 554"),
        (SmtpStandIn(says={b"EHLO": b"550 5.7.1 who are you"}), {}, "EHLO refused with 550"),
    ],
)  # fmt: skip
async def test_what_a_human_must_put_right_is_tried_again(
    server: SmtpStandIn, more: dict[str, Any], reason: str
) -> None:
    """A server that wants or offers something else than the settings say."""
    outcome, mails = await attempt(server.script, **more)

    assert isinstance(outcome, Retry)
    assert (reason, True, False, []) == (outcome.reason, outcome.needs_human, outcome.unseen, mails)
    assert outcome.stop is (outcome.status is not None)


@pytest.mark.parametrize(
    ("refuses", "outcome", "count"),
    [
        (
            {TO[0]: b"550 5.1.1 unknown"},
            Accepted(250, "250 2.0.0 queued; not to a@example.org: 550 5.1.1 unknown", MESSAGE_ID),
            1,
        ),
        ({TO[0]: b"550 a", TO[1]: b"551 b"}, Refused("RCPT refused with 550", 550, "550 a"), 0),
        ({TO[0]: b"550 a", TO[1]: b"450 b"}, Retry("RCPT refused with 450", 450, answer="450 b"), 0),
    ],
)
async def test_who_can_be_reached_is_reached(refuses: dict[str, bytes], outcome: Outcome, count: int) -> None:
    """Some recipients refused: the others get the mail. All refused: it is tried again if any of that may pass."""
    server = SmtpStandIn(refuses=refuses)
    result, mails = await attempt(server.script)

    assert (outcome, count) == (result, len(mails))
    assert [b"MAIL FROM:<alerts@example.org>", b"RCPT TO:<a@example.org>", b"RCPT TO:<b@example.org>"] == envelope(
        server.commands
    )


class BreakingSocket(PlainSocket):
    """Takes this many pieces, and breaks; it answers DATA."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        progress.started = True
        self.pieces -= 1
        if self.pieces < 0:
            raise ConnectionResetError

    async def receive(self, deadline: float) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"354 go ahead\r\n"


@pytest.mark.parametrize(("pieces", "in_doubt"), [(0, False), (1, False), (2, True)])
async def test_only_the_end_of_the_mail_leaves_a_doubt(pieces: int, in_doubt: bool) -> None:
    """A connection that breaks in the middle of DATA delivers nothing, by RFC 5321."""
    progress = SendProgress()
    session = SmtpSession(BreakingSocket(pieces), "h", ssl.create_default_context(), math.inf)
    with pytest.raises(ConnectionResetError):
        await session.transmit(b"Subject: x\r\n\r\nx\r\n", progress)

    assert in_doubt is progress.started


async def test_what_follows_starttls_is_not_believed() -> None:
    """Somebody in between could have put it there (CVE-2011-0411)."""

    async def inject(connection: RawConnection) -> None:
        for said in (b"220 x", b"250-x\r\n250 STARTTLS", b"220 go\r\n250 me"):
            await connection.say(said + b"\r\n")
            await connection.stream.receive_some(100)

    outcome, _ = await attempt(inject, starttls=True)

    assert Retry("something follows the answer to STARTTLS", needs_human=True) == outcome


async def test_a_repeat_has_the_same_message_id() -> None:
    """A mail program can tell; people are told in words."""
    async with raw_receiver(SmtpStandIn().script) as receiver, TrioTransport() as transport:
        channel = channel_to(receiver.port, transport)
        await channel.send(message())
        await channel.send(msgspec.structs.replace(message(), may_be_repeat=True))

    assert [MESSAGE_ID] * 2 == [parsed(mail)["Message-ID"] for mail in receiver.requests]
    assert "may be a repeat" in body_of(parsed(receiver.requests[1]), "plain")
    assert "may be a repeat" in body_of(parsed(receiver.requests[1]), "html")


async def test_a_forbidden_address_is_never_connected_to() -> None:
    """`networks` holds for mail servers, too."""
    async with TrioTransport(networks=AllowedNetworks(public_only=True)) as transport:
        outcome = await channel_to(25, transport).send(message())

    assert isinstance(outcome, Refused)


async def test_no_secret_gets_out() -> None:
    """Not by a server that repeats the login, nor by what is printed."""
    said = b"554 AUTH PLAIN AHNvbWVvbmUAcGE1NXdvcmQgbWFya2Vy is pa55word marker"
    outcome, _ = await attempt(SmtpStandIn(said, login=LOGIN).script, user="someone:pa55word%20marker@")
    async with TrioTransport() as transport:
        channel = channel_to(25, transport, user="someone:pa55word%20marker@")
        shown = repr((outcome, channel, channel.preview(message()), channel._settings))  # type: ignore[attr-defined]

    assert "***" in outcome.answer
    assert "pa55word" not in shown
    assert "cGE1NXdvcmQgbWFya2Vy"[2:-2] not in shown


async def test_at_most_four_connections_at_once(autojump_clock: object) -> None:
    """Mail servers limit those of one client; the others wait their turn within their own time."""
    most = 0

    async def slow(connection: RawConnection) -> None:
        nonlocal most
        most = max(most, receiver.open)
        await trio.sleep(1)
        await SmtpStandIn().script(connection)

    async with raw_receiver(slow) as receiver, TrioTransport() as transport:
        channel = channel_to(receiver.port, transport)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(channel.send, message(trio.current_time() + 60))

    assert (4, 10) == (most, len(receiver.requests))
