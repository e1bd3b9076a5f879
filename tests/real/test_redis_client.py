"""The Redis client on real servers, beside redis-py's own."""

import asyncio
import random
import re
import socket
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import redis.asyncio
import trio
from anyio import to_thread
from loguru import logger
from redis.exceptions import RedisError

from tests.support.servers import RedisServer, SentinelServer, ValkeyCluster, ValkeyServer
from tests.support.servers.process import free_port
from tests.support.tls import TlsFiles, serve_tls_front
from trio_alerts.backends.redis.answers import Refusal
from trio_alerts.backends.redis.client import RedisClient, open_redis
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.settings.addresses import parse_redis_url

GENEROUS_S = 60  # for what takes milliseconds on an idle machine
NESTED = "return {1, 'two', {3, {'four', false}, {}}, redis.call('XLEN', KEYS[1]), ARGV[1], {ok='fine'}}"
MOVES = {"idle", "inactive", "time_since_delivered", "seen-time", "active-time"}  # differ from run to run


# -- the same as redis-py's own client --


@pytest.mark.parametrize("protocol", [2, None], ids=["resp2", "default"])
async def test_every_command_returns_what_redis_py_returns(redis_server: RedisServer, protocol: int | None) -> None:
    """Values, types and errors are those of `redis.asyncio`, for every command that the project uses."""

    async def theirs() -> list[tuple[str, object]]:
        async with redis.asyncio.Redis.from_url(redis_server.url, protocol=protocol) as client:
            return await _use_every_command(cast("RedisClient", client))

    expected = await to_thread.run_sync(partial(asyncio.run, theirs()))
    with trio.fail_after(GENEROUS_S):
        async with open_redis(parse_redis_url(redis_server.url)) as client:
            got = await _use_every_command(client)

    assert [name for name, _ in expected] == [name for name, _ in got]
    for (name, their_answer), (_, our_answer) in zip(expected, got, strict=True):
        if (name, protocol) == ("xinfo_stream full", None):
            continue  # over RESP3 redis-py leaves the keys of the inner maps as bytes
        assert (name, repr(their_answer)) == (name, repr(our_answer))


async def _use_every_command(client: RedisClient) -> list[tuple[str, object]]:
    log = _Answers()
    await log.note("flushall", client.flushall())
    await _use_the_producers_commands(client, log)
    await _use_the_groups_commands(client, log)
    await _use_the_claimers_commands(client, log)
    await _use_the_servers_commands(client, log)
    await _provoke_errors(client, log)
    return log.answers


async def _use_the_producers_commands(client: RedisClient, log: "_Answers") -> None:
    await log.note("xadd", client.xadd("s", {"event": b"\xff\xfe", "n": 1, "f": 1.5}, id="1-1"))
    await log.note("xadd nomkstream", client.xadd("none", {"event": "x"}, nomkstream=True))
    for number in range(2, 8):
        await log.note("xadd more", client.xadd("s", {"event": f"é{number}", "": ""}, id=f"{number}-0"))
    await log.note("xadd maxlen", client.xadd("s", {"event": "x"}, id="8-0", maxlen=100, approximate=False))
    await log.note("xadd by the server's clock", _kind(client.xadd("auto", {"event": "x"})))
    await log.note("xlen", client.xlen("s"))
    await log.note("xrange", client.xrange("s"))
    await log.note("xrange some", client.xrange("s", min="(2-0", max="5", count=2))
    await log.note("xrange none", client.xrange("missing"))
    await log.note("xrevrange", client.xrevrange("s", count=1))
    await log.note("xread", client.xread({"s": "6-0", "missing": "0"}, count=5))
    await log.note("xread nothing", client.xread({"s": "$"}))


