"""One TCP connection to a receiver, plain or TLS, as three moves: send, receive, and a look whether it is still quiet.

The sockets are used directly: a request that fits the system's buffer costs one call to send, one wait and one call to
receive. TLS is driven here too, because a connection may be kept only if nothing is left in it, and `trio.SSLStream`
does not tell what it received but did not decrypt.
"""

import socket
import ssl
from typing import Protocol

import trio

from trio_alerts.http.watch import ReadWatch

RECEIVE_BYTES = 16_384  # one TLS record; answers to alerts are far smaller


class SendProgress:
    """Tells, also after a cancellation, whether the receiver may have seen anything of a request.

    Attributes:
        started: At least one byte of the request was handed to the system.
    """

    __slots__ = ("started",)

    def __init__(self) -> None:
        self.started = False


class ByteSocket(Protocol):
    """What a connection needs of its socket."""

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        """Send all of `data`. Cancellation, TooSlowError: `progress` tells whether anything went out.

        Raises:
            OSError: The connection is broken.
            trio.TooSlowError: It was not taken by the deadline, on trio's clock.
        """

    async def receive(self, deadline: float) -> bytes:
        """Return what arrives next, nothing at the end. Cancellation: nothing was received.

        Raises:
            OSError: The connection is broken.
            trio.TooSlowError: Nothing arrived by the deadline, on trio's clock.
        """

    def is_quiet(self, idle_s: float) -> bool:
        """Tell whether a connection that has been idle for this long is open and has nothing to read."""

    def close(self) -> None:
        """Close at once, without a farewell: safe under cancellation, and safe to repeat."""


class PlainSocket:
    """A connected TCP socket that does not block; `watch` notices what arrives."""

    __slots__ = ("_sock", "_watched")

    def __init__(self, sock: socket.socket, watch: ReadWatch) -> None:
        self._sock = sock
        self._watched = watch.add(sock.fileno())

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        """Send all of `data`, without a wait if the system takes it at once."""
        rest = memoryview(data)
        while True:
            try:
                sent = self._sock.send(rest)
            except BlockingIOError:
                sent = 0
            if sent:
                progress.started = True
                rest = rest[sent:]
            if not rest:
                return
            with trio.fail_at(deadline):
                await trio.lowlevel.wait_writable(self._sock)

    async def receive(self, deadline: float) -> bytes:
        """Wait first: the receivers we are made for take long, so an immediate recv would be in vain."""
        while True:
            await self._watched.wait(deadline)
            if not self._watched.readable:
                raise trio.TooSlowError
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:  # a false alarm of the system
                self._watched.was_read(empty=True)
                continue
            self._watched.was_read(empty=len(data) < RECEIVE_BYTES)
            return data

    def is_quiet(self, idle_s: float) -> bool:
        """Look without taking anything away: readable while idle means closed, or bytes that nobody asked for."""
        if self._watched.readable:
            return False
        if idle_s < self._watched.trusted_s:
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket."""
        if self._sock.fileno() >= 0:
            self._watched.forget()
        self._sock.close()


class TlsSocket:
    """TLS over a plain socket.

    Args:
        plain: The connected socket; closed with this one.
        context: Verifies the certificate and the name.
        host: The name (or address) that the certificate must be for.
        session: Of an earlier connection to the same origin, to shorten the handshake.
    """

    __slots__ = ("_incoming", "_outgoing", "_plain", "_tls")

    def __init__(self, plain: ByteSocket, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None) -> None:
        self._plain = plain
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)

    async def handshake(self, deadline: float) -> None:
        """Agree on keys and check who is at the other end.

        Raises:
            OSError: The connection broke, or (`ssl.SSLError`) the other end is not who it should be.
            trio.TooSlowError: It was not done by the deadline, on trio's clock.
        """
        not_the_request = SendProgress()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._plain.send(self._outgoing.read(), not_the_request, deadline)
                await self._receive_encrypted(deadline)
            else:
                await self._plain.send(self._outgoing.read(), not_the_request, deadline)
                return

    async def send(self, data: bytes, progress: SendProgress, deadline: float) -> None:
        """Encrypt and send all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        await self._plain.send(self._outgoing.read(), progress, deadline)

    async def receive(self, deadline: float) -> bytes:
        """Return what arrives next, decrypted.

        A connection that ends without TLS's own farewell is an end like any other, as for every HTTPS client:
        the framing of the answer tells whether something is missing.
        """
        while True:
            try:
                return self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                await self._receive_encrypted(deadline)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def is_quiet(self, idle_s: float) -> bool:
        """Look at the socket, then at what was received with the last answer but not decrypted."""
        if not self._plain.is_quiet(idle_s):
            return False
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLError:
            return False
        return False

    def new_session(self) -> ssl.SSLSession | None:
        """Return what a later handshake can be shortened with, once an answer was read.

        None if this connection's own handshake was shortened: so the certificate is verified again when the first
        session's life ends (the server says when: hours, at most 7 days), not never.
        """
        return None if self._tls.session_reused else self._tls.session

    def close(self) -> None:
        """Close the socket, without TLS's farewell: HTTP needs none, and sending it could block."""
        self._plain.close()

    async def _receive_encrypted(self, deadline: float) -> None:
        data = await self._plain.receive(deadline)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
