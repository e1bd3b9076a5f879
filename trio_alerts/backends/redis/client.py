"""redis-py's commands over a trio connection that comes back by itself."""

import math
import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import trio
from loguru import logger
from redis.asyncio import Redis
from redis.commands.core import AsyncCoreCommands
from redis.event import EventDispatcher
from redis.exceptions import AuthenticationError, MovedError, ReadOnlyError, RedisError
from redis.typing import EncodableT

from trio_alerts.backends.background import running
from trio_alerts.backends.redis.answers import EntryId, Refusal, in_order, misunderstood, refusal, shaped
from trio_alerts.backends.redis.connect import connect
from trio_alerts.backends.redis.connection import RedisConnection, pack
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.http.authorities import trusting
from trio_alerts.settings.addresses import RedisAddress
from trio_alerts.settings.settings import Settings

BACKOFF_FIRST_S = 0.1
BACKOFF_CAP_S = 5.0  # the longest that a server which is back waits for us
MAX_REDIRECTS = 5  # a Cluster that has settled needs one

# Commands that change what later answers on the connection mean: other tasks share it.
_NOT_SHARED = frozenset(
    {"AUTH", "CLIENT REPLY", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PSUBSCRIBE", "QUIT", "RESET", "SELECT"}
    | {"SSUBSCRIBE", "SUBSCRIBE", "SYNC", "UNWATCH", "WATCH"}
)

T = TypeVar("T")


@asynccontextmanager
async def open_redis(
    address: RedisAddress, *, ca_file: str | Path | None = None, timeout_s: float = 5.0
) -> AsyncIterator["RedisClient"]:
    """Connect, and keep a client connected while the block runs.

    Args:
        address: The setting `redis_url`.
        ca_file: PEM file of the CAs that verify `rediss://`; the system's if not given.
        timeout_s: Bound of every single wait: to connect, for a lost connection to come back, for an answer.

    Raises:
        SettingsError: The CA file is wrong.
        StartError: The server cannot be reached or refuses us; the message names the address.

    What the block raises comes out as it is, not wrapped in a group.
    """
    tls = trusting(ca_file) if address.tls else None
    client = RedisClient(address, tls=tls, timeout_s=timeout_s)
    async with running(partial(client.stay_connected, await client.connect())):
        yield client


def open_client(settings: Settings) -> AbstractAsyncContextManager["RedisClient"]:
    """Connect as the settings say; see `open_redis`."""
    return open_redis(settings.redis_url, ca_file=settings.redis_ca_file, timeout_s=settings.redis_timeout_s)


def opener(
    make: Callable[["RedisClient", Settings], T],
) -> Callable[[Settings], AbstractAsyncContextManager[T]]:
    """Return how an operator's command opens a view of Redis: connected while the block runs, told of every fault.

    To open it raises what `open_redis` raises; an outage in the block is a `StartError` too, since a command does not
    wait.

    Args:
        make: Makes the view.
    """

    @asynccontextmanager
    async def open_view(settings: Settings) -> AsyncIterator[T]:
        try:
            async with open_client(settings) as client:
                yield make(client, settings)
        except Unavailable as error:
            raise StartError(f"Redis: {error}") from error

    return open_view


class RedisClient(AsyncCoreCommands):
    """One shared connection with redis-py's command methods; use `open_redis`.

    Answers have the shapes of `redis.asyncio.Redis(protocol=2)`: bytes are not decoded, since an entry's field may hold
    anything. An error of the server is a `Refusal`, whose reply tells `NOGROUP` and the like apart. What else keeps an
    answer away, or makes it something that nobody knows, is `Unavailable`. No command is ever repeated but one that was
    answered with MOVED, and so did not run: after `Unavailable` a write may have happened or not, and only the caller
    knows whether it may be repeated.

    A command that meets a lost connection waits for its return, then for its answer, for at most `timeout_s` each. A
    cancelled command may still run; its answer is dropped. A command that blocks belongs to `open_blocking`: here it
    would hold up every other task.

    Args:
        address: Where and as whom.
        tls: Wanted if `address.tls`.
        timeout_s: Bound of connecting, and of waiting for the connection's return.
        block_s: For a connection of its own for blocking commands: their longest block, on top of `timeout_s`.
        most_bytes: Of an answer; see `RedisConnection`.
    """

    _is_async_client: Literal[True] = True  # what redis-py's annotations ask for

    def __init__(
        self,
        address: RedisAddress,
        *,
        tls: ssl.SSLContext | None,
        timeout_s: float,
        block_s: float | None = None,
        most_bytes: float = math.inf,
    ) -> None:
        self.address = address
        self._tls = tls
        self._timeout_s = timeout_s
        self._block_s = block_s
        self._most_bytes = most_bytes
        self._event_dispatcher = EventDispatcher()  # redis-py asks every client for one; nothing listens
        # Taken from a client that never connects: the tables' own module is private and moves between releases.
        self._callbacks = dict(Redis(protocol=2).response_callbacks)
        self.connection: RedisConnection | None = None  # the last one, lost or not; None before the first
        self._moved_to: tuple[str, int] | None = None
        self._reason = "not connected yet"
        self._back = trio.lowlevel.ParkingLot()
        self._closed = False

    def __repr__(self) -> str:
        kind = "RedisClient" if self._block_s is None else "blocking RedisClient"
        return f"<{kind} {self.address}: {self.state}>"

    @property
    def connected(self) -> bool:
        """Whether a command would go out at once."""
        return self.connection is not None and self.connection.lost is None

    @property
    def state(self) -> str:
        """The live state in words, for logs and health pages."""
        if self._closed:
            return "closed"
        if self.connection is not None and self.connection.lost is None:
            return f"connected, {self.connection.under_way} under way"
        return f"lost: {self._reason}"

    @asynccontextmanager
    async def open_blocking(self, block_s: float, most_bytes: float = math.inf) -> AsyncIterator["RedisClient"]:
        """Open a second client, same server and settings, for commands that block for at most `block_s`.

        Its answers may take `block_s` + `timeout_s`. Cancelling a command there drops the connection: what the server
        handed out in that moment is pending for the consumer, and nobody here has seen it.

        Raises:
            StartError: As `open_redis`.
        """
        client = RedisClient(
            self.address, tls=self._tls, timeout_s=self._timeout_s, block_s=block_s, most_bytes=most_bytes
        )
        async with running(partial(client.stay_connected, await client.connect())):
            yield client

    async def execute_command(self, *args: EncodableT, **options: Any) -> Any:
        """Send one command: what redis-py's command methods call.

        Raises:
            Refusal: The server refuses the command, for now or for good.
            Unavailable: Not connected, connection lost, no answer in time, or none that redis-py understands.
            DataError: The command cannot be encoded.
            ValueError: The command would change the connection that other tasks share.

        Cancellation: see `RedisConnection.execute`.
        """
        name = str(args[0]).upper()
        if name in _NOT_SHARED:
            raise ValueError(f"{name} does not go over a shared connection")
        answer = await self._send(args)
        options.pop("keys", None)  # for redis-py's client-side cache
        callback = self._callbacks.get(name)
        if callback is None:
            return answer
        try:
            return callback(answer, **options)
        except Exception as error:
            raise self.misunderstood(args, answer) from error

    def expect(self, shape: type[T], answer: Any, *command: EncodableT) -> T:
        """Return an answer of a command if it has a known shape; see `shaped`.

        An answer that has not may be that of another command, and so may those behind it: the connection is dropped.

        Raises:
            Unavailable: It has another shape.
        """
        try:
            return shaped(answer, shape)
        except ValueError as error:  # msgspec's own error is one
            raise self.misunderstood(command, answer) from error

    def expect_page(self, ids: Sequence[EntryId], start: str, *command: EncodableT) -> None:
        """See to it that a page's IDs are in order, from `start` on.

        Raises:
            Unavailable: They are not.
        """
        if not in_order(ids, start):
            raise self.misunderstood(command, [one.text for one in ids])

    async def run_script(self, shape: type[T], script: str, keys: Sequence[str], *arguments: EncodableT) -> T:
        """Run a script, by EVAL, and return its answer, which has this shape.

        Raises:
            Refusal: The server refuses the script or a command in it.
            Unavailable: See `execute_command` and `expect`.
        """
        command = ("EVAL", script, len(keys), *keys, *arguments)
        return self.expect(shape, await self.execute_command(*command), *command)

    def misunderstood(self, command: tuple[EncodableT, ...], answer: object) -> Unavailable:
        """Drop the connection because of an answer, and return the error that says so."""
        error = misunderstood(self.address, command, answer)
        if self.connection is not None:
            self.connection.drop(str(error))
        return error

    async def _send(self, command: tuple[EncodableT, ...]) -> Any:
        packed = pack(command)
        for _ in range(MAX_REDIRECTS):
            connection = await self._live_connection()
            try:
                return await connection.execute(packed)
            except MovedError as error:  # it did not run, so it may be repeated
                self._moved_to = (error.host or self.address.host, error.port)
                connection.drop(f"moved to {error.host}:{error.port}")
            except RedisError as error:
                if _must_reconnect(error):
                    connection.drop(str(error))
                raise refusal(self.address, self.address.username or "default", command, error) from error
            except Unavailable as error:
                raise Unavailable(f"{self.address}: {error}") from error
        raise Unavailable(f"{self.address}: moved more than {MAX_REDIRECTS} times")

    async def _live_connection(self) -> RedisConnection:
        if self.connection is not None and self.connection.lost is None:
            return self.connection
        with trio.move_on_after(self._timeout_s):
            while not self._closed:
                await self._back.park()
                if self.connection is not None and self.connection.lost is None:
                    return self.connection
        if self._closed:
            raise trio.ClosedResourceError(f"{self!r} was left")
        raise Unavailable(f"{self.address} is not connected: {self._reason}")

    async def connect(self) -> RedisConnection:
        """Connect for the first time, for `stay_connected`.

        Raises:
            StartError: It did not work; the message names the address and the reason.
        """
        try:
            self.connection = await self._connect()
        except Unavailable as error:
            raise StartError(f"Redis: {error}") from error
        return self.connection

    async def stay_connected(self, connection: RedisConnection) -> None:
        """Carry the connection, and another whenever it is lost. Never returns; cancelling it closes the client."""
        failures = 0
        try:
            while True:
                since = trio.current_time()
                self._reason = await connection.run()
                lost_at = trio.current_time()
                if lost_at - since > BACKOFF_CAP_S:  # else it is one that comes and goes
                    failures = 0
                # Who waits for it says so, once for all connections.
                logger.debug("Redis connection lost: {address}: {reason}", address=self.address, reason=self._reason)
                connection, failures = await self._reconnect(failures)
                away_s = trio.current_time() - lost_at
                logger.debug(
                    "Redis is back: {address} was away for {lasted_s:.1f} s", address=self.address, lasted_s=away_s
                )
                self.connection = connection
                self._back.unpark_all()
        finally:
            self._closed = True
            self._back.unpark_all()

    async def _reconnect(self, failures: int) -> tuple[RedisConnection, int]:
        """Try until it works; return also how many tries in a row the next backoff has to count."""
        said = ""
        while True:
            await trio.sleep(backoff_s(failures) * random.uniform(0.5, 1.0))  # noqa: S311, spreads a fleet's tries
            failures += 1
            try:
                return await self._connect(), failures
            except Unavailable as error:
                self._reason = str(error)
                self._moved_to = None  # the one we were sent to may be gone: ask at the address we were given
                # A server that is there and refuses is another state than one that is away; a human may have to act.
                if isinstance(error, Refusal) and self._reason != said:
                    said = self._reason
                    logger.warning("Redis refuses us: {address}: {reason}", address=self.address, reason=said)

    async def _connect(self) -> RedisConnection:
        address = self.address
        if self._moved_to is not None:
            address = replace(address, sentinels=(), path=None, host=self._moved_to[0], port=self._moved_to[1])
        return await connect(
            address,
            tls=self._tls,
            timeout_s=self._timeout_s,
            answer_timeout_s=self._timeout_s + (self._block_s or 0),
            cancel_closes=self._block_s is not None,
            most_bytes=self._most_bytes,
        )


def backoff_s(failures: int) -> float:
    """Return the pause before the next try after so many in a row: 0.1 s doubling to 5 s, before jitter."""
    return min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 16))


def _must_reconnect(error: Exception) -> bool:
    """Whether the server is no longer the one to talk to: demoted, full, or it has forgotten who we are."""
    return isinstance(error, ReadOnlyError | AuthenticationError) or "max number of clients" in str(error)
