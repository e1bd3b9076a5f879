"""Mail: each alert is handed to one SMTP server, with a text and an HTML part.

The server's answer decides (RFC 5321, 4.2.1): 4yz may pass, 5yz is final if it is about the mail, and for a human if it
is about us. The `Message-ID` is made of the record's ID, so a mail program can tell a repeat.
"""

import hashlib
import html
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import httpx
import trio
from loguru import logger

from trio_alerts.channels.alert_text import AlertText, cut, read_alert
from trio_alerts.channels.http import KEPT_ANSWER_BYTES, broken, not_allowed
from trio_alerts.channels.http_service import forbidden_address
from trio_alerts.channels.registry import ChannelKind, Equipment
from trio_alerts.channels.smtp import SmtpFault, SmtpRefusal, SmtpSession
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.authorities import trusting, trusting_all
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import OriginKey
from trio_alerts.http.socket import ByteSocket, SendProgress
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import Redactor
from trio_alerts.settings.addresses import SmtpAddress
from trio_alerts.settings.kinds import CA_FILE, FLAG, MAIL_ADDRESS, SMTP_URL, choice, list_of
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.settings.tables import about, setting

SUBJECT_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 20_000
MOST_CONNECTIONS = 4  # at once: many servers allow a client ten, and some fewer
_HOST_NAME = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_OF_A_MAIL = frozenset({"MAIL", "RCPT", "DATA"})  # no alert is to blame for what is refused before these,
_WRONG_LOGIN = frozenset({530, 534, 535, 538})  # nor for a login that is wrong or missing (RFC 4954, 6)


@dataclass(frozen=True, kw_only=True)
class EmailSettings(ChannelSettings):
    """Mail, by an SMTP server that takes it for all recipients."""

    kind: Literal["email"] = field(default="email", metadata=about(choice("email"), "The kind of channel."))
    smtp_url: SmtpAddress = field(
        metadata=about(SMTP_URL, "The mail server; `smtps` encrypts from the first byte on. Ports: 587, and 465.")
    )
    sender: str = field(metadata=about(MAIL_ADDRESS, "Who sends the mail."))
    to: tuple[str, ...] = field(
        metadata=about(list_of(MAIL_ADDRESS, "a list of mail addresses in ASCII"), "Who gets the mail.")
    )
    starttls: bool = setting(True, FLAG, "With `smtp`: nothing is sent before the connection is encrypted.")
    ca_file: Path | None = setting(None, CA_FILE, "The CA certificates (PEM) to trust, instead of the system's.")

    @property
    def destination(self) -> str:
        """See `ChannelSettings`."""
        return f"{', '.join(self.to)} by {self.smtp_url!r}"

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:
        """See `ChannelSettings`."""
        yield from forbidden_address(self.smtp_url.host, networks)

    def warnings(self) -> Iterator[str]:
        """See `ChannelSettings`."""
        if self.smtp_url.username and not self.starttls and not self.smtp_url.tls:
            yield f"channel {self.name!r} sends its password in clear text: starttls is false"