async def _use_the_groups_commands(client: RedisClient, log: "_Answers") -> None:
    await log.note("xgroup_create", client.xgroup_create("s", "g", id="0", mkstream=True))
    await log.note("xgroup_create another", client.xgroup_create("new", "g", id="$", mkstream=True))
    await log.note("xgroup_createconsumer", client.xgroup_createconsumer("s", "g", "idle"))
    await log.note("xreadgroup", client.xreadgroup("g", "a", {"s": ">"}, count=4))
    await log.note("xreadgroup blocking", client.xreadgroup("g", "b", {"s": ">"}, count=2, block=1_000))
    await log.note("xreadgroup own", client.xreadgroup("g", "a", {"s": "0"}))
    await log.note("xreadgroup nothing", client.xreadgroup("g", "a", {"new": ">"}))
    await log.note("xreadgroup nothing own", client.xreadgroup("g", "idle", {"s": "0"}))
    await log.note("xack", client.xack("s", "g", "1-1", b"2-0", "999-0"))
    await log.note("xpending", client.xpending("s", "g"))
    await log.note("xpending nothing", client.xpending("new", "g"))
    await log.note("xpending_range", client.xpending_range("s", "g", min="-", max="+", count=10))
    await log.note("xpending_range idle", client.xpending_range("s", "g", "-", "+", 10, consumername="a", idle=60_000))
    await log.note("xinfo_groups", client.xinfo_groups("s"))
    await log.note("xinfo_consumers", client.xinfo_consumers("s", "g"))
    await log.note("xinfo_stream", client.xinfo_stream("s"))
    await log.note("xinfo_stream empty", client.xinfo_stream("new"))


async def _use_the_claimers_commands(client: RedisClient, log: "_Answers") -> None:
    await log.note("xclaim", client.xclaim("s", "g", "c", min_idle_time=0, message_ids=["3-0", "999-0"]))
    await log.note("xclaim justid", client.xclaim("s", "g", "c", 0, ["3-0", "4-0"], justid=True))
    await log.note(
        "xclaim aged", client.xclaim("s", "g", "c", 0, ["4-0"], idle=86_400_000, retrycount=0, justid=True, force=False)
    )
    await log.note("xclaim none", client.xclaim("s", "g", "c", 86_400_000_000, ["3-0"]))
    await log.note("xdel", client.xdel("s", "5-0", "999-0"))
    await log.note("xautoclaim", client.xautoclaim("s", "g", "d", min_idle_time=0, start_id="0-0", count=2))
    await log.note("xautoclaim deleted", client.xautoclaim("s", "g", "d", min_idle_time=0, start_id="0-0"))
    await log.note("xautoclaim justid", client.xautoclaim("s", "g", "d", 0, justid=True))
    await log.note("xgroup_delconsumer", client.xgroup_delconsumer("s", "g", "d"))
    await log.note("xgroup_setid", client.xgroup_setid("s", "g", "7-0"))
    await log.note("xinfo_stream full", client.xinfo_stream("s", full=True))
    await log.note("xtrim", client.xtrim("s", minid="3-0", approximate=False))
    await log.note("xtrim maxlen", client.xtrim("s", maxlen=1))
    await log.note("xgroup_destroy", client.xgroup_destroy("s", "g"))
    await log.note("xgroup_destroy again", client.xgroup_destroy("s", "g"))


async def _use_the_servers_commands(client: RedisClient, log: "_Answers") -> None:
    await log.note("eval", client.eval(NESTED, 1, "s", "argument"))
    await log.note("eval nothing", client.eval("return false", 0))
    await log.note("eval bytes", client.eval("return ARGV[1]", 0, b"\xff\x00"))
    await log.note("script_load", client.script_load("return 1"))
    await log.note("script_exists", client.script_exists("0" * 40))
    await log.note("set", client.set("k", "v"))
    await log.note("set nx px", client.set("lock", "me", nx=True, px=60_000))
    await log.note("set nx taken", client.set("lock", "you", nx=True, px=60_000))
    await log.note("get", client.get("k"))
    await log.note("get missing", client.get("missing"))
    await log.note("exists", client.exists("k", "missing"))
    await log.note("type", client.type("s"))
    await log.note("pexpire", client.pexpire("k", 60_000))
    await log.note("incrby", client.incrby("number", 5))
    await log.note("hset", client.hset("h", mapping={"a": "1", "b": b"\xff"}))
    await log.note("hget", client.hget("h", "a"))
    await log.note("hget missing", client.hget("h", "b2"))
    await log.note("hgetall", client.hgetall("h"))
    await log.note("hincrby", client.hincrby("h", "a", 2))
    await log.note("scan", client.scan(0, match="nothing*", count=1_000))
    await log.note("scan keys", _kind(client.scan(0, count=1_000)))
    await log.note("del", client.delete("k", "missing"))
    await log.note("time", _kind(client.time()))
    await log.note("ping", client.ping())
    await log.note("echo", client.echo("x"))
    await log.note("client_unblock", client.client_unblock(999_999))
    await log.note("client_setname", client.client_setname("trio_alerts"))
    await log.note("client_getname", client.client_getname())
    await log.note("client_id", _kind(client.client_id()))
    await log.note("role", _kind(client.role()))
    await log.note("config_get", client.config_get("maxmemory-policy"))
    for section in ("server", "memory", "persistence", "replication", "cluster"):
        await log.note(f"info {section}", _kinds(client.info(section)))
    await log.note("dbsize", client.dbsize())


