"""Every kind of channel keeps the contract."""

import base64

import msgspec

from tests.contracts.channel import HttpChannelContract, TestedChannel
from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.outcome import Retry
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import parse_receiver_url

KEY = base64.b64encode(b"0123456789abcdef01234567").decode()


def answer(status: int, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 %d X" % status, *headers, b"Content-Length: 2", b"", b"ok"))


class TestWebhook(HttpChannelContract):
    """A webhook: the alert as it is, and HTTP's own words for what becomes of it."""

    tested = TestedChannel(
        settings=lambda url: WebhookSettings(
            name="pager",
            url=parse_receiver_url(f"{url}/s3cret".replace("://", "://someone:pa55word@")),
            secret=Secret(KEY),
            headers={"X-Api-Key": Secret("t0ken")},
        ),
        secrets=("s3cret", "pa55word", base64.b64encode(b"someone:pa55word").decode(), "t0ken", KEY),
        accepts=answer(204).replace(b"Content-Length: 2\r\n\r\nok", b"\r\n"),
        refuses=answer(410),
        fails=answer(503),
        limits=answer(429, b"Retry-After: 90"),
        limited=Retry,
        read=lambda request: msgspec.json.decode(request.partition(b"\r\n\r\n")[2]),
    )
