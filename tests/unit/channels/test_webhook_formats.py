import datetime as dt
import re

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook as Official

from tests.contracts.channel import HOSTILE
from tests.support.services import http
from trio_alerts.channels.webhook import Webhook, WebhookSettings
from trio_alerts.channels.webhook_formats import Format, render_as
from trio_alerts.ports.channel import Message
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url

EVENT = {
    "alert_id": "a-1",
    "rule_id": "health-factor",
    "view": "Lending",
    "scope": "prod",
    "severity": "high",
    "title": "Position liquidatable",
    "occurred_at": "2026-03-01T12:00:00Z",
    "fingerprint": "position-7",
    "value_usd": 12345678901234567890.123456789,
    "labels": {"team": "risk", "1st-line": "desk"},
    "links": ["https://example.org/7"],
}
MESSAGE = Message("1763900000000-0", msgspec.json.encode(EVENT))
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


def webhook(format_: Format) -> Webhook:
    settings = WebhookSettings(
        name="pager", url=parse_receiver_url("https://example.org/"), secret=Secret(SECRET), format=format_
    )
    return Webhook(settings, lambda: dt.datetime.now(dt.UTC))


def test_a_cloudevent_holds_the_alert_as_it_is() -> None:
    """Every required attribute of CloudEvents 1.0, and `data` byte by byte."""
    body = render_as("cloudevents", MESSAGE, "pager")
    event = msgspec.json.decode(body)

    assert EVENT == event.pop("data")
    assert MESSAGE.payload in body
    assert {
        "specversion": "1.0",
        "id": "1763900000000-0",
        "source": "urn:trio-alerts",
        "type": "trio-alerts.alert",
        "datacontenttype": "application/json",
        "time": "2026-03-01T12:00:00Z",
        "subject": "a-1",
        "severity": "high",
    } == event
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)


@pytest.mark.parametrize("text", [EVENT["alert_id"], *HOSTILE])
def test_the_sdk_of_cloudevents_reads_it(text: str) -> None:
    """Whatever the alert holds: every attribute has its type and is allowed, and the alert comes out as it was."""
    event = EVENT | {"alert_id": text, "title": text, "labels": {text: text}, "value_usd": 12.5}
    request = webhook("cloudevents").render(Message(MESSAGE.id, msgspec.json.encode(event)))
    _, headers, body = http.split(request)
    read = from_http_event(HTTPMessage(headers, body))

    assert event == read.get_data()
    assert dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC) == read.get_time()
    assert ("1.0", "application/json") == (read.get_specversion(), read.get_datacontenttype())


def test_the_body_of_alertmanager_has_all_its_fields() -> None:
    """Version 4: no more and no fewer, every value of labels and annotations a text."""
    body = msgspec.json.decode(render_as("alertmanager", MESSAGE, "pager"))
    [alert] = body["alerts"]

    assert {
        *("version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels"),
        *("commonAnnotations", "externalURL", "alerts"),
    } == body.keys()
    assert ("4", "firing", "pager", "position-7") == (
        body["version"],
        body["status"],
        body["receiver"],
        body["groupKey"],
    )
    assert {
        *("status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"),
    } == alert.keys()
    assert {
        "alertname": "health-factor",
        "severity": "high",
        "view": "Lending",
        "scope": "prod",
        "team": "risk",
        "_1st_line": "desk",
    } == alert["labels"]
    assert "Position liquidatable" == alert["annotations"]["summary"]
    assert ("2026-03-01T12:00:00Z", "0001-01-01T00:00:00Z") == (alert["startsAt"], alert["endsAt"])
    assert re.fullmatch("[0-9a-f]{16}", alert["fingerprint"])


def test_no_label_takes_the_place_of_another() -> None:
    """Names that differ only in what label names cannot have stay different; the alert's own fields come first."""
    labels = {"a.b": "1", "a-b": "2", "a_b": "3", "view": "not the view"}
    body = msgspec.json.decode(
        render_as("alertmanager", Message("1-0", msgspec.json.encode(EVENT | {"labels": labels})), "x")
    )

    assert {"a_b": "1", "a_b_": "2", "a_b__": "3", "view": "Lending"}.items() <= body["commonLabels"].items()


def test_an_alert_that_is_over_is_resolved() -> None:
    """For Alertmanager's receivers `resolved` closes what `firing` opened."""
    message = Message("1-0", msgspec.json.encode(EVENT | {"status": "retracted"}))
    body = msgspec.json.decode(render_as("alertmanager", message, "pager"))

    assert ("resolved", "resolved") == (body["status"], body["alerts"][0]["status"])
    assert "2026-03-01T12:00:00Z" == body["alerts"][0]["endsAt"]


@pytest.mark.parametrize(
    ("format_", "content_type"),
    [
        ("cloudevents", "application/cloudevents+json"),
        ("alertmanager", "application/json"),
        ("alert", "application/json"),
    ],
)
def test_every_format_is_signed(format_: Format, content_type: str) -> None:
    """The signature is of the body that is sent."""
    _, headers, body = http.split(webhook(format_).render(MESSAGE))

    assert content_type == headers["content-type"]
    assert Official(SECRET).verify(body, headers)
