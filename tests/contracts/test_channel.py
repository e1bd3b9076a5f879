"""Every kind of channel keeps the contract."""

import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tests.contracts.channel import NOW, ChannelContract, HttpContract, ServiceContract, TestedChannel
from tests.support.services import http
from tests.support.services.pagerduty import PagerDutyStandIn
from tests.support.services.slack import SlackStandIn, seen
from tests.support.services.smtp import SmtpStandIn, body_of, parsed, smtp_answering
from trio_alerts.assembly import make_channel
from trio_alerts.channels.alert_text import visible
from trio_alerts.channels.email import EmailSettings
from trio_alerts.channels.file import FileSettings
from trio_alerts.channels.pagerduty import PagerDutySettings
from trio_alerts.channels.slack import SlackSettings
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.channels.webhook_formats import Format
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Retry
from trio_alerts.ports.channel import Channel
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url, parse_smtp_url
from trio_alerts.text import one_line

KEY = base64.b64encode(b"0123456789abcdef01234567").decode()
TOKEN = "xoxb-1234567890-s3cretmarker"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"
LOGIN = ("someone", "pa55word marker")


def answer(status: int, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 %d X" % status, *headers, b"Content-Length: 2", b"", b"ok"))


def as_people_read(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what people see of fields: everything that hides is spelled out, and what is empty is not there."""
    shown = {name: one_line(text) for name, text in fields.items() if text}
    if description := fields.get("description"):
        shown["description"] = visible(description).rstrip("\n")
    return {"title": "an alert without a title"} | shown


def read_text(text: str) -> dict[str, str]:
    """Read an alert's text line by line, as people do."""
    headline, *lines = text.split("\n")
    severity, _, title = headline.partition("] ")
    read = {"severity": severity.removeprefix("[").lower(), "title": title}
    at = next((number for number, line in enumerate(lines) if line.startswith("record: ")), len(lines))
    read |= dict(line.split(": ", 1) for line in lines[:at] if ": " in line)
    return read | {"description": "\n".join(lines[at + 1 :]).strip("\n")}


def read_event(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, **event.get("labels", {})}


def read_slack(request: bytes) -> dict[str, str]:
    return read_text(seen(msgspec.json.decode(http.split(request)[2])))


def read_pagerduty(request: bytes) -> dict[str, Any]:
    payload = msgspec.json.decode(http.split(request)[2])["payload"]
    details = payload.get("custom_details", {})
    return {**read_text(payload["summary"]), **{name: text.rstrip("\n") for name, text in details.items()}}


def read_webhook(request: bytes) -> dict[str, Any]:
    return read_event(msgspec.json.decode(http.split(request)[2]))


def read_cloudevent(request: bytes) -> dict[str, Any]:
    return read_event(msgspec.json.decode(http.split(request)[2])["data"])


def read_alertmanager(request: bytes) -> dict[str, Any]:
    [alert] = msgspec.json.decode(http.split(request)[2])["alerts"]
    said: dict[str, Any] = {"title": "", "description": ""} | alert["labels"] | alert["annotations"]
    return said | {"title": said.get("summary", ""), "rule_id": said.get("alertname", "")}


def as_alertmanager_says(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that its body has a place for; what people are to read hides nothing."""
    names = ("severity", "view", "scope", "rule_id", "alert_id", "network", "team")
    said = {name: fields[name] for name in names if fields.get(name)}
    return said | {"title": one_line(fields["title"]), "description": visible(fields.get("description", ""))}


def webhook(
    format_: Format,
    read: Callable[[bytes], Mapping[str, Any]],
    shows: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda fields: fields,
) -> TestedChannel:
    return TestedChannel(
        settings=lambda url: WebhookSettings(
            name="pager",
            url=parse_receiver_url(f"{url}/s3cret".replace("://", "://someone:pa55word@")),
            secret=Secret(KEY),
            headers={"X-Api-Key": Secret("t0ken")},
            format=format_,
        ),
        secrets=("s3cret", "pa55word", base64.b64encode(b"someone:pa55word").decode(), "t0ken", KEY),
        accepts=answer(204).replace(b"Content-Length: 2\r\n\r\nok", b"\r\n"),
        refuses=answer(410),
        fails=answer(503),
        limits=answer(429, b"Retry-After: 90"),
        limited=Retry,
        read=read,
        shows=shows,
    )


class TestWebhook(HttpContract):
    """A webhook: the alert as it is, and HTTP's own words for what becomes of it."""

    tested = webhook("alert", read_webhook)


class TestCloudEvents(HttpContract):
    """A webhook with the alert in an envelope."""

    tested = webhook("cloudevents", read_cloudevent)


class TestAlertmanager(HttpContract):
    """A webhook with what Alertmanager would post."""

    tested = webhook("alertmanager", read_alertmanager, as_alertmanager_says)


class TestSlackBot(HttpContract):
    """A bot: Slack's own word decides, whatever the status."""

    tested = TestedChannel(
        settings=lambda url: SlackSettings(
            name="desk", token=Secret(TOKEN), room="C024BE91L", api_url=parse_receiver_url(f"{url}/api-s3cret")
        ),
        secrets=(TOKEN, "api-s3cret"),
        accepts=SlackStandIn(TOKEN, "C024BE91L").answer,
        refuses=http.json(200, {"ok": False, "error": "invalid_blocks"}),
        fails=http.json(200, {"ok": False, "error": "service_unavailable"}),
        limits=http.json(429, {"ok": False, "error": "ratelimited"}, retry_after="90"),
        malformed=http.json(200, {"ok": False, "error": "invalid_blocks"}),
        read=read_slack,
        shows=as_people_read,
    )


class TestSlackWebhook(HttpContract):
    """An incoming webhook: errors are one word of text."""

    tested = TestedChannel(
        settings=lambda url: SlackSettings(name="desk", url=parse_receiver_url(f"{url}/T1/B1/s3cretmarker")),
        secrets=("s3cretmarker",),
        accepts=SlackStandIn("", "").answer,
        refuses=http.text(400, "invalid_blocks"),
        fails=http.text(500, "rollup_error"),
        limits=http.text(429, "rate_limited", retry_after="90"),
        malformed=http.text(400, "invalid_blocks"),
        read=read_slack,
        shows=as_people_read,
    )


class TestPagerDuty(HttpContract):
    """An event that triggers."""

    tested = TestedChannel(
        settings=lambda url: PagerDutySettings(
            name="pager", routing_key=Secret(ROUTING_KEY), url=parse_receiver_url(f"{url}/v2/enqueue")
        ),
        secrets=(ROUTING_KEY,),
        accepts=PagerDutyStandIn(ROUTING_KEY).answer,
        refuses=answer(413),
        fails=answer(500),
        limits=answer(429, b"Retry-After: 90"),
        malformed=http.json(400, {"status": "invalid event", "errors": ["payload"]}),
        read=read_pagerduty,
        shows=as_people_read,
    )


class TestEmail(ServiceContract):
    """A mail: SMTP's codes decide."""

    tested = TestedChannel(
        settings=lambda url: EmailSettings(
            name="mail",
            smtp_url=parse_smtp_url(f"smtp://someone:pa55word%20marker@{url.split('/')[2]}"),
            sender="alerts@example.org",
            to=("a@example.org", "b@example.org"),
            starttls=False,
        ),
        secrets=("pa55word marker",),
        accepts=b"250 2.0.0 queued as 1",
        refuses=b"554 5.7.1 no",
        fails=b"451 4.3.0 not now",
        answering=partial(smtp_answering, LOGIN),
        take=SmtpStandIn(login=LOGIN).take,
        read=lambda mail: read_text(body_of(parsed(mail), "plain")),
        shows=as_people_read,
    )


class TestFile(ChannelContract):
    """A file: a line of JSON, written by a thread."""

    tested = TestedChannel(
        settings=lambda path: FileSettings(name="audit", path=Path(path)),
        secrets=(),
        read=lambda line: read_event(msgspec.json.decode(line)["alert"]),
    )

    @asynccontextmanager
    async def working(self) -> AsyncIterator[tuple[Channel, Callable[[], list[bytes]]]]:
        """See `ChannelContract`."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "alerts.jsonl")
            async with TrioTransport() as transport:
                channel = make_channel(self.tested.settings(str(path)), transport, lambda: NOW)
                yield channel, lambda: path.read_bytes().splitlines()
