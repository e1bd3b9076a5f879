import math
import socket
from collections.abc import Iterator, Mapping

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.http import connect
from trio_alerts.http.connect import Connector

SIX, ALSO_SIX, FOUR, ALSO_FOUR = "2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"
DEAD = math.inf
REFUSED = ConnectionRefusedError("refused")


class Network:
    """Connects in the prepared time, never, not at all, or when told to; notes every attempt with its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Mapping[str, float | OSError | trio.Event] = {}
        self.attempts: list[tuple[str, float]] = []
        self.sockets: dict[socket.socket, str] = {}
        monkeypatch.setattr(connect, "_connect", self.connect)

    async def connect(self, address: str, port: int) -> socket.socket:
        self.attempts.append((address, trio.current_time()))
        answer = self.answers[address]
        if isinstance(answer, trio.Event):
            await answer.wait()
        elif isinstance(answer, OSError):
            await trio.lowlevel.checkpoint()
            raise answer
        else:
            await trio.sleep(answer)
        sock = socket.socket()
        self.sockets[sock] = address
        return sock

    @property
    def open(self) -> list[str]:
        """Where connections lead that are open."""
        return [address for sock, address in self.sockets.items() if sock.fileno() >= 0]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network(monkeypatch)
    yield network
    for sock in network.sockets:
        sock.close()


async def connected(connector: Connector, *addresses: str, within_s: float = 5.0) -> None:
    await connector.connect(addresses, 443, trio.current_time() + within_s)


@pytest.mark.parametrize(
    ("answers", "attempts"),
    [
        ({SIX: 0.2, FOUR: 0}, [(SIX, 0)]),
        ({SIX: 0.3, FOUR: 0.1}, [(SIX, 0), (FOUR, 0.25)]),
        ({SIX: DEAD, FOUR: 0}, [(SIX, 0), (FOUR, 0.25)]),
        ({SIX: REFUSED, FOUR: 0}, [(SIX, 0), (FOUR, 0)]),
        ({SIX: DEAD, FOUR: REFUSED, ALSO_FOUR: 0}, [(SIX, 0), (FOUR, 0.25), (ALSO_FOUR, 0.25)]),
    ],
)
async def test_the_next_address_is_tried_soon(
    answers: dict[str, float | OSError], attempts: list[tuple[str, float]], network: Network, autojump_clock: MockClock
) -> None:
    """Another address is tried when the one before has failed, or 0.25 s have passed; one connection stays open."""
    network.answers = answers
    await connected(Connector(), *answers)

    assert attempts == network.attempts
    assert 1 == len(network.open)


async def test_families_take_turns(network: Network, autojump_clock: MockClock) -> None:
    """With many addresses of a family that is broken, the other family is tried second, not last."""
    network.answers = {SIX: DEAD, ALSO_SIX: DEAD, FOUR: DEAD, ALSO_FOUR: 0}
    await connected(Connector(), *network.answers)

    assert [(SIX, 0), (FOUR, 0.25), (ALSO_SIX, 0.5), (ALSO_FOUR, 0.75)] == network.attempts


async def test_a_dead_address_is_remembered_for_a_minute(network: Network, autojump_clock: MockClock) -> None:
    """Broken IPv6 costs a quarter of a second once a minute, not at every connection."""
    network.answers = {SIX: DEAD, FOUR: 0}
    connector = Connector()
    took_s = []
    for pause_s in (0, 0, 59, 1, 0):
        await trio.sleep(pause_s)
        since_s = trio.current_time()
        await connected(connector, SIX, FOUR)
        took_s.append(trio.current_time() - since_s)

    assert [0.25, 0, 0, 0.25, 0] == took_s
    assert 5 == len(network.open)


async def test_an_address_that_works_again_comes_first(network: Network, autojump_clock: MockClock) -> None:
    """When the others fail, an address that was set aside is tried too, and comes first once it has worked."""
    connector = Connector()
    network.answers = {SIX: DEAD, FOUR: DEAD, ALSO_FOUR: 0}
    await connected(connector, *network.answers)
    network.answers = {SIX: DEAD, FOUR: 0, ALSO_FOUR: REFUSED}
    await connected(connector, *network.answers)
    network.attempts.clear()
    await connected(connector, *network.answers)

    assert [(FOUR, 0.75)] == network.attempts


async def test_little_time_is_shared(network: Network, autojump_clock: MockClock) -> None:
    """With less time than a quarter of a second for each, every address is still tried."""
    network.answers = {SIX: DEAD, FOUR: DEAD, ALSO_SIX: DEAD, ALSO_FOUR: 0.1}
    await connected(Connector(), *network.answers, within_s=0.4)

    assert [(SIX, 0), (FOUR, 0.1), (ALSO_SIX, 0.2), (ALSO_FOUR, pytest.approx(0.3))] == network.attempts


async def test_the_last_error_is_told_when_all_have_failed(network: Network, autojump_clock: MockClock) -> None:
    """Nobody takes the connection: an error, as with one address."""
    network.answers = {SIX: REFUSED, FOUR: OSError("no route")}
    with pytest.raises(OSError, match="no route"):
        await connected(Connector(), SIX, FOUR)


async def test_two_that_succeed_together_leave_one_connection(network: Network, autojump_clock: MockClock) -> None:
    """Both attempts end in the same turn of the loop: one is used, the other closed."""
    both = trio.Event()
    network.answers = {SIX: both, FOUR: both}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connected, Connector(), SIX, FOUR)
        await trio.sleep(1)
        both.set()

    assert 2 == len(network.sockets)
    assert 1 == len(network.open)


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.25, 0.3])
async def test_a_cancelled_race_leaves_nothing_open(
    after_s: float, network: Network, autojump_clock: MockClock
) -> None:
    """Whenever the caller's time is over, also in the turn in which an address answers: nothing stays open."""
    network.answers = {SIX: DEAD, FOUR: 0.05}
    used = False
    with trio.move_on_after(after_s):
        await connected(Connector(), SIX, FOUR)
        used = True

    assert used == bool(network.open)
