"""One Redis connection, on streams in memory."""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import DataError, ResponseError
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.fakes.redis_wire import WireServer, bulk, echo
from trio_alerts.backends.redis.connection import READ_SIZE, RedisConnection, pack
from trio_alerts.errors import Unavailable

TIMEOUT_S = 5.0


@asynccontextmanager
async def _running(
    server: WireServer,
    stream: trio.abc.Stream | None = None,
    timeout_s: float = TIMEOUT_S,
    most_bytes: float = math.inf,
) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(stream or server.stream, timeout_s=timeout_s, most_bytes=most_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer_all)
        nursery.start_soon(connection.run)
        yield connection
        nursery.cancel_scope.cancel()


async def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    """Whoever writes it must not decide about our memory; smaller ones, however many, are no large one."""
    async with _running(WireServer(echo), most_bytes=100_000) as connection:
        for _ in range(20):
            assert b"x" * 50_000 == await _ask(connection, "x" * 50_000)
        with pytest.raises(Unavailable, match="an answer of more than 100,000 bytes"):
            await _ask(connection, "x" * 10_000_000)
        assert connection._unfinished_bytes <= 100_000 + READ_SIZE


async def _ask(connection: RedisConnection, word: str) -> object:
    return await connection.execute(pack(("ECHO", word)))


# -- order and pipelining --


async def test_each_task_gets_its_own_answer() -> None:
    """Answers come in the order of the commands, and each reaches the task that asked."""
    got: dict[str, object] = {}

    async def ask(connection: RedisConnection, word: str) -> None:
        got[word] = await _ask(connection, word)

    async with _running(WireServer(echo)) as connection, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, connection, f"word-{number}")

    assert {f"word-{number}": f"word-{number}".encode() for number in range(50)} == got


async def test_commands_of_one_moment_leave_in_one_send() -> None:
    """Commands that tasks issue while the writer is not running are written together."""
    server = WireServer(echo)
    async with _running(server) as connection:
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for number in range(128):
                nursery.start_soon(_ask, connection, str(number))

    assert 128 == len(server.commands)
    assert 1 == len(server.writes)


@pytest.mark.parametrize("room", [1000, 3, 0])
async def test_a_lone_command_leaves_at_once(room: int) -> None:
    """Its own task sends it, the writer what the system did not take; a second command does not overtake the rest."""
    server = WireServer(echo)
    at_once: list[bytes] = []

    def send_now(data: bytes) -> int:
        at_once.append(data[:room])
        return len(at_once[-1])

    connection = RedisConnection(server.stream, timeout_s=TIMEOUT_S, send_now=send_now)
    async with trio.open_nursery() as nursery:
        for word in ("one", "two"):
            nursery.start_soon(_ask, connection, word)
            await wait_all_tasks_blocked()
        one, two = pack(("ECHO", "one")), pack(("ECHO", "two"))
        assert [one[:room]] == at_once  # and nobody runs the connection yet
        nursery.start_soon(connection.run)
        await wait_all_tasks_blocked()
        assert one[room:] + two == await server.receive()
        await server.send(echo([b"one"]) + echo([b"two"]))
        await wait_all_tasks_blocked()
        assert 0 == connection.under_way
        nursery.cancel_scope.cancel()


async def test_what_gathers_during_a_send_leaves_in_the_next() -> None:
    """While one send is under way, later commands wait together and need no timer."""
    server = WireServer(echo)
    slow = _SlowStream(server.stream)
    async with _running(server, slow) as connection, trio.open_nursery() as asking:
        asking.start_soon(_ask, connection, "first")
        await wait_all_tasks_blocked()
        for word in ("second", "third", "fourth"):
            asking.start_soon(_ask, connection, word)
        await wait_all_tasks_blocked()
        slow.gate.set()

    assert [1, 3] == [sent.count(b"ECHO") for sent in slow.sends]


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (b"+OK\r\n", b"OK"),
        (b":7\r\n", 7),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"$0\r\n\r\n", b""),
        (b"$2\r\n\xff\xfe\r\n", b"\xff\xfe"),
        (b"*2\r\n*2\r\n:1\r\n$-1\r\n$1\r\na\r\n", [[1, None], b"a"]),
    ],
)
async def test_answers_are_plain_values(wire: bytes, answer: object) -> None:
    """Null, empty and binary answers are answers, and texts are bytes."""
    async with _running(WireServer(lambda _: wire)) as connection:
        assert answer == await _ask(connection, "x")


