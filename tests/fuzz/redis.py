"""Answers of Redis, as bytes on the wire: to every command and script that the program sends.

Each case lets one operation run against a server that answers some of its commands as it should, and others with
whatever chance makes up. What may come of it: the operation's own result, an outage, or what refuses a start. Sockets
are in memory, time is virtual.
"""

import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any
from unittest import mock

import trio
from loguru import logger
from trio.testing import MockClock

from tests.fuzz.target import Target
from tests.support.fakes.redis_wire import WireServer, array, bulk
from trio_alerts.alert import Entry
from trio_alerts.backends.redis import connect, dead_letters, gates, losses, scripts, standing, upkeep
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.connection import RedisConnection
from trio_alerts.backends.redis.dead_letters import RedisDeadLetters
from trio_alerts.backends.redis.producer import RedisProducer
from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.backends.redis.stream import RedisStream
from trio_alerts.clock import ServerClock
from trio_alerts.errors import SettingsError, StartError, Unavailable
from trio_alerts.pages import Pages
from trio_alerts.ports.gates import News, Rate
from trio_alerts.ports.stream import Pending
from trio_alerts.record_ids import is_entry_id
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import RedisAddress
from trio_alerts.settings.settings import Settings

STREAM, OTHER, GROUP, ME = "s", "t", "g", "me"
LAST_ID = b"18446744073709551615-18446744073709551615"
LONGEST_S = 3_600.0  # virtual: no wait inside is anywhere near
MANY = 3_000  # commands: an operation that sends more of them goes round in circles

