"""From a receiver's name to its addresses, so that one name whose DNS hangs costs no other receiver anything.

The system's resolver blocks a thread and cannot be stopped, and behind a silent name server it takes 20 s and more. So
there is one lookup of a name at a time, shared by every attempt that needs it; an attempt that gives up leaves it
running for the next. The threads are separate from those of all other lookups.
"""

import math
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

import httpx
import trio
from anyio import CapacityLimiter, to_thread
from loguru import logger

Ask: TypeAlias = Callable[[str], Awaitable[Iterable[str]]]

# An answer, good or bad, serves a burst of connections. Short, so that a fail-over or a rotation by DNS is followed at
# once, and a name that is back is used at once.
REMEMBERED_S = 1.0

# While DNS fails or hangs, its last addresses are used for this long (RFC 8767 allows days, on the terms
# of who owns the name): most outages of DNS are over by then, and receivers move less often. A name that is said not to
# exist is forgotten at once.
USABLE_S = 600.0
PATIENCE_S = 0.25  # for a new answer, while an older one can be used; a healthy server takes 50 ms

MAX_SPELLINGS = 1000  # hosts for which it is remembered whether they are addresses

GONE = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Resolver:
    """Resolves names, each at most once at a time.

    Args:
        ask: Asks the resolver for the addresses of one name; by default the system's, in a thread.
    """

    def __init__(self, ask: Ask | None = None) -> None:
        # Without a bound of its own: there is at most one thread a name, and the settings bound the number of names.
        # With one, as many names as it has tokens could hang and leave none to the others.
        self._ask = ask or partial(ask_system, limiter=CapacityLimiter(math.inf))
        self._names: dict[str, _Name] = {}

    def __repr__(self) -> str:
        hanging = sum(name.under_way is not None for name in self._names.values())
        return f"<Resolver {len(self._names)} names, {hanging} under way>"

    async def addresses(self, host: str) -> Sequence[str]:
        """Return the addresses of a name as text, in the resolver's order; at least one.

        Raises:
            httpx.ConnectError: The name cannot be resolved.

        Cancellation: the lookup goes on, for others that wait for it and for the next call.
        """
        name = self._names.setdefault(host, _Name())
        now = trio.current_time()
        if now - name.answered_at >= REMEMBERED_S:
            if name.under_way is None:
                name.under_way, name.asked_at = trio.Event(), now
                # Not in a nursery: who waits may be cancelled, and a thread cannot be stopped.
                trio.lowlevel.spawn_system_task(self._look_up, host, name, name.under_way, name=f"lookup of {host}")
            usable = now - name.found_at < USABLE_S
            with trio.move_on_at(name.asked_at + PATIENCE_S if usable else math.inf):
                await name.under_way.wait()
        if trio.current_time() - name.found_at >= USABLE_S:
            raise httpx.ConnectError(f"cannot resolve {host!r}: {name.fault}")
        return name.found

    async def _look_up(self, host: str, name: "_Name", done: trio.Event) -> None:
        """Ask, and wake all who wait. Never raises: that would end the whole program."""
        try:
            found = tuple(await self._ask(host))
        except Exception as error:  # noqa: BLE001 - out of threads, out of memory, …: the same for those who wait
            name.failed(host, error)
        else:
            name.succeeded(host, found)
        finally:
            name.under_way = None
            done.set()


async def ask_system(host: str, limiter: CapacityLimiter) -> list[str]:
    """Ask the system's resolver for the addresses of a name.

    Raises:
        OSError: It has none, or does not answer.
        UnicodeError: It cannot be a name (a label is too long, …).

    Cancellation: the thread is left to end by itself; its answer is lost.
    """
    # IPv4 and IPv6 in one question; without the type, each address would come three times.
    ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    found = await to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
    return [str(address[0]) for *_, address in found]


@lru_cache(MAX_SPELLINGS)
def literal_address(host: str) -> str | None:
    """Return the address that a host is, however it is spelled (`127.1`, `0x7f000001`); None if it is a name."""
    try:
        [(*_, address)] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(address[0])


class _Name:
    """What is known of one name. Times are trio's."""

    __slots__ = ("answered_at", "asked_at", "fault", "found", "found_at", "under_way")

    def __init__(self) -> None:
        self.found: Sequence[str] = ()
        self.fault: Exception | None = None  # of the last lookup
        self.found_at = self.asked_at = self.answered_at = -math.inf
        self.under_way: trio.Event | None = None

    def succeeded(self, host: str, found: Sequence[str]) -> None:
        if self.fault is not None:
            logger.info("{host} can be resolved again", host=host)
        self.found, self.fault = found, None
        self.found_at = self.answered_at = trio.current_time()

    def failed(self, host: str, fault: Exception) -> None:
        self.answered_at = trio.current_time()
        if isinstance(fault, socket.gaierror) and fault.errno in GONE:
            self.found_at = -math.inf
        elif self.fault is None and self.found:
            age_s = self.answered_at - self.found_at
            logger.warning(
                "cannot resolve {host}: {reason}; using its addresses of {age_s:.0f} s ago",
                host=host,
                reason=str(fault),
                age_s=round(age_s, 1),
            )
        self.fault = fault
