"""From the addresses of a receiver to a TCP connection: a dead address costs a quarter of a second, and rarely."""

import os
import socket
from collections.abc import Sequence
from errno import EINPROGRESS
from itertools import zip_longest

import trio

STAGGER_S = 0.25  # until the next address is tried as well: the "connection attempt delay" that RFC 8305 recommends

# An address that another one has outrun is tried last for this long. Broken IPv6 (no route, or dropped packets)
# is then noticed once a minute for each receiver, not at every connection.
AVOIDED_S = 60.0


class Connector:
    """Connects to the first address that answers ("happy eyeballs", RFC 8305), and remembers which ones did not."""

    def __init__(self) -> None:
        self._avoided_until: dict[str, float] = {}  # by address, on trio's clock

    async def connect(self, addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
        """Return a connected socket that does not block.

        Args:
            addresses: As text, at least one, the preferred ones first. All are tried, and the first to answer is taken.
            port: The same for all.
            deadline: On trio's clock; the caller bounds the whole by it, and every address is tried before.

        Raises:
            OSError: No address took the connection; this is the last one's error.

        Cancellation: nothing stays open.
        """
        if len(addresses) == 1:
            return await _connect(addresses[0], port)
        race = _Race(port)
        tried = []
        stagger_s = min(STAGGER_S, (deadline - trio.current_time()) / len(addresses))
        async with trio.open_nursery() as race.attempts:
            for address in self._in_order(addresses):
                tried.append(address)
                failed = trio.Event()
                race.attempts.start_soon(race.run, address, failed)
                with trio.move_on_after(stagger_s):
                    await failed.wait()
        # Once there is a winner, the nursery swallows every cancellation, so the open socket cannot get lost.
        if race.winner is None:
            raise race.fault
        self._remember(tried, race.winning_address)
        return race.winner

    def _in_order(self, addresses: Sequence[str]) -> list[str]:
        """IPv6 and IPv4 in turns, so that a broken one of them costs one step; those to be avoided last."""
        preferred = [address for address in addresses if _family(address) == _family(addresses[0])]
        others = [address for address in addresses if address not in preferred]
        in_turns = [address for pair in zip_longest(preferred, others) for address in pair if address is not None]
        now = trio.current_time()
        return sorted(in_turns, key=lambda address: self._avoided_until.get(address, now) > now)

    def _remember(self, tried: Sequence[str], winner: str) -> None:
        self._avoided_until.pop(winner, None)
        outrun = tried[: tried.index(winner)]
        if outrun:
            now = trio.current_time()
            self._avoided_until = {address: until for address, until in self._avoided_until.items() if until > now}
            self._avoided_until.update(dict.fromkeys(outrun, now + AVOIDED_S))


class _Race:
    """Attempts to connect, side by side; the first that succeeds ends the others."""

    attempts: trio.Nursery

    def __init__(self, port: int) -> None:
        self.winner: socket.socket | None = None
        self.winning_address = ""
        self.fault: OSError = TimeoutError("no address answered in time")
        self._port = port

    async def run(self, address: str, failed: trio.Event) -> None:
        try:
            connected = await _connect(address, self._port)
        except OSError as fault:
            self.fault = fault
            failed.set()
            return
        if self.winner is not None:  # both were done in the same turn of the loop
            connected.close()
            return
        self.winner, self.winning_address = connected, address
        self.attempts.cancel_scope.cancel()


async def _connect(address: str, port: int) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        errno = sock.connect_ex((address, port))
        if errno == EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            errno = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        sock.close()
        raise
    if errno:
        sock.close()
        raise OSError(errno, f"{os.strerror(errno)} ({address} port {port})")
    return sock


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