IDS = (b"1-0", b"2-0", b"2-1", b"0-0", LAST_ID, b"18446744073709551615-0")
NO_IDS = (b"", b"-", b"1", b"x-y", b"01-0", b"1-0\n", b"\xff-0", b"99999999999999999999-0", b"18446744073709551616-0")
NUMBERS = (0, 1, -1, 2, 200, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
NOTHINGS = (b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(123456789012345678901\r\n")
ERRORS = (
    *("NOGROUP No such key", "UNBLOCKED the stream key no longer exists", "BUSYGROUP there", "WRONGTYPE other kind"),
    *("OOM command not allowed", "MISCONF cannot write", "LOADING", "MASTERDOWN", "READONLY", "NOAUTH", "BUSY"),
    *("MOVED 1 h:1", "MOVED x", "MOVED", "ASK 1 h:1", "ASK", "CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT", "EXECABORT"),
    *("ERR unknown command 'XCLAIM'", "ERR no such key", "ERR max number of clients reached", "ERR invalid", "ERR"),
    *("ERR Unknown Redis command called from script", "ERR Error running script: -NOGROUP No such key"),
    *("NOPERM", "-", "", "\u00fc"),
)
BROKEN = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    *(b"\r\n", b"\x15\x03\x01\x00\x02\x02\x0a", b"$3\r\nab", b"$3\r\nabcde\r\n", b"*2\r\n:1\r\n", b":1.5\r\n"),
    *(b"$x\r\n", b"%1\r\n*1\r\n+a\r\n:1\r\n", b"*-2\r\n", b"$-7\r\n", b":99999999999999999999\r\n", b"@what\r\n"),
    b"+OK\r\n+OK\r\n",
)


class FuzzedServer:
    """Says what answers a command, and remembers what came in."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.right = random.choice((0.0, 0.5, 0.8, 0.95))
        self.silent = random.random() < 0.1
        self._again: dict[bytes, bytes] | None = {} if random.random() < 0.15 else None  # it always says the same
        self.commands: list[list[bytes]] = []
        self.always: list[bytes] | None = None  # the IDs of every right answer

    def answer(self, command: list[bytes]) -> bytes | None:
        self.commands.append(command)
        assert len(self.commands) < MANY, "it goes round in circles"
        if self._again is not None:
            return self._again.setdefault(b" ".join(command[:2]), self._right(command))
        random = self.random
        if random.random() < self.right:
            return self._right(command)
        match random.randrange(12):
            case 0:
                return None if self.silent else b"-LOADING\r\n"
            case 1:
                return random.choice(BROKEN)
            case 2 | 3 | 4:
                return b"-%s\r\n" % random.choice(ERRORS).encode()
            case 5 | 6:
                return self._right(self.random.choice(self.commands))
            case 7:
                right = self._right(command)
                return right[: random.randrange(len(right))] + random.randbytes(random.randrange(3))
            case _:
                return self._any(random.randrange(4))

    def _any(self, depth: int) -> bytes:
        random = self.random
        match random.randrange(12 if depth else 8):
            case 0:
                return random.choice(NOTHINGS)
            case 1 | 2:
                return b":%d\r\n" % random.choice(NUMBERS)
            case 3:
                return bulk(random.choice((*IDS, *NO_IDS)))
            case 4:
                return bulk(random.choice((b"s", b"t", b"me", b"field", random.randbytes(3), b"lost", b"1")))
            case 5:
                return b"+%s\r\n" % random.choice((b"OK", b"PONG", b"QUEUED", b"none"))
            case 6:
                return b"-%s\r\n" % random.choice(ERRORS).encode()
            case 7:
                return bulk(b"%d" % random.choice(NUMBERS))
            case _:
                items = [self._any(depth - 1) for _ in range(random.randrange(5))]
                if random.random() < 0.1 and len(items) % 2 == 0:
                    return b"%%%d\r\n" % (len(items) // 2) + b"".join(items)
                return array(items)

    def _right(self, command: list[bytes]) -> bytes:
        """Answer as a server would that is as it should be, more or less."""
        name = command[0].upper()
        if name == b"EVAL":
            return self._of_script(command[1].decode())
        if name in (b"XINFO", b"XGROUP", b"CLIENT"):
            name += b" " + command[1].upper()
        flat = array([bulk(b"event"), bulk(b"{}")])
        entries = array([array([bulk(one), flat]) for one in self._ids()])
        match name:
            case b"XREADGROUP":
                return array([array([bulk(self.random.choice((b"s", b"s", b"s", b"t", b"\xff"))), entries])])
            case b"XRANGE":
                return array([]) if self.always is not None and command[2] == b"1-1" else entries  # no page behind it
            case b"XPENDING":
                return array([array([bulk(one), bulk(b"me"), b":1\r\n", b":2\r\n"]) for one in self._ids()])
            case b"TIME":
                return array([bulk(b"1795600000"), bulk(b"1234")])
            case b"HGETALL":
                return array([])
            case b"HGET":
                return b"$-1\r\n"
            case b"INFO":
                return bulk(b"# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n")
            case b"ROLE":
                return array([bulk(b"master"), b":0\r\n", array([])])
            case b"XINFO STREAM":
                return _mapped(
                    {b"length": b":3\r\n", b"first-entry": array([bulk(b"1-0"), flat]), b"groups": b":1\r\n"}
                )
            case b"XINFO GROUPS":
                about = {b"name": bulk(GROUP.encode()), b"pending": b":1\r\n", b"last-delivered-id": bulk(b"2-0")}
                return array([_mapped(about | {b"lag": b":1\r\n"})])
            case b"XINFO CONSUMERS":
                return array([_mapped({b"name": bulk(b"me"), b"pending": b":1\r\n", b"idle": b":9\r\n"})])
            case b"PING":
                return b"+PONG\r\n"
            case b"SENTINEL":
                return array([bulk(b"h"), bulk(b"6379")])
            case b"XADD":
                return bulk(b"9-0")
            case b"SET" | b"CLIENT SETNAME" | b"AUTH" | b"SELECT" | b"XGROUP SETID" | b"XGROUP CREATE":
                return b"+OK\r\n"
            case b"PTTL":
                return b":-1\r\n"
            case _:
                return b":1\r\n"

    def _of_script(self, script: str) -> bytes:
        ids = array([bulk(one) for one in self._ids()])
        fields = array([bulk(b"_record"), bulk(b"1-0"), bulk(b"_deliveries"), bulk(b"\xb2")])
        claimed = array(
            [array([bulk(one), b":2\r\n", array([bulk(b"event"), bulk(b"{}")]), b":7\r\n"]) for one in self._ids()]
        )
        ledger = array([bulk(b"lost"), bulk(b"1"), bulk(b"taken"), bulk(b"0")])
        return {
            scripts.CLAIM: array([claimed, ids]),
            scripts.RENEW: array([ids, ids]),
            scripts.HAND_OVER: array([ids, ids]),
            scripts.PENDING: ids,
            gates._ASK: array([self.random.choice((b":0\r\n", b":3\r\n")), b":20000\r\n"]),
            gates._EXCHANGE: array([array([b":1\r\n"] * 5 + [bulk(b"\xff"), b":0\r\n"])]),
            losses._CREATE: array([b":1\r\n", b":3\r\n", ledger]),
            losses._LOOK: array([b":0\r\n"] * 5 + [ledger]),
            upkeep._REMOVE_CONSUMERS: array([bulk(b"\xff")]),
            upkeep._GONE: array([array([bulk(one), b":1\r\n"]) for one in self._ids()[:1]]),
            standing._ENTRIES: array([array([bulk(one), bulk(one)]) for one in self._ids()]),
            standing._COUNT: array([b":2\r\n", bulk(b"2-0")]),
            dead_letters._PAGE: array([array([bulk(one), b":9\r\n", fields]) for one in self._ids()]),
            dead_letters._GET: array([array([bulk(b"1-0"), b":9\r\n", fields, fields])]),
            dead_letters._REPLAY: array([self.random.choice((b":0\r\n", b":1\r\n", b":2\r\n")), bulk(b"9-0")]),
        }.get(script, self.random.choice((b":0\r\n", b":1\r\n", b":2\r\n")))

    def _ids(self) -> list[bytes]:
        if self.always is not None:
            return self.always
        if self.random.random() < 0.5:
            return [b"%d-%d" % (number, self.random.choice((0, 2**64 - 1))) for number in range(1, 200)]
        return [self.random.choice(IDS) for _ in range(self.random.choice((0, 1, 1, 2, 2, 200)))]


def _mapped(fields: dict[bytes, bytes]) -> bytes:
    return array([part for name, value in fields.items() for part in (bulk(name), value)])


class FuzzedClient(RedisClient):
    """A client whose connections lead to the fuzzed server; each of them is another one to the same."""

    def __init__(self, server: FuzzedServer, tasks: trio.Nursery, *, block_s: float | None = None) -> None:
        super().__init__(RedisAddress(host="h", port=6379), tls=None, timeout_s=5.0, block_s=block_s)
        self._server = server
        self._tasks = tasks

    async def _connect(self) -> RedisConnection:
        wire = WireServer(self._server.answer)
        self._tasks.start_soon(wire.answer_all)
        return RedisConnection(wire.stream, timeout_s=5.0)

    async def open(self) -> None:
        self._tasks.start_soon(self.stay_connected, await self.connect())


def _settings(random: Random) -> Settings:
    streams = random.choice(({"stream": STREAM}, {"streams": (STREAM, OTHER)}))
    return Settings(**streams, group=GROUP, consumer=ME, trim=random.choice(("off", "acked")))


def _run(case: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(LONGEST_S):
            await case()

    logger.disable("trio_alerts")
    try:
        trio.run(bounded, clock=MockClock(autojump_threshold=0))
    finally:
        logger.enable("trio_alerts")


def _answers(random: Random) -> None:
    """One operation of one of the classes that talk to Redis."""
    settings, server = _settings(random), FuzzedServer(random)

    async def case() -> None:
        async with trio.open_nursery() as tasks:
            client, blocking = FuzzedClient(server, tasks), FuzzedClient(server, tasks, block_s=2.0)
            await client.open()
            await blocking.open()
            stream = RedisStream(settings, client, blocking)
            for _ in range(random.choice((1, 1, 2, 4))):
                with contextlib.suppress(Unavailable, StartError, SettingsError):
                    _check(await random.choice(_operations(stream, client, settings, random))(), settings)
            tasks.cancel_scope.cancel()

    _run(case)
    acknowledged = {part for command in server.commands if command[0] == b"XACK" for part in command[3:]}
    assert acknowledged <= {b"1-0", b"not-an-id"}, f"acknowledged {acknowledged}"


def _operations(
    stream: RedisStream, client: RedisClient, settings: Settings, random: Random
) -> Sequence[Callable[[], Awaitable[Any]]]:
    name = random.choice(settings.stream_names)
    entry = Entry(name, "1-0", {b"event": b"{}"}, "1-0" if len(settings.stream_names) == 1 else f"{name}|1-0")
    pending = [Pending(name, one, one, "other", 60.0, 1) for one in ("1-0", "2-0")]
    ledger, quarantine, producer = RedisLedger(client, settings), RedisDeadLetters(client), RedisProducer(client)

    def pages(of: Callable[[str, str], Awaitable[Sequence[Any]]]) -> Callable[[], Awaitable[int]]:
        async def read_all() -> int:
            """As `audit` does it: each page after the last one, until there is none."""
            return sum([len(page) async for page in Pages[Any](lambda last: of(name, _id_of(last)))])

        return read_all

    return (
        stream.prepare,
        stream.inspect,
        lambda: stream.read(3),
        lambda: stream.read(3),
        lambda: stream.own_pending(set(), 3),
        lambda: stream.look(1.0, 3),
        lambda: stream.claim(pending, 1.0),
        lambda: stream.renew([entry]),
        lambda: stream.owns(entry),
        lambda: stream.pending_among(["1-0", f"{name}|2-0", "x"]),
        lambda: stream.ack([entry]),
        lambda: stream.quarantine(entry, "bad_event", "why"),
        lambda: stream.hand_over(set(), set()),
        stream.leave,
        stream.upkeep.newly_lost,
        stream.upkeep.dead_letters,
        lambda: stream.upkeep.remove_idle_consumers(1.0),
        lambda: stream.upkeep.trim(60.0),
        lambda: stream.gates.ask("pager", Rate(1.0), probe=True),
        lambda: stream.gates.exchange({"pager": News(failed=["1-0"], attempts=1)}, ["pager"]),
        stream.server_time,
        lambda: stream.lock("redrive", 1.0),
        ledger.time,
        lambda: ledger.standing(name),
        lambda: ledger.lost_unread(name),
        lambda: ledger.accept_losses(name),
        lambda: ledger.position(name),
        pages(ledger.entries),
        pages(ledger.pending),
        pages(ledger.dead_letters),
        pages(ledger.dropped),
        pages(ledger.deleted),
        pages(lambda stream, after: quarantine.page(stream, 200, after)),
        lambda: quarantine.get(name, "1-0"),
        lambda: quarantine.replay(name, "1-0"),
        lambda: quarantine.drop(name, "1-0", "me"),
        lambda: producer.add([(name, b"{}")] * 3),
    )


def _id_of(item: Any) -> str:
    match item:
        case None:
            return ""
        case str():
            return item
        case (str(entry_id), *_):
            return entry_id
        case _:
            return str(item.id)


def _check(result: Any, settings: Settings) -> None:
    """What comes out can be used by whoever asked."""
    if isinstance(result, float):
        clock = ServerClock()
        clock.set(result)
        assert isinstance(clock.now(), dt.datetime)
    elif isinstance(result, list):
        for one in result:
            if isinstance(one, Entry | Pending):
                assert one.stream in settings.stream_names, one
                assert is_entry_id(one.id), one
                assert type(one.id) is str, one
            if isinstance(one, Entry):
                assert all(isinstance(part, bytes) for pair in one.fields.items() for part in pair), one


def _handshake(random: Random) -> None:
    """Connecting: what a server, a Sentinel or something else says to the first commands."""
    server = FuzzedServer(random)
    address = RedisAddress(
        host="h",
        port=6379,
        db=random.choice((0, 1)),
        password=random.choice((None, Secret("p"))),
        sentinels=random.choice(((), (("h", 1), ("h", 2)))),
        service="alerts",
    )

    async def case() -> None:
        async with trio.open_nursery() as tasks:

            async def open_stream(*_: object) -> trio.abc.Stream:
                wire = WireServer(server.answer)
                tasks.start_soon(wire.answer_all)
                return wire.stream

            with mock.patch.object(connect, "_open_stream", open_stream), contextlib.suppress(Unavailable):
                assert isinstance(await connect.connect(address, timeout_s=5.0), RedisConnection)
            tasks.cancel_scope.cancel()

    _run(case)


TARGETS = [Target("redis answers", _answers, share=3), Target("redis handshake", _handshake)]
