"""Certificates for tests, and a TLS front for servers that have none."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
import trustme


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Args:
        ca: The authority that a client should trust.
        cert: The server's certificate chain, for 127.0.0.1 and localhost.
        key: The server's private key.
        wrong_ca: An authority that signed nothing here.
        wrong_name_cert: From the right authority, for another host.
        wrong_name_key: Its private key.
    """

    ca: Path
    cert: Path
    key: Path
    wrong_ca: Path
    wrong_name_cert: Path
    wrong_name_key: Path

    def server_context(self, *, wrong_name: bool = False) -> ssl.SSLContext:
        """Return what a server needs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        cert, key = (self.wrong_name_cert, self.wrong_name_key) if wrong_name else (self.cert, self.key)
        context.load_cert_chain(cert, key)
        return context


def make_tls_files(folder: Path) -> TlsFiles:
    """Make new authorities and certificates."""
    files = TlsFiles(
        ca=folder / "ca.pem",
        cert=folder / "cert.pem",
        key=folder / "key.pem",
        wrong_ca=folder / "wrong_ca.pem",
        wrong_name_cert=folder / "wrong_name_cert.pem",
        wrong_name_key=folder / "wrong_name_key.pem",
    )
    ca = trustme.CA()
    ca.cert_pem.write_to_path(files.ca)
    trustme.CA().cert_pem.write_to_path(files.wrong_ca)
    for certificate, cert, key in (
        (ca.issue_cert("127.0.0.1", "localhost"), files.cert, files.key),
        (ca.issue_cert("elsewhere.example"), files.wrong_name_cert, files.wrong_name_key),
    ):
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        certificate.private_key_pem.write_to_path(key)
    return files


async def serve_tls_front(
    target_port: int, context: ssl.SSLContext, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Accept TLS and pass the bytes on to a plain server on 127.0.0.1, until cancelled; `started` gives the port."""

    async def serve(outer: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            async with (
                outer,
                await trio.open_tcp_stream("127.0.0.1", target_port) as inner,
                trio.open_nursery() as both,
            ):
                both.start_soon(_pass_on, outer, inner, both.cancel_scope.cancel)
                both.start_soon(_pass_on, inner, outer, both.cancel_scope.cancel)
        except OSError:
            pass  # the target is down; the client sees its connection end

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1", handler_nursery=nursery)
        )
        task_status.started(listeners[0].transport_listener.socket.getsockname()[1])


async def _pass_on(source: trio.abc.Stream, target: trio.abc.Stream, end: Callable[[], None]) -> None:
    try:
        while data := await source.receive_some():
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # either side may end the connection, at any time
    end()