class EmailChannel:
    """Sends mail through one server, one connection a mail."""

    def __init__(self, settings: EmailSettings, equipment: Equipment) -> None:
        self.name = settings.name
        self._settings = settings
        self._equipment = equipment
        self._limiter = trio.CapacityLimiter(MOST_CONNECTIONS)
        self._context = trusting(settings.ca_file) if settings.ca_file else trusting_all()
        url = settings.smtp_url
        self._server = OriginKey("smtp", url.host.strip("[]"), url.port)
        self._password = url.password.reveal() if url.password else ""
        self._redactor = Redactor([self._password] if self._password else [])

    def __repr__(self) -> str:
        return f"<EmailChannel {self.name} by {self._settings.smtp_url!r}>"

    async def send(self, message: Message) -> Outcome:
        """Hand in one mail; see `Channel`.

        Cancellation, TooSlowError: the connection is closed; the mail may have been taken if its end went out.
        """
        progress = SendProgress()
        try:
            with trio.fail_at(message.deadline):
                await self._limiter.acquire()
            try:
                return await self._deliver(message, progress)
            finally:
                self._limiter.release()
        except trio.TooSlowError:
            if progress.started:
                raise
            return Retry("the server was not ready for the mail in time; nothing was sent")
        except AddressRefused as refusal:
            return not_allowed(refusal)
        except SmtpRefusal as refusal:
            return self._judge(refusal)
        except SmtpFault as fault:
            return Retry(str(fault), needs_human=True, unseen=progress.started)
        except (httpx.TransportError, OSError) as fault:
            return broken(fault, progress)

    async def why_unreachable(self, deadline: float) -> str | None:
        """See `ConfiguredChannel`; it also logs in."""
        try:
            async with self._equipment.transport.connected(self._server, deadline) as plain:
                session = await self._session(plain, deadline)
                with suppress(OSError, trio.TooSlowError):
                    await session.quit()
        except (httpx.TransportError, OSError, SmtpFault) as fault:
            return str(fault)
        except SmtpRefusal as refusal:
            return self._shown(str(refusal))
        except trio.TooSlowError:
            return "no connection in time"
        return None

    def preview(self, message: Message) -> str:
        """See `ConfiguredChannel`."""
        settings = self._settings
        envelope = [f"MAIL FROM:<{settings.sender}>", *(f"RCPT TO:<{one}>" for one in settings.to), "DATA", ""]
        return "\n".join(envelope) + self._shown(self._mail(message).decode("ascii", "replace")).replace("\r\n", "\n")

    async def _deliver(self, message: Message, progress: SendProgress) -> Outcome:
        settings = self._settings
        async with self._equipment.transport.connected(self._server, message.deadline) as plain:
            session = await self._session(plain, message.deadline)
            refused = await session.address(settings.sender, settings.to)
            reply = await session.transmit(self._mail(message), progress)
            with suppress(OSError, trio.TooSlowError):
                await session.quit()
        for recipient, said in refused:
            logger.error(
                "channel {channel}: the mail server refuses {recipient}, the others got the mail: {reason}",
                channel=self.name,
                recipient=recipient,
                reason=self._shown(said.text),
            )
        answers = [self._shown(reply.text), *(f"not to {who}: {self._shown(said.text)}" for who, said in refused)]
        return Accepted(reply.code, "; ".join(answers)[:KEPT_ANSWER_BYTES], self._message_id(message))

    async def _session(self, plain: ByteSocket, deadline: float) -> SmtpSession:
        """Greet the server, encrypt, and log in."""
        url = self._settings.smtp_url
        session = SmtpSession(plain, self._server.host, self._context, deadline)
        await session.greet(_own_name(), tls=url.tls, starttls=self._settings.starttls)
        if url.username is not None:
            await session.log_in(url.username, self._password)
        return session

    def _judge(self, refusal: SmtpRefusal) -> Outcome:
        reply = refusal.reply
        reason = self._shown(f"{refusal.command} refused with {reply.code}")
        answer = self._shown(reply.text)[:KEPT_ANSWER_BYTES]
        final = reply.code >= 500  # noqa: PLR2004 - RFC 5321, 4.2.1
        if final and refusal.command in _OF_A_MAIL and reply.code not in _WRONG_LOGIN:
            return Refused(reason, reply.code, answer)
        return Retry(reason, reply.code, answer=answer, needs_human=final, stop=final)

    def _shown(self, text: str) -> str:
        return self._redactor.redact(text)

    def _mail(self, message: Message) -> bytes:
        """Return the whole mail in ASCII, with CRLF. No header holds a line end: the text of an alert has none left."""
        alert, settings = read_alert(message), self._settings
        alert = alert._replace(description=cut(alert.description, DESCRIPTION_CHARACTERS, len))
        mail = EmailMessage(policy=SMTP)
        mail["From"] = settings.sender
        mail["To"] = ", ".join(settings.to)
        mail["Subject"] = cut(alert.headline, SUBJECT_CHARACTERS, len)
        mail["Date"] = format_datetime(self._equipment.now())
        mail["Message-ID"] = self._message_id(message)
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday reply
        mail.set_content("\n".join(alert.lines()) + "\n", cte="quoted-printable")
        mail.add_alternative(_html(alert), subtype="html", cte="quoted-printable")
        return mail.as_bytes()

    def _message_id(self, message: Message) -> str:
        digest = hashlib.sha256(message.id.encode()).hexdigest()[:32]
        return f"<{digest}@{self._settings.sender.partition('@')[2]}>"


def _html(alert: AlertText) -> str:
    """Return the same as HTML; every text is escaped, and no link is made of what an alert says."""
    note = f"<p><em>{html.escape(alert.note)}</em></p>\n" if alert.note else ""
    rows = "".join(
        f"<tr><th align='left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n"
        for name, value in alert.facts
    )
    lines = [*alert.description.split("\n"), *alert.links] if alert.description else alert.links
    text = "<br>\n".join(map(html.escape, lines))
    head = f"<h2>{html.escape(alert.headline)}</h2>\n"
    return f"<html><body>{head}{note}<table>{rows}</table>\n<p>{text}</p></body></html>\n"


def _own_name() -> str:
    """Return what EHLO says of us; a name with other characters than a host's would be refused."""
    name = socket.gethostname()
    return name if _HOST_NAME.fullmatch(name) else "[127.0.0.1]"


KIND = ChannelKind(EmailSettings, EmailChannel)
