"""Three receivers with manners of their own; each keeps the ledger that the demo's verdict is checked against."""

import base64
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

import msgspec
import trio

from trio_alerts.demo.ledger import ReceiverBook
from trio_alerts.http.status import UNSEEN_STATUSES

QUICK_S = 0.005
SLOW_S = 0.1
FLAKY_S = 0.005
FLAKY_SLOW_S = 0.2  # holds a worker for longer than the slow one does; rare, so that the rate hardly shows it
TOLERANCE_S = 300  # what receivers of Standard Webhooks allow a signature's time to be off


class Answer(NamedTuple):
    """What a receiver answers, and after how many seconds."""

    status: int
    delay_s: float


Manner = Callable[[str, int], Answer]  # alert_id, and which request for it this is (from 1) -> answer


def make_receivers(key: bytes, seed: int) -> list["Receiver"]:
    """Return the demo's receivers: the same seed, and the flaky one refuses the same alerts."""
    return [
        Receiver("quick", "answers in 5 ms", quick, key),
        Receiver("slow", "answers in 100 ms", slow, key),
        Receiver("flaky", "often 503, at times 422", flaky(seed), key),
    ]


def quick(_alert_id: str, _request: int) -> Answer:
    """Accept at once."""
    return Answer(200, QUICK_S)


def slow(_alert_id: str, _request: int) -> Answer:
    """Accept, always as slowly."""
    return Answer(200, SLOW_S)


def flaky(seed: int) -> Manner:
    """Return a manner that depends on nothing but the seed, the alert, and which request for it this is.

    Of 1,000 alerts, about 40 are accepted at the second try, 10 at the third, 5 are refused for good, and the answer to
    3 more is slow.
    """

    def answer(alert_id: str, request: int) -> Answer:
        draw = Random(f"{seed} {alert_id}").random()  # noqa: S311, no secret
        if draw < 0.005:  # noqa: PLR2004, the shares are said above
            return Answer(422, FLAKY_S)
        refusals = 2 if draw < 0.015 else 1 if draw < 0.055 else 0  # noqa: PLR2004
        if request <= refusals:
            return Answer(503, FLAKY_S)
        return Answer(200, FLAKY_SLOW_S if draw > 0.997 else FLAKY_S)  # noqa: PLR2004

    return answer


class Receiver:
    """Decides about requests that must be signed with a key, and remembers what it decided. No I/O.

    Attributes:
        book: What it was sent so far.
        first_seen_s: When the first request for each alert came, by `clock`, in order.
    """

    def __init__(
        self, name: str, manner: str, behave: Manner, key: bytes, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.name = name
        self.book = ReceiverBook(name, manner)
        self.first_seen_s: list[float] = []
        self._behave = behave
        self._key = key
        self._clock = clock
        self._seen: Counter[str] = Counter()  # requests by webhook-id

    def take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Decide about one request, and enter it into the book; what it accepted before, it accepts again."""
        book = self.book
        book.requests += 1
        if not is_signed(headers, body, self._key, time.time()):
            book.refused += 1
            book.unsigned += 1
            return Answer(401, 0.0)
        webhook_id = headers["webhook-id"]
        if webhook_id not in self._seen:
            self.first_seen_s.append(self._clock())
        self._seen[webhook_id] += 1
        answer = self._behave(_ALERT.decode(body).alert_id, self._seen[webhook_id])
        if webhook_id in book.repeats:
            book.repeats[webhook_id] += 1
            return Answer(200, answer.delay_s)
        if answer.status == 200:  # noqa: PLR2004
            book.repeats[webhook_id] = 0
        else:
            book.refused += 1
            if answer.status in UNSEEN_STATUSES:
                book.turned_away[webhook_id] = book.turned_away.get(webhook_id, 0) + 1
        return answer


def is_signed(headers: Mapping[str, str], body: bytes, key: bytes, now_s: float) -> bool:
    """Check a request as the Standard Webhooks specification says: by ID, time and body, with a key both ends know."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isdecimal() or abs(int(timestamp) - now_s) > TOLERANCE_S:
        return False
    digest = hmac.digest(key, b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body), hashlib.sha256)
    wanted = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").split()  # there are several while a key is replaced
    return any(hmac.compare_digest(wanted, one.encode()) for one in given)


class _Alert(msgspec.Struct):
    alert_id: str


_ALERT = msgspec.json.Decoder(_Alert)
