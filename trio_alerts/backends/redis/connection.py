"""One connection to Redis: commands of many tasks go out together, the answers come back in order."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import trio
from redis._parsers import BaseParser
from redis.exceptions import DataError, InvalidResponse, RedisError, ResponseError
from redis.typing import EncodableT

from trio_alerts.errors import Unavailable

READ_SIZE = 65_536  # one recv takes what 128 tasks are answered at once, several times over
CANCELLED = "a blocking command was cancelled"

_NOTHING_YET = object()  # hiredis says with it that an answer is not complete: None and False are answers


class RedisConnection:
    """Commands of many tasks over one stream, pipelined by themselves.

    A command that finds nothing under way goes out at once. For the others a writer task sends: what gathers while one
    send is under way goes out in the next (no timer). A reader task hands each answer to the oldest waiter. Tasks only
    wait, so cancelling one can neither cut a command in the middle nor shift the answers: an answer whose waiter has
    gone is read and dropped in its turn.

    Memory is bounded by the callers: a task has one command under way, and a cancelled one leaves a place in the queue
    for at most `timeout_s`, because then the connection is dropped.

    Args:
        stream: Connected; the connection owns it and closes it when `run` ends.
        timeout_s: Longest wait for any one answer, sending included. A miss drops the connection: answers come in
            order, so those behind a late one cannot be trusted to come in time either.
        cancel_closes: For blocking commands: a cancelled one would keep the connection busy, and would swallow what it
            gets in the end, so the connection is dropped.
        most_bytes: Of one answer. Who asks for something large drops the connection before it fills the memory; what
            the answer carried is lost.
        send_now: Sends what the system takes without a wait, and returns how many bytes that was; None: the writer
            task sends everything.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        timeout_s: float,
        cancel_closes: bool = False,
        most_bytes: float = math.inf,
        send_now: Callable[[bytes], int] | None = None,
    ) -> None:
        self._stream = stream
        self._send_now = send_now
        self._timeout_s = timeout_s
        self._cancel_closes = cancel_closes
        self._most_bytes = most_bytes
        self._unfinished_bytes = 0  # of the answer that is coming in, about
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_reply_error, notEnoughData=_NOTHING_YET
        )
        self._unsent: list[bytes] = []
        self._waiting: deque[_Waiter] = deque()
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()  # around both tasks; its deadline is that of the oldest waiter
        self.lost: str | None = None  # why, once it is

    def __repr__(self) -> str:
        return f"<RedisConnection {f'lost: {self.lost}' if self.lost else f'{len(self._waiting)} under way'}>"

    @property
    def under_way(self) -> int:
        """How many commands are not answered yet, those of cancelled tasks included."""
        return len(self._waiting)

    async def exchange(self, *commands: tuple[EncodableT, ...]) -> list[Any]:
        """Send commands and read their answers, errors among them as values: for the handshake, before `run`.

        Raises:
            Unavailable: The stream broke.

        Cancellation: the connection is of no use afterwards; the caller bounds the wait.
        """
        answers: list[Any] = []
        try:
            await self._stream.send_all(b"".join(pack(command) for command in commands))
            while len(answers) < len(commands):
                answers += await self._receive()
        except (trio.BrokenResourceError, RedisError) as error:
            # "max number of clients reached" is said before the server closes, in place of the first answer.
            said = answers[-1] if answers and isinstance(answers[-1], Exception) else None
            raise Unavailable(str(said or _reason(error))) from error
        return answers

    async def run(self) -> str:
        """Carry commands until the connection is lost, and say why.

        Cancellation: closes at once; commands under way fail as if the connection were lost.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_commands)
                    await self._read_answers()
            self.drop(f"no answer within {self._timeout_s:g} s")  # unless a reason is known: then the scope was cut
        finally:
            self.drop("closed")
            await trio.aclose_forcefully(self._stream)
        return self.lost or ""

    async def execute(self, command: bytes) -> Any:
        """Send one packed command and return its answer: bytes, int, None or a list of these.

        Raises:
            Unavailable: The connection is lost, and with it the answer; whether the command ran is not known.
            RedisError: The server's answer is an error.

        Cancellation: on entry nothing is sent; later the command may run all the same, its answer is dropped.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.lost is not None:
            raise Unavailable(self.lost)
        waiter = _Waiter(trio.lowlevel.current_task(), trio.current_time() + self._timeout_s)
        if not self._waiting:
            self._scope.deadline = waiter.deadline
            if self._send_now is not None:  # a turn of trio's loop earlier than the writer could
                command = command[self._send_now(command) :]
        self._waiting.append(waiter)
        if command:
            self._unsent.append(command)
            self._idle_writer.unpark()

        def stop_waiting(_: object) -> trio.lowlevel.Abort:
            waiter.task = None
            if self._cancel_closes:
                self.drop(CANCELLED)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(stop_waiting)
        if isinstance(waiter.answer, Exception):
            raise waiter.answer
        return waiter.answer

    def drop(self, reason: str) -> None:
        """Give the connection up: everything under way fails now, `run` ends soon. Only the first reason counts."""
        if self.lost is not None:
            return
        self.lost = reason
        self._scope.cancel()
        for waiter in self._waiting:
            waiter.resolve(Unavailable(reason))
        self._waiting.clear()

    async def _write_commands(self) -> None:
        try:
            while True:
                while self._unsent:
                    together = b"".join(self._unsent)
                    self._unsent.clear()
                    await self._stream.send_all(together)
                await self._idle_writer.park()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.drop(_reason(error))

    async def _read_answers(self) -> None:
        try:
            while True:
                for answer in await self._receive():
                    if not self._waiting:
                        self.drop(f"an answer that nobody asked for: {answer!s:.200}")
                        return
                    self._waiting.popleft().resolve(answer)
                self._scope.deadline = self._waiting[0].deadline if self._waiting else math.inf
        except (trio.BrokenResourceError, trio.ClosedResourceError, RedisError) as error:
            self.drop(_reason(error))

    async def _receive(self) -> list[Any]:
        """Wait for bytes, return the answers that they complete: none, one or many."""
        data = await self._stream.receive_some(READ_SIZE)
        if not data:
            raise trio.BrokenResourceError("closed by the server")
        self._unfinished_bytes += len(data)
        if self._unfinished_bytes > self._most_bytes:
            raise trio.BrokenResourceError(f"an answer of more than {self._most_bytes:,} bytes")
        self._parser.feed(bytes(data))  # a bytearray from TLS; bytes are not copied
        answers = []
        try:
            while (answer := self._parser.gets()) is not _NOTHING_YET:
                answers.append(answer)
        except (TypeError, ValueError) as error:  # a map or a set whose keys cannot be keys
            raise InvalidResponse(str(error)) from error
        if answers:
            self._unfinished_bytes = 0
        return answers


