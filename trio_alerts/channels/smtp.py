"""SMTP as a client speaks it: RFC 5321, with STARTTLS (RFC 3207) and AUTH (RFC 4954), over a socket of `http/`.

Python's `smtplib` blocks a thread, which no deadline can end, and does not tell whether the end of a mail went out:
that alone decides whether the server may have it.
"""

import base64
import re
import ssl
from typing import NamedTuple

from trio_alerts.http.socket import ByteSocket, SendProgress, TlsSocket
from trio_alerts.text import one_line

MAX_REPLY_BYTES = 16_384  # RFC 5321 allows 512 bytes a line; EHLO answers with some twenty
END_OF_MAIL = b".\r\n"
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n]*))?\r?\n")


class Reply(NamedTuple):
    """What the server answers: `text` is one printable line."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The code and the lines, as a person reads them."""
        return one_line(f"{self.code} {' '.join(self.lines)}".rstrip())


class SmtpRefusal(Exception):
    """The server answered a command with something else than what lets the mail go on.

    Args:
        command: Which one it was: its first word.
        reply: What the server said.
    """

    def __init__(self, command: str, reply: Reply) -> None:
        super().__init__(f"{command}: the server said {reply.text}")
        self.command = command
        self.reply = reply


class SmtpFault(Exception):
    """The server cannot do what is asked of it, or does not speak SMTP; nothing was sent to anybody."""


class SmtpSession:
    """One connection to a server.

    Every method raises OSError when the connection breaks, `SmtpRefusal`, `SmtpFault`, and trio.TooSlowError when the
    answer is not there by the deadline, on trio's clock.

    Args:
        plain: The connected socket; its owner closes it.
        host: Whom a certificate must name.
        context: Verifies it.
        deadline: For everything.
    """

    def __init__(self, plain: ByteSocket, host: str, context: ssl.SSLContext, deadline: float) -> None:
        self._plain = plain
        self._socket = plain
        self._host = host
        self._context = context
        self._deadline = deadline
        self._received = b""
        self._extensions: dict[str, str] = {}

    async def greet(self, client: str, *, tls: bool, starttls: bool) -> None:
        """Say hello, and encrypt: from the first byte on (`tls`), or as soon as the server can (`starttls`)."""
        if tls:
            await self._encrypt()
        self._expect("connect", await self._reply(), 220)
        await self._hello(client)
        if starttls and not tls:
            if "STARTTLS" not in self._extensions:
                raise SmtpFault("the server offers no STARTTLS; `starttls = false` sends in clear text")
            await self._command("STARTTLS", 220)
            if self._received:  # put there by somebody in between, to be taken for the server's own (CVE-2011-0411)
                raise SmtpFault("something follows the answer to STARTTLS")
            await self._encrypt()
            await self._hello(client)

    async def log_in(self, user: str, password: str) -> None:
        """Authenticate by PLAIN, or by LOGIN where there is no PLAIN."""
        offered = self._extensions.get("AUTH", "").upper().split()
        if "PLAIN" in offered:
            await self._command(f"AUTH PLAIN {_base64(chr(0).join(('', user, password)))}", 235)
        elif "LOGIN" in offered:
            await self._command("AUTH LOGIN", 334)
            await self._command(_base64(user), 334, named="AUTH")
            await self._command(_base64(password), 235, named="AUTH")
        else:
            raise SmtpFault("the server offers neither AUTH PLAIN nor AUTH LOGIN")

    async def address(self, sender: str, recipients: tuple[str, ...]) -> list[tuple[str, Reply]]:
        """Name the sender and the recipients; return those that were refused. If all were, raise the first refusal.

        A refusal that may pass (4yz) counts before one that is final: then the mail is worth another attempt.
        """
        await self._command(f"MAIL FROM:<{sender}>", 250)
        refused = []
        for recipient in recipients:
            reply = await self._ask(f"RCPT TO:<{recipient}>")
            if reply.code not in (250, 251):
                refused.append((recipient, reply))
        if len(refused) == len(recipients):
            raise SmtpRefusal("RCPT", min((reply for _, reply in refused), key=lambda reply: reply.code))
        return refused

    async def transmit(self, mail: bytes, progress: SendProgress) -> Reply:
        """Send the mail; `progress` notes its end: before that, a server that loses the connection delivers nothing."""
        await self._command("DATA", 354)
        stuffed = re.sub(rb"(?m)^\.", b"..", mail)
        await self._socket.send(stuffed, SendProgress(), self._deadline)
        await self._socket.send(END_OF_MAIL, progress, self._deadline)
        reply = await self._reply()
        self._expect("DATA", reply, 250)
        return reply

    async def quit(self) -> None:
        """Say goodbye, without waiting for the answer."""
        await self._socket.send(b"QUIT\r\n", SendProgress(), self._deadline)

    async def _hello(self, client: str) -> None:
        reply = await self._command(f"EHLO {client}", 250)
        words = (line.partition(" ") for line in reply.lines[1:])
        self._extensions = {name.upper(): rest for name, _, rest in words}

    async def _encrypt(self) -> None:
        tls = TlsSocket(self._plain, self._context, self._host, None)
        await tls.handshake(self._deadline)
        self._socket = tls

    async def _command(self, line: str, expected: int, *, named: str = "") -> Reply:
        reply = await self._ask(line)
        self._expect(named or line.partition(" ")[0], reply, expected)
        return reply

    async def _ask(self, line: str) -> Reply:
        await self._socket.send(f"{line}\r\n".encode(), SendProgress(), self._deadline)
        return await self._reply()

    def _expect(self, command: str, reply: Reply, code: int) -> None:
        if reply.code != code:
            raise SmtpRefusal(command, reply)

    async def _reply(self) -> Reply:
        """Read one reply; every line of it but the last has a "-" behind the code (RFC 5321, 4.2.1)."""
        lines = []
        size = 0
        while True:
            while b"\n" not in self._received:
                data = await self._socket.receive(self._deadline)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._received += data
                if size + len(self._received) > MAX_REPLY_BYTES:
                    raise SmtpFault("an answer of the server has no end")
            line, _, self._received = self._received.partition(b"\n")
            size += len(line)
            match = _LINE.fullmatch(line + b"\n")
            if match is None:
                raise SmtpFault("the server does not speak SMTP")
            lines.append((match[3] or b"").decode("utf-8", "replace"))
            if match[2] != b"-":
                return Reply(int(match[1]), tuple(lines))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
