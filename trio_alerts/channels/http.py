"""Channels over HTTP: one POST an attempt, and every way in which it can fail as an outcome.

What a service wants to read, and what its answers mean, stands in its own file, without I/O: see `HttpService`.
"""

import ssl

import httpx
import trio
from msgspec.structs import replace

from trio_alerts.channels.http_service import HttpService
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Malformed, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import Redactor

KEPT_ANSWER_BYTES = 1024
# What `preview` shows of a request's head; all else may hold a credential.
_SHOWN_HEADERS = frozenset({"host", "user-agent", "content-type", "content-length", "webhook-id", "webhook-timestamp"})


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

    async def send(self, message: Message) -> Outcome | Later:
        """Post once and say what came of it; what is malformed once more, as text alone: nobody has it yet.

        Raises:
            trio.TooSlowError: The request, or a part of it, went out, and the head of the answer did not come by the
                deadline.

        Cancellation, TooSlowError: the connection is closed; the request may have been taken.
        """
        service, progress = self._service, SendProgress()
        try:
            # The request has no name here: once it is sent, nothing holds it while the receiver takes its time.
            answer = await self._transport.exchange(service.origin, service.render(message), progress, message.deadline)
        except AddressRefused as refusal:
            return not_allowed(refusal)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as fault:
            return Refused(f"cannot be sent: {fault}")
        except httpx.TransportError as fault:
            return broken(fault, progress)
        except trio.TooSlowError:
            if progress.started:
                raise
            return Retry("not connected in time for this attempt; nothing was sent")
        judgement = service.judge(answer, self._kept(answer) if answer.body else "")
        if isinstance(judgement, Malformed):
            if not message.plain:
                return await self.send(replace(message, plain=True))
            judgement = Refused(judgement.reason, judgement.status, judgement.answer)
        return self._redacted(judgement)

    def _redacted(self, outcome: Outcome | Later) -> Outcome | Later:
        """Return the outcome without what the service repeats of our secrets."""
        if isinstance(outcome, Accepted):
            reference = outcome.reference
            return replace(outcome, reference=self._redactor.redact(reference)) if reference else outcome
        return replace(outcome, reason=self._redactor.redact(outcome.reason))

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

    def preview(self, message: Message) -> str:
        """Return the request, without its path, its query and what any header holds that could be a secret.

        Raises:
            httpx.LocalProtocolError: No request can carry the message.
        """
        head, _, body = self._service.render(message).partition(b"\r\n\r\n")
        scheme, host, port = self._service.origin
        lines = [f"POST {scheme}://{host}:{port}/***"]
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            lines.append(f"{name}: {value if name.lower() in _SHOWN_HEADERS else '***'}")
        return "\n".join((*lines, "", self._redactor.redact(body.decode())))


def broken(fault: Exception, progress: SendProgress) -> Retry:
    """Return the outcome of a connection that could not be opened, or broke; a wrong certificate is for a human."""
    is_wrong = isinstance(fault.__cause__ or fault, ssl.SSLCertVerificationError)
    return Retry(f"{type(fault).__name__}: {fault}", unseen=progress.started, needs_human=is_wrong)


def not_allowed(refusal: AddressRefused) -> Outcome:
    """Return the outcome of an address that `networks` forbids."""
    return Refused(str(refusal)) if refusal.for_good else Retry(str(refusal), needs_human=True)
