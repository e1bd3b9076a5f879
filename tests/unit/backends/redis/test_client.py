"""The Redis client's own decisions, on streams in memory and in virtual time."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.fakes.redis_wire import Command, WireServer, array, bulk, echo
from trio_alerts.backends.redis import connect
from trio_alerts.backends.redis.answers import Refusal, ServerTime
from trio_alerts.backends.redis.client import RedisClient, backoff_s, open_redis
from trio_alerts.backends.redis.connect import SocketStream
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import RedisAddress, parse_redis_url

MASTER = array([bulk(b"master"), b":0\r\n", b"*0\r\n"])
REPLICA = array([bulk(b"slave"), bulk(b"127.0.0.1"), b":1\r\n", bulk(b"connected"), b":0\r\n"])
Answer = Callable[[Command], bytes | None]
SERVER = RedisAddress("h")
PROTECTED = RedisAddress("h", db=1, password=Secret("p4ssw0rd/1"))


class Network:
    """What connecting leads to, one item a try; the last one again and again.

    Attributes:
        tried_at_s: When a connection was tried, since the network was made.
        addresses: Where, as text.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answers: list[Answer | Exception] = []
        self.tried_at_s: list[float] = []
        self.addresses: list[str] = []
        self.servers: list[WireServer] = []
        monkeypatch.setattr(connect, "_open_stream", self._open_stream)

    @asynccontextmanager
    async def opened(self, *answers: Answer | Exception, at: RedisAddress = SERVER) -> AsyncIterator[RedisClient]:
        self._answers = list(answers)
        async with open_redis(at) as client:
            yield client

    async def _open_stream(self, address: object, _tls: object) -> trio.abc.Stream:
        self.tried_at_s.append(trio.current_time())
        self.addresses.append(str(address))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        server = WireServer(answer)
        self.servers.append(server)
        trio.lowlevel.spawn_system_task(server.answer_all)
        return server.stream


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


def served(answer: Answer = echo, first_words: dict[str, bytes] | None = None) -> Answer:
    """Answer the handshake as a good server does, but for those given; everything else by `answer`."""
    words = {b"AUTH": b"+OK\r\n", b"SELECT": b"+OK\r\n", b"CLIENT": b"+OK\r\n", b"PING": b"+PONG\r\n", b"ROLE": MASTER}
    words |= {word.encode(): wire for word, wire in (first_words or {}).items()}
    return lambda command: words[command[0]] if command[0] in words else answer(command)


# -- the handshake --


@pytest.mark.parametrize(
    ("first_words", "message"),
    [
        ({"AUTH": b"-WRONGPASS no\r\n"}, "redis://h:6379/1 refuses the user name or password: no"),
        ({"SELECT": b"-ERR DB index is out of range\r\n"}, "redis://h:6379/1 refuses database 1: DB index is out of"),
        ({"SELECT": b"-NOPERM no\r\n"}, "redis://h:6379/1 refuses database 1: no"),
        ({"PING": b"-LOADING Redis is loading\r\n"}, "redis://h:6379/1 is not ready: Redis is loading"),
        ({"PING": b"-MASTERDOWN no link\r\n"}, "redis://h:6379/1 is not ready: no link"),
        ({"PING": b"*1\r\n$4\r\nPING\r\n"}, "redis://h:6379/1 does not speak Redis's protocol"),
        ({"ROLE": REPLICA, "INFO": bulk(b"cluster_enabled:0")}, "redis://h:6379/1 is a replica"),
        ({"ROLE": array([bulk(b"sentinel")])}, "redis://h:6379/1 is a Sentinel: use redis+sentinel://"),
        ({"AUTH": b"HTTP/1.1 400\r\n"}, "redis://h:6379/1 dropped the connection during the handshake: Protocol error"),
    ],
)
async def test_first_words_that_keep_us_out(network: Network, first_words: dict[str, bytes], message: str) -> None:
    """A server that is of no use to us is refused during the handshake, by name and with its reason."""
    with pytest.raises(StartError) as caught:
        async with network.opened(served(echo, first_words), at=PROTECTED):
            pass

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        b"-ERR unknown command 'AUTH', with args beginning with: 'p4ssw0rd/1' \r\n",
        b"-ERR unknown command `AUTH`, with args beginning with: `p4ssw`, \r\n",
        b"-ERR proxy: cannot forward AUTH p4ssw0rd/1\r\n",
        b"-ERR proxy: cannot forward AUTH p4ssw0rd%2F1\r\n",
        b"-WRONGPASS p4ssw0rd/1 is wrong\r\n",
    ],
)
async def test_a_server_that_repeats_the_password_is_not_quoted(network: Network, said: bytes) -> None:
    """A renamed AUTH, or a proxy, says what it was sent: the message says the rest."""
    with pytest.raises(StartError, match="refuses the user name or password") as caught:
        async with network.opened(served(echo, {"AUTH": said}), at=PROTECTED):
            pass

    assert "p4ssw" not in str(caught.value)


