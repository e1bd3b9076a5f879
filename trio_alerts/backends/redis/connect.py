"""From an address to a connection that may be used: network, TLS, password, database, role."""

import contextlib
import math
import os
import socket
import ssl
from dataclasses import replace
from typing import Any

import trio
from redis.exceptions import AuthenticationError, NoPermissionError

from trio_alerts.backends.redis.answers import Refusal, shaped
from trio_alerts.backends.redis.connection import READ_SIZE, RedisConnection
from trio_alerts.errors import Unavailable
from trio_alerts.redaction import Redactor
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import RedisAddress

CLIENT_NAME = "trio_alerts"
_NOT_REDIS = "does not speak Redis's protocol"
_REPLICA = "is a replica, which takes no writes: name its master"
SENTINEL_BOUND_S = 1.0  # a healthy Sentinel answers in 1 ms; three dead ones delay a connect by 3 s

# As redis-py sets them: a peer that vanished without a word is noticed after 30 + 3 * 5 s, even on an idle connection.
# macOS and Windows lack some of them.
_KEEPALIVE = [
    (getattr(socket, option), value)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, option)
]


async def connect(
    address: RedisAddress,
    *,
    tls: ssl.SSLContext | None = None,
    timeout_s: float,
    answer_timeout_s: float | None = None,
    cancel_closes: bool = False,
    most_bytes: float = math.inf,
) -> RedisConnection:
    """Connect, log in, choose the database, name the connection, and make sure that it is a master's.

    Args: as `RedisConnection`, and
        tls: Wanted if `address.tls`.
        timeout_s: Bound of the whole connect (with Sentinels: after they answered).
        answer_timeout_s: Bound of every later wait for an answer; `timeout_s` if not given.

    Raises:
        Refusal: The server answers, but not as wanted; the message says what.
        Unavailable: It cannot be reached, or does not answer in time.

    Cancellation: closes what was opened.
    """
    if address.sentinels:
        host, port = await _ask_sentinels(address)
        address = replace(address, sentinels=(), host=host, port=port)
    try:
        with trio.fail_after(timeout_s):
            stream = await _open_stream(address, tls)
            connection = RedisConnection(
                stream,
                timeout_s=answer_timeout_s or timeout_s,
                cancel_closes=cancel_closes,
                most_bytes=most_bytes,
                send_now=stream.send_now if isinstance(stream, SocketStream) else None,
            )
            try:
                if isinstance(stream, trio.SSLStream):
                    await _agree_on_tls(stream, address)
                await _introduce(connection, address)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError:
        hint = " (does it speak TLS? if not, use redis://)" if address.tls else ""
        raise Unavailable(f"{address} does not answer within {timeout_s:g} s{hint}") from None
    return connection


async def _ask_sentinels(address: RedisAddress) -> tuple[str, int]:
    """Return where the master of the service is, by the first Sentinel that knows."""
    reasons = []
    question: list[tuple[str, ...]] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)]
    if address.sentinel_username or address.sentinel_password:
        question.insert(0, _login(address.sentinel_username, address.sentinel_password))
    for host, port in address.sentinels:
        try:
            with trio.fail_after(SENTINEL_BOUND_S):
                stream = await _open_stream(RedisAddress(host=host, port=port), None)
                async with stream:
                    answers = await RedisConnection(stream, timeout_s=SENTINEL_BOUND_S).exchange(*question)
        except trio.TooSlowError:
            reasons.append(f"{host}:{port} does not answer within {SENTINEL_BOUND_S:g} s")
        except Unavailable as error:
            reasons.append(str(error))
        else:
            refused = [answer for answer in answers if isinstance(answer, Exception)]
            master = _master(answers[-1])
            if not refused and master is not None:
                return master
            said = _without_passwords(str(refused[0]), address) if refused else "unknown service"
            reasons.append(f"{host}:{port} says: {said}")
    raise Unavailable(f"{address}: no Sentinel names a master: {'; '.join(reasons)}")


def _master(answer: object) -> tuple[str, int] | None:
    """Read where a Sentinel says that the master is; None if it knows none, or says what no Sentinel says."""
    try:
        host, port = shaped(answer, tuple[bytes, bytes])
        return host.decode(), int(port)
    except ValueError:
        return None


async def _agree_on_tls(stream: trio.SSLStream[trio.SocketStream], address: RedisAddress) -> None:
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"{cause.verify_message} (see redis_ca_file)"
            raise Refusal(f"{address} presents an untrusted certificate: {why}") from error
        reason = cause.reason if isinstance(cause, ssl.SSLError) else "closed by the server"
        raise Unavailable(f"{address} failed the TLS handshake: {reason}") from error


