"""What is noticed about sockets, on real ones."""

import math
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.support.raw_receiver import OK, RawConnection, raw_receiver
from tests.unit.http.test_transport import counts, status, until
from trio_alerts.http import watch
from trio_alerts.http.socket import RECEIVE_BYTES, PlainSocket
from trio_alerts.http.transport import TrioTransport
from trio_alerts.http.watch import LOOK_EVERY_S, ReadWatch

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected sockets: ours, which does not block, and the other end."""
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    with ours, other:
        yield ours, other


@pytest.fixture
async def plain(pair: Pair) -> AsyncIterator[PlainSocket]:
    """Ours, as the transport uses it."""
    plain = PlainSocket(pair[0], ReadWatch())
    yield plain
    plain.close()


async def test_whoever_waits_is_woken_by_what_arrives(plain: PlainSocket, pair: Pair) -> None:
    """A wait ends with the first bytes; what was read is not told again, and later bytes are."""
    for sent in (b"first", b"second"):
        received: list[bytes] = []

        async def receive(into: list[bytes] = received) -> None:
            into.append(await plain.receive(trio.current_time() + 10))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                pair[1].sendall(sent)
        assert [sent] == received
        assert plain.is_quiet(0.0)
        assert math.inf == plain._watched.deadline  # nobody looks for it any more


@pytest.mark.parametrize("length", [1, RECEIVE_BYTES + 1])
async def test_the_end_behind_what_was_read_is_known(length: int, plain: PlainSocket, pair: Pair) -> None:
    """Bytes and the end behind them are reported by the system just once."""
    pair[1].sendall(b"x" * length)
    pair[1].close()
    received = b"-"
    with trio.fail_after(10):
        while received:
            received = await plain.receive(math.inf)
            length -= len(received)
    assert 0 == length


async def test_what_one_read_leaves_behind_is_read_by_the_next(plain: PlainSocket, pair: Pair) -> None:
    """More bytes than one read takes are reported by the system just once."""
    pair[1].sendall(b"x" * (RECEIVE_BYTES + 1))
    with trio.fail_after(10):
        assert [RECEIVE_BYTES, 1] == [len(await plain.receive(math.inf)) for _ in range(2)]


async def test_a_cancelled_wait_leaves_what_arrives_to_the_next(plain: PlainSocket, pair: Pair) -> None:
    """A wait that was cut has read nothing, and does not keep others from being woken."""
    for sent in (b"", b"late"):
        pair[1].sendall(sent)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await plain.receive(math.inf)
        assert scope.cancelled_caught
    with trio.fail_after(10):
        assert b"late" == await plain.receive(math.inf)


async def test_each_wait_ends_at_its_own_deadline(pair: Pair, mock_clock: MockClock) -> None:
    """Who has waited for too long is told, the others wait on; late by a fraction of a second, if many are late."""
    watch = ReadWatch()
    waiting = [PlainSocket(one, watch) for one in pair]
    late: list[int] = []

    async def receive(number: int, deadline: float) -> None:
        with pytest.raises(trio.TooSlowError):
            await waiting[number].receive(deadline)
        late.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, 0, 2.0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(receive, 1, 1.99)
        for moment, expected in ((1.98, []), (1.99, [1]), (2.0, [1]), (1.99 + LOOK_EVERY_S, [1, 0])):
            mock_clock.jump(moment - mock_clock.current_time())
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert expected == late
    for one in waiting:
        one.close()


async def test_bytes_that_keep_coming_do_not_move_the_deadline(
    plain: PlainSocket, pair: Pair, mock_clock: MockClock
) -> None:
    """There is something to read at every look, and yet it is too late."""
    pair[1].sendall(b"slow")
    await trio.testing.wait_all_tasks_blocked(0.01)
    mock_clock.jump(5.0)
    with pytest.raises(trio.TooSlowError):
        await plain.receive(4.0)
    assert b"slow" == await plain.receive(5.0)


async def test_an_idle_socket_is_looked_at_itself_after_a_while(plain: PlainSocket, pair: Pair) -> None:
    """The watch is trusted for a second: what came while the process stood still is seen by a look of its own."""
    pair[1].close()  # and nobody but us has run since: the watch cannot know

    assert plain.is_quiet(0.9)
    assert not plain.is_quiet(1.0)
    assert pair[0].fileno() >= 0


async def test_the_watch_ends_with_its_last_socket_and_begins_anew(pair: Pair) -> None:
    """Nothing is left when all sockets are closed; a socket after that is watched like the first."""
    watch = ReadWatch()
    plain = PlainSocket(pair[0], watch)
    assert ("<ReadWatch of 1 sockets>", 1) == (repr(watch), await watching())
    plain.close()
    plain.close()
    assert ("<ReadWatch of 0 sockets>", 0) == (repr(watch), await watching())

    ours, other = socket.socketpair()
    with ours, other:
        ours.setblocking(False)
        again = PlainSocket(ours, watch)
        other.sendall(b"new")
        with trio.fail_after(10):
            assert b"new" == await again.receive(math.inf)
        again.close()


async def test_a_socket_that_lives_on_elsewhere_is_not_heard_any_more(pair: Pair) -> None:
    """A copy of a closed socket, as a process that is being started may have, makes no noise here."""
    watch = ReadWatch()
    other_ours, other = socket.socketpair()
    other_ours.setblocking(False)
    with pair[0].dup(), other_ours, other:
        plain = PlainSocket(other_ours, watch)
        PlainSocket(pair[0], watch).close()
        pair[1].sendall(b"to the copy")
        assert 1 == await watching()
        plain.close()


async def watching() -> int:
    """Count the tasks of watches, once everything has come to rest."""
    await trio.testing.wait_all_tasks_blocked()
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return sum("ReadWatch" in task.name for nursery in root.child_nurseries for task in nursery.child_tasks)


async def test_without_epoll_trio_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no epoll, connections are reused, and stale ones noticed, all the same."""
    monkeypatch.setattr(watch, "HAS_EPOLL", False)

    async def two_each(connection: RawConnection) -> None:
        for _ in range(2):
            await connection.request()
            await connection.say(OK)

    async with raw_receiver(two_each) as receiver, TrioTransport() as transport:
        for _ in range(2):
            assert [200, 200] == [await status(transport, receiver.url) for _ in range(2)]
            [idle] = transport._pool._idle
            await until(lambda idle=idle: not idle.socket.is_quiet(0.0))  # type: ignore[misc]
        assert (1, 0, 0) == counts(transport)
        assert "<ReadWatch of 0 sockets>" == repr(transport._pool._watch)

    assert (2, 4) == (receiver.connections, len(receiver.requests))
