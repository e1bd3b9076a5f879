"""PagerDuty: an incident is triggered by the Events API v2.

Facts from PagerDuty's documentation: "Events API v2 Overview" and "Send an Alert Event" (fields and their limits; 512
KB at most; 202 taken, 400 invalid, 429 too many, 5xx try again). A `dedup_key` joins events to an incident while that
is open; once it is resolved, the same key opens a new one: it is no proof against repeats.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

import trio_alerts
from trio_alerts.channels.alert_text import AlertText, cut, read_alert, utf8_bytes
from trio_alerts.channels.http_service import Judgement, forbidden_address, http_kind, judge_status, later
from trio_alerts.exact_json import decode_object, encode
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.request import PostTemplate
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Accepted, Malformed, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.redaction import secrets_of_request
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import ReceiverAddress, parse_receiver_url
from trio_alerts.settings.kinds import SERVICE_TOKEN, WEBHOOK_URL, choice
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.settings.tables import about, setting
from trio_alerts.text import one_line

SUMMARY_CHARACTERS = 1_024
SOURCE_CHARACTERS = 255
DEDUP_KEY_CHARACTERS = 255
EVENT_BYTES = 512_000
MOST_LINKS = 10
LIMIT_S = 60.0  # a limit without Retry-After: theirs are counted a minute
SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning", "low": "info", "info": "info"}


@dataclass(frozen=True, kw_only=True)
class PagerDutySettings(ChannelSettings):
    """PagerDuty: one service's integration of the type "Events API v2"."""

    kind: Literal["pagerduty"] = field(default="pagerduty", metadata=about(choice("pagerduty"), "The kind of channel."))
    routing_key: Secret = field(metadata=about(SERVICE_TOKEN, "The integration key of the service."))
    url: ReceiverAddress = setting(
        parse_receiver_url("https://events.pagerduty.com/v2/enqueue"),
        WEBHOOK_URL,
        "Where events go; in the EU `https://events.eu.pagerduty.com/v2/enqueue`.",
        "`https://events.pagerduty.com/v2/enqueue`",
    )

    @property
    def destination(self) -> str:
        """See `ChannelSettings`."""
        return str(self.url)

    def contradictions(self, networks: AllowedNetworks) -> Iterator[str]:
        """See `ChannelSettings`."""
        yield from forbidden_address(self.url.host, networks)


class PagerDuty:
    """One integration of PagerDuty; see `HttpService`."""

    def __init__(self, settings: PagerDutySettings, now: Callable[[], dt.datetime]) -> None:
        target = httpx.URL(settings.url.text.reveal())
        headers = {"content-type": "application/json", "user-agent": f"trio-alerts/{trio_alerts.__version__}"}
        self._template = PostTemplate(target, headers)
        self._routing_key = settings.routing_key.reveal()
        self._now = now
        self.origin = self._template.key
        self.secrets: Sequence[str] = [*secrets_of_request(target, {}), self._routing_key]

    def render(self, message: Message) -> bytes:
        """Return a request that triggers: with details and links, unless they are too large or were refused."""
        alert = read_alert(message)
        body = self._trigger(message, alert)
        if message.plain:
            return self._template.render({}, encode(body))
        details = dict(alert.facts) | {"description": alert.description, "note": alert.note}
        payload = {**body["payload"], "custom_details": {name: text for name, text in details.items() if text}}
        links = [{"href": link, "text": link} for link in alert.links[:MOST_LINKS] if link.startswith("http")]
        whole = encode({**body, "payload": payload, "links": links})
        return self._template.render({}, whole if len(whole) <= EVENT_BYTES else encode(body))

    def judge(self, answer: AnswerParser, kept: str) -> Judgement:
        """Go by the status; 400 says that the event is invalid, or that nobody has this key: no alert is to blame."""
        if answer.status == 429:  # noqa: PLR2004
            return later(answer, kept, self._now(), LIMIT_S)
        if answer.status == 400:  # noqa: PLR2004
            if b"routing" in answer.body.lower():
                reason = "PagerDuty does not know the routing key"
                return Retry(reason, 400, answer=kept, needs_human=True, stop=True)
            return Malformed("refused with 400", 400, kept)
        outcome = judge_status(answer, kept, self._now)
        if isinstance(outcome, Accepted):
            return Accepted(outcome.status, kept, _dedup_key_of(answer))
        return outcome

    def _trigger(self, message: Message, alert: AlertText) -> dict[str, Any]:
        event = decode_object(message.payload)
        source = next((str(event[name]) for name in ("source", "scope", "view") if event.get(name)), "trio-alerts")
        payload = {
            "summary": cut(f"{alert.headline} {alert.note}".rstrip(), SUMMARY_CHARACTERS, len),
            "source": cut(one_line(source), SOURCE_CHARACTERS, len),
            "severity": SEVERITIES.get(str(event.get("severity")), "error"),
        }
        names = {"timestamp": "occurred_at", "component": "scope", "group": "view", "class": "rule_id"}
        optional = {name: event[field] for name, field in names.items() if event.get(field)}
        payload |= {name: cut(one_line(str(text)), SOURCE_CHARACTERS, len) for name, text in optional.items()}
        return {
            "routing_key": self._routing_key,
            "event_action": "trigger",
            "dedup_key": _dedup_key(str(event.get("fingerprint") or message.id)),
            "client": "trio-alerts",
            "payload": payload,
        }


def _dedup_key(key: str) -> str:
    """Return what joins alerts to one incident: as it is, or its hash if it is too long."""
    if utf8_bytes(key) <= DEDUP_KEY_CHARACTERS:
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def _dedup_key_of(answer: AnswerParser) -> str:
    try:
        said = decode_object(answer.body)
    except (ValueError, ArithmeticError, RecursionError):
        return ""
    key = str(said.get("dedup_key") or "")
    return one_line(key) if len(key) <= DEDUP_KEY_CHARACTERS else ""


KIND = http_kind(PagerDutySettings, PagerDuty)
