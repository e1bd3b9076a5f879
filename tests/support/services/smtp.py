"""A mail server, as RFC 5321 describes it, with STARTTLS (RFC 3207) and AUTH (RFC 4954)."""

import base64
import email
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import default

import trio

from tests.support.raw_receiver import RawConnection, Script

END = b"\r\n.\r\n"


class SmtpStandIn:
    """One server.

    Args:
        answers: To the ends of mails, in order; then the last one for ever. Each is a line.
        login: User and password that it wants; None: it lets everybody in.
        refuses: By recipient, the line that it is refused with.
        auth: What it offers for it.
        tls: It offers STARTTLS by this.
        says: By command, a line that is answered instead.
    """

    def __init__(
        self,
        *answers: bytes,
        login: tuple[str, str] | None = None,
        refuses: dict[str, bytes] | None = None,
        auth: str = "PLAIN LOGIN",
        tls: ssl.SSLContext | None = None,
        says: dict[bytes, bytes] | None = None,
    ) -> None:
        self._answers = list(answers) or [b"250 2.0.0 queued"]
        self._login, self._refuses, self._auth, self._tls = login, refuses or {}, auth, tls
        self._says = says or {}
        self.commands: list[bytes] = []

    @property
    def script(self) -> Script:
        """What it does with a connection, to its close."""

        async def serve(connection: RawConnection) -> None:
            lines = Lines(connection)
            while await self.take(connection, lines):
                await lines.say(self._answer())

        return serve

    async def take(self, connection: RawConnection, lines: "Lines | None" = None) -> bool:
        """Take one mail whole, and note it; its end is not answered. False when the client has closed."""
        first = lines is None or not lines.greeted
        lines = lines or Lines(connection)
        if first:
            await lines.say(self._says.get(b"CONNECT", b"220 mail.example ESMTP"))
        lines.greeted = True
        while line := await lines.read():
            verb = line.split(b" ")[0].split(b":")[0].upper()
            self.commands.append(line)
            if verb == b"QUIT":
                return False
            if verb == b"DATA" and verb not in self._says:
                await lines.say(b"354 go ahead")
                connection.receiver.requests.append(await lines.mail())
                return True
            await self._reply(verb, line, lines)
        return False

    async def _reply(self, verb: bytes, line: bytes, lines: "Lines") -> None:
        if verb in self._says:
            await lines.say(self._says[verb])
        elif verb == b"EHLO":
            offers = [b"mail.example", b"SIZE 10240000", f"AUTH {self._auth}".encode()]
            offers += [b"STARTTLS"] if self._tls and not lines.encrypted else []
            await lines.say(*(b"250-" + offer for offer in offers[:-1]), b"250 " + offers[-1])
        elif verb == b"STARTTLS" and self._tls:
            await lines.say(b"220 ready")
            await lines.encrypt(self._tls)
        elif verb == b"AUTH":
            await lines.say(b"235 2.7.0 welcome" if await self._knows(line, lines) else b"535 5.7.8 wrong password")
        elif verb == b"MAIL" and self._login and not lines.known:
            await lines.say(b"530 5.7.0 authentication required")
        elif verb == b"RCPT":
            recipient = line.partition(b"<")[2].partition(b">")[0].decode()
            await lines.say(self._refuses.get(recipient, b"250 2.1.5 ok"))
        else:
            await lines.say(b"250 2.0.0 ok")

    async def _knows(self, line: bytes, lines: "Lines") -> bool:
        given = line.split(b" ")
        if given[1] == b"PLAIN":
            _, user, password = base64.b64decode(given[2]).split(b"\0")
        else:
            await lines.say(b"334 VXNlcm5hbWU6")
            user = base64.b64decode(await lines.read())
            await lines.say(b"334 UGFzc3dvcmQ6")
            password = base64.b64decode(await lines.read())
        lines.known = (user.decode(), password.decode()) == self._login
        return lines.known

    def _answer(self) -> bytes:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Lines:
    """One connection, line by line."""

    def __init__(self, connection: RawConnection) -> None:
        self._stream: trio.abc.Stream = connection.stream
        self._buffer = b""
        self.greeted = self.encrypted = self.known = False

    async def read(self) -> bytes:
        return (await self._until(b"\r\n")).removesuffix(b"\r\n")

    async def mail(self) -> bytes:
        text = await self._until(END) if not self._buffer.startswith(b".\r\n") else b""
        return text.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")

    async def say(self, *lines: bytes) -> None:
        try:
            await self._stream.send_all(b"".join(line + b"\r\n" for line in lines))
        except trio.BrokenResourceError:
            return

    async def encrypt(self, context: ssl.SSLContext) -> None:
        assert b"" == self._buffer
        self._stream = trio.SSLStream(self._stream, context, server_side=True)
        await self._stream.do_handshake()
        self.encrypted = True

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            try:
                data = await self._stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return b""
            if not data:
                return b""
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(end)
        return found + end


def smtp_answering(login: tuple[str, str], *answers: bytes) -> Script:
    """Make a script of a server that answers the ends of mails so, one a mail."""
    return SmtpStandIn(*answers, login=login).script


def parsed(mail: bytes) -> EmailMessage:
    """Read a mail as a mail program does."""
    message = email.message_from_bytes(mail, policy=default)
    assert isinstance(message, EmailMessage)
    assert [] == list(message.defects)
    return message


def body_of(message: EmailMessage, *kinds: str) -> str:
    """Return the text of its part of a kind, `plain` or `html`."""
    part = message.get_body(tuple(kinds))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def envelope(commands: Sequence[bytes]) -> list[bytes]:
    """Return from whom to whom a mail went."""
    return [line for line in commands if line.startswith((b"MAIL", b"RCPT"))]
