"""The receiver that other tests believe: it does what its script says, and its ledger is true."""

import ssl
from functools import partial

import httpx
import pytest
import trio

from tests.support.obtain import obtain
from tests.support.receiver import MIB, Receiver, Script, Step, serve_receiver
from tests.support.servers import ReceiverServer, ValkeyServer
from tests.support.tls import TlsFiles, serve_tls_front

WITHIN_S = 30.0


async def test_steps_are_done_in_order_and_the_last_one_for_ever(nursery: trio.Nursery) -> None:
    """A path's requests walk through its steps; the ledger has each with what was decided."""
    receiver = Receiver({"/hook": Script([Step(503, headers={"retry-after": "7"}), Step(200)])})
    url = await nursery.start(serve_receiver, receiver)

    async with _client() as client:
        answers = [await client.post(f"{url}/hook", content=b"body", headers={"X-Mark": "1"}) for _ in range(3)]

    assert [503, 200, 200] == [answer.status_code for answer in answers]
    assert "7" == answers[0].headers["retry-after"]
    first = receiver.ledger.requests[0]
    assert ("POST", "/hook", b"body", "1") == (first.method, first.path, first.body, first.headers["x-mark"])
    assert [False, True, True] == [request.accepted for request in receiver.ledger.requests]
    assert 1 == receiver.ledger.totals.connections


async def test_each_alert_can_have_its_own_walk(nursery: trio.Nursery) -> None:
    """With `each="id"`, every webhook-id meets the steps from the first one on."""
    receiver = Receiver({"*": Script([Step(503), Step(200)], each="id")})
    url = await nursery.start(serve_receiver, receiver)

    async with _client() as client:
        statuses = [(await _post(client, url, webhook_id)).status_code for webhook_id in ("1-0", "2-0", "1-0", "2-0")]

    assert [503, 503, 200, 200] == statuses


async def test_a_duplicate_is_what_follows_an_acceptance(nursery: trio.Nursery) -> None:
    """A repeat counts as a duplicate only after the receiver had decided to accept, whatever the sender learnt."""
    steps = [Step(503), Step(200, fault="reset"), Step(200), Step(200)]
    receiver = Receiver({"/": Script(steps, each="id")})
    url = await nursery.start(serve_receiver, receiver)

    async with _client() as client:
        await _post(client, url, "1-0")
        with pytest.raises(httpx.TransportError):
            await _post(client, url, "1-0")
        await _post(client, url, "1-0")
        await _post(client, url, "2-0")

    assert [False, False, True] == [request.duplicate for request in receiver.ledger.of("1-0")]
    totals = receiver.ledger.totals
    assert (4, 2, 1) == (totals.requests, totals.accepted, totals.duplicates)


@pytest.mark.parametrize(
    ("step", "error", "accepted"),
    [
        (Step(fault="close"), httpx.RemoteProtocolError, False),
        (Step(fault="close", accepts=True), httpx.RemoteProtocolError, True),
        (Step(fault="reset", body_bytes=MIB), httpx.ReadError, True),
        (Step(fault="cut"), httpx.ReadError, True),
        (Step(fault="cut", body_bytes=MIB), httpx.ReadError, True),
        (Step(fault="reset", status=503), httpx.ReadError, False),
    ],
)
async def test_a_broken_answer_is_an_error_to_the_sender(
    step: Step, error: type[Exception], accepted: bool, nursery: trio.Nursery
) -> None:
    """A receiver that breaks off leaves the sender without an answer; the ledger knows what it had decided."""
    receiver = Receiver({"/": Script([step])})
    url = await nursery.start(serve_receiver, receiver)

    async with _client() as client:
        with pytest.raises(error):
            await _post(client, url, "1-0")

    assert [accepted] == [request.accepted for request in receiver.ledger.requests]


async def test_a_hanging_receiver_never_answers(nursery: trio.Nursery) -> None:
    """A hang is in the ledger as soon as it was received, and lasts until the sender goes away."""
    receiver = Receiver({"/": Script([Step(fault="hang")])})
    url = await nursery.start(serve_receiver, receiver)
    answered = False

    async def send() -> None:
        nonlocal answered
        async with _client() as client:
            await _post(client, url, "1-0")
        answered = True

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            await receiver.until(lambda: receiver.ledger.totals.requests == 1)
            sending.cancel_scope.cancel()

    assert not answered


