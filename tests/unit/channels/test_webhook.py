import base64
import datetime as dt
import re

import pytest
from standardwebhooks.webhooks import Webhook as Official

from trio_alerts.channels.webhook import Webhook, WebhookSettings
from trio_alerts.http.response import AnswerParser
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.ports.channel import Message
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
MESSAGE = Message("1763900000000-0", b'{"alert_id":"a-1","title":"Z\xc3\xbcrich"}')


def webhook(url: str = "https://example.org/hook/s3cret", secret: str | None = None, **headers: str) -> Webhook:
    settings = WebhookSettings(
        name="pager",
        url=parse_receiver_url(url),
        secret=Secret(secret) if secret else None,
        headers={name: Secret(value) for name, value in headers.items()},
    )
    return Webhook(settings, lambda: dt.datetime.now(dt.UTC))


def rendered(service: Webhook) -> tuple[str, dict[str, str], bytes]:
    """The request line, the headers by their names in lower case, and the body."""
    head, _, body = service.render(MESSAGE).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def judged(status: int, *headers: tuple[str, str], kept: str = "") -> Outcome:
    answer = AnswerParser(65_536)
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, ("Content-Length", "0")))
    answer.feed(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode())
    return webhook().judge(answer, kept)


def test_the_official_package_verifies_what_we_sign() -> None:
    """A receiver that uses the specification's own library accepts the request."""
    first, headers, body = rendered(webhook(secret=SECRET, authorization="Bearer t0ken"))

    assert {"alert_id": "a-1", "title": "Zürich"} == Official(SECRET).verify(body, headers)
    assert MESSAGE.id == headers["webhook-id"]
    assert "application/json" == headers["content-type"]
    assert re.fullmatch(r"trio-alerts/\d.*", headers["user-agent"])
    assert "Bearer t0ken" == headers["authorization"]
    assert "POST /hook/s3cret HTTP/1.1" == first


@pytest.mark.parametrize(
    ("user", "token"),
    [
        ("u:p@", "u:p"),
        ("u%40x:p%3A%2F@", "u@x:p:/"),
        ("%C3%BC:é@", "ü:é"),
        (":p@", ":p"),
        ("u@", "u:"),
        ("", ""),
        ("@", ""),
    ],
)
def test_a_user_in_the_url_is_sent_as_basic(user: str, token: str) -> None:
    """As browsers and curl do it: user and password are percent-decoded, and stand nowhere else in the request."""
    first, headers, _ = rendered(webhook(f"https://{user}example.org/hook"))

    expected = "Basic " + base64.b64encode(token.encode()).decode() if token else None
    assert expected == headers.get("authorization")
    assert ("example.org", "POST /hook HTTP/1.1") == (headers["host"], first)


def test_without_a_secret_nothing_is_signed() -> None:
    """The ID and the time are sent all the same: a receiver can drop repeats."""
    _, headers, _ = rendered(webhook())
    assert {"webhook-id", "webhook-timestamp"} == {name for name in headers if name.startswith("webhook-")}


@pytest.mark.parametrize(
    ("status", "header", "outcome"),
    [
        (202, ("X", "y"), Accepted(202, "kept")),
        (410, ("X", "y"), Refused("refused with 410", 410, "kept")),
        (503, ("Retry-After", "7"), Retry("answered 503", 503, 7.0, unseen=True, answer="kept")),
    ],
)
def test_answers_become_outcomes(status: int, header: tuple[str, str], outcome: Outcome) -> None:
    """By the rules for statuses, with what is kept of the answer."""
    assert outcome == judged(status, header, kept="kept")


@pytest.mark.parametrize("status", [200, 204, 410, 429, 503])
@pytest.mark.parametrize("value", ["Mon, 20 Nov 9999999999 12:00:00 GMT", "9" * 5_000, "-1", "soon", "1.5"])
def test_a_retry_after_that_cannot_be_read_is_none(status: int, value: str) -> None:
    """It is read only where somebody waits for it, and nothing in it ends more than itself."""
    outcome = judged(status, ("Retry-After", value))

    assert status == outcome.status
    if isinstance(outcome, Retry):
        assert outcome.after_s in (None, 999_999_999.0)


def test_of_several_retry_afters_the_longest_counts() -> None:
    """A proxy in between may add its own."""
    headers = [("Retry-After", "5"), ("Retry-After", "nonsense"), ("Retry-After", "90"), ("Retry-After", "7")]

    assert Retry("answered 429", 429, 90.0) == judged(429, *headers)
