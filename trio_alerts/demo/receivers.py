"""The demo's receivers, each with manners of its own; each keeps the ledger that the verdict is checked against."""

import math
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

import trio

from trio_alerts.demo.ledger import ReceiverBook
from trio_alerts.demo.services import Chat, MailBox, Pager, Service, Webhook
from trio_alerts.http.status import UNSEEN_STATUSES

QUICK_S = 0.005
SLOW_S = 0.1
FLAKY_S = 0.005
FLAKY_SLOW_S = 0.2  # holds a worker for longer than the slow one does; rare, so that the rate hardly shows it
CHAT_PER_S, CHAT_BURST = 30.0, 5  # Slack's own limit is 1/s: too long to watch
CHAT, HANGING, STAND_IN = "chat", "broken", "mail"


class Answer(NamedTuple):
    """What a receiver answers, and after how many seconds."""

    status: int
    delay_s: float
    body: bytes = b"ok"

    @property
    def accepted(self) -> bool:
        """Whether the alert was taken."""
        return self.status // 100 == 2  # noqa: PLR2004


Manner = Callable[[str, int], Answer]  # alert_id, and which request for it this is (from 1) -> answer


def make_receivers(seed: int) -> list["Receiver"]:
    """Return the demo's receivers: the same seed, and the flaky one refuses the same alerts."""
    webhook = Webhook(secrets.token_bytes(32))
    chat = Chat(f"xoxb-{secrets.token_hex(8)}", CHAT_PER_S, CHAT_BURST)
    room = limited(CHAT_PER_S, CHAT_BURST, trio.current_time)
    return [
        Receiver("quick", "answers in 5 ms", quick, webhook),
        Receiver("slow", "answers in 100 ms", slow, webhook),
        Receiver("flaky", "often 503, at times 422", flaky(seed), webhook),
        Receiver("pager", "PagerDuty", quick, Pager(secrets.token_hex(16))),
        Receiver(CHAT, f"Slack, {CHAT_PER_S:.0f}/s at most", room, chat),
        Receiver(HANGING, "never answers", hanging, webhook),
        Receiver(STAND_IN, f"stands in for {HANGING}", quick, MailBox()),
    ]


def quick(_alert_id: str, _request: int) -> Answer:
    """Accept at once."""
    return Answer(200, QUICK_S)


def slow(_alert_id: str, _request: int) -> Answer:
    """Accept, always as slowly."""
    return Answer(200, SLOW_S)


def hanging(_alert_id: str, _request: int) -> Answer:
    """Never answer."""
    return Answer(503, math.inf)


def limited(rate_per_s: float, burst: int, clock: Callable[[], float]) -> Manner:
    """Return a manner that takes so many: a bucket of `burst` tokens, filled at this rate. 429 to what is too many."""
    filled_s, tokens = clock(), float(burst)

    def answer(_alert_id: str, _request: int) -> Answer:
        nonlocal filled_s, tokens
        now_s = clock()
        tokens, filled_s = min(burst, tokens + (now_s - filled_s) * rate_per_s), now_s
        if tokens < 1:
            return Answer(429, QUICK_S)
        tokens -= 1
        return Answer(200, QUICK_S)

    return answer


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
    """Decides about requests, and remembers what it decided. No I/O.

    Attributes:
        service: What it is: it reads requests.
        book: What it was sent so far.
        first_seen_s: When the first request for each alert came, by `clock`, in order.
    """

    def __init__(
        self,
        name: str,
        manner: str,
        behave: Manner,
        service: Service,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.name = name
        self.service = service
        self.book = ReceiverBook(name, manner)
        self.first_seen_s: list[float] = []
        self._behave = behave
        self._clock = clock
        self._awaited: dict[int, trio.Event] = {}  # by a number of alerts
        self._seen: Counter[str] = Counter()  # requests by record ID

    def once_seen(self, count: int) -> trio.Event:
        """Return what is set once so many alerts have come."""
        event = self._awaited.setdefault(count, trio.Event())
        if len(self.first_seen_s) >= count:
            event.set()
        return event

    def take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Decide about one request, and enter it into the book; what it accepted before, it accepts again."""
        book = self.book
        book.requests += 1
        about = self.service.read(headers, body)
        if about is None:
            book.refused += 1
            book.unsigned += 1
            return Answer(401, 0.0)
        record_id = about.record_id
        if record_id not in self._seen:
            self.first_seen_s.append(self._clock())
            if (event := self._awaited.get(len(self.first_seen_s))) is not None:
                event.set()
        self._seen[record_id] += 1
        answer = self._behave(about.alert_id, self._seen[record_id])
        if record_id in book.repeats:
            book.repeats[record_id] += 1
            answer = Answer(200, answer.delay_s)
        elif answer.accepted:
            book.repeats[record_id] = 0
        else:
            book.refused += 1
            if answer.status in UNSEEN_STATUSES:
                book.turned_away[record_id] = book.turned_away.get(record_id, 0) + 1
        return answer._replace(body=self.service.accepts if answer.accepted else self.service.refuses)