async def _provoke_errors(client: RedisClient, log: "_Answers") -> None:
    await log.note("WRONGTYPE", client.xadd("h", {"event": "x"}))
    await log.note("NOGROUP", client.xreadgroup("gone", "a", {"s": ">"}))
    await log.note("NOGROUP claim", client.xclaim("s", "gone", "a", 0, ["1-0"]))
    await log.note("NOGROUP pending", client.xpending_range("missing", "gone", "-", "+", 1))
    await log.note("BUSYGROUP", client.xgroup_create("new", "g"))
    await log.note("no such key", client.xinfo_groups("missing"))
    await log.note("NOSCRIPT", client.evalsha("0" * 40, 0))
    await log.note("id too small", client.xadd("s", {"event": "x"}, id="1-0"))
    await log.note("script error", client.eval("return redis.call('XADD', KEYS[1], '1-0', 'a', 'b')", 1, "s"))
    await log.note("script's own error", client.eval("return redis.error_reply('MINE said no')", 0))
    await log.note("unknown command", client.execute_command("NO SUCH", "command"))
    await log.note("wrong arguments", client.execute_command("XLEN"))
    await log.note("a bool", client.set("k", True))
    await log.note("lone surrogate", client.set("k", "\ud800"))


class _Answers:
    def __init__(self) -> None:
        self.answers: list[tuple[str, object]] = []

    async def note(self, name: str, answer: Awaitable[Any] | Any) -> None:
        """Keep the answer, or the error in its place."""
        try:
            found = _still(await answer)
        except (RedisError, UnicodeError, Refusal) as raised:
            error = raised.__cause__ if isinstance(raised, Refusal) else raised
            # The text of a client-side refusal is each packer's own; a server's is the same, but for the arguments of
            # an unknown command: they may be secret, and are cut.
            found = (
                type(error),
                "" if isinstance(error, redis.DataError) else str(error).partition(", with args beginning")[0],
            )
        self.answers.append((name, found))


def _still(answer: Any) -> Any:
    """Replace what moves with the clock."""
    match answer:
        case dict():
            return {key: 0 if _text(key) in MOVES else _still(value) for key, value in answer.items()}
        case list():
            return [_still(each) for each in answer]
        case tuple():
            return tuple(_still(each) for each in answer)
        case int() if answer > 1_000_000_000_000:  # a time in ms, as in the pending lists of XINFO STREAM FULL
            return "ms"
    return answer


def _text(key: object) -> object:
    return key.decode() if isinstance(key, bytes) else key


async def _kind(answer: Awaitable[Any] | Any) -> object:
    found = await answer
    return (type(found), [type(each) for each in found] if isinstance(found, list | tuple) else None)


async def _kinds(answer: Awaitable[Any] | Any) -> object:
    # A float may be printed without a fraction, so both are just numbers.
    return {key: float if isinstance(each, int) else type(each) for key, each in (await answer).items()}


# -- every way in, and every refusal --


