"""The receiver that other tests believe: it does what its script says, and its ledger is true."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.receiver import MIB, Script, Step
from tests.support.servers import ReceiverServer

pytestmark = pytest.mark.support

WITHIN_S = 30.0


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=WITHIN_S) as client:
        yield client


def post(client: httpx.Client, receiver: ReceiverServer, webhook_id: str) -> httpx.Response:
    return client.post(receiver.url, content=b"{}", headers={"webhook-id": webhook_id})


def test_steps_are_done_in_order_and_the_last_one_for_ever(receiver: ReceiverServer, client: httpx.Client) -> None:
    """A path's requests walk through its steps; the ledger has each with what was decided."""
    receiver.set_scripts({"/hook": Script([Step(503, headers={"retry-after": "7"}), Step(200)])})

    answers = [client.post(f"{receiver.url}/hook", content=b"\xff\x00", headers={"X-Mark": "1"}) for _ in range(3)]

    assert [503, 200, 200] == [answer.status_code for answer in answers]
    assert "7" == answers[0].headers["retry-after"]
    ledger = receiver.ledger()
    first = ledger.requests[0]
    assert ("POST", "/hook", b"\xff\x00", "1") == (first.method, first.path, first.body, first.headers["x-mark"])
    assert [(503, False), (200, True), (200, True)] == [(one.status, one.accepted) for one in ledger.requests]
    assert 1 == ledger.totals.connections


def test_each_alert_can_have_its_own_walk(receiver: ReceiverServer, client: httpx.Client) -> None:
    """With `each="id"`, every webhook-id meets the steps from the first one on."""
    receiver.set_scripts({"*": Script([Step(503), Step(200)], each="id")})

    assert [503, 503, 200, 200] == [
        post(client, receiver, webhook_id).status_code for webhook_id in ("1-0", "2-0", "1-0", "2-0")
    ]


def test_a_duplicate_is_what_follows_an_acceptance(receiver: ReceiverServer, client: httpx.Client) -> None:
    """A repeat counts as a duplicate only after the receiver had decided to accept, whatever the sender learnt."""
    receiver.set_scripts({"/": Script([Step(503), Step(200, fault="reset"), Step(200), Step(200)], each="id")})

    post(client, receiver, "1-0")
    with pytest.raises(httpx.TransportError):
        post(client, receiver, "1-0")
    post(client, receiver, "1-0")
    post(client, receiver, "2-0")

    ledger = receiver.ledger()
    assert [False, False, True, False] == [request.duplicate for request in ledger.requests]
    assert (4, 2, 1) == (ledger.totals.requests, ledger.totals.accepted, ledger.totals.duplicates)


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
def test_a_broken_answer_is_an_error_to_the_sender(
    step: Step, error: type[Exception], accepted: bool, receiver: ReceiverServer, client: httpx.Client
) -> None:
    """A receiver that breaks off leaves the sender without an answer; the ledger knows what it had decided."""
    receiver.set_scripts({"/": Script([step])})

    with pytest.raises(error):
        post(client, receiver, "1-0")

    assert [accepted] == [request.accepted for request in receiver.ledger().requests]


def test_a_hanging_receiver_never_answers(receiver: ReceiverServer, client: httpx.Client) -> None:
    """A hang is in the ledger as soon as it was received, and lasts until the sender goes away."""
    receiver.set_scripts({"/": Script([Step(fault="hang")])})

    with pytest.raises(httpx.ReadTimeout):
        client.post(receiver.url, content=b"{}", timeout=0.5)

    assert 1 == receiver.totals().requests


def test_a_large_answer_is_as_large_as_asked(receiver: ReceiverServer, client: httpx.Client) -> None:
    """A receiver can answer with a mebibyte."""
    receiver.set_scripts({"/": Script([Step(410, body_bytes=MIB)])})

    answer = post(client, receiver, "1-0")

    assert (410, MIB) == (answer.status_code, len(answer.content))


def test_a_receiver_can_begin_anew(receiver: ReceiverServer, client: httpx.Client) -> None:
    """Its ledger is emptied, and what it accepted before is no duplicate any more."""
    receiver.set_scripts({"/": Script()})
    post(client, receiver, "1-0")
    receiver.clear()

    assert 0 == receiver.totals().requests
    post(client, receiver, "1-0")
    assert 0 == receiver.totals().duplicates


def test_a_lean_receiver_keeps_ids_alone(client: httpx.Client) -> None:
    """For very many requests the ledger has decisions and IDs, and no headers and bodies."""
    with ReceiverServer({"/": Script([Step(202)])}, lean=True) as server:
        post(client, server, "1-0")
        (request,) = server.ledger().requests

    assert ("1-0", 202, True, {}, b"") == (
        request.webhook_id,
        request.status,
        request.accepted,
        request.headers,
        request.body,
    )
