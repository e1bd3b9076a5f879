import math
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import trio
from anyio import CapacityLimiter, to_thread
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.fakes.names import NameServer
from trio_alerts.http.resolver import Resolver, ask_system, literal_address

HOST = "receiver.example"
OLD, NEW = "192.0.2.1", "192.0.2.2"
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NOT_NOW = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Asking:
    """Who asked, what came of it, and when."""

    def __init__(self, lookup: Resolver) -> None:
        self.lookup = lookup
        self.ended: list[tuple[str, float]] = []

    async def ask(self, host: str = HOST) -> None:
        try:
            what = ",".join(await self.lookup.addresses(host))
        except httpx.ConnectError as error:
            what = str(error)
        self.ended.append((what, trio.current_time()))


async def test_all_who_wait_for_a_name_share_one_look_up(autojump_clock: MockClock) -> None:
    """Twenty who ask while it is under way get its answer when it comes, whenever they asked."""
    names = NameServer([OLD, NEW], takes_s=20)
    asking = Asking(Resolver(names))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(asking.ask)
            await trio.sleep(0.9)

    assert (1, [(f"{OLD},{NEW}", 20.0)] * 20) == (names.asked, asking.ended)


async def test_who_gives_up_takes_the_answer_from_nobody(autojump_clock: MockClock) -> None:
    """One gives up after 5 s; another still gets the answer, and one who comes later joins the same lookup."""
    names = NameServer([OLD], takes_s=20)
    asking = Asking(Resolver(names))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask)
        with trio.move_on_after(5):
            await asking.lookup.addresses(HOST)
        assert "<Resolver 1 names, 1 under way>" == repr(asking.lookup)
        await trio.sleep(10)
        nursery.start_soon(asking.ask)

    assert (1, [(OLD, 20.0)] * 2) == (names.asked, asking.ended)


async def test_a_look_up_that_everybody_gave_up_is_joined_by_the_next(autojump_clock: MockClock) -> None:
    """An attempt every 6 s, each bounded by 5 s, against DNS that takes 20 s: one lookup, and the fourth gets it."""
    names = NameServer([OLD], takes_s=20)
    asking = Asking(Resolver(names))
    for _ in range(4):
        with trio.move_on_after(5):
            await asking.ask()
        await trio.sleep(1)

    assert (1, [(OLD, 20.0)]) == (names.asked, asking.ended)


async def test_names_that_hang_delay_no_other_name(autojump_clock: MockClock) -> None:
    """A hundred names whose DNS takes 20 s, and one healthy name: it is resolved at once."""
    names = NameServer([OLD], takes_s=20)
    asking = Asking(Resolver(names))
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(asking.ask, f"hanging-{number}.example")
        await wait_all_tasks_blocked()
        names.takes_s = 0.01
        await asking.ask("healthy.example")
        assert [(OLD, 0.01)] == asking.ended
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [[OLD], UNKNOWN, NOT_NOW, UnicodeError("label too long"), RuntimeError("no thread")])
async def test_an_answer_is_remembered_for_a_second(answer: list[str] | Exception, autojump_clock: MockClock) -> None:
    """Good or bad, it serves all who ask within a second; then the resolver is asked again."""
    names = NameServer(answer)
    asking = Asking(Resolver(names))
    asked = []
    for _ in range(5):
        await asking.ask()
        asked.append(names.asked)
        await trio.sleep(0.25)

    expected = OLD if isinstance(answer, list) else f"cannot resolve '{HOST}': {answer}"
    assert [(expected, step * 0.25) for step in range(5)] == asking.ended
    assert [1, 1, 1, 1, 2] == asked


async def test_a_name_that_moves_is_followed_at_once(autojump_clock: MockClock) -> None:
    """After a second the new address is used, not the old one."""
    asking = Asking(Resolver(NameServer([OLD], [NEW])))
    await asking.ask()
    await trio.sleep(1)
    await asking.ask()

    assert [(OLD, 0.0), (NEW, 1.0)] == asking.ended


