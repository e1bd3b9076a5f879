"""What the proxy does with single items of a `_bulk` request."""

import random
from typing import Any

import msgspec
import pytest

from tests.crash.bulk_items import is_bulk, is_whole, put_in, take_out
from tests.crash.proxy import http_answer

pytestmark = pytest.mark.support

ACTIONS: list[dict[str, Any]] = [
    {"create": {"_id": "0"}},
    {"index": {"_id": "1", "if_seq_no": 7}},
    *({"create": {"_id": f"{n}"}} for n in range(2, 40)),
]


def request(*actions: object) -> bytes:
    body = b"".join(msgspec.json.encode(action) + b'\n{"view":"v"}\n' for action in actions)
    return b"POST /alerts/_bulk?require_alias=true HTTP/1.1\r\ncontent-length: %d\r\nhost: a\r\n\r\n%b" % (
        len(body),
        body,
    )


def test_only_bulks_have_items() -> None:
    """Whatever the path has behind the question mark."""
    assert is_bulk(request(*ACTIONS))
    assert not is_bulk(b"GET /alerts/_doc/1?_bulk HTTP/1.1\r\n\r\n")


def test_some_items_never_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is a right request, and its answer gets the others' refusals in their places."""
    monkeypatch.setattr("tests.crash.bulk_items.random", random.Random(1))

    left, taken = take_out(request(*ACTIONS), 0.5)

    kept = [action for place, action in enumerate(ACTIONS) if place not in taken]
    assert 0 < len(taken) < len(ACTIONS)
    assert request(*kept) == left
    done = msgspec.json.encode({"items": [{verb: {"_id": to["_id"], "status": 201}} for verb, to in map(_only, kept)]})
    answer = put_in(http_answer(200, "OK", done), taken)
    assert is_whole(answer)
    items = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["items"]
    assert [(verb, to["_id"]) for verb, to in map(_only, ACTIONS)] == [
        (verb, to["_id"]) for verb, to in map(_only, items)
    ]
    assert [place for place, item in enumerate(items) if _only(item)[1]["status"] == 429] == [*taken]


def test_all_items_may_be_taken_out() -> None:
    """Then there is nothing to ask the server for."""
    left, taken = take_out(request(*ACTIONS), 1.0)
    assert (b"", [*range(40)]) == (left, [*taken])


def test_a_refusal_of_all_stays_as_it_is() -> None:
    """It says nothing of single items."""
    refusal = http_answer(400, "Bad Request", b'{"error":{}}')
    assert refusal == put_in(refusal, take_out(request(*ACTIONS), 1.0)[1])


def test_an_answer_may_come_in_pieces() -> None:
    """It is whole with the last byte of its body."""
    whole = http_answer(200, "OK", b'{"items":[]}')
    assert [False, False, True] == [is_whole(whole[:length]) for length in (10, len(whole) - 1, len(whole))]


def _only(item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    ((verb, target),) = item.items()
    return verb, target
