"""A channel's port: one attempt to reach people."""

import math
from typing import Protocol

from msgspec import Struct

from trio_alerts.outcome import Outcome


class Message(Struct, frozen=True):
    """What a channel sends.

    Args:
        id: The `webhook-id`: the same at every attempt.
        payload: The alert as compact JSON.
        deadline: When the attempt has to be over, on trio's clock.
    """

    id: str
    payload: bytes
    deadline: float = math.inf


class Channel(Protocol):
    """A configured way to reach people."""

    name: str

    async def send(self, message: Message) -> Outcome:
        """Make one attempt and say what came of it.

        Raises:
            trio.TooSlowError: There was no answer by the message's deadline, and the receiver may have seen
                something of the attempt. If nothing was sent, `Retry` says so.

        Cancellation, TooSlowError: nobody knows then whether the receiver has it; the caller records the attempt as
        unseen.
        """
