"""A test message through one channel, as an attempt would send it; no record, no retry."""

import secrets
from dataclasses import dataclass

import httpx
import trio

from trio_alerts.exact_json import decode_object, encode
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.ports.channel import ConfiguredChannel, Message

MARK = "TEST, please ignore: "


@dataclass(frozen=True, slots=True)
class Trial:
    """What was sent, without secrets, and what came of it."""

    request: str
    outcome: Outcome | Later

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        match self.outcome:
            case Accepted():
                return "accepted"
            case Refused(reason=reason):
                return f"refused for good, a human must look: {reason}"
            case Later(reason=reason, after_s=after_s):
                return f"not now, the service asks to wait for {after_s:g} s: {reason}"
            case Retry(reason=reason):
                doubt = "; it may have arrived all the same" if self.outcome.unseen else ""
                human = "a human must look" if self.outcome.needs_human else "an alert would be tried again"
                return f"failed, {human}: {reason}{doubt}"


def trial_message(payload: bytes, within_s: float) -> Message:
    """Return an alert as a message that says that it is a test, with an ID of its own, due within some seconds.

    It joins no incident of real alerts: its fingerprint is left out.
    """
    event = decode_object(payload)
    event |= {"title": f"{MARK}{event.get('title', '')}"}
    event.pop("fingerprint", None)
    return Message(f"test-{secrets.token_hex(8)}", encode(event), trio.current_time() + within_s)


async def send_trial(channel: ConfiguredChannel, message: Message) -> Trial:
    """Make one attempt, and return what came of it.

    Cancellation: as `Channel.send`.
    """
    try:
        request = channel.preview(message)
    except httpx.LocalProtocolError as fault:
        return Trial("", Refused(f"cannot be sent: {fault}"))
    try:
        return Trial(request, await channel.send(message))
    except trio.TooSlowError:
        return Trial(request, Retry("no answer in time", unseen=True))
