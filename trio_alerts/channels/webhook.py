"""Webhooks: the alert as JSON, by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

import base64
import datetime as dt
import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

import httpx
import trio
from msgspec.structs import replace

import trio_alerts
from trio_alerts.http.address_check import AddressRefused
from trio_alerts.http.request import OriginKey, PostTemplate
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.socket import SendProgress
from trio_alerts.http.status import classify_status, parse_retry_after
from trio_alerts.outcome import Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import Redactor, secrets_of_request

KEPT_ANSWER_BYTES = 1024


class Transport(Protocol):
    """What a webhook needs of `TrioTransport`."""

    async def exchange(self, key: OriginKey, data: bytes, progress: SendProgress, deadline: float) -> AnswerParser:
        """Send a rendered request and read its answer."""

    async def reach(self, key: OriginKey, deadline: float) -> None:
        """Open a connection and close it again."""


class WebhookChannel:
    """Posts alerts to one URL, one request an attempt: no redirects, no cookies, no repeats of its own.

    Args:
        name: As in the settings.
        url: Where to; its path may be a secret, so it is in no message. A user and a password in it are sent as Basic.
        key: What signs the requests; none: they are not signed.
        headers: More headers of every request.
        transport: Sends them. It is shared with other channels, and its owner closes it.
        now: The time, for the signature and for dates in `Retry-After`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        transport: Transport,
        now: Callable[[], dt.datetime],
        key: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        target = httpx.URL(url)
        own = {"content-type": "application/json", "user-agent": f"trio-alerts/{trio_alerts.__version__}"}
        given = dict(headers or {})
        if target.userinfo:
            token = base64.b64encode(f"{target.username}:{target.password}".encode()).decode()
            given["authorization"] = f"Basic {token}"
        self._template = PostTemplate(target, own | given)
        self._key = key
        self._redactor = Redactor(secrets_of_request(url, given, key))
        self._transport = transport
        self._now = now

    def __repr__(self) -> str:
        return f"<WebhookChannel {self.name} to {self._template.key.host}>"

    async def send(self, message: Message) -> Outcome:
        """Post once and say what came of it.

        Raises:
            trio.TooSlowError: The request, or a part of it, went out, and no answer's head came by the deadline.

        Cancellation, TooSlowError: the connection is closed; the request may have been taken.
        """
        progress = SendProgress()
        try:
            response = await self._transport.exchange(
                self._template.key,
                self._template.render(self.signed(message), message.payload),
                progress,
                message.deadline,
            )
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
        outcome = classify_status(response.status, self._kept(response) if response.body else "")
        if isinstance(outcome, Retry):
            asked = [value.decode("latin-1") for name, value in response.headers if name == b"retry-after"]
            if asked:
                return replace(outcome, after_s=parse_retry_after(asked, self._now()))
        return outcome

    def _kept(self, response: AnswerParser) -> str:
        """Return the beginning of the body, for the record: without what it repeats of our secrets."""
        cut = response.truncated or response.cut is not None
        return self._redactor.redact_beginning(response.body, KEPT_ANSWER_BYTES, cut=cut).decode(errors="replace")

    async def why_unreachable(self, deadline: float) -> str | None:
        """Open a connection, TLS included, and close it; return why that fails by a time on trio's clock, or None.

        Nothing is sent: only an alert shows whether the receiver takes it.
        """
        try:
            await self._transport.reach(self._template.key, deadline)
        except httpx.TransportError as fault:
            return str(fault)
        except trio.TooSlowError:
            return "no connection in time"
        return None

    def signed(self, message: Message) -> dict[str, str]:
        """Return the Standard Webhooks headers of one attempt: the ID never changes, the time is the attempt's own."""
        timestamp = str(int(self._now().timestamp()))
        headers = {"webhook-id": message.id, "webhook-timestamp": timestamp}
        if self._key is not None:
            content = b"%b.%b.%b" % (message.id.encode(), timestamp.encode(), message.payload)
            digest = hmac.digest(self._key, content, "sha256")
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers
