"""Serves a mail box over SMTP (RFC 5321): as much of it as a sender of alerts uses."""

from collections.abc import AsyncIterator

import trio

from trio_alerts.demo.receivers import Receiver

MAX_BYTES = 1024 * 1024  # of a line or a mail; an alert has 256 KiB at most
END_OF_MAIL = b"\r\n.\r\n"


async def serve_mail(receiver: Receiver, stream: trio.abc.Stream) -> None:
    """Take one connection's mails, one after the other, until its sender is done."""
    try:
        await _say(stream, b"220 demo.example ESMTP")
        lines = Lines(stream)
        recipient = ""
        async for line in lines:
            verb = line[:4].upper()
            if verb == b"RCPT":
                recipient = line.partition(b"<")[2].partition(b">")[0].decode()
            if verb == b"DATA":
                await _say(stream, b"354 go ahead")
                answer = receiver.take({"to": recipient}, await lines.mail())
                await trio.sleep(answer.delay_s)
                await _say(stream, b"%d " % (250 if answer.accepted else 451) + answer.body)
            else:
                await _say(stream, b"221 bye" if verb == b"QUIT" else b"250 ok")
            if verb == b"QUIT":
                return
    except (trio.BrokenResourceError, ValueError):
        pass  # the sender went away, as a killed worker does, or sent what is no mail
    finally:
        await trio.aclose_forcefully(stream)


class Lines:
    """What a connection brings, by lines, and a mail as a whole."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield line by line, until the sender closes."""
        while (line := await self._until(b"\r\n")) is not None:
            yield line

    async def mail(self) -> bytes:
        """Return a mail, with the dots that were added to its lines taken off again.

        Raises:
            ValueError: The sender closed before its end.
        """
        mail = await self._until(END_OF_MAIL)
        if mail is None:
            raise ValueError("half a mail")
        return mail.replace(b"\r\n..", b"\r\n.")

    async def _until(self, end: bytes) -> bytes | None:
        while end not in self._received:
            data = await self._stream.receive_some(65_536)
            if not data or len(self._received) > MAX_BYTES:
                return None
            self._received += data
        found, _, self._received = self._received.partition(end)
        return found


async def _say(stream: trio.abc.Stream, line: bytes) -> None:
    await stream.send_all(line + b"\r\n")