async def test_an_error_answer_is_raised_for_its_own_task_only() -> None:
    """An error belongs to the command that it answers; the next one is served as usual."""
    answers = iter([b"-WRONGTYPE not that kind\r\n", b"+OK\r\n"])
    async with _running(WireServer(lambda _: next(answers))) as connection:
        with pytest.raises(ResponseError, match=r"^WRONGTYPE not that kind$"):
            await _ask(connection, "x")
        assert b"OK" == await _ask(connection, "y")


# -- cancellation --


async def test_an_answer_whose_waiter_was_cancelled_is_dropped() -> None:
    """The answer to a cancelled command is read and dropped; the next answer is the next command's."""
    server = WireServer(lambda _: None)
    async with _running(server) as connection, trio.open_nursery() as nursery:
        async with trio.open_nursery() as asking:
            asking.start_soon(_ask, connection, "cancelled")
            await wait_all_tasks_blocked()
            asking.cancel_scope.cancel()

        async def stays() -> None:
            assert b"mine" == await _ask(connection, "stays")

        nursery.start_soon(stays)
        await wait_all_tasks_blocked()
        assert 2 == connection.under_way
        await server.send(bulk(b"not mine") + bulk(b"mine"))


async def test_a_task_that_is_cancelled_already_sends_nothing() -> None:
    """A command is a checkpoint before it is queued: in a cancelled scope nothing goes out."""
    server = WireServer(echo)
    async with _running(server) as connection:
        with trio.CancelScope() as scope:
            scope.cancel()
            await _ask(connection, "never")
        await wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert [] == server.commands


async def test_a_cancel_in_the_middle_of_a_write_leaves_the_stream_whole() -> None:
    """The writer task, not the asking task, owns the socket: a half-sent command is always completed."""
    server = WireServer(echo)
    slow = _SlowStream(server.stream)
    async with _running(server, slow) as connection:
        async with trio.open_nursery() as asking:
            asking.start_soon(_ask, connection, "half sent")
            await wait_all_tasks_blocked()
            asking.cancel_scope.cancel()
        slow.gate.set()
        assert b"next" == await _ask(connection, "next")

    assert [[b"ECHO", b"half sent"], [b"ECHO", b"next"]] == server.commands


async def test_cancelling_a_blocking_command_drops_the_connection() -> None:
    """With `cancel_closes` a cancelled command ends the connection at once, and `run` says so."""
    server = WireServer(lambda _: None)
    connection = RedisConnection(server.stream, timeout_s=TIMEOUT_S, cancel_closes=True)
    reason = ""

    async def run() -> None:
        nonlocal reason
        reason = await connection.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer_all)
        nursery.start_soon(run)
        async with trio.open_nursery() as asking:
            asking.start_soon(_ask, connection, "blocks")
            await wait_all_tasks_blocked()
            asking.cancel_scope.cancel()

    assert "a blocking command was cancelled" == reason
    assert "<RedisConnection lost: a blocking command was cancelled>" == repr(connection)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 64))