async def test_an_unknown_command_s_arguments_are_not_quoted(network: Network) -> None:
    """They can be a payload."""
    async with network.opened(
        served(lambda _: b"-ERR unknown command 'ECHO', with args beginning with: 'hush' \r\n")
    ) as client:
        with pytest.raises(Unavailable) as caught:
            await client.echo("hush")

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "first_words",
    [
        {"CLIENT": b"-NOPERM no\r\n", "PING": b"-NOPERM no\r\n", "ROLE": b"-NOPERM no\r\n"},
        {"CLIENT": b"-ERR unknown command\r\n", "ROLE": b"-ERR unknown command\r\n"},
        {"ROLE": REPLICA, "INFO": bulk(b"# Cluster\r\ncluster_enabled:1\r\n")},
    ],
)
async def test_first_words_one_can_do_without(network: Network, first_words: dict[str, bytes]) -> None:
    """Forbidden or unknown CLIENT, PING and ROLE keep nobody out, nor does a Cluster's replica: it answers MOVED."""
    async with network.opened(served(echo, first_words), at=PROTECTED) as client:
        assert b"x" == await client.echo("x")


async def test_a_start_that_takes_too_long_is_given_up(network: Network, autojump_clock: MockClock) -> None:
    """A server that says nothing costs the timeout, and its connection is closed."""
    begin_s = trio.current_time()
    with pytest.raises(StartError, match=r"redis://h:6379/0 does not answer within 5 s$"):
        async with network.opened(lambda _: None):
            pass

    assert 5.0 == trio.current_time() - begin_s
    with pytest.raises(trio.ClosedResourceError):
        await network.servers[0].stream.send_all(b"x")


# -- errors --

FORBIDDEN = [  # as Redis 7 and Valkey 9 say it
    "ERR unknown command 'XCLAIM', with args beginning with: 's' 'g' ",
    "ERR Unknown Redis command called from script script: ea74, on @user_script:1.",
    "ERR Unknown command called from script script: on @user_script:1.",
    "ERR The user executing the script can't run this command or subcommand script: 0632, on @user_script:1.",
    "ERR ACL failure in script: User bob has no permissions to run the 'xpending' command script: on @user_script:1.",
    "NOPERM User bob has no permissions to run the 'xpending' command",
    "NOPERM this user has no permissions to access one of the keys used as arguments",
]


@pytest.mark.parametrize(
    ("wire", "stays"),
    [(b"-%s x\r\n" % code, True) for code in b"WRONGTYPE NOGROUP BUSYGROUP UNBLOCKED NOPERM LOADING MASTERDOWN".split()]
    + [(b"-%s x\r\n" % code, True) for code in b"CLUSTERDOWN TRYAGAIN OOM MISCONF NOREPLICAS BUSY ERR WHATEVER".split()]
    + [(b"-ASK 1 127.0.0.1:1\r\n", True), (b"-ASK\r\n", True), (b"-MOVED\r\n", True), (b"-\r\n", True)]
    + [(b"-READONLY x\r\n", False), (b"-NOAUTH x\r\n", False)],
)
async def test_every_error_is_a_refusal(network: Network, wire: bytes, stays: bool) -> None:
    """It is waited for, whatever it is; one that asks for another server or login drops the connection."""
    async with network.opened(served(lambda _: wire)) as client:
        with pytest.raises(Refusal, match=r"^redis://h:6379/0 (refuses|does not let .* run) XLEN on 's': "):
            await client.xlen("s")
        assert stays is client.connected

    assert 1 == len(network.tried_at_s)


@pytest.mark.parametrize("reply", FORBIDDEN)
async def test_an_unknown_command_is_not_permitted(network: Network, reply: str) -> None:
    """Renamed away or forbidden, in a script or outside: it is the same to us, and the message names the commands."""
    async with network.opened(served(lambda _: f"-{reply}\r\n".encode())) as client:
        with pytest.raises(Refusal, match=r"run EVAL \(XPENDING, XGROUP SETID\) on 'k', 'l': ") as caught:
            await client.run_script(
                int, "redis.call('XPENDING', KEYS[1]) redis.pcall('XGROUP', 'SETID')", ("k", "l"), "an argument"
            )
    assert caught.value.forbidden


