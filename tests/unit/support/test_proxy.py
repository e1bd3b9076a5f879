"""What the proxy does to traffic, seen by a client of a receiver behind it."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.crash.proxy import FAITHFUL, Behaviour, Proxy, http_answer
from tests.support.program import happens
from tests.support.servers import ReceiverServer

pytestmark = pytest.mark.support

PATIENCE_S = 60.0


@pytest.fixture
def proxy(receiver: ReceiverServer) -> Iterator[Proxy]:
    with Proxy(receiver.port, http=True) as between:
        yield between


def post(proxy: Proxy, *, timeout_s: float = PATIENCE_S) -> int:
    with httpx.Client(timeout=timeout_s, trust_env=False) as client:
        return client.post(f"http://127.0.0.1:{proxy.port}/", content=b"x" * 200_000).status_code


def test_traffic_passes(proxy: Proxy, receiver: ReceiverServer) -> None:
    """Without orders it only carries, and counts nothing."""
    assert 200 == post(proxy)
    assert (1, 0) == (receiver.totals().accepted, proxy.spoiled)


def test_answers_are_lost_after_the_server_has_acted(proxy: Proxy, receiver: ReceiverServer) -> None:
    """The server has done it; the client sees a reset."""
    proxy.behave(Behaviour(loses=1.0))
    with pytest.raises(httpx.TransportError):
        post(proxy)
    assert (1, 1) == (receiver.totals().accepted, proxy.spoiled)


def test_what_is_held_arrives_late(proxy: Proxy, receiver: ReceiverServer) -> None:
    """A client that has given up is no reason to forget its request."""
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as client:
        client.post(f"http://127.0.0.1:{proxy.port}/")
        proxy.behave(Behaviour(held=True))
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"http://127.0.0.1:{proxy.port}/", timeout=0.5)
    assert 1 == receiver.totals().requests
    proxy.behave(FAITHFUL)
    assert happens(lambda: receiver.totals().requests == 2, PATIENCE_S)


def test_answers_are_made_up(proxy: Proxy, receiver: ReceiverServer) -> None:
    """The request never reaches the server."""
    proxy.behave(Behaviour(answers=http_answer(503, "Service Unavailable", b"{}")))
    assert 503 == post(proxy)
    assert 0 == receiver.totals().requests


def test_connections_are_refused_and_accepted_again(proxy: Proxy) -> None:
    """On the same port."""
    proxy.refuse()
    with pytest.raises(httpx.ConnectError):
        post(proxy)
    proxy.accept()
    assert 200 == post(proxy)


def test_open_connections_are_cut(proxy: Proxy) -> None:
    """A reset, not an end."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: receiver\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(4096)
