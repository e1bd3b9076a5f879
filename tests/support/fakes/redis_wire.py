"""The server's end of a Redis connection in memory: every answer is the test's own."""

import contextlib
from collections.abc import Callable, Iterable

import hiredis
import trio
import trio.testing

Command = list[bytes]


class WireServer:
    """Reads commands from its end of a stream pair and answers them in order.

    Args:
        answer: The bytes that answer a command; None: no answer, ever.

    Attributes:
        commands: What has come in, in order.
        writes: The same as it was sent: one item for each `send_all` of the client.
    """

    def __init__(self, answer: Callable[[Command], bytes | None]) -> None:
        self.stream, self._own = trio.testing.memory_stream_pair()
        self.commands: list[Command] = []
        self.writes: list[bytes] = []
        self._answer = answer

    async def answer_all(self) -> None:
        """Answer until either end closes."""
        parser = hiredis.Reader()
        with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):  # either end may close
            while data := await self._own.receive_some():
                self.writes.append(bytes(data))
                parser.feed(bytes(data))
                while command := parser.gets():
                    self.commands.append(command)
                    answer = self._answer(command)
                    if answer is not None:
                        await self.send(answer)

    async def receive(self) -> bytes:
        """Return what has come in, and leave it unanswered."""
        return bytes(await self._own.receive_some())

    async def send(self, data: bytes) -> None:
        """Send bytes, asked for or not."""
        await self._own.send_all(data)

    async def close(self) -> None:
        """End the connection."""
        await self._own.aclose()


def echo(command: Command) -> bytes:
    """Answer a command with its last argument."""
    return bulk(command[-1])


def bulk(text: bytes) -> bytes:
    """Put a string on the wire's form."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


def array(items: Iterable[bytes]) -> bytes:
    """Put a list of what is already on the wire's form there."""
    parts = list(items)
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))