@settings(max_examples=25, deadline=None)
def test_random_cancels_never_shift_the_answers(seed: int, tasks: int, piece: int) -> None:
    """Whatever moments tasks are cancelled at, every later answer belongs to its command."""
    chance = random.Random(seed)
    finished: list[str] = []

    async def ask_often(connection: RedisConnection, name: int) -> None:
        for turn in range(8):
            word = f"{name}-{turn}-{'x' * chance.randrange(40)}"
            await trio.sleep(chance.choice([0, 0, chance.random()]))
            with trio.move_on_after(chance.choice([0, chance.random() / 10, 4])):
                assert word.encode() == await _ask(connection, word)
                finished.append(word)

    async def scenario() -> None:
        server = WireServer(echo)
        crumbling = _CrumblingStream(server.stream, chance, piece)
        async with _running(server, crumbling, timeout_s=TIMEOUT_S * 1_000) as connection:
            async with trio.open_nursery() as asking:
                for name in range(tasks):
                    asking.start_soon(ask_often, connection, name)
            assert b"last" == await _ask(connection, "last")
            assert connection.lost is None
            assert 0 == connection.under_way
            assert server.commands[-1] == [b"ECHO", b"last"]
            assert len(finished) < len(server.commands)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


# -- every wait has a bound --


async def test_a_silent_server_is_given_up_after_the_timeout(autojump_clock: MockClock) -> None:
    """No answer within the timeout drops the connection; everything behind fails with it."""
    failed_at_s: list[float] = []

    async def ask() -> None:
        with pytest.raises(Unavailable, match=r"^no answer within 5 s$"):
            await _ask(connection, "x")
        failed_at_s.append(trio.current_time() - begin_s)

    async with _running(WireServer(lambda _: None)) as connection:
        begin_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(3)
            nursery.start_soon(ask)

    assert [5.0, 5.0] == failed_at_s


async def test_the_bound_is_that_of_the_oldest_command(autojump_clock: MockClock) -> None:
    """When the first of two is answered, the second still has its own full time."""
    failed_at_s: list[float] = []
    server = WireServer(lambda _: None)
    async with _running(server) as connection, trio.open_nursery() as nursery:
        begin_s = trio.current_time()
        nursery.start_soon(_ask, connection, "answered after 4 s")

        async def late() -> None:
            with pytest.raises(Unavailable):
                await _ask(connection, "asked after 3 s")
            failed_at_s.append(trio.current_time() - begin_s)

        await trio.sleep(3)
        nursery.start_soon(late)
        await trio.sleep(1)
        await server.send(bulk(b"x"))
        await wait_all_tasks_blocked()
        assert 1 == connection.under_way

    assert [8.0] == failed_at_s


async def test_an_idle_connection_is_not_given_up(autojump_clock: MockClock) -> None:
    """With nothing under way no time runs."""
    async with _running(WireServer(echo)) as connection:
        await _ask(connection, "x")
        await trio.sleep(86_400)
        assert b"y" == await _ask(connection, "y")


async def test_a_full_socket_is_given_up_after_the_timeout(autojump_clock: MockClock) -> None:
    """A server that takes no more bytes is as silent as one that does not answer."""
    server = WireServer(echo)
    async with _running(server, _SlowStream(server.stream)) as connection:
        begin_s = trio.current_time()
        with pytest.raises(Unavailable, match="no answer within 5 s"):
            await _ask(connection, "x")

        assert 5.0 == trio.current_time() - begin_s


# -- a connection ends --


async def test_a_closed_connection_fails_what_is_under_way_and_what_comes() -> None:
    """When the server closes, waiters and later callers hear why, and `run` ends."""
    server = WireServer(lambda _: None)
    async with _running(server) as connection, trio.open_nursery() as nursery:
        nursery.start_soon(_when_blocked, server.close)
        assert "<RedisConnection 0 under way>" == repr(connection)
        with pytest.raises(Unavailable, match=r"^closed by the server$"):
            await _ask(connection, "x")
        with pytest.raises(Unavailable, match=r"^closed by the server$"):
            await _ask(connection, "y")


async def test_a_broken_send_ends_the_connection() -> None:
    """A write that fails is a lost connection too."""
    server = WireServer(echo)
    async with _running(server) as connection:
        server.stream.send_stream.close()
        with pytest.raises(Unavailable):
            await _ask(connection, "x")


