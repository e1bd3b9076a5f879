"""Channels over HTTP: one POST an attempt, and every way in which it can fail as an outcome.

What a service wants to read, and what its answers mean, stands in its own file, without I/O: see `HttpService`.
"""

from collections.abc import Sequence
from typing import Protocol

import httpx
import trio

from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.request import OriginKey
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import Redactor

KEPT_ANSWER_BYTES = 1024


class HttpService(Protocol):
    """One service, as its own file describes it: pure functions, no I/O.

    Attributes:
        origin: Where its requests go.
        secrets: What must be in no record or log, even if an answer repeats it.
    """

    origin: OriginKey
    secrets: Sequence[str]

    def render(self, message: Message) -> bytes:
        """Return the request of one attempt; raises `httpx.LocalProtocolError` if none can carry the message."""

    def judge(self, answer: AnswerParser, kept: str) -> Outcome:
        """Say what an answer means; `kept` is the beginning of its body without the secrets, for the record."""


class HttpChannel:
    """Sends alerts to one service, one request an attempt: no redirects, no cookies, no repeats of its own.

    Args:
        name: As in the settings.
        service: What is sent, where to, and what the answers mean.
        transport: Sends the requests. It is shared with other channels, and its owner closes it.
    """

    def __init__(self, name: str, service: HttpService, transport: TrioTransport) -> None:
        self.name = name
        self._service = service
        self._transport = transport
        self._redactor = Redactor(service.secrets)

    def __repr__(self) -> str:
        return f"<HttpChannel {self.name} to {self._service.origin.host}>"

    async def send(self, message: Message) -> Outcome:
        """Post once and say what came of it.

        Raises:
            trio.TooSlowError: The request, or a part of it, went out, and the head of the answer did not come by the
                deadline.

        Cancellation, TooSlowError: the connection is closed; the request may have been taken.
        """
        service, progress = self._service, SendProgress()
        try:
            request = service.render(message)
            answer = await self._transport.exchange(service.origin, request, progress, message.deadline)
        except AddressRefused as refusal:
            return Refused(str(refusal)) if refusal.for_good else Retry(str(refusal), needs_human=True)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as fault:
            return Refused(f"cannot be sent: {fault}")
        except httpx.TransportError as fault:
            return Retry(f"{type(fault).__name__}: {fault}", unseen=progress.started)
        except trio.TooSlowError:
            if progress.started:
                raise
            return Retry("not connected in time for this attempt; nothing was sent")
        return service.judge(answer, self._kept(answer) if answer.body else "")

    def _kept(self, answer: AnswerParser) -> str:
        """Return the beginning of the body, for the record: without what it repeats of our secrets."""
        cut = answer.truncated or answer.cut is not None
        return self._redactor.redact_beginning(answer.body, KEPT_ANSWER_BYTES, cut=cut).decode(errors="replace")

    async def why_unreachable(self, deadline: float) -> str | None:
        """Open a connection, TLS included, and close it; return why that fails by a time on trio's clock, or None.

        Nothing is sent: only an alert shows whether the receiver takes it.
        """
        try:
            await self._transport.reach(self._service.origin, deadline)
        except httpx.TransportError as fault:
            return str(fault)
        except trio.TooSlowError:
            return "no connection in time"
        return None