async def _introduce(connection: RedisConnection, address: RedisAddress) -> None:
    words: dict[str, tuple[str | int, ...]] = {}
    if address.username or address.password:
        words["AUTH"] = _login(address.username, address.password)
    if address.db:  # a Cluster knows only 0, and a user may lack the right to SELECT
        words["SELECT"] = ("SELECT", address.db)
    words |= {"SETNAME": ("CLIENT SETNAME", CLIENT_NAME), "PING": ("PING",), "ROLE": ("ROLE",)}
    try:
        said = await connection.exchange(*words.values())
        reason = _refusal(address, dict(zip(words, said, strict=False))) if len(said) == len(words) else _NOT_REDIS
        # A replica in a Cluster answers MOVED with its master's address, which the client follows.
        if reason == _REPLICA:
            about = (await connection.exchange(("INFO", "cluster")))[0]
            if isinstance(about, bytes) and b"cluster_enabled:1" in about:
                reason = None
    except Unavailable as error:
        hint = "" if address.tls else " (does it require TLS? then use rediss://)"
        raise Unavailable(f"{address} dropped the connection during the handshake: {error}{hint}") from error
    if reason is not None:
        raise Refusal(f"{address} {_without_passwords(reason, address)}")


def _refusal(address: RedisAddress, answers: dict[str, Any]) -> str | None:
    """Judge the first answers: None, or why the server is of no use."""
    complaints = {
        "AUTH": "refuses the user name or password",
        "SELECT": f"refuses database {address.db}",
        "PING": "is not ready",
    }
    for word, complaint in complaints.items():
        answer = answers.get(word)
        if isinstance(answer, AuthenticationError) and word != "AUTH":
            return f"requires a user name or password: {answer}"
        # An ACL may forbid PING, as SETNAME and ROLE: one can do without, but never without SELECT: wrong database.
        if isinstance(answer, Exception) and not (word == "PING" and isinstance(answer, NoPermissionError)):
            return f"{complaint}: {answer}"
    # A port of this machine that nobody listens on can connect to itself and echo: every question is its own answer.
    if answers["PING"] != b"PONG" and not isinstance(answers["PING"], Exception):
        return _NOT_REDIS
    role = answers["ROLE"][0] if isinstance(answers["ROLE"], list) and answers["ROLE"] else None
    if role == b"sentinel":
        return "is a Sentinel: use redis+sentinel://host:port/service/db"
    return _REPLICA if role == b"slave" else None


def _without_passwords(said: str, address: RedisAddress) -> str:
    """Take out of what a server, or a proxy in front of it, says what it repeats of our AUTH."""
    passwords = filter(None, (address.password, address.sentinel_password))
    return Redactor(password.reveal() for password in passwords).redact(said)


def _login(username: str | None, password: Secret | None) -> tuple[str, ...]:
    text = password.reveal() if password else ""
    return ("AUTH", username, text) if username else ("AUTH", text)


async def _open_stream(address: RedisAddress, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    try:
        if address.path is not None:
            return SocketStream(await trio.open_unix_socket(address.path))
        # Names are looked up in trio's own threads, of which receivers' look-ups take none: they cannot delay this.
        tcp = await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        raise Unavailable(f"{address} cannot be reached: {_network_reason(error)}") from error
    _keep_alive(tcp)
    if tls is None:
        return SocketStream(tcp)
    return trio.SSLStream(tcp, tls, server_hostname=address.host, https_compatible=True)


def _keep_alive(tcp: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):  # macOS refuses it on a connection that is closed already; reading will tell
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)


def _network_reason(error: OSError) -> str:
    """Name the cause: trio's error for several addresses ("all attempts failed") keeps it behind."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    found = cause if isinstance(cause, OSError) else error
    number = found.errno or 0
    return os.strerror(number) if number > 0 else found.strerror or str(found)  # names that are not found are negative


class SocketStream(trio.abc.Stream):
    """A plain socket without the tries that cannot succeed: it sends first, and waits before it receives.

    trio's own stream tries a recv before every wait, which fails each time when answers come only after a question:
    measured, a seventh of the CPU of a lone command, a tenth with 16 tasks, nothing with 128.

    Args:
        connected: Its socket is taken over; do not use it afterwards.
    """

    def __init__(self, connected: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=connected.socket.detach())
        self._socket.setblocking(False)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, without a checkpoint if the kernel takes it at once.

        Cancellation: a part may be sent.
        """
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    def send_now(self, data: bytes) -> int:
        """Send what the kernel takes at once, and return how many bytes that was; a fault shows at the next send."""
        try:
            return self._socket.send(data)
        except OSError:
            return 0

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel may take more."""
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes, return at most `max_bytes`; none means that the peer has closed."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or READ_SIZE)
            except BlockingIOError:  # a false alarm of the kernel
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Close, waking whoever waits here with `trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()
