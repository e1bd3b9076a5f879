"""What the demo's services understand: each knows its own requests, reads which alert one is about, and answers it."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from email import message_from_bytes
from email.policy import default
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec

TOLERANCE_S = 300  # what receivers of Standard Webhooks allow a signature's time to be off


class About(NamedTuple):
    """Which alert a request is about."""

    record_id: str
    alert_id: str


class Service(Protocol):
    """A kind of receiver. No I/O."""

    scheme: str
    path: str
    accepts: bytes  # what is answered beside the status
    refuses: bytes

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the settings of the channel that leads here."""

    def read(self, headers: Mapping[str, str], body: bytes) -> About | None:
        """Return which alert it is about; None if it does not prove that it comes from our channel."""


class Webhook:
    """Takes requests that are signed as the Standard Webhooks specification says: by ID, time and body."""

    scheme, path = "http", "/alerts"
    accepts = refuses = b"ok"

    def __init__(self, key: bytes) -> None:
        self._key = key

    def settings(self, url: str) -> Mapping[str, object]:
        """See `Service`."""
        return {"url": url, "secret": f"whsec_{base64.b64encode(self._key).decode()}"}

    def read(self, headers: Mapping[str, str], body: bytes) -> About | None:
        """See `Service`."""
        if not is_signed(headers, body, self._key, time.time()):
            return None
        return About(headers["webhook-id"], _ALERT.decode(body).alert_id)


class Chat:
    """Takes what Slack's `chat.postMessage` takes, from one bot."""

    scheme, path = "http", "/api"
    accepts, refuses = b'{"ok":true,"ts":"1.0"}', b'{"ok":false,"error":"ratelimited"}'

    def __init__(self, token: str, rate_per_s: float, burst: int) -> None:
        self._token, self._rate_per_s, self._burst = token, rate_per_s, burst

    def settings(self, url: str) -> Mapping[str, object]:
        """See `Service`."""
        limit = {"rate_per_s": self._rate_per_s, "burst": self._burst}
        return {"kind": "slack", "api_url": url, "token": self._token, "room": "alerts", **limit}

    def read(self, headers: Mapping[str, str], body: bytes) -> About | None:
        """See `Service`. The names and values that people read are texts of their own, one after the other."""
        if not hmac.compare_digest(headers.get("authorization", "").encode(), f"Bearer {self._token}".encode()):
            return None
        blocks = msgspec.json.decode(body)["blocks"]
        texts = [node["text"] for block in blocks for part in block["elements"] for node in part["elements"]]
        facts = {name: value.strip() for name, value in pairwise(texts)}
        return About(facts["record: "], facts["alert_id: "])


class Pager:
    """Takes what PagerDuty's Events API v2 takes, for one service."""

    scheme, path = "http", "/v2/enqueue"
    accepts, refuses = b'{"status":"success"}', b"{}"

    def __init__(self, routing_key: str) -> None:
        self._routing_key = routing_key

    def settings(self, url: str) -> Mapping[str, object]:
        """See `Service`."""
        return {"kind": "pagerduty", "url": url, "routing_key": self._routing_key}

    def read(self, headers: Mapping[str, str], body: bytes) -> About | None:  # noqa: ARG002, its key is in the body
        """See `Service`."""
        event = msgspec.json.decode(body)
        if not hmac.compare_digest(event["routing_key"].encode(), self._routing_key.encode()):
            return None
        details = event["payload"]["custom_details"]
        return About(details["record"], details["alert_id"])


class MailBox:
    """Takes mail for one address; a mail server tells whom a mail is for by its envelope."""

    scheme, path = "smtp", ""
    accepts, refuses = b"queued", b"try again"
    address = "operators@demo.example"

    def settings(self, url: str) -> Mapping[str, object]:
        """See `Service`."""
        sender = "trio-alerts@demo.example"
        return {"kind": "email", "smtp_url": url, "starttls": False, "sender": sender, "to": [self.address]}

    def read(self, headers: Mapping[str, str], body: bytes) -> About | None:
        """See `Service`."""
        if headers.get("to") != self.address:
            return None
        part = message_from_bytes(body, policy=default).get_body(("plain",))
        lines = str(part.get_content()).splitlines() if part else []
        facts = dict(line.partition(": ")[::2] for line in lines)
        return About(facts["record"], facts["alert_id"])


def is_signed(headers: Mapping[str, str], body: bytes, key: bytes, now_s: float) -> bool:
    """Check a request as the Standard Webhooks specification says: by ID, time and body, with a key both ends know."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isdecimal() or abs(int(timestamp) - now_s) > TOLERANCE_S:
        return False
    digest = hmac.digest(key, b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body), hashlib.sha256)
    wanted = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").split()  # there are several while a key is replaced
    return any(hmac.compare_digest(wanted, one.encode()) for one in given)


class _Alert(msgspec.Struct):
    alert_id: str


_ALERT = msgspec.json.Decoder(_Alert)