async def test_each_kind_of_address_leads_in(redis7: RedisServer, tls_files: TlsFiles) -> None:
    """TCP, verified TLS, a unix socket, a password, a user, a database: all work, under our name."""
    with RedisServer(requirepass="secret", acl_user=("worker", "wörk/er@#"), tls=tls_files) as server:
        for url, ca_file, db in (
            (f"redis://:secret@127.0.0.1:{server.port}/0", None, 0),
            (f"redis://worker:w%C3%B6rk%2Fer%40%23@localhost:{server.port}", None, 0),
            (f"redis://worker:w%C3%B6rk%2Fer%40%23@127.0.0.1:{server.port}/3", None, 3),
            (f"rediss://:secret@localhost:{server.tls_port}/2", tls_files.ca, 2),
            (f"rediss://:secret@127.0.0.1:{server.tls_port}?db=2", tls_files.ca, 2),
            (f"unix://:secret@{server.socket}?db=1", None, 1),
        ):
            with trio.fail_after(GENEROUS_S):
                async with open_redis(parse_redis_url(url), ca_file=ca_file) as client:
                    info = await client.client_info()
            assert ("trio_alerts", db) == (info["name"], info["db"])


async def test_tls_carries_many_tasks(redis7: RedisServer, tls_files: TlsFiles) -> None:
    """Over TLS, with answers larger than one record, each task gets its own."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_tls_front, redis7.port, tls_files.server_context())
        with trio.fail_after(GENEROUS_S):
            async with (
                open_redis(parse_redis_url(f"rediss://localhost:{port}"), ca_file=tls_files.ca) as client,
                trio.open_nursery() as asking,
            ):
                for number in range(64):
                    asking.start_soon(_echo, client, f"{number}-" * 10_000)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://127.0.0.1:{free}/0", "redis://127.0.0.1:{free}/0 cannot be reached: Connection refused"),
        ("redis://no-such-host.invalid", "redis://no-such-host.invalid:6379/0 cannot be reached: "),
        ("unix:///no/such/socket", "unix:///no/such/socket?db=0 cannot be reached: No such file or directory"),
        ("redis://:hunter2@127.0.0.1:{port}", "{server} refuses the user name or password: invalid username-password"),
        ("redis://hunter:hunter2@127.0.0.1:{port}", "{server} refuses the user name or password: "),
        ("redis://127.0.0.1:{port}", "{server} requires a user name or password: Authentication required."),
        ("redis://127.0.0.1:{port}/1", "/1 requires a user name or password: "),
        ("redis://:secret@127.0.0.1:{port}/99", "/99 refuses database 99: DB index is out of range"),
        ("redis://weak:hunter2@127.0.0.1:{port}/1", "/1 refuses database 1: "),
        ("redis://:secret@127.0.0.1:{tls_port}", " (does it require TLS? then use rediss://)"),
        ("rediss://:secret@127.0.0.1:{tls_port}", " presents an untrusted certificate: "),
    ],
)
async def test_a_refusal_at_start_says_who_and_why(
    redis7: RedisServer, locked_redis: RedisServer, url: str, message: str
) -> None:
    """Whatever keeps us out ends the start with exit code 4, the address and the reason, and never the password."""
    values = {"port": locked_redis.port, "tls_port": locked_redis.tls_port, "free": free_port()}
    wanted = message.format(server=f"redis://127.0.0.1:{locked_redis.port}/0", **values)
    with trio.fail_after(GENEROUS_S), pytest.raises(StartError) as caught:
        async with open_redis(parse_redis_url(url.format(**values))):
            pass

    assert wanted in str(caught.value)
    assert 4 == caught.value.exit_code
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_certificate_from_another_authority_is_refused(locked_redis: RedisServer, tls_files: TlsFiles) -> None:
    """The CA file decides alone: a certificate that it did not sign does not pass."""
    with pytest.raises(
        StartError, match=r"untrusted certificate: unable to get local issuer|untrusted certificate: self.signed"
    ):
        async with open_redis(parse_redis_url(locked_redis.tls_url), ca_file=tls_files.wrong_ca):
            pass


async def test_a_certificate_for_another_name_is_refused(redis7: RedisServer, tls_files: TlsFiles) -> None:
    """The right authority is not enough: the certificate must be for the host in the URL."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_tls_front, redis7.port, tls_files.server_context(wrong_name=True))
        with trio.fail_after(GENEROUS_S), pytest.raises(StartError, match=r"untrusted certificate: Hostname mismatch"):
            async with open_redis(parse_redis_url(f"rediss://localhost:{port}"), ca_file=tls_files.ca):
                pass
        nursery.cancel_scope.cancel()