@pytest.mark.parametrize(
    "wire", [b":1\r\n", b"$-1\r\n", b"*1\r\n:1\r\n", b"*2\r\n:-1\r\n:0\r\n", b"%1\r\n+a\r\n+b\r\n"]
)
async def test_an_answer_of_another_shape_drops_the_connection(
    network: Network, wire: bytes, autojump_clock: MockClock
) -> None:
    """It may be another command's: nothing that comes behind it is believed, and it is no bug of ours."""
    async with network.opened(served(lambda _: wire)) as client:
        with pytest.raises(Unavailable, match="redis://h:6379/0 gave an unexpected answer to TIME: "):
            client.expect(ServerTime, await client.time(), "TIME")
        assert not client.connected
    assert 1 == len(network.servers)


@pytest.mark.parametrize("command", ["SUBSCRIBE", "MULTI", "monitor", "SELECT", "CLIENT REPLY"])
async def test_a_command_that_changes_the_connection_is_refused(network: Network, command: str) -> None:
    """Other tasks share the connection, so nobody may change what its answers mean."""
    async with network.opened(served()) as client:
        with pytest.raises(ValueError, match=command.upper()):
            await client.execute_command(command, "x")

    assert command.encode() not in {each[0] for each in network.servers[0].commands}


async def test_what_the_block_raises_comes_out_bare(network: Network) -> None:
    """The client's own nursery is nobody else's business: no group around the block's exception."""
    with pytest.raises(LookupError, match=r"^mine$"):
        async with network.opened(served()) as client, client.open_blocking(1):
            raise LookupError("mine")


