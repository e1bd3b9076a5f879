"""Webhooks: the alert as JSON, by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

import base64
import datetime as dt
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx

import trio_alerts
from trio_alerts.channels.http_service import forbidden_address, http_kind, judge_status
from trio_alerts.channels.webhook_formats import CONTENT_TYPES, Format, render_as
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import PostTemplate
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Outcome
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import secrets_of_request
from trio_alerts.secret import Secret, signing_key
from trio_alerts.settings.addresses import ReceiverAddress
from trio_alerts.settings.kinds import HEADERS, WEBHOOK_SECRET, WEBHOOK_URL, choice
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.settings.tables import about, setting

_KEY_BYTES = 24  # Standard Webhooks asks for keys of 24 to 64 bytes; shorter ones are in use, so they are no error


@dataclass(frozen=True, kw_only=True)
class WebhookSettings(ChannelSettings):
    """A webhook: the alert is posted to one URL."""

    kind: Literal["webhook"] = field(default="webhook", metadata=about(choice("webhook"), "The kind of channel."))
    url: ReceiverAddress = field(metadata=about(WEBHOOK_URL, "Where to post alerts."))
    secret: Secret | None = field(
        default=None,
        metadata=about(WEBHOOK_SECRET, "Signs the requests (Standard Webhooks v1); none: not signed."),
    )
    headers: Mapping[str, Secret] = field(
        default_factory=dict,
        metadata=about(HEADERS, "More request headers, such as `Authorization`; treated as secrets."),
    )
    format: Format = setting(
        "alert",
        choice(*CONTENT_TYPES),
        "What the body is: the alert itself, a CloudEvents 1.0 event that holds it, or what Alertmanager would post.",
    )

    @property
    def destination(self) -> str:
        """See `ChannelSettings`."""
        return str(self.url)

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:
        """See `ChannelSettings`."""
        yield from forbidden_address(self.url.host, networks)
        if self.url.has_user and any(name.lower() == "authorization" for name in self.headers):
            yield "its url has a user, and its headers have Authorization: only one of them can be sent"

    def warnings(self) -> Iterator[str]:
        """See `ChannelSettings`."""
        if self.secret is not None and (size := len(signing_key(self.secret))) < _KEY_BYTES:
            yield (
                f"the secret of channel {self.name!r} has {size} bytes, and Standard Webhooks asks for {_KEY_BYTES} "
                "to 64: make one with `openssl rand -base64 32`"
            )


class Webhook:
    """Any receiver of webhooks. Its URL's path may be a secret, so it is in no message.

    Args:
        settings: A user and a password in the URL are sent as Basic authentication.
        now: The time, for the signature and for dates in `Retry-After`.
    """

    def __init__(self, settings: WebhookSettings, now: Callable[[], dt.datetime]) -> None:
        target = httpx.URL(settings.url.text.reveal())
        own = {"content-type": CONTENT_TYPES[settings.format], "user-agent": f"trio-alerts/{trio_alerts.__version__}"}
        given = {name: value.reveal() for name, value in settings.headers.items()}
        if target.userinfo:
            token = base64.b64encode(f"{target.username}:{target.password}".encode()).decode()
            given["authorization"] = f"Basic {token}"
        self._key = signing_key(settings.secret) if settings.secret else None
        self._template = PostTemplate(target, own | given)
        self._now = now
        self._format, self._name = settings.format, settings.name
        self.origin = self._template.key
        self.secrets: Sequence[str] = secrets_of_request(target, given, self._key)

    def render(self, message: Message) -> bytes:
        """Return the request of one attempt, with the Standard Webhooks headers: the time is the attempt's own."""
        body = message.payload if self._format == "alert" else render_as(self._format, message, self._name)
        timestamp = str(int(self._now().timestamp()))
        headers = {"webhook-id": message.id, "webhook-timestamp": timestamp}
        if self._key is not None:
            content = b"%b.%b.%b" % (message.id.encode(), timestamp.encode(), body)
            digest = hmac.digest(self._key, content, "sha256")
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return self._template.render(headers, body)

    def judge(self, answer: AnswerParser, kept: str) -> Outcome:
        """Go by the status, and by `Retry-After`."""
        return judge_status(answer, kept, self._now)


KIND = http_kind(WebhookSettings, Webhook)