async def test_a_large_answer_is_as_large_as_asked(nursery: trio.Nursery) -> None:
    """A receiver can answer with a mebibyte."""
    url = await nursery.start(serve_receiver, Receiver({"/": Script([Step(410, body_bytes=MIB)])}))

    async with _client() as client:
        answer = await _post(client, url, "1-0")

    assert (410, MIB) == (answer.status_code, len(answer.content))


async def test_https_is_verified_by_authority_and_name(nursery: trio.Nursery, tls_files: TlsFiles) -> None:
    """A TLS receiver is accepted under the right authority and name only."""
    receiver = Receiver()
    url = await nursery.start(partial(serve_receiver, receiver, tls=tls_files.server_context()))
    elsewhere = await nursery.start(partial(serve_receiver, receiver, tls=tls_files.server_context(wrong_name=True)))

    async with _client(tls_files) as client:
        assert 200 == (await _post(client, url, "1-0")).status_code
        with pytest.raises(httpx.ConnectError) as wrong_name:
            await _post(client, elsewhere, "1-0")
    async with _client() as client:
        with pytest.raises(httpx.ConnectError) as wrong_authority:
            await _post(client, url, "1-0")

    assert "Hostname mismatch" in _certificate_error(wrong_name.value)
    assert "unable to get local issuer" in _certificate_error(wrong_authority.value)
    assert 1 == receiver.ledger.totals.requests


async def test_a_tls_front_passes_bytes_both_ways(nursery: trio.Nursery, tls_files: TlsFiles) -> None:
    """A plain server behind the front is reached over verified TLS."""
    with obtain(ValkeyServer) as server:
        port = await nursery.start(serve_tls_front, server.port, tls_files.server_context())
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", port, ssl_context=ssl.create_default_context(cafile=str(tls_files.ca))
        )
        async with stream:
            with trio.fail_after(WITHIN_S):
                await stream.send_all(b"PING\r\n")
                assert b"+PONG\r\n" == await stream.receive_some()


def test_the_process_keeps_the_ledger_and_takes_new_scripts() -> None:
    """The process form tells its ledger over HTTP, changes its behaviour, and can begin anew."""
    with ReceiverServer({"/hook": Script([Step(503)])}) as server, httpx.Client(trust_env=False) as client:
        client.post(f"{server.url}/hook", content=b"\xff\x00", headers={"webhook-id": "1-0"})
        server.set_scripts({"/hook": Script([Step(200)])})
        for _ in range(2):
            client.post(f"{server.url}/hook", content=b"{}", headers={"webhook-id": "1-0"})

        ledger = server.ledger()
        assert [503, 200, 200] == [request.status for request in ledger.of("1-0")]
        assert [b"\xff\x00", b"{}", b"{}"] == [request.body for request in ledger.requests]
        assert (3, 2, 1) == (ledger.totals.requests, ledger.totals.accepted, ledger.totals.duplicates)

        server.clear()
        assert 0 == server.totals().requests


def test_a_lean_process_keeps_ids_alone() -> None:
    """For very many requests the ledger has decisions and IDs, and no headers and bodies."""
    with ReceiverServer(lean=True) as server, httpx.Client(trust_env=False) as client:
        client.post(server.url, content=b"long", headers={"webhook-id": "1-0"})
        (request,) = server.ledger().requests

    assert ("1-0", True, {}, b"") == (request.webhook_id, request.accepted, request.headers, request.body)


def _certificate_error(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return "none" if error is None else error.verify_message


def _client(tls_files: TlsFiles | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(tls_files.ca) if tls_files else None)
    return httpx.AsyncClient(verify=context, trust_env=False, timeout=WITHIN_S)


async def _post(client: httpx.AsyncClient, url: str, webhook_id: str) -> httpx.Response:
    return await client.post(url, content=b"{}", headers={"webhook-id": webhook_id})