async def test_a_silent_server_does_not_hang_the_start() -> None:
    """A listener that accepts and says nothing, and one that hangs in TLS, end the start after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for scheme, hint in (("redis", ""), ("rediss", " (does it speak TLS? if not, use redis://)")):
            wanted = re.escape(f" does not answer within 0.2 s{hint}")
            with trio.fail_after(GENEROUS_S), pytest.raises(StartError, match=f"{wanted}$"):
                async with open_redis(parse_redis_url(f"{scheme}://127.0.0.1:{port}"), timeout_s=0.2):
                    pass


async def test_a_user_with_few_rights_gets_in(valkey: RedisServer) -> None:
    """PING, ROLE and CLIENT SETNAME may be forbidden; the stream's commands are enough."""
    with valkey.client() as admin:
        admin.acl_setuser("few", enabled=True, passwords=["+few"], keys=["*"], commands=["-@all", "+xadd", "+xlen"])
        with trio.fail_after(GENEROUS_S):
            async with open_redis(parse_redis_url(f"redis://few:few@127.0.0.1:{valkey.port}")) as client:
                await client.xadd("few", {"event": "x"})
                assert 1 == await client.xlen("few")
                with pytest.raises(Refusal):
                    await client.get("few")
        admin.acl_deluser("few")


# -- cancelling, blocking --


async def test_a_cancelled_command_leaves_the_connection_in_order(valkey: RedisServer) -> None:
    """After many cancels at random moments the same connection answers every command rightly."""
    chance = random.Random(7)
    async with open_redis(parse_redis_url(valkey.url)) as client:
        number = await client.client_id()

        async def ask_often(name: int) -> None:
            for turn in range(100):
                with trio.move_on_after(chance.choice([0, 0.0001, 0.001, 1])):
                    await _echo(client, f"{name}-{turn}")

        with trio.fail_after(GENEROUS_S):
            async with trio.open_nursery() as nursery:
                for name in range(20):
                    nursery.start_soon(ask_often, name)
            await _echo(client, "last")
            assert number == await client.client_id()


async def test_a_blocking_client_waits_without_holding_up_the_shared_one(redis_server: RedisServer) -> None:
    """XREADGROUP BLOCK has a connection of its own; an entry reaches it while the shared one goes on."""
    async with open_redis(parse_redis_url(redis_server.url)) as client, client.open_blocking(GENEROUS_S) as blocking:
        await client.flushall()
        await client.xgroup_create("s", "g", id="0", mkstream=True)
        with trio.fail_after(GENEROUS_S):
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    found = await blocking.xreadgroup("g", "a", {"s": ">"}, block=GENEROUS_S * 1_000)
                    assert [[b"s", [(b"1-0", {b"event": b"x"})]]] == found

                nursery.start_soon(read)
                await _until_blocked(client)
                await _echo(client, "not held up")
                await client.xadd("s", {"event": "x"}, id="1-0")


async def test_cancelling_a_blocked_read_closes_its_connection(valkey: RedisServer) -> None:
    """The server sees the reader go: it cannot hand an entry to a read that was given up."""
    async with open_redis(parse_redis_url(valkey.url)) as client, client.open_blocking(GENEROUS_S) as blocking:
        await client.flushall()
        number = await blocking.client_id()
        scope = trio.CancelScope()
        with trio.fail_after(GENEROUS_S):
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    with scope:
                        await blocking.xread({"s": "$"}, block=GENEROUS_S * 1_000)

                nursery.start_soon(read)
                await _until_blocked(client)
                scope.cancel()
            while any(str(number) == each["id"] for each in await client.client_list()):  # noqa: ASYNC110, server's state
                await trio.sleep(0.01)
            await _echo(blocking, "on a new connection")
            assert number != await blocking.client_id()