async def test_while_dns_fails_the_last_addresses_are_used(autojump_clock: MockClock, logged: list[str]) -> None:
    """An outage of DNS stops no alerts to a receiver that was known, for ten minutes; the log says it once."""
    names = NameServer([OLD], NOT_NOW)
    asking = Asking(Resolver(names))
    for _ in range(4):
        await asking.ask()
        await trio.sleep(199.9)
    await asking.ask()
    names.answers[:] = [[NEW]]
    await trio.sleep(1)
    await asking.ask()

    assert [OLD] * 4 + [f"cannot resolve '{HOST}': {NOT_NOW}", NEW] == [what for what, _ in asking.ended]
    assert [
        f"WARNING cannot resolve {HOST}: {NOT_NOW}; using its addresses of 200 s ago",
        f"INFO {HOST} can be resolved again",
    ] == logged


async def test_while_dns_hangs_the_last_addresses_are_used(autojump_clock: MockClock) -> None:
    """The first who asks waits for 0.25 s, the others not at all; the answer is used once it comes."""
    names = NameServer([OLD], [NEW])
    asking = Asking(Resolver(names))
    await asking.ask()
    names.takes_s = 20
    await trio.sleep(10)
    for _ in range(3):
        await asking.ask()
    await trio.sleep(20.25)
    await asking.ask()

    assert [(OLD, 0.0), (OLD, 10.25), (OLD, 10.25), (OLD, 10.25), (NEW, 30.5)] == asking.ended
    assert 2 == names.asked


async def test_a_name_that_is_gone_is_not_used_any_more(autojump_clock: MockClock) -> None:
    """When DNS says that there is no such name, its old addresses are somebody else's."""
    asking = Asking(Resolver(NameServer([OLD], UNKNOWN)))
    await asking.ask()
    await trio.sleep(1)
    await asking.ask()

    assert f"cannot resolve '{HOST}': {UNKNOWN}" == asking.ended[-1][0]


class HangingResolver:
    """In place of the system's resolver: it knows one name, and hangs for every other until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self._entered = threading.Semaphore(0)

    def __call__(self, host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host != HOST:
            self._entered.release()
            self.released.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (OLD, 0))]

    async def hanging(self, count: int) -> None:
        """Wait until so many lookups hang."""
        await to_thread.run_sync(lambda: [self._entered.acquire() for _ in range(count)])


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingResolver]:
    resolver = HangingResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    watchdog = threading.Timer(30, resolver.released.set)
    watchdog.start()
    yield resolver
    watchdog.cancel()
    resolver.released.set()


async def test_look_ups_that_hang_hold_no_thread_that_others_need(resolver: HangingResolver) -> None:
    """A hundred names hang in the system's resolver: the healthy one is found, and Redis has all of trio's threads."""
    asking = Asking(Resolver())
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(asking.ask, f"hanging-{number}.example")
        await resolver.hanging(100)
        await asking.ask()
        assert [OLD] == [what for what, _ in asking.ended]
        assert 0 == to_thread.current_default_thread_limiter().borrowed_tokens
        assert not resolver.released.is_set()
        nursery.cancel_scope.cancel()


def test_a_look_up_that_hangs_does_not_hold_up_the_end(resolver: HangingResolver) -> None:
    """The program ends while the system's resolver hangs."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Resolver().addresses, "hanging.example")
            await resolver.hanging(1)
            nursery.cancel_scope.cancel()

    trio.run(main)

    assert not resolver.released.is_set()


async def test_the_systems_resolver_is_asked_in_a_thread() -> None:
    """The system's own files are enough for this name: loopback, each address once."""
    found = await ask_system("localhost", CapacityLimiter(math.inf))

    assert {"127.0.0.1", "::1"} >= set(found)
    assert len(set(found)) == len(found) > 0


@pytest.mark.parametrize("host", ["a" * 64 + ".example", ".example", "a..b"])
async def test_an_impossible_name_is_a_connection_error(host: str) -> None:
    """A name that no resolver can be asked for is told like one that does not exist."""
    with pytest.raises(httpx.ConnectError, match="cannot resolve"):
        await Resolver().addresses(host)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("localhost", None),
        ("receiver.example", None),
        ("a" * 64 + ".example", None),
    ],
)
def test_an_address_is_told_from_a_name(host: str, address: str | None) -> None:
    """However an address is spelled, the system would take it for one, so nobody is asked for it."""
    assert address == literal_address(host)