async def test_a_protocol_error_ends_the_connection() -> None:
    """Bytes that are no answer make all that follow untrustworthy."""
    async with _running(WireServer(lambda _: b"HTTP/1.1 400 Bad Request\r\n")) as connection:
        with pytest.raises(Unavailable, match=r"Protocol error"):
            await _ask(connection, "x")


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """One answer too many would shift every later one, so it is never taken."""
    server = WireServer(echo)
    async with _running(server) as connection:
        await _ask(connection, "x")
        await server.send(b"-ERR you are leaving\r\n")
        await wait_all_tasks_blocked()
        with pytest.raises(Unavailable, match=r"^an answer that nobody asked for: you are leaving$"):
            await _ask(connection, "y")


async def test_closing_fails_what_is_under_way() -> None:
    """A cancelled `run` closes the stream and leaves nobody waiting."""
    server = WireServer(lambda _: None)
    connection = RedisConnection(server.stream, timeout_s=TIMEOUT_S)
    async with trio.open_nursery() as asking:

        async def ask() -> None:
            with pytest.raises(Unavailable, match=r"^closed$"):
                await _ask(connection, "x")

        asking.start_soon(ask)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    with pytest.raises(trio.ClosedResourceError):
        await server.stream.send_all(b"x")


# -- before it runs, and packing --


async def test_the_first_words_are_exchanged_without_tasks() -> None:
    """`exchange` returns answers and errors as values, in order."""
    answers = iter([b"+OK\r\n", b"-WRONGPASS no\r\n"])
    server = WireServer(lambda _: next(answers))
    connection = RedisConnection(server.stream, timeout_s=TIMEOUT_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.answer_all)
        first, second = await connection.exchange(("CLIENT SETNAME", "me"), ("AUTH", "secret"))
        nursery.cancel_scope.cancel()

    assert (b"OK", "no") == (first, str(second))
    assert [[b"CLIENT", b"SETNAME", b"me"], [b"AUTH", b"secret"]] == server.commands


async def test_a_connection_that_ends_at_the_first_words_says_so() -> None:
    """`exchange` raises what the caller expects of every lost connection."""
    server = WireServer(echo)
    await server.close()
    with pytest.raises(Unavailable):
        await RedisConnection(server.stream, timeout_s=TIMEOUT_S).exchange(("PING",))


def test_commands_are_packed_as_redis_py_does() -> None:
    """A name of two words is two words; texts, bytes and numbers are strings; spaces in arguments stay."""
    assert b"*3\r\n$5\r\nXINFO\r\n$6\r\nGROUPS\r\n$3\r\na b\r\n" == pack(("XINFO GROUPS", "a b"))
    assert b"*2\r\n$1\r\nA\r\n$1\r\nx\r\n" == pack((b"A", bytearray(b"x"))) == pack(("A", memoryview(b"x")))
    assert b"*3\r\n$1\r\nA\r\n$3\r\n1.5\r\n$2\r\n-7\r\n" == pack(("A", 1.5, -7))


@pytest.mark.parametrize("argument", [None, True, object(), ["x"]])
def test_what_is_no_text_or_number_is_refused(argument: object) -> None:
    """A None or a bool in a command is a bug of the caller, found before anything is sent."""
    with pytest.raises(DataError):
        pack(("SET", "key", argument))  # type: ignore[arg-type]


# -- streams that misbehave --


class _SlowStream(trio.abc.Stream):
    """Sends the first byte, then waits for the gate before the rest."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.gate = trio.Event()
        self.sends: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends.append(bytes(data))
        await self._inner.send_all(data[:1])
        await self.gate.wait()
        await self._inner.send_all(data[1:])

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _CrumblingStream(_SlowStream):
    """Sends and receives in pieces, with pauses of random length between."""

    def __init__(self, inner: trio.abc.Stream, chance: random.Random, piece: int) -> None:
        super().__init__(inner)
        self._chance = chance
        self._piece = piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), self._piece):
            await self._inner.send_all(data[start : start + self._piece])
            await trio.sleep(self._chance.random() / 100)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.sleep(self._chance.random() / 20)
        return await self._inner.receive_some(self._chance.randrange(1, 100))


async def _when_blocked(act: Callable[[], Awaitable[None]]) -> None:
    await wait_all_tasks_blocked()
    await act()