class _Waiter:
    """The place of one command in the queue of answers; `task` is None once nobody waits."""

    __slots__ = ("answer", "deadline", "task")

    def __init__(self, task: trio.lowlevel.Task, deadline: float) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.deadline = deadline
        self.answer: Any = None

    def resolve(self, answer: object) -> None:
        if self.task is not None:
            self.answer = answer
            trio.lowlevel.reschedule(self.task)
            self.task = None


def pack(command: tuple[EncodableT, ...]) -> bytes:
    """Put a command on the wire's form; a name of two words ("XINFO GROUPS") becomes two.

    Raises:
        DataError: An argument is neither text nor bytes nor a number.
    """
    name, *arguments = command
    words = name.split() if isinstance(name, str | bytes) else [name]
    try:
        packed: bytes = hiredis.pack_command((*words, *map(_plain, arguments)))
    except TypeError as error:
        raise DataError(str(error)) from error
    return packed


def _reply_error(text: str) -> RedisError:
    # "unknown command" goes on with what we sent: a password, or an alert.
    text = text.partition(", with args beginning with")[0]
    try:
        error: RedisError = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    except ValueError:  # MOVED or ASK without an address
        error = ResponseError(text)
    return error


def _plain(argument: EncodableT) -> EncodableT:
    return bytes(argument) if isinstance(argument, bytearray | memoryview) else argument


def _reason(error: Exception) -> str:
    """Say what broke: trio's own text ("socket connection broken") hides the cause behind it."""
    cause = error.__cause__ or error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(error).__name__