async def test_a_bug_in_the_background_is_not_hidden(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the client's own task cancels the block and comes out, in a group as of every nursery."""

    async def fails(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("a bug")

    monkeypatch.setattr(RedisClient, "stay_connected", fails)
    with pytest.RaisesGroup(LookupError):
        async with network.opened(served()):
            await trio.sleep_forever()


# -- losing and finding the server --


def test_the_backoff_doubles_to_its_cap() -> None:
    """0.1 s, doubled at every failure, never more than 5 s."""
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == [backoff_s(failures) for failures in range(8)]
    assert 5.0 == backoff_s(10_000)


async def test_tries_to_come_back_are_spaced_and_said_once(
    network: Network, autojump_clock: MockClock, logged: list[str]
) -> None:
    """A minute of outage costs a try every 2.5 to 5 s in the end, and two lines in the log."""
    away = Unavailable("redis://h:6379/0 cannot be reached: Connection refused")
    async with network.opened(served(), *[away] * 20, served()) as client:
        await network.servers[0].close()
        await wait_all_tasks_blocked()
        with pytest.raises(Unavailable, match=r"is not connected: redis://h:6379/0 cannot be reached"):
            await client.echo("x")
        assert "<RedisClient redis://h:6379/0: lost: redis://h:6379/0 cannot be reached: Connection refused>" == repr(
            client
        )
        await _until_answered(client)

    pauses_s = [later - sooner for sooner, later in zip(network.tried_at_s[1:], network.tried_at_s[2:], strict=False)]
    for failures, pause_s in enumerate(pauses_s, start=1):
        assert backoff_s(failures) / 2 <= pause_s <= backoff_s(failures)
    assert ["DEBUG Redis connection lost", "DEBUG Redis is back"] == [line.partition(":")[0] for line in logged]


async def test_a_server_that_refuses_us_is_logged_once_for_each_reason(
    network: Network, autojump_clock: MockClock, logged: list[str]
) -> None:
    """While we are away: a server that loads, then a changed password, are two states and two lines."""
    loading, locked = (
        served(echo, {"PING": b"-LOADING x\r\n"}),
        served(echo, {"CLIENT": b"-NOAUTH x\r\n", "PING": b"-NOAUTH x\r\n"}),
    )
    async with network.opened(served(), *[loading] * 3, *[locked] * 3, served()) as client:
        await network.servers[0].close()
        await _until_answered(client)

    assert [
        "DEBUG Redis connection lost",
        "WARNING Redis refuses us",
        "WARNING Redis refuses us",
        "DEBUG Redis is back",
    ] == [line.partition(":")[0] for line in logged]


async def test_a_command_waits_for_a_connection_that_comes_back(network: Network, autojump_clock: MockClock) -> None:
    """A command that meets a lost connection is sent once the next one is there."""
    async with network.opened(served(), Unavailable("away"), served()) as client:
        await network.servers[0].close()
        await wait_all_tasks_blocked()
        assert b"x" == await client.echo("x")

    assert [b"ECHO", b"x"] == network.servers[1].commands[-1]


async def test_a_connection_that_comes_and_goes_is_not_tried_in_a_loop(
    network: Network, autojump_clock: MockClock
) -> None:
    """A server that accepts us and closes at once is backed off from like one that is away."""
    async with network.opened(served()):
        for count in range(8):
            while len(network.servers) <= count:  # noqa: ASYNC110, virtual time
                await trio.sleep(0.01)
            await network.servers[count].close()
        await trio.sleep(6)
        tries = len(network.tried_at_s)
        await trio.sleep(20)  # connected all that time: the next loss begins at 0.1 s again
        assert tries == len(network.tried_at_s)
        lost_at_s = trio.current_time()
        await network.servers[-1].close()
        await trio.sleep(1)

    assert network.tried_at_s[-2] - network.tried_at_s[-3] >= 2.5
    assert 0 < network.tried_at_s[-1] - lost_at_s <= 0.1


async def test_an_answer_that_is_lost_is_not_asked_for_again(network: Network, autojump_clock: MockClock) -> None:
    """A command that was sent is never repeated: only its caller knows whether that is safe."""
    async with network.opened(served(lambda _: None), served()) as client:
        with pytest.raises(Unavailable, match=r"^redis://h:6379/0: no answer within 5 s$"):
            await client.xadd("s", {"event": "x"})
        await client.echo("x")

    assert 1 == sum(command[0] == b"XADD" for server in network.servers for command in server.commands)


async def test_a_client_that_was_left_says_so(network: Network) -> None:
    """After its block a client is closed, and using it is an error at once, not after a timeout."""
    async with network.opened(served()) as client:
        assert "<RedisClient redis://h:6379/0: connected, 0 under way>" == repr(client)
        async with client.open_blocking(2) as blocking:
            assert "<blocking RedisClient redis://h:6379/0: connected, 0 under way>" == repr(blocking)
    assert "<RedisClient redis://h:6379/0: closed>" == repr(client)
    with pytest.raises(trio.ClosedResourceError):
        await client.ping()


async def test_leaving_wakes_those_who_wait_for_the_connection(network: Network, autojump_clock: MockClock) -> None:
    """A task that waits for a lost connection hears at once that the client is closed."""
    async with trio.open_nursery() as nursery:
        async with network.opened(served(), Unavailable("away")) as client:
            await network.servers[0].close()
            await wait_all_tasks_blocked()

            async def ask() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.ping()

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
        left_at_s = trio.current_time()
    assert left_at_s == trio.current_time()


async def test_a_blocking_client_has_time_to_block(network: Network, autojump_clock: MockClock) -> None:
    """The reader's answers may take the block, and the timeout on top."""
    async with (
        network.opened(served(), served(lambda _: None), served()) as client,
        client.open_blocking(2) as blocking,
    ):
        begin_s = trio.current_time()
        with pytest.raises(Unavailable, match=r"no answer within 7 s$"):
            await blocking.xread({"s": "$"}, block=2_000)
        assert 7.0 == trio.current_time() - begin_s


async def test_cancelling_a_blocking_command_costs_its_connection(
    network: Network, autojump_clock: MockClock, logged: list[str]
) -> None:
    """The connection is dropped on purpose, and another one takes its place."""
    async with (
        network.opened(served(), served(lambda _: None), served()) as client,
        client.open_blocking(2) as blocking,
    ):
        with trio.move_on_after(1):
            await blocking.xread({"s": "$"}, block=2_000)
        assert not blocking.connected
        await _until_answered(blocking)

    assert ["DEBUG Redis connection lost", "DEBUG Redis is back"] == [line.partition(":")[0] for line in logged]


# -- a Cluster --


async def test_moved_is_followed_and_forgotten_when_it_leads_nowhere(
    network: Network, autojump_clock: MockClock
) -> None:
    """MOVED leads to another node, with the same command; if that node goes, the address of the settings is asked."""
    moved = served(lambda _: b"-MOVED 1 other:7000\r\n")
    async with network.opened(moved, served(), Unavailable("away"), served()) as client:
        assert b"x" == await client.echo("x")
        await network.servers[1].close()
        await _until_answered(client)

    first, other = "redis://h:6379/0", "redis://other:7000/0"
    assert [first, other, other, first] == network.addresses


async def test_moved_for_ever_ends(network: Network, autojump_clock: MockClock) -> None:
    """Nodes that send us round and round are an outage after five tries; a node without a name is the same host."""
    async with network.opened(served(lambda _: b"-MOVED 1 :7000\r\n")) as client:
        with pytest.raises(Unavailable, match=r"moved more than 5 times"):
            await client.echo("x")

    assert "redis://h:7000/0" == network.addresses[1]


# -- Sentinel --


async def test_sentinels_are_asked_in_turn_and_each_for_a_second_at_most(
    network: Network, autojump_clock: MockClock
) -> None:
    """A Sentinel that is silent, away, refuses or does not know is passed over; the first that knows decides."""
    found = array([bulk(b"master.example"), bulk(b"7000")])
    answers: list[Answer | Exception] = [
        lambda _: None,
        Unavailable("b:2 cannot be reached"),
        lambda _: b"-NOPERM no\r\n",
        lambda _: b"*-1\r\n",
        lambda command: found if command[0] == b"SENTINEL" else b"+OK\r\n",
        served(),
    ]
    begin_s = trio.current_time()
    async with network.opened(
        *answers, at=parse_redis_url("redis+sentinel://:p@a,b:2,c,d,e/alerts/1?sentinel_password=x")
    ) as client:
        assert b"x" == await client.echo("x")

    assert 1.0 == trio.current_time() - begin_s
    assert "redis://master.example:7000/1" == network.addresses[-1]
    assert [[b"AUTH", b"x"], [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"alerts"]] == network.servers[-2].commands


async def test_when_no_sentinel_knows_each_is_named(network: Network, autojump_clock: MockClock) -> None:
    """The error says of every Sentinel what it answered."""
    with pytest.raises(StartError, match=r"a:26379 does not answer within 1 s; b:26379 says: unknown service$"):
        async with network.opened(
            lambda _: None, lambda _: b"*-1\r\n", at=parse_redis_url("redis+sentinel://a,b/alerts")
        ):
            pass


# -- TLS --


@pytest.mark.parametrize("garbage", [b"-ERR unknown command\r\n", b""])
async def test_a_server_without_tls_is_named(garbage: bytes) -> None:
    """A server that answers a TLS greeting with something else, or hangs up, is refused by name."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(garbage)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Redis: rediss://127\.0\.0\.1:{port}/0 failed the TLS handshake: "):
            async with open_redis(RedisAddress("127.0.0.1", port, tls=True)):
                pass
        nursery.cancel_scope.cancel()


# -- the plain socket --


async def test_a_plain_socket_carries_more_than_the_kernel_takes_at_once() -> None:
    """A large command waits for room in the kernel's buffer and arrives whole."""
    ours, theirs = _socket_pair()
    data = bytes(range(256)) * 40_000
    got = bytearray()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await ours.send_all(data)
            await ours.wait_send_all_might_not_block()
            await ours.aclose()

        nursery.start_soon(send)
        while piece := await theirs.receive_some(100_000):
            got += piece
    await theirs.aclose()

    assert data == got


async def test_a_plain_socket_takes_at_once_what_it_can() -> None:
    """What the kernel has room for goes out without a wait; a full or broken socket takes nothing."""
    ours, theirs = _socket_pair()
    assert 5 == ours.send_now(b"hello")
    assert b"hello" == await theirs.receive_some()
    while ours.send_now(bytes(100_000)):
        pass
    await theirs.aclose()
    assert 0 == ours.send_now(b"x")
    await ours.aclose()


async def test_a_false_alarm_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is said to be readable and is not is asked again."""
    ours, theirs = _socket_pair()
    real, alarms = trio.lowlevel.wait_readable, iter([True])

    async def alarm(sock: socket.socket) -> None:
        if next(alarms, False):
            await trio.lowlevel.checkpoint()
        else:
            await theirs.send_all(b"x")
            await real(sock)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", alarm)
    assert b"x" == await ours.receive_some()
    await ours.aclose()
    await theirs.aclose()


async def test_a_broken_socket_is_a_broken_resource() -> None:
    """A reset while sending or receiving is what every trio stream calls it; a second close is harmless."""
    ours, theirs = _socket_pair()
    await ours.send_all(b"unread")
    await theirs.aclose()  # with unread bytes: a reset
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"x")
    await ours.aclose()
    await ours.aclose()


def _socket_pair() -> tuple[SocketStream, SocketStream]:
    left, right = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in socket.socketpair())
    return SocketStream(left), SocketStream(right)


async def _until_answered(client: RedisClient) -> None:
    while True:
        try:
            await client.echo("x")
        except Unavailable:
            continue
        return