# -- losing the server --


async def test_under_load_a_killed_server_costs_answers_and_never_mixes_them(log: list[dict[str, Any]]) -> None:
    """Killed and restarted under load: no answer reaches another command, and the client comes back by itself."""
    failures = 0
    with ValkeyServer() as server:
        async with open_redis(parse_redis_url(server.url), timeout_s=GENEROUS_S) as client:

            async def ask_until(stop: trio.Event, name: int) -> None:
                nonlocal failures
                turn = 0
                while not stop.is_set():
                    turn += 1
                    try:
                        await _echo(client, f"{name}-{turn}")
                    except Unavailable:
                        failures += 1

            with trio.fail_after(GENEROUS_S):
                for _ in range(3):
                    stop = trio.Event()
                    async with trio.open_nursery() as nursery:
                        for name in range(50):
                            nursery.start_soon(ask_until, stop, name)
                        await to_thread.run_sync(server.kill)
                        await to_thread.run_sync(server.start)
                        stop.set()
                    await _echo(client, "back")

    assert 0 < failures <= 150
    assert {"address", "reason"} == set(log[0]["extra"])
    assert ["Redis connection lost", "Redis is back"] * 3 == [each["message"].partition(":")[0] for each in log]


async def test_a_paused_server_costs_the_timeout_and_no_more(valkey: RedisServer) -> None:
    """A server that hangs with its connections open is given up after the timeout; afterwards all is well."""
    with ValkeyServer() as server:
        async with open_redis(parse_redis_url(server.url), timeout_s=0.3) as client:
            server.pause()
            with trio.fail_after(GENEROUS_S):
                with pytest.raises(Unavailable, match=r"no answer within 0\.3 s$"):
                    await client.ping()
                with pytest.raises(Unavailable, match=r"is not connected: "):
                    await client.ping()
                assert not client.connected
                assert "lost: " in repr(client)
                server.resume()
                await _until_answered(client)
                assert repr(client).endswith("connected, 0 under way>")


async def test_a_demoted_master_is_left_until_it_is_master_again(log: list[dict[str, Any]]) -> None:
    """-READONLY drops the connection, and the server is not used again while it says that it is a replica."""
    with ValkeyServer() as server, server.client() as admin:
        async with open_redis(parse_redis_url(server.url), timeout_s=0.3) as client:
            admin.replicaof("127.0.0.1", str(free_port()))
            with trio.fail_after(GENEROUS_S):
                with pytest.raises(Unavailable, match=r"read only replica"):
                    await client.xadd("s", {"event": "x"})
                with pytest.raises(Unavailable, match=r"is a replica, which takes no writes"):
                    await client.xadd("s", {"event": "x"})
                admin.replicaof("NO", "ONE")
                await _until_answered(client)
                await client.xadd("s", {"event": "x"})

    messages = [each["message"].partition(":")[0] for each in log]
    assert ["Redis connection lost", "Redis refuses us", "Redis is back"] == messages


async def test_a_full_server_is_an_outage_that_keeps_the_connection() -> None:
    """-OOM: nothing was written, waiting may help, and the connection is as good as ever."""
    with ValkeyServer() as server:
        async with open_redis(parse_redis_url(server.url)) as client:
            number = await client.client_id()
            await client.config_set("maxmemory", "1")
            with pytest.raises(Unavailable, match=r"used memory"):
                await client.xadd("s", {"event": "x"})
            with pytest.raises(Unavailable, match=r"used memory"):
                await client.eval("return redis.call('XADD', KEYS[1], '*', 'event', 'x')", 1, "s")
            assert number == await client.client_id()


async def test_a_server_full_of_clients_is_an_outage() -> None:
    """A refused connection says why, at start and when coming back."""
    with ValkeyServer(extra=["maxclients 1"]) as server:
        async with open_redis(parse_redis_url(server.url)):
            with pytest.raises(StartError, match=r"max number of clients reached"):
                async with open_redis(parse_redis_url(server.url)):
                    pass


# -- several servers --


