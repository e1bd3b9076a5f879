"""A channel's port: one attempt to reach people."""

import math
from typing import Protocol

from msgspec import Struct

from trio_alerts.outcome import Later, Outcome


class Message(Struct, frozen=True):
    """What a channel sends.

    Args:
        id: The `webhook-id`: the same at every attempt.
        payload: The alert as compact JSON.
        deadline: When the attempt has to be over, on trio's clock.
        may_be_repeat: Nobody saw the outcome of an earlier attempt: whoever reads it may have it already.
        plain: Text alone, because the service refused our formatting.
    """

    id: str
    payload: bytes
    deadline: float = math.inf
    may_be_repeat: bool = False
    plain: bool = False


class Channel(Protocol):
    """A configured way to reach people."""

    name: str

    async def send(self, message: Message) -> Outcome | Later:
        """Make one attempt and say what came of it.

        Raises:
            trio.TooSlowError: There was no answer by the message's deadline, and the receiver may have seen
                something of the attempt. If nothing was sent, `Retry` says so.

        Cancellation, TooSlowError: nobody knows then whether the receiver has it; the caller records the attempt as
        unseen.
        """


class ConfiguredChannel(Channel, Protocol):
    """A channel as its settings make it: one that can also be looked at."""

    async def why_unreachable(self, deadline: float) -> str | None:
        """Return why it cannot be reached by a time on trio's clock, or None. Nothing is sent."""

    def preview(self, message: Message) -> str:
        """Return what would be sent, as people may see it: without secrets."""
