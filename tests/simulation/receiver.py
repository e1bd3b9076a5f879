"""A receiver that keeps its own ledger, and behaves badly when told to."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import trio
from msgspec.structs import replace

from tests.simulation.history import History
from tests.simulation.network import Killed, Network, Request
from tests.simulation.plan import Event
from tests.simulation.promises import Promises
from tests.simulation.schedule import OWNER
from trio_alerts.http.status import classify_status
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation

NEVER_S = 10.0**6


@dataclass(frozen=True, slots=True)
class SendCall:
    """A request to a receiver."""

    channel: str
    id: str
    method: str = "send"


@dataclass(slots=True)
class _Answer:
    """What a receiver does with one request: does it arrive, is it taken, and what does the sender hear, and when."""

    outcome: Outcome | Later
    accepts: bool = False
    arrives: bool = True
    back_s: float = 0.0


class Receiver:
    """A `Channel` whose other end decides by its present mood.

    Attributes:
        moods: What is wrong with it just now.
        accepted: How often it decided to accept each alert.
    """

    def __init__(self, name: str, network: Network, promises: Promises, history: History, slowest_s: float) -> None:
        self.name = name
        self.moods: list[Event] = []
        self.accepted: Counter[str] = Counter()
        self._network = network
        self._promises = promises
        self._history = history
        self._slowest_s = slowest_s

    async def send(self, message: Message) -> Outcome | Later:
        who = cast("Incarnation", OWNER.get())
        if who.dead:
            raise Killed
        call = SendCall(self.name, message.id)
        self._history.note(who.name, "sends", message.id, self.name)
        self._promises.send_begins(who, self.name, message.id)
        try:
            if self._promises.ledger[message.id].kind == "poison":
                self._promises.poisoned(who, message.id)
                who.kill("poisoned by " + message.id)
                raise Killed
            answer = self._decide()
            request = Request(lambda: self._arrive(who, message.id, answer))
            if not answer.arrives:
                request.apply()
            forward_s = self._network.chance.uniform(0.0, 0.05)
            with trio.fail_at(message.deadline):
                await self._network.travel(who, call, request, forward_s, answer.back_s)
        finally:
            self._promises.send_ended(who, self.name, message.id)
        self._history.note(who.name, "hears", message.id, self.name, type(answer.outcome).__name__)
        if isinstance(answer.outcome, Accepted):
            who.saw_accepted[message.id, self.name] = trio.current_time()
        return answer.outcome

    def _arrive(self, who: "Incarnation", record_id: str, answer: _Answer) -> None:
        if not answer.arrives:
            return
        self._history.note(self.name, "accepts" if answer.accepts else "has", record_id, "from", who.name)
        self._promises.arrives(self.name, record_id)
        if answer.accepts:
            self.accepted[record_id] += 1
            self._promises.accepted(self.name, record_id, self.accepted[record_id])
        if answer.accepts or answer.outcome.unseen:
            self._promises.may_have_been_seen(self.name, record_id)

    def _decide(self) -> _Answer:
        chance = self._network.chance
        mood = next((mood.how for mood in self.moods if chance.random() < mood.rate), "")
        coin = chance.random() < 0.5
        soon_s = chance.uniform(0.0, 0.3)
        answers = {
            # What a front says for it: the receiver behind may have taken the alert, or not.
            "busy": _Answer(classify_status(503), accepts=coin, back_s=soon_s),
            "gone": _Answer(Refused("gone", 410), back_s=soon_s),
            "hang": _Answer(Accepted(200), accepts=coin, back_s=NEVER_S),
            "reset": _Answer(Retry("reset", unseen=True), accepts=coin, back_s=soon_s),
            "unreachable": _Answer(Retry("unreachable"), arrives=False, back_s=soon_s),
            "slow": _Answer(Accepted(200), accepts=True, back_s=self._slowest_s * chance.random() ** 0.5),
            "gateway": _Answer(classify_status(502), accepts=coin, back_s=soon_s),
            "limited": _Answer(Later("not so fast", after_s=10 * soon_s), back_s=soon_s),
            "dismissive": _Answer(Retry("this token was revoked", stop=True), back_s=soon_s),
            # After a 429 a whole minute has to pass, so it is rare.
            "overloaded": _Answer(
                replace(classify_status(429 if chance.random() < 0.1 else 503), after_s=3 * soon_s), back_s=soon_s
            ),
        }
        return answers.get(mood, _Answer(Accepted(200), accepts=True, back_s=soon_s))