async def test_moved_is_followed(valkey: RedisServer) -> None:
    """In a Cluster the client goes where the stream's slot is, and the command that was sent away runs there."""
    with ValkeyCluster() as cluster, cluster.node_of("s").client() as owner:
        other = next(node for node in cluster.nodes if node is not cluster.node_of("s"))
        with trio.fail_after(GENEROUS_S):
            async with open_redis(parse_redis_url(other.url)) as client:
                async with trio.open_nursery() as nursery:
                    for number in range(10):
                        nursery.start_soon(_add_until_it_works, client, str(number))
                numbers = {fields[b"number"] for _, fields in owner.xrange("s")}
                assert {str(number).encode() for number in range(10)} == numbers
                assert f"redis://127.0.0.1:{other.port}/0" in repr(client)


async def test_sentinels_name_the_new_master(redis7: RedisServer) -> None:
    """After a fail-over the client finds the new master by itself, and never writes to a replica."""
    with (
        RedisServer() as first,
        RedisServer(extra=[f"replicaof 127.0.0.1 {first.port}"]) as second,
        SentinelServer({"alerts": (first, 1)}) as sentinel,
    ):
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/alerts/0"
        with trio.fail_after(GENEROUS_S):
            await _until_replica_is_known(sentinel, "alerts")
            async with open_redis(parse_redis_url(url)) as client:
                await _add_until_it_works(client, "first")
                assert 1 == await client.wait(1, GENEROUS_S * 1_000)
                first.kill()
                await _add_until_it_works(client, "second")
        with second.client() as admin:
            assert [b"first", b"second"] == [fields[b"number"] for _, fields in admin.xrange("s")]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://127.0.0.1:{port}/other", r"no Sentinel names a master: 127.0.0.1:\d+ says: unknown service"),
        ("redis+sentinel://127.0.0.1:{free}/alerts", r"no Sentinel names a master: .* cannot be reached"),
        ("redis+sentinel://127.0.0.1:{port}/alerts?sentinel_password=x", r"no Sentinel names a master: .* says: "),
        ("redis://127.0.0.1:{port}", r"is a Sentinel: use redis\+sentinel://"),
    ],
)
async def test_a_sentinel_that_does_not_help_says_why(redis7: RedisServer, url: str, message: str) -> None:
    """An unknown service, an unreachable Sentinel, or one that is taken for a server: each with its own message."""
    with (
        SentinelServer({"alerts": (redis7, 1)}) as sentinel,
        trio.fail_after(GENEROUS_S),
        pytest.raises(StartError, match=message),
    ):
        async with open_redis(parse_redis_url(url.format(port=sentinel.port, free=free_port()))):
            pass


# -- what the tests share --


@pytest.fixture(scope="module")
def locked_redis(redis7: RedisServer, tls_files: TlsFiles) -> Iterator[RedisServer]:
    """A server that wants a password, with a TLS port and a user who may not change the database."""
    with RedisServer(requirepass="secret", tls=tls_files, extra=["user weak on >hunter2 ~* +@all -select"]) as server:
        yield server


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """What is logged from INFO up, in order."""
    records: list[dict[str, Any]] = []
    sink = logger.add(lambda message: records.append(cast("Any", message).record), level="DEBUG")
    yield records
    logger.remove(sink)


async def _echo(client: RedisClient, word: str) -> None:
    assert word.encode() == await client.echo(word)


async def _until_answered(client: RedisClient) -> None:
    while True:
        try:
            await _echo(client, "are you there?")
        except Unavailable:
            await trio.sleep(0.01)
        else:
            return


async def _until_blocked(client: RedisClient) -> None:
    while not (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110, the server's state
        await trio.sleep(0.01)


async def _add_until_it_works(client: RedisClient, number: str) -> None:
    """Add an entry under a number of its own, which the field holds: repeats are seen by the test."""
    while True:
        try:
            await client.xadd("s", {"number": number})
        except Unavailable:
            await trio.sleep(0.01)
        else:
            return


async def _until_replica_is_known(sentinel: SentinelServer, name: str) -> None:
    with sentinel.client() as admin:
        while not admin.sentinel_slaves(name):  # noqa: ASYNC110, the server's state
            await trio.sleep(0.05)
