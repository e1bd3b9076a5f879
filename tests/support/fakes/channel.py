"""A channel in memory: it answers as the test says, and remembers what it was sent."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from trio_alerts.outcome import Accepted, Later, Outcome
from trio_alerts.ports.channel import Message


@dataclass(frozen=True, slots=True)
class Send:
    """One request as the receiver saw it: when it came in virtual seconds, and its `webhook-id`."""

    at_s: float
    id: str


class FakeChannel:
    """A `Channel` whose receiver takes `latency_s` of virtual time.

    The request arrives after a checkpoint: cancelled before it, the receiver saw nothing; after it, it has decided.

    Args:
        name: As in the settings.
        outcomes: The answers of the first requests, in order; then `Accepted(200)` for ever.
        latency_s: How long an answer takes.

    Attributes:
        sends: What has arrived, in order.
        accepted: How often the receiver decided to accept each `webhook-id`.
        decide: Called with each request; gives the outcome. An exception it raises comes out of `send`.
    """

    def __init__(
        self, name: str = "webhook", outcomes: list[Outcome | Later] | None = None, latency_s: float = 0.0
    ) -> None:
        self.name = name
        self.latency_s = latency_s
        self.sends: list[Send] = []
        self.accepted: dict[str, int] = {}
        self.under_way = 0
        self._outcomes = list(outcomes or [])
        self.decide: Callable[[Message], Outcome | Later] = lambda _: (
            self._outcomes.pop(0) if self._outcomes else Accepted(200)
        )

    @property
    def sent_at_s(self) -> list[float]:
        """When each request arrived, in virtual seconds, rounded to the millisecond."""
        return [round(send.at_s, 3) for send in self.sends]

    async def send(self, message: Message) -> Outcome | Later:
        await trio.lowlevel.checkpoint()
        self.sends.append(Send(trio.current_time(), message.id))
        outcome = self.decide(message)
        if isinstance(outcome, Accepted):
            self.accepted[message.id] = self.accepted.get(message.id, 0) + 1
        self.under_way += 1
        try:
            with trio.fail_at(message.deadline):
                await trio.sleep(self.latency_s)
        finally:
            self.under_way -= 1
        return outcome
